"""The pieces networks are made of: a layer's plan, its plain (deployed) form, and the block that trains it.

A convolution here is trained as three convolutions in a row without anything between them (1x1, k x k, 1x1),
which are multiplied into one k x k kernel before each forward. The products of linear maps are still that one
kernel, so the deployed network is exactly the paper's; gradient descent on the factors only gets there in far
fewer steps. Bhardwaj et al., "Collapsible Linear Blocks for Super-Efficient Super Resolution", 2022; Zhang et
al., "Edge-oriented Convolution Block for Real-time Super Resolution on Mobile Devices", 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vsr.errors import ModelError

Activation = Literal["none", "relu", "leaky", "prelu", "tanh"]
LEAK: Final = 0.2  # the slope of LeakyReLU below zero
Weights = NDArray[np.float32]


@dataclass(frozen=True)
class LayerPlan:
    """One convolution of a network's table: channels in and out, kernel side (odd), activation after it."""

    inputs: int
    outputs: int
    kernel: int
    activation: Activation = "none"

    @property
    def macs(self) -> int:
        """Multiplications per low-resolution pixel."""
        return self.inputs * self.outputs * self.kernel * self.kernel

    @property
    def parameters(self) -> int:
        """Weights and biases, and the slopes of a PReLU."""
        return self.macs + self.outputs * (2 if self.activation == "prelu" else 1)


@dataclass(frozen=True)
class PlainLayer:
    """A trained convolution as it is deployed.

    weight: float32 [outputs, inputs, k, k]; bias: float32 [outputs]; slope: float32 [outputs] for a PReLU,
    else None.
    """

    weight: Weights
    bias: Weights
    activation: Activation
    slope: Weights | None = None

    @property
    def plan(self) -> LayerPlan:
        """The shape of this layer."""
        outputs, inputs, kernel, _ = self.weight.shape
        return LayerPlan(inputs, outputs, kernel, self.activation)

    def padded(self, kernel: int) -> PlainLayer:
        """The same convolution with a kernel of this (odd) side, zeros around its own; itself if that is no smaller."""
        around = (kernel - self.weight.shape[-1]) // 2
        if around <= 0:
            return self
        return replace(self, weight=np.pad(self.weight, ((0, 0), (0, 0), (around, around), (around, around))))


def activate(x: Tensor, activation: Activation, slope: Tensor | None) -> Tensor:
    """The activation of what a convolution has just made, in its memory where it can be; slope: [channels] of a PReLU.

    In place is a sixth less of a training step: the convolution's backward does not need its output.
    """
    if activation == "relu":
        return F.relu(x, inplace=True)
    if activation == "leaky":
        return F.leaky_relu(x, LEAK, inplace=True)
    if activation == "tanh":
        return torch.tanh(x)
    return x if slope is None else F.prelu(x, slope)


