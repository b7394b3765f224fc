"""Bicubic resampling as the super-resolution papers mean it.

`imresize` repeats MATLAB's `imresize(…, "bicubic")`: the Keys kernel with a = -0.5, widened by the scale when
it shrinks (antialiasing), pixel centres at half-integers and borders mirrored with the edge sample repeated.
Published PSNR figures are made with it; other libraries' "bicubic" (a = -0.75, or without antialiasing) is up
to 1 dB away.

Frame graphs resample with `polyphase_kernel` (or, of it, `polyphase_windows`) and `decimation_kernel` by whole factors,
and with `windows` otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsr.errors import InputError, OptionError

Float = NDArray[np.float64]

TAPS: Final = 5  # samples q-2 … q+2 hold the four cubic taps of every phase
MARGIN: Final = TAPS // 2
CUBIC_REACH: Final = 2  # of a kernel from its centre, in samples
LOBES: Final = 3


def cubic(x: ArrayLike, a: float = -0.5) -> Float:
    """Keys' cubic convolution kernel at the distances `x` (in samples), of any shape; float64.

    R. Keys, "Cubic convolution interpolation for digital image processing", 1981. `a` is the slope at
    distance 1: -0.5 reproduces quadratics and is what MATLAB and this project use.
    """
    t = np.abs(np.asarray(x, dtype=np.float64))
    near = ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
    far = ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a
    return np.where(t <= 1.0, near, np.where(t < 2.0, far, 0.0))


def taps(size_in: int, size_out: int, scale: float, antialias: bool = True) -> tuple[NDArray[np.intp], Float]:
    """Source indices and weights of every output sample along one axis.

    Returns two arrays of shape [size_out, taps]: positions in the input (mirrored at the borders, so always
    valid) and weights, each row of which sums to 1.
    """
    stretch = min(scale, 1.0) if antialias else 1.0
    width = 4.0 / stretch
    centre = (np.arange(size_out, dtype=np.float64) + 0.5) / scale - 0.5
    first = np.floor(centre - width / 2.0).astype(np.intp) + 1
    index = first[:, None] + np.arange(math.ceil(width) + 1, dtype=np.intp)[None, :]
    weight = stretch * cubic(stretch * (centre[:, None] - index))
    weight /= weight.sum(axis=1, keepdims=True)
    period = index % (2 * size_in)
    mirrored = np.where(period < size_in, period, 2 * size_in - 1 - period)
    used = np.any(weight != 0.0, axis=0)
    return mirrored[:, used], weight[:, used]


def lanczos(x: ArrayLike) -> Float:
    """Lanczos' kernel of three lobes, sinc(x) · sinc(x/3), at the distances `x` (in samples), of any shape; float64.

    C. E. Duchon, "Lanczos filtering in one and two dimensions", 1979.
    """
    t = np.asarray(x, dtype=np.float64)
    return np.where(np.abs(t) < LOBES, np.sinc(t) * np.sinc(t / LOBES), 0.0)


def polyphase_kernel(scale: int, phase: float, new_phase: float | None = None) -> NDArray[np.float32]:
    """Weights [scale, TAPS] of the cubic (a = −0.5) for output samples s·q + r from input samples q−2 … q+2.

    `phase` is that of the input, `new_phase` that of the output if it is another.
    """
    r = np.arange(scale)[:, None]
    x = (r + (phase if new_phase is None else new_phase)) / scale - phase
    weights = cubic(x - (np.arange(TAPS) - MARGIN)[None, :])
    normalised: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def decimation_kernel(factor: int, phase: float) -> tuple[int, NDArray[np.float32]]:
    """The antialiased cubic that takes every `factor`-th sample: first tap's offset, and weights [taps].

    Output sample j lies at input position f·j + d, d = f·phase − ½, and reads through the cubic stretched f times.
    """
    d = factor * phase - 0.5
    first = int(np.floor(d - 2 * factor)) + 1
    taps = np.arange(first, int(np.ceil(d + 2 * factor)))
    weights = cubic((taps - d) / factor)
    normalised: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return first, normalised


def polyphase_windows(
    size: int, kernel: NDArray[np.float32], longest: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """An enlargement by a whole factor along one axis, cut into blocks of inputs that share their weights.

    Unlike with `windows` the weights do not depend on the block, for edges replicate through the index.

    Args:
        size: samples of the input.
        kernel: from `polyphase_kernel`, [scale, TAPS].
        longest: inputs of a block; fewer where that divides `size`.

    Returns:
        [blocks, window] positions in the input, and weights [block · scale, window]: output block·scale·b + i is the
        sum of weights[i] · input[positions[b]]. The last block may end beyond the output.
    """
    block = max((n for n in range(longest // 2, longest + 1) if size % n == 0), default=longest)
    used = np.flatnonzero(kernel.any(axis=0))
    first, count = int(used[0]), int(used[-1] - used[0]) + 1
    start = np.arange(0, size, block)[:, None]
    index = np.clip(start + np.arange(block - 1 + count) + first - MARGIN, 0, size - 1)
    weight = np.zeros((block, len(kernel), block - 1 + count), np.float32)
    for place in range(block):
        weight[place, :, place : place + count] = kernel[:, first : first + count]
    return index.astype(np.int64), weight.reshape(block * len(kernel), -1)


@dataclass(frozen=True, eq=False)
class Windows:
    """A resampling along one axis, cut into blocks of outputs that each read one window of inputs.

    Attributes:
        index: [blocks, window] positions in the input.
        weight: [blocks, block, window] float32; output `block * b + i` is the sum of weight[b, i] · input[index[b]].
    """

    index: NDArray[np.int64]
    weight: NDArray[np.float32]


def windows(
    size_in: int, size_out: int, ratio: Fraction, phase: float = 0.5, new_phase: float = 0.5, *, block: int = 32
) -> Windows:
    """Weights with which output sample j reads the input around x = (j + new_phase)/ratio − phase.

    The kernel is the cubic (a = −0.5) where that enlarges and Lanczos' three lobes, widened against aliasing, where it
    shrinks. Edges replicate. The last block may end beyond the output.

    Args:
        size_in: samples of the input.
        size_out: of the output.
        ratio: by which it is larger. `size_out / size_in` would not do for the chroma of odd sizes.
        phase: as `vsr.graphs.frame_graph.chroma_phase` says, of the input.
        new_phase: likewise, of the output.
        block: outputs computed from one window.
    """
    stretch = min(float(ratio), 1.0)
    support = (CUBIC_REACH if ratio >= 1 else LOBES) / stretch
    blocks = -(-size_out // block)
    j = np.arange(blocks * block, dtype=np.float64)
    x = (j + new_phase) / float(ratio) - phase
    first = np.ceil(x - support).astype(np.int64)
    tap = first[:, None] + np.arange(math.floor(2 * support) + 1)[None, :]
    distance = stretch * (x[:, None] - tap)
    weight = cubic(distance) if ratio >= 1 else lanczos(distance)
    weight /= weight.sum(axis=1, keepdims=True)
    tap = np.clip(tap, 0, size_in - 1)
    start = tap[:, 0].reshape(blocks, block).min(axis=1)
    window = int((tap[:, -1].reshape(blocks, block).max(axis=1) - start).max()) + 1
    dense = np.zeros((blocks, block, window))
    rows = np.arange(blocks * block)
    np.add.at(
        dense,
        (rows[:, None] // block, rows[:, None] % block, tap - np.repeat(start, block)[:, None]),
        weight,
    )
    return Windows(np.minimum(start[:, None] + np.arange(window), size_in - 1), dense.astype(np.float32))


def _resize_rows(image: Float, size_out: int, scale: float, antialias: bool) -> Float:
    index, weight = taps(image.shape[0], size_out, scale, antialias)
    shape = (size_out,) + (1,) * (image.ndim - 1)
    out = np.zeros((size_out, *image.shape[1:]), dtype=np.float64)
    for column in range(index.shape[1]):  # one pass per tap: no dense matrix, whatever the size
        out += weight[:, column].reshape(shape) * image[index[:, column]]
    return out


def imresize(
    image: ArrayLike,
    scale: float | None = None,
    *,
    size: tuple[int, int] | None = None,
    antialias: bool = True,
) -> Float:
    """Resize `image` (H x W or H x W x C, any real dtype) by `scale`, or to `size` = (height, width).

    Returns float64 in the units of the input, neither clipped nor rounded. Given `scale`, the output is
    ceil(scale * H) x ceil(scale * W), as MATLAB's. `antialias` widens the kernel when shrinking; it changes
    nothing when enlarging.

    Raises `InputError` for an image of another rank or without pixels, `OptionError` unless exactly one of
    `scale` and `size` is given, positive.
    """
    array = np.asarray(image, dtype=np.float64)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(f"imresize got an array of shape {array.shape}; it takes H x W (x C) with at least one pixel")
    if (scale is None) == (size is None):
        raise OptionError("imresize takes either scale or size, one of them")
    height, width = array.shape[:2]
    if size is not None:
        out_height, out_width = size
        if out_height < 1 or out_width < 1:
            raise OptionError(f"imresize got size {size}; height and width must be at least 1")
        scales = (out_height / height, out_width / width)
    else:
        assert scale is not None
        if not (math.isfinite(scale) and scale > 0):
            raise OptionError(f"imresize got scale {scale}; it must be a positive number")
        # 1e-9: 1/3 of 300 must be 100, not 101, although the product is a hair above it in binary
        out_height, out_width = (math.ceil(scale * n - 1e-9) for n in (height, width))
        scales = (scale, scale)
    out = _resize_rows(array, out_height, scales[0], antialias)
    return _resize_rows(out.swapaxes(0, 1), out_width, scales[1], antialias).swapaxes(0, 1)
