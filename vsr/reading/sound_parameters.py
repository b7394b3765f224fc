"""Does sound change its sample rate or channels in mid-stream? Most containers of its copy say them once."""

from __future__ import annotations

from typing import Any, Final

RATES_AAC: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
RATES_AC3: Final = (48000, 44100, 32000)
CHANNELS_AC3: Final = (2, 1, 2, 3, 3, 4, 4, 5)
RATES_MPEG: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
MOST_CHANGES: Final = 3  # that are told of one stream

Parameters = tuple[int, int]


def header_parameters(codec: str, payload: bytes) -> Parameters | None:
    """Sample rate in Hz and number of channels that a packet's own header states; None if it has none.

    The headers are those of ADTS (ISO/IEC 13818-7 section 6.2), MPEG audio (ISO/IEC 11172-3 section 2.4.1.3) and AC-3
    (ETSI TS 102 366 section 4.4).

    Args:
        codec: FFmpeg's name.
        payload: of the packet.
    """
    if len(payload) < 7:
        return None
    a, b, c, d = payload[:4]
    if codec == "aac" and a == 0xFF and b & 0xF6 == 0xF0:
        rate, channels = c >> 2 & 15, (c & 1) << 2 | d >> 6
        return (RATES_AAC[rate], channels) if rate < len(RATES_AAC) and channels else None
    if codec in ("mp1", "mp2", "mp3") and a == 0xFF and b & 0xE0 == 0xE0:
        version, rate = b >> 3 & 3, c >> 2 & 3
        return (RATES_MPEG[version][rate], 1 if d >> 6 == 3 else 2) if version in RATES_MPEG and rate < 3 else None
    if codec == "ac3" and (a, b) == (0x0B, 0x77) and payload[4] >> 6 < 3:
        mode = payload[6] >> 5
        skip = (2 if mode & 1 and mode != 1 else 0) + (2 if mode & 4 else 0) + (2 if mode == 2 else 0)
        low = int.from_bytes(payload[6:8], "big") >> (12 - skip) & 1
        return RATES_AC3[payload[4] >> 6], CHANNELS_AC3[mode] + low
    return None


class SoundParameters:
    """Watches the packets of one audio stream.

    Attributes:
        changes: what has changed and when, one line each.
    """

    def __init__(self, stream: Any) -> None:
        context = stream.codec_context
        self.changes: list[str] = []
        self._codec = "" if context is None else context.codec.canonical_name
        self._last: Parameters | None = None

    def look_at(self, packet: Any) -> None:
        """Compare a packet's header with that of the one before."""
        found = header_parameters(self._codec, bytes(packet)[:8])
        if found is None:
            return
        if self._last not in (None, found) and len(self.changes) < MOST_CHANGES:
            at = "" if packet.pts is None else f" at {float(packet.pts * packet.time_base):.3f} s"
            (old_rate, old), (rate, new) = self._last or found, found
            self.changes.append(
                f"changes from {old_rate} Hz, {old} channels to {rate} Hz, {new} channels{at}; it is copied as it is, "
                "and players that go by the file's header may play what follows wrongly"
            )
        self._last = found
