"""The packets of a copied stream that lie in the wanted part of the input, moved to their times in the output."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Final

from vsr.reading.demux import is_cover
from vsr.trim import Window

LARGEST_TIMESCALE: Final = 2**31 - 1  # FFmpeg's rational numbers have 32 bits
SHOWN_UNTIL_THE_NEXT: Final = ("hdmv_pgs_subtitle",)  # subtitles without durations: each replaces the one before


class PacketWindow:
    """What a window lets through of one stream. Nothing is cut inside a packet.

    Sound and data are kept if they begin in the window. A text subtitle that is shown when the window begins or ends
    is kept and shortened to it; of subtitles without durations the one that is shown at the start is kept. A copied
    video begins at its first key frame in the window, and ends with what is decoded before the window's end.

    Args:
        stream: of the input.
        window: the wanted part.
    """

    def __init__(self, stream: Any, window: Window) -> None:
        codec = stream.codec_context
        self._kind = "cover" if is_cover(stream) else str(stream.type)
        self._lasting = codec is not None and codec.codec.canonical_name in SHOWN_UNTIL_THE_NEXT
        self._window = Window() if self._kind in ("cover", "attachment") else window
        self._shown: Any = None  # the last packet before the window, if it is still shown when the window begins
        self._key_time: Fraction | None = None  # of the first key frame of a video that is copied

    def admit(self, packet: Any) -> list[Any]:
        """The packets that take the place of `packet`: none, itself with its new times, or one kept back before it."""
        window = self._window
        if window.changes_nothing:
            return [packet]
        at = packet.pts if packet.pts is not None else packet.dts
        if at is None:  # it belongs nowhere, unless everything is kept
            return [packet] if window.start is None and window.end is None else []
        tick = Fraction(packet.time_base)
        if self._kind == "video":
            return self._of_video(packet, at * tick)
        if window.ends_by(at * tick):
            return []
        if self._kind == "subtitle":
            return self._of_subtitles(packet, at, tick)
        return [] if window.starts_after(at * tick) else [self._moved(packet)]

    def rest(self) -> list[Any]:
        """What is shown when the window begins, once it is certain that nothing takes its place."""
        packet, self._shown = self._shown, None
        return [] if packet is None else [self._moved(packet)]

    def _of_subtitles(self, packet: Any, at: int, tick: Fraction) -> list[Any]:
        window = self._window
        start = at if window.start is None else max(at, math.ceil(window.start / tick))
        if packet.duration:
            end = (
                at + packet.duration if window.end is None else min(at + packet.duration, math.ceil(window.end / tick))
            )
            if end <= start:
                return []
            packet.duration = end - start
        elif start > at and not self._lasting:
            return []
        earlier = [] if start > at else self.rest()
        packet.pts = packet.dts = start
        if start > at and not packet.duration:
            self._shown = packet
            return []
        return [*earlier, self._moved(packet)]

    def _of_video(self, packet: Any, time: Fraction) -> list[Any]:
        window = self._window
        decoded = time if packet.dts is None else packet.dts * Fraction(packet.time_base)
        if window.ends_by(decoded):
            return []
        if (
            self._key_time is None
            and (not packet.is_keyframe or window.starts_after(time))
            and window.start is not None
        ):
            return []
        if self._key_time is None:
            self._key_time = time
        # Pictures that are stored after a key frame and shown before it need what was cut away.
        return [self._moved(packet)] if time >= self._key_time or window.start is None else []

    def _moved(self, packet: Any) -> Any:
        """`packet` at its time in the output, exactly: in a finer time base where its own would round."""
        shift = self._window.shift
        tick = Fraction(packet.time_base)
        common = math.gcd(tick.numerator * shift.denominator, shift.numerator * tick.denominator)
        fine = Fraction(common, tick.denominator * shift.denominator)
        if fine.denominator > LARGEST_TIMESCALE or fine.numerator > LARGEST_TIMESCALE:
            fine = tick
        factor, ticks = int(tick / fine), round(shift / fine)
        packet.duration = (packet.duration or 0) * factor
        packet.pts = None if packet.pts is None else packet.pts * factor - ticks
        packet.dts = None if packet.dts is None else packet.dts * factor - ticks
        packet.time_base = fine
        return packet
