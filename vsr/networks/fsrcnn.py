"""FSRCNN: the fast super-resolution convolutional network, its deconvolution as a sub-pixel convolution.

Dong, Loy, Tang, "Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016
(arXiv:1608.00367), FSRCNN(56,12,4), and FSRCNN-s, which is FSRCNN(32,5,1) (section 3.4 and table 3):

    | layer | kernel | `fsrcnn` | `fsrcnn-s` | activation |
    |-------|--------|----------|------------|------------|
    | feature extraction      | 5x5 | 1 → 56           | 1 → 32     | PReLU |
    | shrinking               | 1x1 | 56 → 12          | 32 → 5     | PReLU |
    | mapping                 | 3x3 | 12 → 12, 4 times | 5 → 5 once | PReLU |
    | expanding               | 1x1 | 12 → 56          | 5 → 32     | PReLU |
    | deconvolution, stride s | 9x9 | 56 → 1           | 32 → 1     | none  |

12,464 and 3,937 weights without biases and slopes, and as many multiplications per low-resolution pixel, at each scale.

A 9x9 deconvolution of stride s equals a convolution with s² outputs and a pixel shuffle
(`deconvolution_to_subpixel`), in which each output phase holds the taps that fall on it: 3x3 taps at x3
without a remainder; at x2 a 5x5 and at x4 a 3x3 kernel of which some taps are always zero. Runtimes are 3 to
9 times slower at the deconvolution, so the sub-pixel form is what is trained (with those taps masked) and
shipped.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vsr.errors import OptionError
from vsr.networks.base import LumaNetwork
from vsr.networks.blocks import LayerPlan, LinearBlock, interpolation_kernel

#: Per scale: padding and output padding with which the 9x9 deconvolution gives exactly s times the size.
PADDING = {2: (4, 1), 3: (3, 0), 4: (3, 1)}


def subpixel_taps(scale: int) -> tuple[int, list[list[tuple[int, int]]]]:
    """Along one axis: side of the sub-pixel kernel; per output phase its (tap, deconvolution's tap) pairs.

    Raises:
        OptionError: FSRCNN has no such scale.
    """
    if scale not in PADDING:
        raise OptionError(f"FSRCNN got scale {scale}; it has {', '.join(map(str, PADDING))}")
    padding = PADDING[scale][0]
    # output s·q + r takes input q + d through tap r + padding - s·d of the deconvolution
    phases = [
        [(d, r + padding - scale * d) for d in range(-4, 5) if 0 <= r + padding - scale * d < 9] for r in range(scale)
    ]
    half = max(abs(d) for phase in phases for d, _ in phase)
    return 2 * half + 1, [[(d + half, tap) for d, tap in phase] for phase in phases]


def deconvolution_to_subpixel(weight: Tensor, scale: int) -> Tensor:
    """The sub-pixel kernel [s², C, k, k] of a deconvolution kernel [C, 1, 9, 9] (ConvTranspose2d's layout).

    With stride `scale` and `PADDING[scale]` the two are exactly equal, borders included.
    """
    kernel, phases = subpixel_taps(scale)
    out = weight.new_zeros(scale * scale, weight.shape[0], kernel, kernel)
    for row, row_taps in enumerate(phases):
        for column, column_taps in enumerate(phases):
            for i, y in row_taps:
                for j, x in column_taps:
                    out[row * scale + column, :, i, j] = weight[:, 0, y, x]
    return out


def fsrcnn(scale: int, name: str = "fsrcnn", features: int = 56, shrunk: int = 12, maps: int = 4) -> LumaNetwork:
    """FSRCNN(`features`,`shrunk`,`maps`) for one scale, started as a linear interpolation carried by channel 0."""
    kernel, _ = subpixel_taps(scale)
    shapes = [(1, features, 5), (features, shrunk, 1), *[(shrunk, shrunk, 3)] * maps, (shrunk, features, 1)]
    blocks = [
        LinearBlock(LayerPlan(n, m, k, "prelu"), width=max(64, 2 * n), gain=0.4 if n == m else 1.0)
        for n, m, k in shapes
    ]
    tail = LinearBlock(LayerPlan(features, scale * scale, kernel), width=128, gain=0.1)
    with torch.no_grad():
        for block in blocks:
            half = block.plan.kernel // 2
            if block.plan.inputs == block.plan.outputs:
                block.start_as_identity()
            else:
                block.base[0, 0, half, half] = 1.0
            block.project[0] *= 0.05
        tail.base[:, :1] = interpolation_kernel(scale, kernel)
        tail.mask.copy_(deconvolution_to_subpixel(torch.ones(features, 1, 9, 9), scale))
    return LumaNetwork(name, scale, [*blocks, tail], skip=False)


def fsrcnn_s(scale: int) -> LumaNetwork:
    """FSRCNN-s, which the paper made for speed."""
    return fsrcnn(scale, "fsrcnn-s", features=32, shrunk=5, maps=1)
