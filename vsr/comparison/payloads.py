"""The normal form of a packet: what two containers hold differently though it is the same.

A copied packet is byte for byte the same in most containers. These are all the exceptions that are known, each with
the reason; whatever else differs is a difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import av
import av.error
import numpy as np

from vsr.copying.linear_pcm import PACKED, PLAIN_OF_FORMAT, decoder_of
from vsr.copying.subtitles import EMPTY_TEXT, PLAIN_TEXT
from vsr.reading.nal_units import length_bytes, nal_units

ADTS_HEADER: Final = 7  # bytes; two more with a checksum (ISO/IEC 13818-7 section 6.2)
H264_IN_HEADER: Final = {7, 8, 9, 12}  # SPS, PPS, access unit delimiter, filler
HEVC_IN_HEADER: Final = {32, 33, 34, 35, 38}  # VPS, SPS, PPS, access unit delimiter, filler
MARKUP: Final = re.compile(r"<[^>]*>|\{\\[^}]*\}")
MPEG_AUDIO: Final = ("mp1", "mp2", "mp3")  # MP4 does not say which of its layers

Normal = Callable[[bytes], bytes]
Decoded = Callable[[Any], Any]


@dataclass(frozen=True)
class Form:
    """How the packets of one stream are brought to their normal form.

    Attributes:
        normal: from a packet's payload to what is compared; empty if the packet only fills a gap.
        exception: why the payload itself is not compared, or None if it is.
        decoded: from each packet, as soon as it is read, to one that holds its samples; None for packets that are
            compared as they are. Samples are compared as one, for containers cut them as they like.
    """

    normal: Normal
    exception: str | None = None
    decoded: Decoded | None = None


def is_cut_anywhere(codec: str) -> bool:
    """Whether the packets of `codec` have no borders of their own, so that containers cut them as they like."""
    return codec.startswith("pcm_")


def may_be_same(before: str, after: str) -> bool:
    """Whether a stream of codec `before` may be called `after` in another container."""
    if before in PACKED and after in PLAIN_OF_FORMAT.values():
        return True
    return before == after or any({before, after} <= set(group) for group in (MPEG_AUDIO, PLAIN_TEXT))


def forms_of(before: Any, after: Any, codec_before: str, codec_after: str) -> tuple[Form, Form] | None:
    """The forms in which the packets of a stream and of its copy are equal; None if the codecs are unrelated.

    Args:
        before: the stream of the input.
        after: its copy.
        codec_before: FFmpeg's name.
        codec_after: likewise.
    """
    if not may_be_same(codec_before, codec_after):
        return None
    if codec_before != codec_after and codec_before in PLAIN_TEXT:
        why = f"{codec_before} as {codec_after}: texts are compared"
        return Form(_text_of(codec_before), why), Form(_text_of(codec_after), why)
    if codec_before in PACKED and codec_before != codec_after:
        why = f"{codec_before} as {codec_after}: samples are compared"
        return Form(bytes, why, _decoded(codec_before)), Form(_in_32_bits(codec_after), why)
    if codec_before == "aac":
        return Form(_without_adts), Form(_without_adts)
    if codec_before == "dvb_subtitle":
        return Form(_without_pes_frame), Form(_without_pes_frame)
    if codec_before == "mov_text":
        return Form(_without_filler), Form(_without_filler)
    if codec_before in ("h264", "hevc"):
        one, other = (length_bytes(bytes(s.codec_context.extradata or b""), codec_before) for s in (before, after))
        if one != other:
            why = "Annex B against length prefixes: NAL units are compared, those of the header left out"
            return Form(_nal_units(codec_before, one), why), Form(_nal_units(codec_before, other), why)
    return Form(bytes), Form(bytes)


def _without_adts(payload: bytes) -> bytes:
    """An AAC frame without the header that MPEG-TS has before each, and MP4 and Matroska once for all."""
    if len(payload) > ADTS_HEADER and payload[0] == 0xFF and payload[1] & 0xF6 == 0xF0:
        length = (payload[3] & 3) << 11 | payload[4] << 3 | payload[5] >> 5
        if length == len(payload):
            return payload[ADTS_HEADER + (0 if payload[1] & 1 else 2) :]
    return payload


def _without_pes_frame(payload: bytes) -> bytes:
    """Segments of a DVB subtitle without what MPEG-TS has before and behind them (ETSI EN 300 743 section 7.2.1).

    libavformat takes it off, but not always from the first packet.
    """
    framed = payload[:2] == b"\x20\x00" and payload[-1:] == b"\xff"
    return payload[2:-1] if framed else payload


def _without_filler(payload: bytes) -> bytes:
    """A timed text sample; nothing for the empty one that stands between two subtitles in MP4."""
    return b"" if payload == EMPTY_TEXT else payload


def _text_of(codec: str) -> Normal:
    def normal(payload: bytes) -> bytes:
        if codec == "mov_text":
            payload = payload[2 : 2 + int.from_bytes(payload[:2], "big")]
        text = MARKUP.sub("", payload.decode(errors="replace").replace("\r\n", "\n"))
        return text.strip().encode()

    return normal


def _decoded(codec: str) -> Decoded:
    """From packets of PCM to packets of its samples in 32 bits, little-endian: none in damaged ones."""
    decode = decoder_of(codec)

    def decoded(packet: Any) -> Any:
        try:
            samples = [frame.to_ndarray() for frame in decode(packet)]
        except av.error.FFmpegError:
            samples = []
        wide = [s.astype("<i4") << (16 if s.dtype.itemsize == 2 else 0) for s in samples]
        made: Any = av.Packet(b"".join(s.tobytes() for s in wide))
        made.stream, made.time_base = packet.stream, packet.time_base
        made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
        return made

    return decoded


def _in_32_bits(codec: str) -> Normal:
    """From plain little-endian PCM of 16 or 24 bits to 32."""
    width = 2 if codec == "pcm_s16le" else 3

    def normal(payload: bytes) -> bytes:
        narrow = np.frombuffer(payload, np.uint8)[: len(payload) // width * width].reshape(-1, width)
        return np.pad(narrow, ((0, 0), (4 - width, 0))).tobytes()

    return normal


def _nal_units(codec: str, width: int) -> Normal:
    left_out = H264_IN_HEADER if codec == "h264" else HEVC_IN_HEADER

    def normal(payload: bytes) -> bytes:
        units = nal_units(payload, width)
        kept = (u for u in units if u and ((u[0] & 31) if codec == "h264" else (u[0] >> 1 & 63)) not in left_out)
        return b"".join(len(u).to_bytes(4, "big") + u for u in kept)

    return normal
