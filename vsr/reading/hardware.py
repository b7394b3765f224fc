"""Decoders besides libavcodec's own: what the source asks of one, and NVDEC.

What is known of a stream, and its first picture, always come from libavcodec. Another decoder gives samples and their
times only, and is not trusted with these before its first picture equals libavcodec's in every bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

import av
import av.error
import numpy as np
from av.codec.hwaccel import HWAccel

from vsr.errors import BackendError
from vsr.frame import PixelFormat, Planes
from vsr.gpu.names import Gpu
from vsr.gpu.video import nvdec_refusal
from vsr.pixel_formats import SAME_SAMPLES, planes_of, reformat
from vsr.surface import LAYOUTS, Samples, SurfacePlanes, layout_of

ON_DEVICE: Final = "cuda"  # FFmpeg's pixel format of pictures in a GPU's memory


class Decoder(Protocol):
    """As `av.VideoCodecContext` decodes."""

    def decode(self, packet: Any) -> Iterable[av.VideoFrame]:
        """The pictures that are ready, in order, after `packet`; None at the end."""


class Hardware(Protocol):
    """A way to decode that need not be there.

    Attributes:
        name: in messages.
        keep: whether pictures stay where they were decoded, as surfaces.
    """

    name: str
    keep: bool

    def refusal(self, codec: str, pix_fmt: str) -> str | None:
        """Why it cannot decode such a stream, in one line; None if it may be able to."""

    def decoder(self, stream: Any) -> Decoder:
        """A new decoder of a stream of an open container.

        Raises:
            BackendError: there is none.
        """

    def planes(self, picture: av.VideoFrame, fmt: PixelFormat) -> Planes:
        """What the decoder has made, as planes of `fmt`.

        Raises:
            UnsupportedInputError: it has made something else.
        """


class Nvdec:
    """The decoder of an NVIDIA GPU. It has not been run by this project yet.

    Args:
        gpu: which kind.
        number: of the GPU, as CUDA counts them.
        keep: whether pictures stay in the GPU's memory, as surfaces, instead of being copied to the host's.
    """

    name = "NVDEC"

    def __init__(self, gpu: Gpu, number: int = 0, *, keep: bool = False) -> None:
        self._gpu = gpu
        self._number = number
        self.keep = keep

    def refusal(self, codec: str, pix_fmt: str) -> str | None:
        """By the tables of `vsr.gpu.video`."""
        return nvdec_refusal(self._gpu, codec, pix_fmt)

    def decoder(self, stream: Any) -> Decoder:
        """An NVDEC decoder for `stream`, in the GPU's primary context."""
        # Software decoding goes on where the driver refuses a stream: such pictures are in host memory and taken so.
        how = HWAccel(
            "cuda",
            str(self._number),
            allow_software_fallback=True,
            options={"primary_ctx": "1"},
            is_hw_owned=self.keep,
        )
        try:
            context = bare_context(stream, how)
        except OSError as exc:  # PermissionError where there is no driver
            raise BackendError(f"NVDEC cannot be opened ({exc.strerror or exc})") from exc
        if not context.is_hwaccel:
            raise BackendError(f"this build of FFmpeg has no NVDEC for {stream.codec_context.codec.canonical_name}")
        return _Progressive(context)

    def planes(self, picture: av.VideoFrame, fmt: PixelFormat) -> Planes:
        """A surface if the picture is on the GPU, else planes as always."""
        even = picture.width % 2 == 0 and picture.height % 2 == 0
        if even and picture.sw_format is not None and layout_of(fmt) == picture.sw_format.name:
            return SurfacePlanes(DecodedSurface(picture), picture.width, picture.height)
        return planes_of(in_host_memory(picture), fmt)


