"""Between FFmpeg's pixel formats and the planar formats of this project, without changing a sample.

Packed, semi-planar, big-endian and paletted formats are rearranged by libswscale within their own colour family;
nothing is converted from RGB to YUV or between ranges here.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import av.error
import av.filter
import numpy as np
import numpy.typing as npt
from av.video.frame import CudaContext

from vsr.errors import UnsupportedInputError
from vsr.frame import PIXEL_FORMATS, PixelFormat, Plane, Planes, Range
from vsr.surface import CUDA, SurfacePlanes

DEEPEST = 16
FOREIGN = ("bayer", "xyz")  # need a conversion of their own, which is none of an upscaler's business
PACKED_GREY = ("ya8", "ya16le")  # grey and alpha in turn, in one plane
SAME_SAMPLES = {  # FFmpeg's deprecated names for full range: same samples, other name
    "yuvj420p": "yuv420p",
    "yuvj422p": "yuv422p",
    "yuvj444p": "yuv444p",
    "yuvj440p": "yuv440p",
    "yuvj411p": "yuv411p",
}


def working_format(pix_fmt: str) -> PixelFormat:
    """The planar format that holds `pix_fmt` without loss.

    Raises:
        UnsupportedInputError: there is none (Bayer, float, hardware and XYZ formats).
    """
    name = SAME_SAMPLES.get(pix_fmt, pix_fmt)
    if name in PIXEL_FORMATS:
        return PIXEL_FORMATS[name]
    refusal = _refusal(pix_fmt)
    try:
        fmt = av.VideoFormat(name, 16, 16)
    except ValueError as exc:
        raise refusal from exc
    bits = max((c.bits for c in fmt.components), default=0)
    colors = [c for c in fmt.components if not c.is_alpha]
    if not 1 <= bits <= DEEPEST or name.startswith(FOREIGN) or "f16" in name or "f32" in name:
        raise refusal
    alpha = len(colors) < len(fmt.components) or fmt.has_palette
    rgb = fmt.is_rgb or fmt.has_palette
    family = "rgb" if rgb else "yuv" if len(colors) == 3 else "gray"
    log2_w = (16 // colors[1].width).bit_length() - 1 if family == "yuv" else 0
    log2_h = (16 // colors[1].height).bit_length() - 1 if family == "yuv" else 0
    fitting = [
        f
        for f in PIXEL_FORMATS.values()
        if f.family == family
        and (f.log2_w, f.log2_h) == (log2_w, log2_h)
        and f.alpha == alpha
        and f.bits >= max(bits, 8)
    ]
    if not fitting:
        raise refusal
    return min(fitting, key=lambda f: f.bits)


def rows_of(plane: Any, dtype: npt.DTypeLike = np.uint8) -> Any:
    """A view of all samples of a PyAV plane, padding included: [rows, samples in a row].

    Args:
        plane: of a frame whose rows do not run upwards.
        dtype: of a sample.
    """
    kind = np.dtype(dtype)
    return np.frombuffer(memoryview(plane), dtype=kind).reshape(-1, plane.line_size // kind.itemsize)


def samples_of(plane: Any, dtype: npt.DTypeLike = np.uint8) -> Any:
    """As `rows_of` without the padding, of a plane with one sample for each place: [height, width]."""
    return rows_of(plane, dtype)[: plane.height, : plane.width]


def planes_of(frame: av.VideoFrame, fmt: PixelFormat) -> Planes:
    """View the samples of `frame` as planes; they are rearranged first if its format is not `fmt`.

    The views keep the memory of the frame alive.
    """
    if SAME_SAMPLES.get(frame.format.name, frame.format.name) != fmt.name:
        try:
            frame = reformat(frame, format=fmt.name)
        except (av.error.FFmpegError, ValueError) as exc:
            raise _refusal(frame.format.name) from exc
    if any(plane.line_size < 0 for plane in frame.planes):  # stored bottom up
        frame = _copy(frame)
    arrays: list[Plane] = []
    if fmt.name in PACKED_GREY:
        samples = rows_of(frame.planes[0], fmt.dtype)[: frame.height, : 2 * frame.width]
        return Planes((samples[:, 0::2], samples[:, 1::2]), fmt, frame.width, frame.height)
    for name, plane in zip(fmt.plane_names, frame.planes, strict=True):
        width, height = fmt.plane_size(name, frame.width, frame.height)
        arrays.append(rows_of(plane, fmt.dtype)[:height, :width])
    return Planes(tuple(arrays), fmt, frame.width, frame.height)


def _refusal(pix_fmt: str) -> UnsupportedInputError:
    return UnsupportedInputError(
        f"pixel format {pix_fmt} is not handled; gray, YUV and RGB of 8 to 16 bits are",
        "convert the video to one of them first, for example to yuv420p",
    )


def reformat(frame: av.VideoFrame, **arguments: Any) -> av.VideoFrame:
    """`frame.reformat` by bicubic, on one thread: with several, libswscale 9.5 writes past the rows of its slices."""
    return frame.reformat(interpolation="BICUBIC", threads=1, **arguments)


def _copy(frame: av.VideoFrame) -> av.VideoFrame:
    """The same picture in memory of its own, rows from the top."""
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)),
        graph.add("copy"),
        graph.add("buffersink"),
    ).configure()
    graph.push(frame)
    copied: Any = graph.pull()
    upright: av.VideoFrame = copied
    return upright


def with_neutral_chroma(planes: Planes, like: PixelFormat) -> Planes:
    """Grey planes as YUV without colour, subsampled as `like`; libswscale would take them for full range.

    The planes keep their depth where there is such a format, as there is for 4:2:0, 4:2:2 and 4:4:4.
    """
    shape = ("yuv", planes.format.bits, like.log2_w, like.log2_h, planes.format.alpha)
    formats = PIXEL_FORMATS.values()
    fmt = next((f for f in formats if (f.family, f.bits, f.log2_w, f.log2_h, f.alpha) == shape), None)
    if fmt is None:
        return planes
    width, height = fmt.plane_size("u", planes.width, planes.height)
    neutral: Plane = np.full((height, width), 1 << (fmt.bits - 1), fmt.dtype)
    luma, *alpha = planes.arrays
    return Planes((luma, neutral, neutral, *alpha), fmt, planes.width, planes.height)


def frame_from(planes: Planes, color_range: Range) -> av.VideoFrame:
    """Copy `planes` into a new frame that an encoder takes."""
    frame = av.VideoFrame(planes.width, planes.height, planes.format.name)
    frame.color_range = int(color_range)
    if planes.format.name in PACKED_GREY:
        for offset, array in enumerate(planes.arrays):
            rows_of(frame.planes[0], planes.format.dtype)[: planes.height, offset : 2 * planes.width : 2] = array
        return frame
    for array, plane in zip(planes.arrays, frame.planes, strict=True):
        samples_of(plane, planes.format.dtype)[:] = array
    return frame


class SurfaceFrames:
    """Frames of surfaces, for an encoder that takes them; the samples are not copied."""

    def __init__(self) -> None:
        self._context: CudaContext | None = None

    def frame(self, planes: SurfacePlanes) -> av.VideoFrame:
        """A frame that keeps the surface's memory for as long as it or the encoder needs it."""
        surface = planes.surface
        kind, number = surface.device
        if kind == CUDA and self._context is None:
            self._context = CudaContext(number)  # one for all frames: the encoder knows them by it
        return av.VideoFrame.from_dlpack(
            surface.capsules(), surface.layout, planes.width, planes.height, cuda_context=self._context
        )
