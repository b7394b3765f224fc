"""What all networks here share: a row of convolutions, a pixel shuffle, and perhaps a skip around them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.errors import ModelError, OptionError
from vsr.networks.blocks import LayerPlan, LinearBlock, PlainLayer

SCALES = (2, 3, 4)


class LumaNetwork(nn.Module):
    """Upsamples luma: [N, 1, H, W] float32 in [0, 1] → [N, 1, scale·H, scale·W], not clipped.

    All convolutions run on low-resolution pixels with zero padding; the last one gives scale² channels, which
    a pixel shuffle turns into the picture. With `skip`, the input is added to each of these channels, so that
    the convolutions learn only the difference to the nearest-neighbour enlargement.
    """

    def __init__(self, name: str, scale: int, blocks: Sequence[LinearBlock], *, skip: bool) -> None:
        super().__init__()
        if scale not in SCALES:
            raise OptionError(f"network {name} got scale {scale}; it has {', '.join(map(str, SCALES))}")
        self.name, self.scale, self.skip = name, scale, skip
        self.blocks = nn.ModuleList(blocks)

    @property
    def plans(self) -> tuple[LayerPlan, ...]:
        """The layers as deployed."""
        return tuple(block.plan for block in self._blocks())

    @property
    def macs(self) -> int:
        """Multiplications per low-resolution pixel."""
        return sum(plan.macs for plan in self.plans)

    @property
    def parameters_deployed(self) -> int:
        """Weights, biases and slopes of the deployed network (training has more)."""
        return sum(plan.parameters for plan in self.plans)

    @property
    def halo(self) -> int:
        """How far an output pixel looks around its input pixel, in low-resolution pixels."""
        return sum(plan.kernel // 2 for plan in self.plans)

    def _blocks(self) -> list[LinearBlock]:
        return [block for block in self.blocks if isinstance(block, LinearBlock)]

    def forward(self, y: Tensor) -> Tensor:
        """y: [N, 1, H, W] → [N, 1, scale·H, scale·W]."""
        x = y
        for block in self.blocks:
            x = block(x)
        if self.skip:
            x = x + y
        return F.pixel_shuffle(x, self.scale)

    def plain(self) -> list[PlainLayer]:
        """The deployed layers, in order."""
        return [block.plain() for block in self._blocks()]

    def start_from(self, layers: Sequence[PlainLayer]) -> bool:
        """Start from an earlier training's layers: all of them, or all but the last if its scale was another.

        Returns whether the last layer was taken too. Raises `ModelError` when the layers are of another
        network.
        """
        blocks = self._blocks()
        plans = [layer.plan for layer in layers]
        if len(plans) != len(blocks) or plans[:-1] != [block.plan for block in blocks[:-1]]:
            raise ModelError(f"the weights to start from are not those of a network {self.name}")
        same_scale = plans[-1] == blocks[-1].plan
        for block, layer in zip(blocks, layers, strict=True):
            if block is not blocks[-1] or same_scale:
                block.start_from(layer)
        return same_scale


class PlainNetwork(nn.Module):
    """The deployed form of a network, for measuring and for comparing with what is exported."""

    def __init__(self, layers: Sequence[PlainLayer], scale: int, *, skip: bool) -> None:
        super().__init__()
        self.layers, self.scale, self.skip = tuple(layers), scale, skip

    @torch.no_grad()
    def forward(self, y: Tensor) -> Tensor:
        """y: [N, 1, H, W] → [N, 1, scale·H, scale·W]."""
        x = y
        for layer in self.layers:
            weight = torch.from_numpy(layer.weight)
            x = F.conv2d(x, weight, torch.from_numpy(layer.bias), padding=weight.shape[-1] // 2)
            if layer.activation == "relu":
                x = F.relu(x)
            elif layer.activation == "tanh":
                x = torch.tanh(x)
            elif layer.slope is not None:
                x = F.prelu(x, torch.from_numpy(layer.slope))
        if self.skip:
            x = x + y
        return F.pixel_shuffle(x, self.scale)
