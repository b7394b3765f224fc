"""This project's own small networks for int8 on CPUs.

    | layer         | `fast` | `balanced` | channels | activation                               |
    |---------------|--------|------------|----------|------------------------------------------|
    | first         | 5x5    | 3x3        | 1 → 16   | ReLU                                     |
    | body          | 5 3x3  | 8 3x3      | 16 → 16  | ReLU                                     |
    | last          | 1x1    | 3x3        | 16 → s²  | none; plus the input, then pixel shuffle |

Sixteen channels are one vector of a CPU's int8 dot products; ReLU folds into the convolution before it, PReLU
costs 1.25 to 2.8 times as much; adding the input (the nearest-neighbour enlargement) leaves only detail to
the convolutions. `fast` stays within FSRCNN's 12,464 multiplications per low-resolution pixel: a 1x1 at the
end pays for the fifth body layer, and a 5x5 at the start costs no time that can be measured. `balanced` stays
within ESPCN's.
"""

from __future__ import annotations

import torch

from vsr.networks.base import LumaNetwork
from vsr.networks.blocks import LayerPlan, LinearBlock

CHANNELS = 16


def residual_net(name: str, scale: int, *, body: int, first_kernel: int, last_kernel: int) -> LumaNetwork:
    """A network of the table above with `body` layers in the middle."""
    first = LinearBlock(LayerPlan(1, CHANNELS, first_kernel, "relu"), width=64, gain=1.0)
    middle = [LinearBlock(LayerPlan(CHANNELS, CHANNELS, 3, "relu"), width=64, gain=0.3) for _ in range(body)]
    last = LinearBlock(LayerPlan(CHANNELS, scale * scale, last_kernel), width=64, gain=0.1)
    with torch.no_grad():
        for block in middle:  # random kernels at full strength die here: they start small beside an identity
            for channel in range(CHANNELS):
                block.base[channel, channel, 1, 1] = 1.0
    return LumaNetwork(name, scale, [first, *middle, last], skip=True)


def fast(scale: int) -> LumaNetwork:
    """Five body layers between a 5x5 and a 1x1: 11,920 + 16·s² multiplications."""
    return residual_net("fast", scale, body=5, first_kernel=5, last_kernel=1)


def balanced(scale: int) -> LumaNetwork:
    """Eight body layers between two 3x3: 18,576 + 144·s² multiplications."""
    return residual_net("balanced", scale, body=8, first_kernel=3, last_kernel=3)