class _Progressive:
    """A decoder whose interlaced pictures are always in host memory, where FFmpeg's filters are."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def decode(self, packet: Any) -> Iterable[av.VideoFrame]:
        for picture in self._context.decode(packet):
            yield in_host_memory(picture) if picture.interlaced_frame else picture


class DecodedSurface:
    """A decoded picture of NV12 or P010, on a device or not; a `vsr.surface.Surface`."""

    def __init__(self, picture: av.VideoFrame) -> None:
        layout = picture.sw_format or picture.format
        self.layout = layout.name
        self.device = picture.planes[0].__dlpack_device__()
        self._picture = picture

    def capsules(self) -> tuple[Any, Any]:
        """By PyAV, each holding a reference to the picture."""
        luma, chroma = self._picture.planes  # no stream is named: PyAV knows of none, and the copy waits for FFmpeg's
        return luma.__dlpack__(), chroma.__dlpack__()

    def download(self) -> tuple[Samples, Samples]:
        """By FFmpeg."""
        return two_planes(in_host_memory(self._picture))


def samples_of(fmt: av.VideoFormat | str) -> str:
    """The planar format of the same samples, where there is one: NV12 is 4:2:0 in another order."""
    name = fmt if isinstance(fmt, str) else fmt.name
    return LAYOUTS[name][0] if name in LAYOUTS else SAME_SAMPLES.get(name, name)


def two_planes(picture: av.VideoFrame) -> tuple[Samples, Samples]:
    """Views of luma [h, w] and chroma [h/2, w/2, 2] of an NV12 or P010 picture in host memory."""
    dtype = np.uint8 if LAYOUTS[picture.format.name][1] == 0 else np.uint16
    luma, chroma = (
        np.frombuffer(memoryview(plane), dtype).reshape(-1, plane.line_size // np.dtype(dtype).itemsize)
        for plane in picture.planes
    )
    width, height = picture.width, picture.height
    return luma[:height, :width], chroma[: height // 2, :width].reshape(height // 2, width // 2, 2)


def in_host_memory(picture: av.VideoFrame) -> av.VideoFrame:
    """`picture`, copied there if it is on a device."""
    if picture.format.name != ON_DEVICE or picture.sw_format is None:
        return picture
    return reformat(picture, format=picture.sw_format.name)


def bare_context(stream: Any, how: HWAccel | None) -> Any:
    """A decoder of its own for the packets of `stream`, by `how`; through it no other stream of the file is touched.

    On a device that is FFmpeg's native decoder: AV1 opens as dav1d otherwise, which knows of no device.

    PyAV copies a stream's parameters only when it opens a file; these are the ones that decoding depends on. What
    describes the pictures (colour, rotation, HDR) is not among them.

    Raises:
        OSError: there is no device.
    """
    known = stream.codec_context
    name = known.codec.name if how is None else known.codec.canonical_name
    context: Any = av.CodecContext.create(av.Codec(name, "r"), "r", how)
    context.width, context.height = known.width, known.height
    context.extradata = known.extradata
    context.reorder_depth = known.reorder_depth  # without it the first pictures would come out of order
    return context


def difference(hardware: Hardware, picture: av.VideoFrame | None, known: av.VideoFrame, fmt: PixelFormat) -> str | None:
    """Why the first picture of a decoder is not what libavcodec has made of it; None if it is, to the last bit."""
    if picture is None:
        return f"{hardware.name} decodes no picture"
    if picture.format.name == known.format.name and known.format.name not in LAYOUTS:
        return f"{hardware.name} was refused by the driver"  # libavcodec took its place
    mine, theirs = planes_of(known, fmt), hardware.planes(picture, fmt)
    same = (mine.width, mine.height, mine.format) == (theirs.width, theirs.height, theirs.format)
    if same and picture.pts == known.pts:
        same = all(np.array_equal(a, b) for a, b in zip(mine.arrays, theirs.arrays, strict=True))
        return None if same else f"the first picture of {hardware.name} differs from libavcodec's"
    return f"{hardware.name} makes {theirs.width}x{theirs.height} {theirs.format.name} of the first picture"
