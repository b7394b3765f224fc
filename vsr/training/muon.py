"""Muon: steps for the matrices of a network whose singular values are all about one.

Gradients of the factors that `LinearBlock` multiplies lie mostly in few directions. Adam follows these, and takes ten
times the steps for the rest (docs/benchmarks.md). Muon takes the orthogonal matrix nearest to the momentum instead,
by five rounds of a Newton-Schulz iteration, so that all directions move alike. Jordan et al., "Muon: An optimizer for
hidden layers in neural networks", 2024. Biases and slopes, which are no matrices, are Adam's.

`torch.optim.Muon` takes no kernels of four dimensions, and works in bfloat16, one matrix at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor

MOMENTUM: Final = 0.95
#: Of the quintic, chosen by Jordan for fast convergence: singular values end between 0.7 and 1.2.
COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
ROUNDS: Final = 5
#: A step of Muon is as long as this many learning rates; one of Adam, for each weight, about one.
STEP: Final = 5.0


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two dimensions and more, Adam for the rest.

    A kernel counts as the matrix [outputs, inputs·k·k]. The rate of each group is `lr`; schedules set it. State is
    kept per parameter as torch's optimisers keep it, so that `state_dict` resumes to the same bits on a CPU.
    """

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        parameters = list(params)
        super().__init__([p for p in parameters if p.ndim >= 2], {"lr": lr})
        self._rest = torch.optim.Adam([p for p in parameters if p.ndim < 2], lr=lr, foreach=True)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step along the gradients."""
        assert closure is None, "the loss is computed once a step"
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            momenta = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in moved]
            gradients = [p.grad for p in moved]
            torch._foreach_lerp_(momenta, gradients, 1.0 - MOMENTUM)
            # Nesterov's: where the momentum will be, seen from the gradient
            ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)
            alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
            for number, p in enumerate(moved):
                alike[tuple(p.shape)].append(number)
            for shape, numbers in alike.items():
                matrices = torch.stack([ahead[n].reshape(shape[0], -1) for n in numbers])
                rows, columns = matrices.shape[1:]
                length = STEP * group["lr"] * max(1.0, rows / columns) ** 0.5
                for n, step in zip(numbers, orthogonal(matrices), strict=True):
                    moved[n].add_(step.reshape(shape), alpha=-length)
            for rest in self._rest.param_groups:
                rest["lr"] = group["lr"]
        self._rest.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As `torch.optim.Optimizer.zero_grad`."""
        super().zero_grad(set_to_none)
        self._rest.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """As `torch.optim.Optimizer.state_dict`, Adam's under `rest`."""
        return {**super().state_dict(), "rest": self._rest.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        own = dict(state_dict)
        self._rest.load_state_dict(own.pop("rest"))
        super().load_state_dict(own)


def orthogonal(matrices: Tensor) -> Tensor:
    """About the orthogonal matrix nearest to each: [N, rows, columns] → the same, singular values of 0.7 to 1.2.

    Each round multiplies by a polynomial in the Gram matrix, and these commute: they are gathered on the short side, a
    third of the time of multiplying the whole matrices (64 x 576 here) in every round.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-12)
    gram = x @ x.mT
    gathered = factor = _polynomial(gram)
    for _ in range(ROUNDS - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        gathered = factor @ gathered
    out: Tensor = gathered @ x
    return out if wide else out.mT


def _polynomial(gram: Tensor) -> Tensor:
    """What one round multiplies by: a + b·G + c·G²."""
    a, b, c = COEFFICIENTS
    out = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    out.diagonal(dim1=1, dim2=2).add_(a)
    return out
