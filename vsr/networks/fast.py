"""This project's own small networks for int8 on CPUs.

    | layer | kernel | channels | activation |
    |-------|--------|----------|------------|
    | first      | 3x3 | 1 → 16  | ReLU |
    | body, n times | 3x3 | 16 → 16 | ReLU |
    | last       | 3x3 or 1x1 | 16 → s² | none, plus the input on each channel, then pixel shuffle |

Sixteen channels are one vector of a CPU's int8 dot products; ReLU folds into the convolution before it, PReLU
costs 1.25 to 2.8 times as much; adding the input (the nearest-neighbour enlargement) leaves only detail to
the convolutions. `fast` stays within FSRCNN's 12,464 multiplications per low-resolution pixel, `balanced`
within ESPCN's at each scale.
"""

from __future__ import annotations

import torch

from vsr.networks.base import LumaNetwork
from vsr.networks.blocks import LayerPlan, LinearBlock

CHANNELS = 16


def residual_net(name: str, scale: int, body: int, last_kernel: int, channels: int = CHANNELS) -> LumaNetwork:
    """A network of the table above with `body` layers in the middle."""
    first = LinearBlock(LayerPlan(1, channels, 3, "relu"), width=64, gain=1.0)
    middle = [LinearBlock(LayerPlan(channels, channels, 3, "relu"), width=64, gain=0.3) for _ in range(body)]
    last = LinearBlock(LayerPlan(channels, scale * scale, last_kernel), width=64, gain=0.1)
    with torch.no_grad():
        for block in middle:  # random kernels at full strength die here: they start small beside an identity
            for channel in range(channels):
                block.base[channel, channel, 1, 1] = 1.0
    return LumaNetwork(name, scale, [first, *middle, last], skip=True)


def fast(scale: int) -> LumaNetwork:
    """Five body layers; the last one is 3x3 at x2 and 1x1 at x3 and x4, which is what the budget leaves."""
    return residual_net("fast", scale, body=5, last_kernel=3 if scale == 2 else 1)


def balanced(scale: int) -> LumaNetwork:
    """Eight body layers, within ESPCN's 20,032 + 288·s² multiplications."""
    return residual_net("balanced", scale, body=8, last_kernel=3)
