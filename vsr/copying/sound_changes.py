"""Sound that changes in mid-stream: what is told of it, and what a muxer cannot take.

Most containers say once for all what their sound is, and hold what follows without another word.
"""

from __future__ import annotations

from typing import Any, Final

import av

from vsr.trim import CLOCKED_FORMATS
from vsr.writing.containers import Container

RATES_AAC: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
RATES_AC3: Final = (48000, 44100, 32000)
CHANNELS_AC3: Final = (2, 1, 2, 3, 3, 4, 4, 5)
RATES_MPEG: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
MOST_CHANGES: Final = 3  # that are told of one stream
ESCAPED: Final = 31  # object types of AAC that take more bits; their rate comes later
NEW_HEADER: Final = "new_extradata"
SYNC_AC3: Final = (b"\x0b\x77", b"\x77\x0b")
# Whose muxers give up where there is no header to be taken off AAC, and whose readers lose what follows.
ONE_CODEC_ONLY: Final = ("mp4", "mov", "matroska")

Parameters = tuple[int, int]


def header_parameters(codec: str, payload: bytes) -> Parameters | None:
    """Sample rate in Hz and number of channels that a packet's own header states; None if it has none.

    The headers are those of ADTS (ISO/IEC 13818-7 section 6.2), MPEG audio (ISO/IEC 11172-3 section 2.4.1.3), AC-3 and
    E-AC-3 (ETSI TS 102 366 sections 4.4 and E.1.3).

    Args:
        codec: FFmpeg's name.
        payload: of the packet.
    """
    if len(payload) < 7:
        return None
    a, b, c, d = payload[:4]
    if codec == "aac" and has_header(codec, payload):
        rate, channels = c >> 2 & 15, (c & 1) << 2 | d >> 6
        return (RATES_AAC[rate], channels) if channels else None
    if codec in ("mp1", "mp2", "mp3") and a == 0xFF and b & 0xE0 == 0xE0:
        version, rate = b >> 3 & 3, c >> 2 & 3
        return (RATES_MPEG[version][rate], 1 if d >> 6 == 3 else 2) if version in RATES_MPEG and rate < 3 else None
    if codec == "ac3" and (a, b) == (0x0B, 0x77) and payload[4] >> 6 < 3:
        mode = payload[6] >> 5
        skip = (2 if mode & 1 and mode != 1 else 0) + (2 if mode & 4 else 0) + (2 if mode == 2 else 0)
        low = int.from_bytes(payload[6:8], "big") >> (12 - skip) & 1
        return RATES_AC3[payload[4] >> 6], CHANNELS_AC3[mode] + low
    if codec == "eac3" and (a, b) == (0x0B, 0x77) and c >> 6 != 1:  # 1 adds channels to the frame before
        rate, half, mode, low = payload[4] >> 6, payload[4] >> 4 & 3, payload[4] >> 1 & 7, payload[4] & 1
        if rate == 3 == half:
            return None
        return RATES_AC3[rate] if rate < 3 else RATES_AC3[half] // 2, CHANNELS_AC3[mode] + low
    return None


def has_header(codec: str, payload: bytes) -> bool:
    """Whether a packet begins as all packets of `codec` do in transport and programme streams."""
    a, b, c = payload[:3].ljust(3, b"\0")
    if codec == "aac":
        return a == 0xFF and b & 0xF6 == 0xF0 and c >> 2 & 15 < len(RATES_AAC)
    if codec in ("mp1", "mp2", "mp3"):
        return a == 0xFF and b & 0xE0 == 0xE0
    return payload[:2] in SYNC_AC3 if codec in ("ac3", "eac3") else True


def config_parameters(config: bytes) -> Parameters | None:
    """What an AudioSpecificConfig (ISO/IEC 14496-3 section 1.6.2.1) says; None if it says so at another place."""
    bits = int.from_bytes(config[:2].ljust(2, b"\0"), "big")
    kind, rate, channels = bits >> 11, bits >> 7 & 15, bits >> 3 & 15
    if len(config) < 2 or kind == ESCAPED or rate >= len(RATES_AAC) or not channels:
        return None
    return RATES_AAC[rate], 8 if channels == 7 else channels


class SoundChanges:
    """Watches the packets of one copied audio stream.

    Args:
        stream: of the input.
        container: of the output.
    """

    def __init__(self, stream: Any, container: Container) -> None:
        context = stream.codec_context
        config = b"" if context is None else bytes(context.extradata or b"")
        self._codec = "" if context is None else context.codec.canonical_name
        self._last = config_parameters(config) if self._codec == "aac" else None
        self._changes: list[str] = []
        # In transport and programme streams libavcodec's parsers have cut the packets, each with its header.
        self._framed = stream.container.format.name in CLOCKED_FORMATS and not config
        self._leaves_out = container.muxer in ONE_CODEC_ONLY
        self._rewrites_header = container.muxer == "matroska"
        self._foreign = 0
        self._first_foreign = ""

    @property
    def notes(self) -> list[str]:
        """What has changed and when, one line each, without the name of the stream."""
        if not self._foreign:
            return self._changes
        what = "they are left out" if self._leaves_out else "they are copied as they are"
        packets = "1 packet that is" if self._foreign == 1 else f"{self._foreign} packets that are"
        return [
            *self._changes,
            f"has {packets} not {self._codec}{self._first_foreign}: damaged, or another codec's; {what}",
        ]

    def look_at(self, packet: Any) -> bool:
        """Compare a packet's header with that of the one before; whether the packet can be copied."""
        if self._codec == "aac" and packet.has_sidedata(NEW_HEADER):
            found = config_parameters(bytes(packet.get_sidedata(NEW_HEADER)))
        else:
            found = header_parameters(self._codec, bytes(packet)[:8])
        at = "" if packet.pts is None else f" at {float(packet.pts * packet.time_base):.3f} s"
        if self._framed and not has_header(self._codec, bytes(packet)[:8]):
            self._foreign += 1
            self._first_foreign = self._first_foreign or (f", the first{at}" if at else "")
            return not self._leaves_out
        if found is None:
            return True
        if self._last not in (None, found) and len(self._changes) < MOST_CHANGES:
            (old_rate, old), (rate, new) = self._last or found, found
            self._changes.append(
                f"changes from {old_rate} Hz, {old} channels to {rate} Hz, {new} channels{at}; it is copied as it is, "
                "and players that go by the file's header may play what follows wrongly"
            )
        self._last = found
        return True

    def copyable(self, packet: Any) -> Any:
        """`packet` on its way to the muxer, as that can take it; it is not marked as hidden any more.

        libavformat's for Matroska writes a new header of AAC over the file's, even where it does not fit, so that what
        comes after cannot be read. All other side data stay.
        """
        if not (self._rewrites_header and packet.has_sidedata(NEW_HEADER)):
            return packet
        plain: Any = av.Packet(bytes(packet))
        plain.stream, plain.time_base = packet.stream, packet.time_base
        plain.pts, plain.dts, plain.duration = packet.pts, packet.dts, packet.duration
        plain.is_keyframe = packet.is_keyframe
        for data in packet.iter_sidedata():
            if data.data_type != NEW_HEADER:
                plain.set_sidedata(data)
        return plain
