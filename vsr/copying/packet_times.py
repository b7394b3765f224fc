"""Small repairs of the times of copied packets, each for something that a muxer refuses or loses. Payloads stay."""

from __future__ import annotations

import math
from collections import deque
from fractions import Fraction
from typing import Any, Final

from vsr.writing.containers import Container

# What a decoder needs before the first packet that is heard: the priming of AAC takes two packets, HE-AAC's three.
PRE_ROLL_PACKETS: Final = 3
MOST_UNDATED: Final = 64  # packets of a video; H.264 and HEVC reorder 16 pictures at most
HOLDS_EDIT_LISTS: Final = ("mp4", "mov")
HOLDS_EQUAL_TIMES: Final = ("matroska", "webm")  # libavformat's AVFMT_TS_NONSTRICT, of those that are written here
# Matroska's clock has whole milliseconds, and packets of TrueHD last 0.83 of one: two in twelve have the time of the
# one before. Elsewhere these go a part of a tick later, never a whole one, which would add up to a fifth of the time.
COARSE_TICK: Final = Fraction(1, 8000)  # seconds
PARTS: Final = 32
ZERO: Final = Fraction(0)


class PacketTimes:
    """The packets of one copied stream on their way to a muxer.

    Args:
        kind: of the stream: audio, video, cover, subtitle or data.
        container: of the output.
        tick: in which the container counts the times, in seconds, if it is coarser than the packets' own; else 0.

    Attributes:
        shifted: how many packets got another decoding time.
        jump_s: the furthest that a time went back, in seconds.
    """

    def __init__(self, kind: str, container: Container, tick: Fraction = ZERO) -> None:
        self.shifted = 0
        self.jump_s = 0.0
        self._tick = tick
        self._audio = kind == "audio"
        self._video = kind == "video"
        self._undated: list[Any] = []  # packets of a video before the first that has a decoding time
        self._increasing = kind != "subtitle"
        self._hides = container.muxer in HOLDS_EDIT_LISTS
        self._holds_equal = container.muxer in HOLDS_EQUAL_TIMES
        self._equal = 0  # packets in a row that have the time of the one before
        self._hidden: deque[Any] = deque(maxlen=PRE_ROLL_PACKETS)
        self._last_dts: int | None = None
        self._last_span = 0

    def admit(self, packet: Any) -> list[Any]:
        """The packets to be muxed now: usually this one; none, or some before it, at the edge of an edit list."""
        if packet.is_discard and self._audio and not self._hides:
            # An edit list hides it. Without edit lists in the output it would be heard, before the first picture even.
            self._hidden.append(packet)
            return []
        if self._video and self._last_dts is None and packet.dts is None and len(self._undated) < MOST_UNDATED:
            self._undated.append(packet)  # Matroska has no decoding times, and libavformat not yet a guess
            return []
        self._date(packet)
        packets = [*self._undated, *self._hidden, packet]
        self._undated = []
        self._hidden.clear()
        for each in packets:
            self._repair(each)
        return packets

    def rest(self) -> list[Any]:
        """What still waits for a decoding time when the stream has ended."""
        packets, self._undated = self._undated, []
        for each in packets:
            self._repair(each)
        return packets

    def _date(self, packet: Any) -> None:
        """Give the packets that wait the decoding times that lead up to that of `packet`."""
        if packet.dts is not None:
            for number, each in enumerate(reversed(self._undated), 1):
                each.dts = packet.dts - number * (packet.duration or 1)

    def _repair(self, packet: Any) -> None:
        if packet.dts is None:
            if packet.pts is None:
                return
            packet.dts = packet.pts
        if self._is_equal(packet):
            self._equal += 1
            if not self._holds_equal:
                _delay(packet, self._equal)
            return
        self._equal = 0
        if self._last_dts is not None:
            if packet.dts <= self._last_dts and self._increasing:
                self.jump_s = max(self.jump_s, float((self._last_dts - packet.dts) * packet.time_base))
                # Muxers refuse a decoding time that does not increase; healthy files have none.
                packet.dts = self._last_dts + max(1, math.ceil(self._tick / packet.time_base))
                if packet.pts is not None and packet.pts < packet.dts:
                    packet.pts = packet.dts
                self.shifted += 1
            self._last_span = packet.dts - self._last_dts
        if self._audio and not packet.duration and self._last_span > 0:
            # MP4 would end its edit list before a last packet of no duration, and never play it.
            packet.duration = self._last_span
        if not self._increasing and self._hides and not packet.duration:
            packet.duration = 1  # likewise; how long a subtitle of DVDs is shown, it says itself
        self._last_dts = packet.dts

    def _is_equal(self, packet: Any) -> bool:
        """Whether this is sound of the same time as that before, because the input's clock is too coarse for it."""
        coarse = packet.time_base >= COARSE_TICK
        return self._audio and coarse and packet.dts == self._last_dts and self._equal + 1 < PARTS


def _delay(packet: Any, parts: int) -> None:
    """Move `packet` by so many parts of a tick."""
    pts, dts, duration = packet.pts, packet.dts, packet.duration
    packet.time_base /= PARTS
    packet.dts = dts * PARTS + parts
    packet.pts = None if pts is None else pts * PARTS + parts
    packet.duration = (duration or 0) * PARTS
