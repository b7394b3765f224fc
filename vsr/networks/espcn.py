"""ESPCN: the efficient sub-pixel convolutional network.

Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
Neural Network", CVPR 2016 (arXiv:1609.05158), section 4.1:

    | layer | kernel | channels   | activation   |
    |-------|--------|------------|--------------|
    | 1     | 5x5    | 1 → 64     | tanh or ReLU |
    | 2     | 3x3    | 64 → 32    | tanh or ReLU |
    | 3     | 3x3    | 32 → s²    | none, then pixel shuffle |

20,032 + 288·s² multiplications per low-resolution pixel. The paper's activation is tanh (network `espcn-tanh`
here); with ReLU the same table learns faster and better in equal training (docs/models.md has the figures)
and costs less in every runtime, so that `espcn`, the one that ships, is the ReLU variant.
"""

from __future__ import annotations

from typing import Literal

import torch

from vsr.networks.base import LumaNetwork
from vsr.networks.blocks import LayerPlan, LinearBlock, interpolation_kernel

#: tanh(x) is a straight line to 0.3 % for |x| < 0.125: channel 0 starts by carrying (luma - ½) times this.
CARRIER = 0.25


def espcn(scale: int, activation: Literal["relu", "tanh"] = "relu") -> LumaNetwork:
    """ESPCN (5-3-3; 64, 32) for one scale, started as a linear interpolation carried by channel 0.

    There is no skip connection, so that an ordinary random start spends hours on learning to interpolate.
    """
    blocks = [
        LinearBlock(LayerPlan(1, 64, 5, activation), width=128, gain=1.0),
        LinearBlock(LayerPlan(64, 32, 3, activation), width=128, gain=0.7),
        LinearBlock(LayerPlan(32, scale * scale, 3), width=128, gain=0.1),
    ]
    network = LumaNetwork("espcn" if activation == "relu" else "espcn-tanh", scale, blocks, skip=False)
    carrier, middle = (CARRIER, 0.5) if activation == "tanh" else (1.0, 0.0)
    with torch.no_grad():
        for block in blocks[:2]:
            half = block.plan.kernel // 2
            block.base[0, 0, half, half] = carrier if block is blocks[0] else 1.0
            block.project[0] *= 0.05
        blocks[0].bias[0] = -middle * carrier
        blocks[2].base[:, :1] = interpolation_kernel(scale, 3) / carrier
        blocks[2].bias.add_(middle)
    return network
