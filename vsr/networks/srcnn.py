"""SRCNN: the first convolutional network for super-resolution.

Dong, Loy, He, Tang, "Image Super-Resolution Using Deep Convolutional Networks", IEEE TPAMI 2016 (arXiv:1501.00092),
section 4.1 and 4.3.1. It works on the bicubic enlargement:

    | layer | what the paper calls it | `srcnn` (9-5-5) | `srcnn-9-1-5` | channels | activation |
    |-------|-------------------------|-----------------|---------------|----------|------------|
    | 1     | patch extraction        | 9x9             | 9x9           | 1 → 64   | ReLU       |
    | 2     | non-linear mapping      | 5x5             | 1x1           | 64 → 32  | ReLU       |
    | 3     | reconstruction          | 5x5             | 5x5           | 32 → 1   | none       |

57,184 and 8,032 weights without biases, and as many multiplications for each **enlarged** pixel: at x3 the first takes
40 times as much as FSRCNN. Since the network sees no scale, one set of weights serves all three. The paper pads nothing
and loses eight or six pixels at each edge; here zeros are padded, so that the size stays.
"""

from __future__ import annotations

import torch

from vsr.networks.base import EnlargedNetwork
from vsr.networks.blocks import LayerPlan, LinearBlock


def srcnn(scale: int, middle: int = 5) -> EnlargedNetwork:
    """SRCNN 9-`middle`-5 (64, 32), started as the bicubic enlargement itself, carried by channel 0."""
    blocks = [
        LinearBlock(LayerPlan(1, 64, 9, "relu"), width=128, gain=1.0),
        LinearBlock(LayerPlan(64, 32, middle, "relu"), width=128, gain=0.7),
        LinearBlock(LayerPlan(32, 1, 5), width=64, gain=0.02),
    ]
    with torch.no_grad():
        for block in blocks:
            half = block.plan.kernel // 2
            block.base[0, 0, half, half] = 1.0
        for block in blocks[:2]:
            block.project[0] *= 0.05
    return EnlargedNetwork("srcnn" if middle == 5 else f"srcnn-9-{middle}-5", scale, blocks)
