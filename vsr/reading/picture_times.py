"""When the pictures of a video are shown: what the packets said, told by the pictures that come of them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from vsr.boxes import MP4
from vsr.frame import Frame
from vsr.reading.field_packets import FieldPackets

#: Containers whose durations are distances of decoding times, so that pictures out of order have each other's (ISO/IEC
#: 14496-12 section 8.6.1.2); nothing but the next picture ends one there. Names of libavformat.
DURATIONS_BY_DECODING: Final = (MP4,)


def until_next(frames: Iterable[Frame], stopped: Callable[[], bool] = lambda: False) -> Iterator[Frame]:
    """The same frames, each until the next one; the last one as long as it says, if they were not `stopped`."""
    last: Frame | None = None
    for frame in frames:
        if last is not None:
            span = frame.pts - last.pts
            yield replace(last, duration=span) if span > 0 else last
        last = frame
    if last is not None and not stopped():
        yield last


class PictureTimes:
    """The times of one decoding of a stream, in its ticks.

    Args:
        fields: tells packets of second fields, which are no pictures; None if there are none.
        by_decoding: whether the file has decoding times only. AVI is such: what libavformat gives as presentation times
            are decoding times there.
    """

    def __init__(self, fields: FieldPackets | None = None, *, by_decoding: bool) -> None:
        self._fields = fields
        self._last_expected: int | None = None
        self._second: dict[int, int] = {}  # how long the second field of a picture lasts, by the picture's time
        self.by_decoding = by_decoding
        self.last_gap = 0  # ticks between the last two pictures: AVI does not know how long the last one lasts
        self._delay = 0  # of the decoder
        self._first_dts: int | None = None
        self._expected: list[int] = []  # times of packets whose picture has not come yet, a heap

    def expect(self, packet: Any) -> int | None:
        """Take note of a packet that is about to be decoded; its time, if it has one."""
        if self._first_dts is None:
            self._first_dts = packet.dts
        at: int | None = packet.dts if self.by_decoding else packet.pts
        if self._fields is not None and self._fields.is_second(packet):
            if self._last_expected is not None:
                self._second[self._last_expected] = packet.duration or 0
            return at
        self._last_expected = at
        if at is not None and not packet.is_discard:
            heapq.heappush(self._expected, at)
        return at

    def second_field(self, time: int) -> int:
        """How long the second field of the picture at `time` lasts, if it came as a packet of its own; else 0.

        The decoder gives such a picture the duration of its first field.
        """
        return self._second.pop(time, 0)

    def begin(self, first: Any) -> int:
        """When the first decoded picture is shown, by its own time stamps; 0 if it has none."""
        if self.by_decoding:
            return (first.dts or 0) - self._delay_at(first)
        return (first.dts if first.pts is None else first.pts) or 0

    def of(self, decoded: Any, last: Frame | None, step: int) -> tuple[int, list[int]]:
        """The time of a decoded picture, and those of packets before it of which no picture came.

        Args:
            decoded: a picture, in the order in which the decoder gives them.
            last: the one before, at the time that it was given.
            step: ticks between pictures where nothing says how many there are.
        """
        if self.by_decoding:
            return self._by_decoding(decoded, last, step)
        pts = decoded.pts if decoded.pts is not None else decoded.dts
        if pts is None:
            pts = 0 if last is None else last.pts + (last.duration or step)
        return pts, self._before(pts)

    def left(self) -> list[int]:
        """Times of packets of which no picture came to the end."""
        return sorted(time - self._delay for time in self._expected)

    def _by_decoding(self, decoded: Any, last: Frame | None, step: int) -> tuple[int, list[int]]:
        """Without the decoder's delay, gaps kept."""
        if last is None:
            self._delay = self._delay_at(decoded)
        after_last = 0 if last is None else last.pts + step
        if decoded.dts is None:  # one of those that the decoder held back until the end
            if self._expected:
                heapq.heappop(self._expected)
            return after_last, []
        lost = [time - self._delay for time in self._before(decoded.dts)]
        pts = decoded.dts - self._delay
        self.last_gap = 0 if last is None else pts - last.pts
        return (pts if last is None or pts > last.pts else after_last), lost

    def _before(self, time: int) -> list[int]:
        """Take what was expected up to `time`; what was expected earlier."""
        taken = []
        while self._expected and self._expected[0] <= time:
            taken.append(heapq.heappop(self._expected))
        return [expected for expected in taken if expected < time]

    def _delay_at(self, first: Any) -> int:
        return 0 if first.dts is None else int(first.dts - (self._first_dts or 0))
