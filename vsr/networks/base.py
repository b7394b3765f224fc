"""What all networks here share: convolutions, the few operations between them, and what is known of the whole.

How the values of a network flow is written once, in `LumaNetwork.flow`, against a handful of operations. Training, the
deployed form and the export to ONNX each bring these operations, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.errors import ModelError, OptionError
from vsr.networks.blocks import LayerPlan, LinearBlock, PlainLayer, activate
from vsr.resample import MARGIN, TAPS, polyphase_kernel

SCALES = (2, 3, 4)
Value = TypeVar("Value")


class Operations(Protocol, Generic[Value]):
    """What networks are made of. A value is a tensor [N, C, H, W], or stands for one."""

    def layer(self, number: int, x: Value) -> Value:
        """Convolution `number` (from 0) of the network with zero padding, and its activation."""

    def add(self, x: Value, y: Value) -> Value:
        """The sum; a single channel is added to each of the other's."""

    def shuffle(self, x: Value, scale: int) -> Value:
        """Pixel shuffle: [N, C·s², H, W] → [N, C, s·H, s·W]."""

    def enlarge(self, x: Value, scale: int) -> Value:
        """The exact bicubic enlargement (a = -0.5, edges replicated) of one channel."""

    def pool(self, x: Value) -> Value:
        """The maximum of each 2x2 square; what remains at an odd side counts as a square."""

    def repeat(self, x: Value, like: Value) -> Value:
        """Every pixel twice in each direction, cut to the size of `like`."""


class LumaNetwork(nn.Module):
    """Upsamples luma: [N, 1, H, W] float32 in [0, 1] → [N, 1, scale·H, scale·W], not clipped.

    All convolutions run on low-resolution pixels with zero padding; the last one gives scale² channels, which
    a pixel shuffle turns into the picture. With `skip`, the input is added to each of these channels, so that
    the convolutions learn only the difference to the nearest-neighbour enlargement. Networks of another shape
    override `flow`.

    `penalty` is what the last forward in training mode adds to the loss (0 but for the auto-encoder).
    """

    #: Whether one set of weights serves every scale; `scale` may then be changed at any time.
    any_scale = False
    #: Whether `penalty` is ever anything.
    regularised = False

    def __init__(self, name: str, scale: int, blocks: Sequence[LinearBlock], *, skip: bool) -> None:
        super().__init__()
        if scale not in SCALES:
            raise OptionError(f"network {name} got scale {scale}; it has {', '.join(map(str, SCALES))}")
        self.name, self.scale, self.skip = name, scale, skip
        self.blocks = nn.ModuleList(blocks)
        self.penalty: Tensor | float = 0.0

    @property
    def plans(self) -> tuple[LayerPlan, ...]:
        """The layers as deployed."""
        return tuple(block.plan for block in self._blocks())

    @property
    def macs(self) -> int:
        """Multiplications of the layers per low-resolution pixel."""
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

    def flow(self, ops: Operations[Value], y: Value) -> Value:
        """The network as operations: from the low-resolution luma `y` to the enlarged luma."""
        x = y
        for number in range(len(self.blocks)):
            x = ops.layer(number, x)
        if self.skip:
            x = ops.add(x, y)
        return ops.shuffle(x, self.scale)

    def forward(self, y: Tensor) -> Tensor:
        """y: [N, 1, H, W] → [N, 1, scale·H, scale·W]."""
        return self.flow(TrainingOperations(self._blocks()), y)

    def plain(self) -> list[PlainLayer]:
        """The deployed layers, in order."""
        return [block.plain() for block in self._blocks()]

    def start_from(self, layers: Sequence[PlainLayer]) -> bool:
        """Start from an earlier training's layers: all of them, or all but the last if its scale was another.

        A smaller kernel than a layer's gets zeros around it, and so computes the same. Returns whether the last layer
        was taken too. Raises `ModelError` when the layers are of another network.
        """
        blocks = self._blocks()
        padded = [layer.padded(block.plan.kernel) for layer, block in zip(layers, blocks, strict=False)]
        plans = [layer.plan for layer in padded]
        if len(layers) != len(blocks) or plans[:-1] != [block.plan for block in blocks[:-1]]:
            raise ModelError(f"the weights to start from are not those of a network {self.name}")
        same_scale = plans[-1] == blocks[-1].plan
        for block, layer in zip(blocks, padded, strict=True):
            if block is not blocks[-1] or same_scale:
                block.start_from(layer)
        return same_scale


