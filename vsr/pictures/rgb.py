"""Between planes and the arrays of picture files: R'G'B' or grey, full range, 8 or 16 bits.

Y'CbCr becomes R'G'B' in float, by the matrix and range of the stream (ITU-T H.273 section 8.3), with chroma brought to
the places of luma by the cubic kernel from where it sits.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vsr.frame import PIXEL_FORMATS, ColorSpec, PixelFormat, Planes
from vsr.graphs.frame_graph import chroma_phase
from vsr.resample import MARGIN, TAPS, polyphase_kernel

Samples = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

ORDER: Final = {3: (1, 2, 0), 4: (1, 2, 0, 3)}  # planes come as G, B, R, A
FORMATS: Final = {1: "gray", 3: "gbrp", 4: "gbrap"}


def picture_format(channels: int, bits: int) -> PixelFormat:
    """The format of the planes of a picture with 1, 3 or 4 channels of 8 or 16 bits."""
    return PIXEL_FORMATS[FORMATS[channels] + ("" if bits == 8 else "16le")]


def planes_of_picture(samples: Samples) -> Planes:
    """View [H, W], [H, W, 3] or [H, W, 4] of uint8 or uint16 as planes."""
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    arrays = (samples,) if channels == 1 else tuple(samples[:, :, i] for i in ORDER[channels])
    fmt = picture_format(channels, 8 * samples.itemsize)
    return Planes(tuple(np.ascontiguousarray(a) for a in arrays), fmt, samples.shape[1], samples.shape[0])


def picture_of_planes(planes: Planes, color: ColorSpec, bits: int) -> Samples:
    """The picture as [H, W] (grey), [H, W, 3] or [H, W, 4].

    Args:
        planes: of any format.
        color: its matrix, range and siting.
        bits: of the result, 8 to 16.
    """
    fmt = planes.format
    arrays = dict(zip(fmt.plane_names, planes.arrays, strict=True))
    if fmt.family == "rgb":
        channels = [_scaled(arrays[n], fmt.bits, bits) for n in "rgb"]
    elif fmt.family == "gray":
        channels = [_rounded(_luma(arrays["y"], fmt, color), bits)]
    else:
        channels = [_rounded(c, bits) for c in _red_green_blue(arrays, planes, color)]
    if fmt.alpha:
        channels = channels * 3 if len(channels) == 1 else channels
        channels.append(_scaled(arrays["a"], fmt.bits, bits))
    return channels[0] if len(channels) == 1 else np.stack(channels, axis=2)


def rgb_planes(planes: Planes, color: ColorSpec, fmt: PixelFormat) -> Planes:
    """`planes` of any format as R'G'B' planes of `fmt`; an alpha plane that they lack is opaque."""
    samples = picture_of_planes(planes, color, fmt.bits)
    channels = [samples] * 3 if samples.ndim == 2 else [samples[:, :, i] for i in range(samples.shape[2])]
    if len(channels) == 3:
        channels.append(np.full_like(channels[0], (1 << fmt.bits) - 1))
    arrays = tuple(np.ascontiguousarray(channels[i]) for i in ORDER[4 if fmt.alpha else 3])
    return Planes(arrays, fmt, planes.width, planes.height)


def _luma(plane: Samples, fmt: PixelFormat, color: ColorSpec) -> Floats:
    """Luma from 0 to 1."""
    unit = 1 << (fmt.bits - 8)
    if color.is_full_range():
        return plane.astype(np.float32) * np.float32(1 / ((1 << fmt.bits) - 1))
    return (plane.astype(np.float32) - np.float32(16 * unit)) * np.float32(1 / (219 * unit))


def _chroma(plane: Samples, fmt: PixelFormat, color: ColorSpec) -> Floats:
    """A colour difference from -1/2 to 1/2."""
    middle = np.float32(1 << (fmt.bits - 1))
    span = (1 << fmt.bits) - 1 if color.is_full_range() else 224 << (fmt.bits - 8)
    return (plane.astype(np.float32) - middle) * np.float32(1 / span)


def _red_green_blue(arrays: dict[str, Samples], planes: Planes, color: ColorSpec) -> list[Floats]:
    kr, kb = color.luma_weights()
    kg = 1 - kr - kb
    fmt = planes.format
    y = _luma(arrays["y"], fmt, color)
    phases = chroma_phase(color.siting, fmt.log2_w, fmt.log2_h)
    cb, cr = (
        _at_luma(_chroma(arrays[n], fmt, color), fmt, phases)[: planes.height, : planes.width] for n in ("u", "v")
    )
    red = y + np.float32(2 * (1 - kr)) * cr
    blue = y + np.float32(2 * (1 - kb)) * cb
    green = y - np.float32(2 * (1 - kb) * kb / kg) * cb - np.float32(2 * (1 - kr) * kr / kg) * cr
    return [red, green, blue]


def _at_luma(plane: Floats, fmt: PixelFormat, phases: tuple[float, float]) -> Floats:
    """A chroma plane with a sample wherever there is one of luma."""
    for axis, log2, phase in ((0, fmt.log2_h, phases[1]), (1, fmt.log2_w, phases[0])):
        if log2:
            plane = _interpolated(plane, 1 << log2, phase, axis)
    return plane


def _interpolated(plane: Floats, step: int, phase: float, axis: int) -> Floats:
    """`plane` with `step` samples for each along `axis`.

    With chroma sample i at luma position step·i + d, luma sample X reads chroma at (X − d)/step, which is
    (X + ½)/step − p with the phase p = (d + ½)/step that `chroma_phase` gives.
    """
    weights = polyphase_kernel(step, phase, 0.5)
    count = plane.shape[axis]
    pads = [(0, 0), (0, 0)]
    pads[axis] = (MARGIN, MARGIN)
    padded = np.pad(plane, pads, mode="edge")
    shape = list(plane.shape)
    shape[axis] = count * step
    result = np.zeros(shape, dtype=np.float32)
    for r in range(step):
        target = result[r::step] if axis == 0 else result[:, r::step]
        for k in range(TAPS):
            if weights[r, k]:
                taken = padded[k : k + count] if axis == 0 else padded[:, k : k + count]
                target += weights[r, k] * taken
    return result


def _rounded(values: Floats, bits: int) -> Samples:
    largest = (1 << bits) - 1
    kind = np.uint8 if bits == 8 else np.uint16
    rounded: Samples = np.rint(np.clip(values * np.float32(largest), 0, largest)).astype(kind)
    return rounded


def _scaled(plane: Samples, bits: int, new_bits: int) -> Samples:
    """Full-range code values of another depth; the same where the depth is the same."""
    if bits == new_bits:
        return plane
    return _rounded(plane.astype(np.float32) * np.float32(1 / ((1 << bits) - 1)), new_bits)
