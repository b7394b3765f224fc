"""Samples in the packets of discs and broadcasting, in the plain form that files have for them.

Blu-ray's and DVD's LPCM and SMPTE ST 302 hold samples of 16 to 24 bits behind headers and in orders of their own. Only
transport and programme streams have a place for these; the samples themselves fit into any container of plain PCM.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

import av
import av.container
import av.error
import numpy as np

from vsr.errors import CorruptInputError
from vsr.writing.containers import Container

PACKED: Final = ("pcm_bluray", "pcm_dvd", "s302m")
PLAIN_OF_FORMAT: Final = {"s16": "pcm_s16le", "s32": "pcm_s24le"}  # 20 and 24 bits are the upper ones of 32
HOLDS_LAYOUT: Final = ("mp4", "mov")
# What readers take channels for where a container says only how many there are, as Matroska does.
USUAL_LAYOUTS: Final = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# SMPTE ST 302 may carry a coded stream (Dolby E) in place of samples; its bits are kept, not decoded.
DECODER_OPTIONS: Final = {"s302m": {"non_pcm_mode": "copy"}}

Decode = Callable[[Any], list[Any]]


def plain_codec(stream: Any, codec: str, container: Container) -> str | None:
    """The plain PCM that holds all of `stream` in `container`; None if it would lose something."""
    if codec not in PACKED or container.muxer not in (*HOLDS_LAYOUT, "matroska"):
        return None
    context = stream.codec_context
    if container.muxer not in HOLDS_LAYOUT:
        layout = context.layout
        if layout.name.removesuffix("(side)") != USUAL_LAYOUTS.get(layout.nb_channels):
            return None
    return PLAIN_OF_FORMAT.get(context.format.name) if context.format is not None else None


def decoder_of(codec: str) -> Decode:
    """What turns packets of `codec`, in their order, into frames of the samples that they hold.

    Raises:
        av.error.FFmpegError: by what is returned, for a packet that is damaged.
    """
    context: Any = av.CodecContext.create(codec, "r")
    context.options = DECODER_OPTIONS.get(codec, {})
    return lambda packet: list(context.decode(packet))


class PcmConverter:
    """Turns the packets of one stream of PCM into those of plain PCM, times untouched.

    It has to see all packets from the first on: a sample of DVD's may begin in one packet and end in the next.

    Args:
        stream: of the input.
        codec: FFmpeg's name of the new form.

    Attributes:
        damaged: how many packets could not be decoded and were left out.
    """

    def __init__(self, stream: Any, codec: str) -> None:
        self.damaged = 0
        self._stream = stream
        self._codec = codec
        context = stream.codec_context
        self._rate, self._layout = context.sample_rate, context.layout.name
        self._format = context.format.name
        self._decode = decoder_of(context.codec.canonical_name)

    def add_stream(self, output: av.container.OutputContainer) -> Any:
        """Create the new stream in `output`.

        Raises:
            ValueError, av.error.FFmpegError: `output` cannot hold it.
        """
        created: Any = output.add_stream(self._codec, rate=self._rate)
        created.codec_context.layout = self._layout
        created.codec_context.format = self._format
        return created

    def convert(self, packet: Any) -> Any:
        """The packet in its new form, or None if it is damaged or no sample ends in it.

        Raises:
            CorruptInputError: its samples are not of the kind that the first ones were.
        """
        try:
            frames = self._decode(packet)
        except av.error.FFmpegError:
            self.damaged += 1
            return None
        try:
            samples = b"".join(self._plain(frame) for frame in frames)
        except ValueError as exc:
            at = "" if packet.pts is None else f" at {float(packet.pts * packet.time_base):.3f} s"
            raise CorruptInputError(
                f"stream {self._stream.index} (audio){at} cannot become {self._codec}: {exc}",
                "leave it out with --map, or write the container it comes in",
            ) from exc
        if not samples:
            return None
        converted: Any = av.Packet(samples)
        converted.stream = self._stream
        converted.time_base = packet.time_base
        converted.pts, converted.dts = packet.pts, packet.dts
        seconds = Fraction(sum(frame.samples for frame in frames), self._rate)
        converted.duration = round(seconds / packet.time_base)
        converted.is_keyframe = True
        return converted

    def _plain(self, frame: Any) -> bytes:
        """The samples of `frame`, little-endian, in the 16 or 24 bits of the new form."""
        if (frame.sample_rate, frame.layout.name, frame.format.name) != (self._rate, self._layout, self._format):
            raise ValueError(
                f"{frame.sample_rate} Hz, {frame.layout.name}, {frame.format.name} follows "
                f"{self._rate} Hz, {self._layout}, {self._format}"
            )
        samples: np.ndarray[Any, Any] = frame.to_ndarray()
        if self._format == "s16":
            return samples.astype("<i2").tobytes()
        four = samples.astype("<i4").reshape(-1, 1).view(np.uint8)
        if four[:, 0].any():
            raise ValueError("its samples have more than 24 bits")
        return four[:, 1:].tobytes()
