"""PSNR and SSIM as the super-resolution papers compute them.

The papers' protocol: images as 8-bit luma (BT.601, studio range), the result rounded and clipped to 8 bits, a
border of `scale` pixels left out. Everything here takes arrays and returns floats; nothing is rounded or
cropped unless asked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsr.errors import InputError, OptionError

Float = NDArray[np.float64]


def _pair(reference: ArrayLike, image: ArrayLike, border: int) -> tuple[Float, Float]:
    a = np.asarray(reference, dtype=np.float64)
    b = np.asarray(image, dtype=np.float64)
    if a.shape != b.shape:
        raise InputError(f"the images to compare differ in shape: {a.shape} and {b.shape}")
    if a.ndim < 2:
        raise InputError(f"got an array of shape {a.shape}; an image is H x W or H x W x C")
    if border < 0:
        raise OptionError(f"got border {border}; it must be 0 or more pixels")
    if min(a.shape[:2]) <= 2 * border:
        raise InputError(f"a border of {border} pixels leaves nothing of an image of {a.shape[1]}x{a.shape[0]}")
    if border:
        inner = slice(border, -border)
        a, b = a[inner, inner], b[inner, inner]
    return a, b


def psnr(reference: ArrayLike, image: ArrayLike, *, peak: float = 255.0, border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB: 10·log10(peak² / mean squared error); infinite for equal images.

    `reference` and `image`: H x W or H x W x C of one shape, any real dtype, in units where `peak` is the
    largest value. `border` pixels are left out on each side (the papers leave out `scale`). Raises
    `InputError` when shapes differ or nothing is left, `OptionError` for a bad border or peak.
    """
    if not peak > 0:
        raise OptionError(f"got peak {peak}; it must be positive")
    a, b = _pair(reference, image, border)
    error = float(np.mean(np.square(a - b)))
    return math.inf if error == 0 else 10.0 * math.log10(peak * peak / error)


def gaussian(size: int = 11, sigma: float = 1.5) -> Float:
    """A normalised 1-D Gaussian window of `size` samples (odd) and standard deviation `sigma` samples."""
    x = np.arange(size, dtype=np.float64) - size // 2
    window = np.exp(-(x * x) / (2.0 * sigma * sigma))
    return np.asarray(window / window.sum())


def _filter_valid(image: Float, window: Float) -> Float:
    rows = image.shape[0] - len(window) + 1
    columns = image.shape[1] - len(window) + 1
    vertical = np.zeros((rows, image.shape[1]))
    for k, weight in enumerate(window):
        vertical += weight * image[k : k + rows]
    out = np.zeros((rows, columns))
    for k, weight in enumerate(window):
        out += weight * vertical[:, k : k + columns]
    return out


def ssim(reference: ArrayLike, image: ArrayLike, *, peak: float = 255.0, border: int = 0) -> float:
    """Mean structural similarity (1 = equal) of two H x W images, by the original definition.

    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", 2004: an 11x11 Gaussian window of sigma 1.5
    with biased moments, K1 = 0.01, K2 = 0.03, only windows that lie wholly inside, no downsampling. It is the
    `ssim_index.m` that the super-resolution papers use. Units as for `psnr`. Raises `InputError` when shapes
    differ, are not H x W, or are smaller than the window.
    """
    if not peak > 0:
        raise OptionError(f"got peak {peak}; it must be positive")
    a, b = _pair(reference, image, border)
    window = gaussian()
    if a.ndim != 2 or min(a.shape) < len(window):
        raise InputError(f"SSIM takes H x W images of at least 11x11 after the border, got shape {a.shape}")
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_a, mean_b = _filter_valid(a, window), _filter_valid(b, window)
    var_a = _filter_valid(a * a, window) - mean_a * mean_a
    var_b = _filter_valid(b * b, window) - mean_b * mean_b
    cov = _filter_valid(a * b, window) - mean_a * mean_b
    top = (2.0 * mean_a * mean_b + c1) * (2.0 * cov + c2)
    bottom = (mean_a * mean_a + mean_b * mean_b + c1) * (var_a + var_b + c2)
    return float(np.mean(top / bottom))


def rgb_to_luma_bt601(rgb: ArrayLike, *, rounded: bool = True) -> NDArray[Any]:
    """Studio-range BT.601 luma (16 to 235) of 8-bit RGB, as MATLAB's `rgb2ycbcr` gives it.

    `rgb`: H x W x 3 with values 0 to 255; H x W is taken as grey (R = G = B). Returns uint8 when `rounded`,
    else float64, H x W. Raises `InputError` for other shapes.
    """
    array = np.asarray(rgb, dtype=np.float64)
    if array.ndim == 2:
        luma = 16.0 + array * (219.0 / 255.0)
    elif array.ndim == 3 and array.shape[2] == 3:
        luma = 16.0 + array @ (np.array([65.481, 128.553, 24.966]) / 255.0)
    else:
        raise InputError(f"got an array of shape {array.shape}; RGB is H x W x 3, grey is H x W")
    return np.rint(luma).astype(np.uint8) if rounded else luma