class EnlargedNetwork(LumaNetwork):
    """A network that works on the bicubic enlargement: convolutions in a row, at high resolution."""

    any_scale = True

    def __init__(self, name: str, scale: int, blocks: Sequence[LinearBlock]) -> None:
        super().__init__(name, scale, blocks, skip=False)

    @property
    def macs(self) -> int:
        """Multiplications of the layers per low-resolution pixel: scale² times those per enlarged pixel."""
        return super().macs * self.scale**2

    @property
    def halo(self) -> int:
        """As in `LumaNetwork`: the layers' reach in enlarged pixels, and what those are interpolated from."""
        reach = sum(plan.kernel // 2 for plan in self.plans)
        return enlarged_halo(self.scale, [(p, p - reach, p + reach) for p in range(self.scale)])

    def flow(self, ops: Operations[Value], y: Value) -> Value:
        """As in `LumaNetwork`."""
        x = ops.enlarge(y, self.scale)
        for number in range(len(self.blocks)):
            x = ops.layer(number, x)
        return x


def enlarged_halo(scale: int, reads: Iterable[tuple[int, int, int]]) -> int:
    """The halo, in low-resolution pixels, of a network on the bicubic enlargement.

    reads: for every place in the grid, an output pixel and the first and last enlarged pixel that it reads.
    """
    kernel = polyphase_kernel(scale, 0.5)
    halo = 0
    for output, first, last in reads:
        for pixel in range(first, last + 1):
            taps = np.flatnonzero(np.abs(kernel[pixel % scale]) > 1e-9) + pixel // scale - MARGIN
            halo = max(halo, *(abs(int(tap) - output // scale) for tap in (taps[0], taps[-1])))
    return halo


@lru_cache(maxsize=16)
def bicubic_kernels(scale: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The two convolutions of the enlargement, before a pixel shuffle: 1 → s (down), s → s² in s groups (across)."""
    axis = torch.from_numpy(polyphase_kernel(scale, 0.5)).to(device)
    return axis.reshape(scale, 1, TAPS, 1), axis.reshape(scale, 1, 1, TAPS).repeat(scale, 1, 1, 1)


class _TensorOperations:
    """The operations that need no weights, on tensors."""

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def shuffle(self, x: Tensor, scale: int) -> Tensor:
        return F.pixel_shuffle(x, scale)

    def enlarge(self, x: Tensor, scale: int) -> Tensor:
        down, across = bicubic_kernels(scale, x.device)
        x = F.conv2d(F.pad(x, [MARGIN] * 4, mode="replicate"), down)
        return F.pixel_shuffle(F.conv2d(x, across, groups=scale), scale)

    def pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2, ceil_mode=True)

    def repeat(self, x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")[..., : like.shape[2], : like.shape[3]]


class TrainingOperations(_TensorOperations):
    """The operations on tensors, with layers that learn."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        self.blocks = blocks

    def layer(self, number: int, x: Tensor) -> Tensor:
        """As in `Operations`."""
        out: Tensor = self.blocks[number](x)
        return out


class _PlainOperations(_TensorOperations):
    def __init__(self, layers: Sequence[PlainLayer]) -> None:
        self.layers = layers

    def layer(self, number: int, x: Tensor) -> Tensor:
        layer = self.layers[number]
        weight = torch.from_numpy(layer.weight)
        x = F.conv2d(x, weight, torch.from_numpy(layer.bias), padding=weight.shape[-1] // 2)
        return activate(x, layer.activation, None if layer.slope is None else torch.from_numpy(layer.slope))


class PlainNetwork(nn.Module):
    """The deployed form of a network as it is now, on the CPU, for measuring and to compare with what is exported."""

    def __init__(self, network: LumaNetwork) -> None:
        super().__init__()
        self._flow = network.flow
        self._operations = _PlainOperations(network.plain())

    @torch.no_grad()
    def forward(self, y: Tensor) -> Tensor:
        """y: [N, 1, H, W] → [N, 1, scale·H, scale·W]."""
        return self._flow(self._operations, y)
