"""Which part of an input is wanted, and by how much the times of that part move.

A `Trim` is what the user asks for; a `Window` is what that means for one file, in the file's own times. Both are about
seconds as exact fractions, never about frames or packets.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from numbers import Integral
from typing import Any, Final

from vsr.errors import OptionError
from vsr.frame import VideoInfo

Time = str | int | float | Fraction

CLOCK_PERIOD: Final = Fraction(1 << 33, 90_000)  # after which MPEG's clock starts anew (ISO/IEC 13818-1 section 2.4.2)
CLOCKED_FORMATS: Final = ("mpegts", "mpeg")  # libavformat's names of those that have it
CLOCK_TIME: Final = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")


def parse_time(value: Time, name: str = "time") -> Fraction:
    """A time in seconds, exactly as written.

    Args:
        value: seconds, or text: seconds, `MM:SS` or `HH:MM:SS`, each with a decimal fraction if need be.
        name: what to call it in a message.

    Raises:
        OptionError: it is neither, or negative.

    >>> parse_time("1:02.5")
    Fraction(125, 2)
    """
    text = str(value).strip()
    clock = CLOCK_TIME.fullmatch(text)
    if clock is not None:
        hours, minutes, seconds = clock.groups()
        if int(minutes) < 60 and Fraction(seconds) < 60:
            return int(hours or 0) * 3600 + int(minutes) * 60 + Fraction(seconds)
    elif isinstance(value, Fraction) and value >= 0:
        return value
    else:
        try:
            number = Decimal(text)
            if number.is_finite() and number >= 0:
                return Fraction(number)
        except InvalidOperation:
            pass
    raise OptionError(f"{name} {text!r}; give seconds, as in 90.5, or [HH:]MM:SS, as in 1:30.5")


@dataclass(frozen=True)
class Trim:
    """The wanted part of an input; times count from where players begin to show it.

    Attributes:
        start: seconds, or None for the beginning.
        end: seconds, or None.
        duration: seconds from `start`, instead of `end`; or None.
        frames: how many at most, or None.
    """

    start: Fraction | None = None
    end: Fraction | None = None
    duration: Fraction | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        start = self.start or Fraction(0)
        if self.end is not None and self.duration is not None:
            raise OptionError("an end and a duration are both given; either one says where to stop")
        if self.end is not None and self.end <= start:
            raise OptionError(f"the end, {float(self.end):g} s, is not after the start, {float(start):g} s")
        if self.duration is not None and self.duration <= 0:
            raise OptionError("a duration of 0 s leaves nothing; it must be more")
        if self.frames is not None and (not isinstance(self.frames, Integral) or self.frames < 1):
            raise OptionError(f"{self.frames!r} frames; it must be 1 or more, and whole")

    @classmethod
    def parse(
        cls, start: Time | None = None, end: Time | None = None, duration: Time | None = None, frames: int | None = None
    ) -> Trim:
        """Read the options of the same names.

        Raises:
            OptionError: one is not a time, or two contradict each other.
        """
        start, end, duration = (
            None if value is None else parse_time(value, name)
            for name, value in (("start", start), ("end", end), ("duration", duration))
        )
        return cls(start, end, duration, frames)

    @property
    def is_everything(self) -> bool:
        """Whether nothing is cut away."""
        return self == Trim()

    @property
    def stop(self) -> Fraction | None:
        """Where it stops, in seconds; None if that is not said as a time."""
        return self.end if self.duration is None else (self.start or Fraction(0)) + self.duration


@dataclass(frozen=True)
class Window:
    """The wanted part of one file, in the file's own times. A thing belongs to it when start <= its time < end.

    Attributes:
        start: seconds, or None for everything from the beginning.
        end: seconds, or None for everything to the end.
        shift: seconds that are subtracted from every time that is kept.
    """

    start: Fraction | None = None
    end: Fraction | None = None
    shift: Fraction = Fraction(0)

    @property
    def changes_nothing(self) -> bool:
        """Whether everything is kept at its time."""
        return self == Window()

    def starts_after(self, time: Fraction) -> bool:
        """Whether `time` lies before the window."""
        return self.start is not None and time < self.start

    def ends_by(self, time: Fraction) -> bool:
        """Whether `time` lies behind the window."""
        return self.end is not None and time >= self.end

    def holds(self, time: Fraction) -> bool:
        """Whether `time` lies in the window."""
        return not self.starts_after(time) and not self.ends_by(time)

    def chapters(self, chapters: list[Any]) -> list[Any]:
        """Those chapters, as PyAV has them, that reach into the window, clipped to it and moved."""
        if self.changes_nothing:
            return chapters
        kept = []
        for chapter in chapters:
            tick = Fraction(chapter["time_base"])
            start, end = chapter["start"] * tick, chapter["end"] * tick
            if self.ends_by(start) or (self.start is not None and end <= self.start):
                continue
            start = start if self.start is None else max(start, self.start)
            end = end if self.end is None else min(end, self.end)
            moved = {"start": round((start - self.shift) / tick), "end": round((end - self.shift) / tick)}
            kept.append({**chapter, **moved})
        return kept


def window_of(trim: Trim, *, origin: Fraction, first: Fraction, time_base: Fraction, clocked: bool) -> Window:
    """What `trim` means for a file, as far as its header and first picture tell; `frames` is left to the caller.

    The part that is kept moves to where the file began, by whole ticks of the pictures. A picture before time zero
    moves everything: in MPEG's containers by a period of their clock, of which libavformat has taken the first part
    for negative times, and else to zero, for hardly any container can show a picture before it.

    Args:
        trim: what is asked for.
        origin: where players begin to show the file, in seconds.
        first: time of its first picture, in seconds.
        time_base: of the pictures.
        clocked: whether its times are those of MPEG's clock.
    """
    lift = Fraction(0) if first >= 0 else -CLOCK_PERIOD if clocked else first
    if trim.is_everything:
        return Window(shift=lift)
    start = None if not trim.start else origin + trim.start
    end = None if trim.stop is None else origin + trim.stop
    cut = Fraction(0) if not trim.start else math.floor(trim.start / time_base) * time_base
    return Window(start, end, lift + cut)


def expected_frames(info: VideoInfo, window: Window, most: int | None = None) -> int | None:
    """How many frames the header lets expect in the wanted part of the input, or None.

    Args:
        info: of the picture stream.
        window: the wanted part.
        most: how many are asked for, if that is limited.
    """
    if window.start is None and window.end is None and info.num_frames_from_header:
        return info.num_frames_from_header
    if info.duration_from_header is None or info.rate is None:
        return most
    begin = info.start_from_header or Fraction(0)
    end = begin + info.duration_from_header
    if window.start is not None:
        begin = max(begin, window.start)
    if window.end is not None:
        end = min(end, window.end)
    count = max(1, round((end - begin) * info.rate))
    return count if most is None else min(count, most)


def nearest_on_clock(time: Fraction, to: Fraction) -> Fraction:
    """Of all the times that MPEG's clock shows in the same way as `time`, the one nearest `to`."""
    return time + round((to - time) / CLOCK_PERIOD) * CLOCK_PERIOD
