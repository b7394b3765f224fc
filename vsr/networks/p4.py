"""Convolutions that turn with the picture: a network of them answers to a turned picture with the turned answer.

The channels between layers come in fours, and those of a four are each other's quarter turns: kernels of C channels are
made from C/4 of them, and the last layer's kernels turn into each other. A quarter of the numbers is learnt, in
fewer steps (docs/benchmarks.md). What is deployed is an ordinary convolution, and an ordinary network of the same
layout can start from it. Cohen and Welling, "Group equivariant convolutional networks", 2016, for their group p4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from vsr.errors import ModelError, OptionError
from vsr.networks.blocks import LayerPlan, LinearBlock, PlainLayer

TURNS: Final = 4
SAME: Final = 1e-4
"""By how much the kernels to start from may differ from each other's turns, as a share of the largest weight."""


class P4Block(LinearBlock):
    """A `LinearBlock` of a network that turns with the picture.

    With one input, that is the picture, which every channel sees in its own orientation. `last`: the outputs are the
    s² phases of an enlarged pixel, in rows; else channel 4·i + t is channel 4·i, turned t times.

    Raises `OptionError` for channels that do not come in fours.
    """

    def __init__(self, plan: LayerPlan, *, width: int, gain: float, last: bool = False) -> None:
        channels = [plan.inputs] * (plan.inputs > 1) + [plan.outputs] * (not last)
        if any(n % TURNS for n in channels):
            raise OptionError(f"got a layer of {plan.inputs} and {plan.outputs} channels; in fours is what turns")
        super().__init__(plan, width=width, gain=gain, rows=plan.outputs if last else plan.outputs // TURNS)
        self.last = last

    def kernel(self) -> Tensor:
        """As in `LinearBlock`, of what is learnt in all its turns."""
        return self._in_all_turns(super().kernel())

    def offsets(self) -> Tensor:
        """As in `LinearBlock`."""
        if not self.last:
            return self.bias.repeat_interleave(TURNS)
        side = math.isqrt(len(self.bias))
        return _mean_turned([self.bias.reshape(1, side, side)] * TURNS).reshape(-1)

    def learnt(self, layer: PlainLayer) -> PlainLayer:
        """As in `LinearBlock`. Raises `ModelError` for a layer that does not turn with the picture."""
        step = 1 if self.last else TURNS
        rows = replace(layer, weight=layer.weight[::step], bias=np.ascontiguousarray(layer.bias[::step]))
        made = self._in_all_turns(torch.from_numpy(rows.weight)).numpy()
        if np.abs(made - layer.weight).max() > SAME * np.abs(layer.weight).max():
            raise ModelError(
                "the weights to start from do not turn with the picture", "start from those of a network -p4"
            )
        return rows

    def _in_all_turns(self, kernel: Tensor) -> Tensor:
        """[rows, inputs, k, k] → [outputs, inputs, k, k]."""
        rows, n, k, _ = kernel.shape
        turned = []
        for turn in range(TURNS):
            x = kernel
            if n > 1:  # a turned kernel looks at turned channels
                fours = x.reshape(rows, n // TURNS, TURNS, k, k)
                x = fours[:, :, [(t - turn) % TURNS for t in range(TURNS)]].reshape(rows, n, k, k)
            turned.append(torch.rot90(x, turn, (-2, -1)))
        if not self.last:
            return torch.stack(turned, 1).reshape(rows * TURNS, n, k, k)
        side = math.isqrt(rows)
        phases = [x.reshape(side, side, -1).permute(2, 0, 1) for x in turned]
        return _mean_turned(phases).permute(1, 2, 0).reshape(rows, n, k, k)


def _mean_turned(squares: Sequence[Tensor]) -> Tensor:
    """The mean of as many [N, s, s] as there are turns, the first as it is, the next turned once, and so on."""
    total = squares[0]
    for turn in range(1, TURNS):
        total = total + torch.rot90(squares[turn], turn, (-2, -1))
    return total / TURNS
