"""This project's own small networks for int8 on CPUs.

    | layer    | `fast`         | `balanced`            | `best`           | activation                      |
    |----------|----------------|-----------------------|------------------|---------------------------------|
    | channels | C = 16         | C = 16, once 15 at x2 | C = 24, at x3 32 |                                 |
    | 1 → C    | 5x5            | 3x3, at x4 5x5        | 3x3              | ReLU                            |
    | C → C    | 5 3x3, at x4 6 | 9 3x3                 | 11 3x3, at x3 6  | ReLU                            |
    | C → s²   | 1x1            | 3x3                   | 3x3, at x4 1x1   | none; plus input, pixel shuffle |

Sixteen channels are one vector of a CPU's int8 dot products, thirty-two are two; ReLU folds into the convolution
before it, PReLU costs 1.25 to 2.8 times as much; adding the input (the nearest-neighbour enlargement) leaves only
detail to the convolutions. `fast` stays within FSRCNN's multiplications per low-resolution pixel, 12,464 at x3 and
15,992 at x4: a 1x1 at the end pays for the fifth body layer, and a 5x5 at the start costs no measurable time.
`balanced` stays within ESPCN's (21,184 at x2, 22,624 at x3, 24,640 at x4): at x2 the 3x3 at its end would go 272
beyond them, so that one channel is left out in its middle, with 288 multiplications. `best` stays within 60,000; more
layers are worth more to it than wider ones (x3 is still as it was), though 24 channels take the time of 32 in each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from vsr.errors import OptionError
from vsr.networks.base import LumaNetwork
from vsr.networks.blocks import Activation, LayerPlan, LinearBlock
from vsr.networks.symmetry import SymmetricBlock, Symmetry


def residual_net(
    name: str,
    scale: int,
    *,
    widths: Sequence[int],
    first_kernel: int,
    last_kernel: int,
    activation: Activation = "relu",
    symmetry: Symmetry | None = None,
) -> LumaNetwork:
    """A network of the table above; widths: the channels behind the first layer and behind each in the middle.

    symmetry: make it one that moves with the picture.

    Raises `OptionError` for a kernel that is even, or a layer without channels, with a symmetry one of channels
    not in fours.
    """
    if min(widths) < 1 or first_kernel % 2 == 0 or last_kernel % 2 == 0:
        raise OptionError(f"network {name}: kernels must be odd, and channels at least 1")
    width = 4 * max(widths)
    block: Callable[..., LinearBlock] = partial(SymmetricBlock, symmetry=symmetry) if symmetry else LinearBlock
    last_block = partial(block, last=True) if symmetry else LinearBlock
    first = block(LayerPlan(1, widths[0], first_kernel, activation), width=width, gain=1.0)
    middle = [block(LayerPlan(n, m, 3, activation), width=width, gain=0.3) for n, m in pairwise(widths)]
    last = last_block(LayerPlan(widths[-1], scale * scale, last_kernel), width=width, gain=0.1)
    for layer in middle:  # random kernels at full strength die here: they start small beside an identity
        layer.start_as_identity()
    return LumaNetwork(name, scale, [first, *middle, last], skip=True)


def fast(scale: int) -> LumaNetwork:
    """Five body layers between a 5x5 and a 1x1: 11,920 + 16·s² multiplications; at x4 one layer, 2,304, more."""
    return residual_net("fast", scale, widths=[16] * (7 if scale == 4 else 6), first_kernel=5, last_kernel=1)


def balanced(scale: int) -> LumaNetwork:
    """Nine body layers behind a 3x3: 20,880 + 144·s² multiplications, at x2 288 less; at x4 a 5x5, 256 more."""
    widths = [16] * 10
    if scale == 2:
        widths[5] = 15
    return residual_net("balanced", scale, widths=widths, first_kernel=5 if scale == 4 else 3, last_kernel=3)


def best(scale: int) -> LumaNetwork:
    """Eleven body layers of 24 channels behind a 3x3, at x3 six of 32.

    58,104, 58,176 and 57,624 multiplications at x2, x3 and x4.
    """
    widths = [32] * 7 if scale == 3 else [24] * 12
    return residual_net("best", scale, widths=widths, first_kernel=3, last_kernel=1 if scale == 4 else 3)
