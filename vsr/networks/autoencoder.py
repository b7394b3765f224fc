"""The convolutional auto-encoder of the classic tutorials on super-resolution, on luma.

An encoder and a decoder with additive skips, as taught in Keras courses ("Image Super Resolution Using Autoencoders",
Coursera/Rhyme, and its many copies), after the skip-connected encoder-decoder of Mao, Shen, Yang, "Image Restoration
Using Very Deep Convolutional Encoder-Decoder Networks with Symmetric Skip Connections", NIPS 2016 (arXiv:1603.09056).
It works on the bicubic enlargement; all kernels are 3x3, all activations ReLU:

    | layer | at       | channels  | then                                   |
    |-------|----------|-----------|----------------------------------------|
    | 1     | full     | 1 → 64    |                                        |
    | 2     | full     | 64 → 64   | maximum of 2x2                         |
    | 3     | half     | 64 → 128  |                                        |
    | 4     | half     | 128 → 128 | maximum of 2x2                         |
    | 5     | quarter  | 128 → 256 | every pixel twice (up-sampling)        |
    | 6     | half     | 256 → 128 |                                        |
    | 7     | half     | 128 → 128 | plus layer 4; every pixel twice        |
    | 8     | full     | 128 → 64  |                                        |
    | 9     | full     | 64 → 64   | plus layer 2                           |
    | 10    | full     | 64 → 1    | (3 channels in the tutorial, which is of RGB) |

332,928 multiplications per enlarged pixel, at x2 a hundred times those of FSRCNN: it is here as the reference that many
start from, not for speed. Activations are L1-regularised at the tutorial's weight, 1e-9 times their sum over a picture;
its dropout is left out. The tutorial's pictures have sides that 4 divides; here the maximum at an odd side takes what
there is, and up-sampling is cut to the size of its skip.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vsr.networks.base import EnlargedNetwork, Operations, TrainingOperations, Value, enlarged_halo
from vsr.networks.blocks import LayerPlan, LinearBlock

CHANNELS = ((1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 128), (128, 128), (128, 64), (64, 64), (64, 1))
#: How often each layer is computed per enlarged pixel, as the divisor of one.
EVERY = (1, 1, 4, 4, 16, 4, 4, 1, 1, 1)
ACTIVITY_L1 = 1e-9


class Autoencoder(EnlargedNetwork):
    """The table above. Its weights are for one scale: the pooling learns how blurred the enlargement is."""

    any_scale = False
    regularised = True

    @property
    def macs(self) -> int:
        """Multiplications of the layers per low-resolution pixel."""
        return sum(plan.macs * self.scale**2 // every for plan, every in zip(self.plans, EVERY, strict=True))

    @property
    def halo(self) -> int:
        """As in `LumaNetwork`; the farthest of the four places that a pixel can have in the squares of the pooling."""
        reads = []
        for pixel in range(4 * self.scale):
            first, last = pixel - 3, pixel + 3  # layers 10, 9, 8
            first, last = first // 2 - 2, last // 2 + 2  # half: 7, 6
            first, last = first // 2 - 1, last // 2 + 1  # quarter: 5
            first, last = 2 * first - 2, 2 * last + 1 + 2  # half: 4, 3
            first, last = 2 * first - 2, 2 * last + 1 + 2  # 2, 1
            reads.append((pixel, first, last))
        return enlarged_halo(self.scale, reads)

    def flow(self, ops: Operations[Value], y: Value) -> Value:
        """As in `LumaNetwork`."""
        full = ops.layer(1, ops.layer(0, ops.enlarge(y, self.scale)))
        half = ops.layer(3, ops.layer(2, ops.pool(full)))
        quarter = ops.layer(4, ops.pool(half))
        half = ops.add(ops.layer(6, ops.layer(5, ops.repeat(quarter, half))), half)
        full = ops.add(ops.layer(8, ops.layer(7, ops.repeat(half, full))), full)
        return ops.layer(9, full)

    def forward(self, y: Tensor) -> Tensor:
        """y: [N, 1, H, W] → [N, 1, scale·H, scale·W]; in training mode, leaves the regulariser in `penalty`."""
        if not self.training:
            return super().forward(y)
        ops = _MeasuredOperations(self._blocks())
        out = self.flow(ops, y)
        self.penalty = ops.activity * (ACTIVITY_L1 / y.shape[0])
        return out


class _MeasuredOperations(TrainingOperations):
    """Sums up the activations of all layers."""

    activity: Tensor | float = 0.0

    def layer(self, number: int, x: Tensor) -> Tensor:
        out = super().layer(number, x)
        self.activity = self.activity + out.abs().sum()
        return out


def autoencoder(scale: int) -> Autoencoder:
    """The auto-encoder, started as the bicubic enlargement itself, which the outer skip carries in channel 0."""
    gains = [1.0] * 8 + [0.1, 0.02]  # what the random layers say must be faint beside the picture
    blocks = [
        LinearBlock(LayerPlan(n, m, 3, "relu"), width=128, gain=gain)
        for (n, m), gain in zip(CHANNELS, gains, strict=True)
    ]
    with torch.no_grad():
        for block in (blocks[0], blocks[1], blocks[-1]):
            block.base[0, 0, 1, 1] = 1.0
        for block in (blocks[0], blocks[1], blocks[8]):  # that write channel 0 at full size
            block.project[0] *= 0.05
    return Autoencoder("autoencoder", scale, blocks)
