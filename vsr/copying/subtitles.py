"""Text subtitles between the forms that containers have for them: SubRip, timed text (mov_text) and WebVTT.

All three are lines of text with bold, italics and underline, so nothing is lost. ASS and bitmaps are never converted:
their styles and positions have no place in the others.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

import av
import av.container
import av.error

from vsr.errors import CorruptInputError
from vsr.writing.containers import Container

EMPTY_TEXT: Final = b"\0\0"  # a timed text sample of length zero (3GPP TS 26.245)
PLAIN_TEXT: Final = ("subrip", "mov_text", "webvtt", "text")
NATIVE_TEXT: Final = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}


def converted_codec(codec: str, container: Container) -> str | None:
    """What subtitles of `codec` become in `container`; None if that would lose something."""
    target = NATIVE_TEXT.get(container.muxer)
    return target if codec in PLAIN_TEXT and target != codec else None


class TextConverter:
    """Turns the packets of one text subtitle stream into those of another form, times untouched.

    Args:
        stream: of the input.
        codec: FFmpeg's name of the new form.
    """

    def __init__(self, stream: Any, codec: str) -> None:
        self._decoder = stream.codec_context
        self._decoder.open(strict=False)
        self._codec = codec
        self._encoder: Any = None

    def add_stream(self, output: av.container.OutputContainer) -> Any:
        """Create the new stream in `output`.

        Raises:
            ValueError, av.error.FFmpegError: `output` cannot hold it.
        """
        stream: Any = output.add_stream(self._codec)
        self._encoder = stream.codec_context
        self._encoder.time_base = Fraction(1, 1000)
        self._encoder.subtitle_header = self._decoder.subtitle_header
        return stream

    def convert(self, packet: Any) -> Any:
        """The packet in its new form, or None if there is nothing to show.

        Raises:
            CorruptInputError: the packet cannot be decoded.
        """
        try:
            decoded = self._decoder.decode2(packet)
            if decoded is None or not len(decoded):
                return None
            converted = self._encoder.encode_subtitle(decoded)
        except (av.error.FFmpegError, ValueError) as exc:
            raise CorruptInputError(
                f"a subtitle at {float(packet.pts * packet.time_base):.3f} s cannot become {self._codec}: {exc}",
                "write .mkv, or leave it out with --on-unsupported drop",
            ) from exc
        converted.time_base = packet.time_base
        converted.pts, converted.dts, converted.duration = packet.pts, packet.pts, packet.duration
        return converted