class LinearBlock(nn.Module):
    """A convolution (stride 1, zero padding 'same') and its activation, trained over-parameterised.

    The kernel is ``base + project · middle · expand`` (times `mask`): `base` is fixed, it holds what the
    layer starts from (an identity, an interpolation, or an earlier training's kernel), the three factors are
    learnt.

    gain: standard deviation of the learnt part's response at the start, relative to He's. Small beside an
    identity (a 16-channel ReLU net ten layers deep dies with 1.0), 0 to start from `base` alone. rows: how many
    kernels are learnt, one for each output unless others are made from them.
    """

    base: Tensor
    mask: Tensor

    def __init__(self, plan: LayerPlan, *, width: int, gain: float, rows: int | None = None) -> None:
        super().__init__()
        self.plan = plan
        n, m, k = plan.inputs, rows or plan.outputs, plan.kernel
        self.register_buffer("base", torch.zeros(m, n, k, k))
        self.register_buffer("mask", torch.ones(m, n, k, k), persistent=False)
        # a single input channel needs no 1x1 before the kernel: it would only scale it
        self.expand = nn.Parameter(torch.randn(width, n) / math.sqrt(n)) if n > 1 else None
        middle_inputs = width if n > 1 else 1
        self.middle = nn.Parameter(torch.randn(width, middle_inputs, k, k) / math.sqrt(middle_inputs * k * k))
        self.project = nn.Parameter(torch.randn(m, width) * gain * math.sqrt(2.0 / width))
        self.bias = nn.Parameter(torch.zeros(m))
        self.slope = nn.Parameter(torch.full((m,), 0.25)) if plan.activation == "prelu" else None

    @property
    def step(self) -> int:
        """How many outputs are made from one kernel that is learnt."""
        return self.plan.outputs // len(self.base)

    def kernel(self) -> Tensor:
        """The kernel that the factors make: [outputs, inputs, k, k]."""
        m, n, k, _ = self.base.shape
        width = self.middle.shape[0]
        out = (self.project @ self.middle.reshape(width, -1)).reshape(m, -1, k * k)
        if self.expand is not None:
            out = torch.matmul(self.expand.t(), out)
        return (out.reshape(m, n, k, k) + self.base) * self.mask

    def offsets(self) -> Tensor:
        """What is added to each output: [outputs]."""
        return self.bias

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, inputs, H, W] → [N, outputs, H, W]."""
        kind = x.device.type
        with torch.autocast(kind, enabled=False):  # the kernel is rounded once, not each of its factors
            kernel = self.kernel()
        x = F.conv2d(x, kernel, self.offsets(), padding=self.plan.kernel // 2)
        if torch.is_autocast_enabled(kind):
            # bfloat16 is fastest with the channels last, which a single input channel does not tell the first layer
            x = x.contiguous(memory_format=torch.channels_last)
        return activate(x, self.plan.activation, self.slope)

    @torch.no_grad()
    def plain(self) -> PlainLayer:
        """This layer as it is deployed."""

        def array(t: Tensor) -> Weights:
            return np.ascontiguousarray(t.detach().cpu().numpy(), dtype=np.float32)

        slope = None if self.slope is None else array(self.slope)
        return PlainLayer(array(self.kernel()), array(self.offsets()), self.plan.activation, slope)

    @torch.no_grad()
    def start_as_identity(self) -> None:
        """Let what the layer starts from hand its inputs on, as far as there are inputs and outputs."""
        centre = self.plan.kernel // 2
        for row, kernel in enumerate(self.base[: self.plan.inputs]):
            kernel[self.step * row, centre, centre] = 1.0

    @torch.no_grad()
    def start_from(self, layer: PlainLayer) -> None:
        """Make this block compute exactly `layer`; the factors start anew around it.

        Raises:
            ModelError: the layer is of another plan.
        """
        if layer.plan != self.plan:
            raise ModelError(f"a layer is {layer.plan}, where this network has {self.plan}")
        rows = self.learnt(layer)
        self.base.copy_(torch.from_numpy(rows.weight))
        self.bias.copy_(torch.from_numpy(rows.bias))
        if self.slope is not None and rows.slope is not None:
            self.slope.copy_(torch.from_numpy(rows.slope))
        self.project.zero_()

    def learnt(self, layer: PlainLayer) -> PlainLayer:
        """Of a layer of this block's plan, the rows that are learnt; all of them here."""
        return layer


def interpolation_kernel(scale: int, kernel: int) -> Tensor:
    """A fixed [scale², 1, kernel, kernel] convolution that, before a pixel shuffle, enlarges (bi)linearly.

    Output phase r of an axis sits (r + ½)/scale - ½ from the centre of its pixel. `kernel` is at least 3.
    """
    middle = kernel // 2
    axis = torch.zeros(scale, kernel)
    for r in range(scale):
        shift = (r + 0.5) / scale - 0.5
        axis[r, middle] = 1.0 - abs(shift)
        axis[r, middle + (1 if shift > 0 else -1)] += abs(shift)
    return torch.einsum("ri,sj->rsij", axis, axis).reshape(scale * scale, 1, kernel, kernel)
