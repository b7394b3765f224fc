"""Convolutions that move with the picture: a network of them answers to a turned picture with the turned answer.

The group is p4, the quarter turns, or p4m, these and the mirrors. Channels between layers come in fours, whose kernels
are made from one: they are its quarter turns. In p4m each is its own mirror image besides, upright in half of the fours
and along a diagonal in the others, so that four channels, not eight, hold all that turning and mirroring makes of it.
The kernels of the last layer become each other. A quarter of the numbers is learnt or an eighth, in fewer steps
(docs/benchmarks.md). What is deployed is an ordinary convolution, and an ordinary network of the same layout can start
from it. Cohen and Welling, "Group equivariant convolutional networks", 2016; channels that some movements leave alone
are the quotient representations of their "Steerable CNNs", 2017.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vsr.errors import ModelError, OptionError
from vsr.networks.blocks import LayerPlan, LinearBlock, PlainLayer

Symmetry = Literal["p4", "p4m"]
#: A movement: mirrored left to right or not, and then turned so many times to the left.
Movement = tuple[int, bool]
#: What a channel is moved by to become each other of its four, and those movements that leave it as it is.
Coset = frozenset[Movement]

FOUR: Final = 4
NOTHING: Final[Movement] = (0, False)
TURNS: Final[tuple[Movement, ...]] = tuple((turn, False) for turn in range(4))
MOVEMENTS: Final[dict[str, tuple[Movement, ...]]] = {
    "p4": TURNS,
    "p4m": (*TURNS, *((turn, True) for turn in range(4))),
}
#: In what orientations networks answer to a picture in all the ways they have, in an order that stays: answers are
#: added up in it, and teach networks that shall come out the same again.
VIEWS: Final[dict[Symmetry | None, tuple[Movement, ...]]] = {
    None: tuple(movement for turn in range(4) for movement in ((turn, False), (-turn % 4, True))),
    "p4": (NOTHING, (0, True)),
    "p4m": (NOTHING,),
}
UPRIGHT: Final[Coset] = frozenset({NOTHING, (0, True)})
DIAGONAL: Final[Coset] = frozenset({NOTHING, (1, True)})
SAME: Final = 1e-4
"""By how much kernels to start from may differ from each other's images, as a share of the largest weight."""


class SymmetricBlock(LinearBlock):
    """A `LinearBlock` of a network that moves with the picture.

    With one input, that is the picture, which every channel sees in its own orientation. `last`: the outputs are the
    s² phases of an enlarged pixel, in rows; else channels 4·i to 4·i + 3 are one kernel in its four orientations.

    Raises `OptionError` for channels that do not come in fours.
    """

    source: Tensor
    bias_source: Tensor

    def __init__(self, plan: LayerPlan, *, width: int, gain: float, symmetry: Symmetry, last: bool = False) -> None:
        channels = [plan.inputs] * (plan.inputs > 1) + [plan.outputs] * (not last)
        if any(n % FOUR for n in channels):
            raise OptionError(f"got a layer of {plan.inputs} and {plan.outputs} channels; in fours is what moves")
        rows = plan.outputs if last else plan.outputs // FOUR
        super().__init__(plan, width=width, gain=gain, rows=rows)
        source, bias_source = _sources(plan, symmetry, last)
        self.symmetry: Symmetry = symmetry
        self._made = source.shape
        self.register_buffer("source", torch.from_numpy(source.reshape(-1)), persistent=False)
        self.register_buffer("bias_source", torch.from_numpy(bias_source), persistent=False)

    def kernel(self) -> Tensor:
        """As in `LinearBlock`, of what is learnt in all its orientations."""
        return self._in_all_orientations(super().kernel())

    def offsets(self) -> Tensor:
        """As in `LinearBlock`."""
        return self.bias.index_select(0, self.bias_source.reshape(-1)).reshape(self.bias_source.shape).mean(0)

    def learnt(self, layer: PlainLayer) -> PlainLayer:
        """As in `LinearBlock`. Raises `ModelError` for a layer that does not move with the picture."""
        weight, bias = (np.ascontiguousarray(array[:: self.step]) for array in (layer.weight, layer.bias))
        made = self._in_all_orientations(torch.from_numpy(weight)).numpy()
        if np.abs(made - layer.weight).max() > SAME * np.abs(layer.weight).max():
            raise ModelError(
                "the weights to start from do not turn or mirror as this network does",
                "start from those of a network of the same symmetry",
            )
        return replace(layer, weight=weight, bias=bias)

    def _in_all_orientations(self, kernel: Tensor) -> Tensor:
        """[rows, inputs, k, k] → [outputs, inputs, k, k]."""
        return kernel.reshape(-1).index_select(0, self.source).reshape(self._made).mean(0)


def views(blocks: Iterable[nn.Module]) -> tuple[Movement, ...]:
    """In which orientations to show a picture to a network of these blocks, for the mean over all its answers."""
    kinds = {block.symmetry if isinstance(block, SymmetricBlock) else None for block in blocks}
    return VIEWS[kinds.pop() if len(kinds) == 1 else None]


def moved(array: NDArray[Any], movement: Movement) -> NDArray[Any]:
    """An array of pictures [..., H, W], each moved."""
    turn, mirrored = movement
    return np.ascontiguousarray(np.rot90(np.flip(array, -1) if mirrored else array, turn, (-2, -1)))


def inverse(movement: Movement) -> Movement:
    """What moves a picture back."""
    turn, mirrored = movement
    return (turn if mirrored else -turn % 4), mirrored


def _sources(plan: LayerPlan, symmetry: Symmetry, last: bool) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Of which learnt numbers, by their place, each weight and each bias is the mean.

    Returns [means, outputs, inputs, k, k] and [means, outputs].
    """
    n, m, k = plan.inputs, plan.outputs, plan.kernel
    movements = MOVEMENTS[symmetry]
    rows = m if last else m // FOUR
    places = np.arange(rows * n * k * k).reshape(rows, n, k, k)
    images = {g: moved(places[:, _came_from(n, symmetry, g)], g) for g in movements}
    if last:
        phases = np.arange(m).reshape(math.isqrt(m), -1)
        biases = np.stack([moved(phases, g).reshape(-1) for g in movements])
        weights = np.stack([images[g][row] for g, row in zip(movements, biases, strict=True)])
        return weights, biases
    outputs = [
        np.stack([images[g][row] for g in sorted(coset, key=movements.index)])
        for row, four in enumerate(_fours(m, symmetry))
        for coset in four
    ]
    return np.stack(outputs, axis=1), np.arange(rows).repeat(FOUR)[None]


def _fours(channels: int, symmetry: Symmetry) -> list[list[Coset]]:
    """Of each four of `channels`, what moves its first channel to each of them."""
    count = channels // FOUR
    if symmetry == "p4":
        return [[frozenset({g}) for g in TURNS]] * count
    upright = -(-count // 2)
    return [
        [frozenset(_after(g, h) for h in kept) for g in TURNS]
        for kept in [UPRIGHT] * upright + [DIAGONAL] * (count - upright)
    ]


def _came_from(channels: int, symmetry: Symmetry, movement: Movement) -> list[int]:
    """Which channel becomes each of `channels` when the picture moves; of the picture itself, it."""
    if channels == 1:
        return [0]
    back = inverse(movement)
    return [
        FOUR * i + four.index(frozenset(_after(back, g) for g in coset))
        for i, four in enumerate(_fours(channels, symmetry))
        for coset in four
    ]


def _after(second: Movement, first: Movement) -> Movement:
    """The movement that is `first` and then `second`."""
    turn, mirrored = second
    return (turn + (-first[0] if mirrored else first[0])) % 4, mirrored != first[1]
