"""Pictures of an input laid beside those of its output, which may have two for each that holds two fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from vsr.comparison.lockstep import Item
from vsr.fields.times import field_span
from vsr.frame import FieldOrder, Frame, Planes
from vsr.reading.probe import FALLBACK_RATE
from vsr.source import Source

ZERO: Final = Fraction(0)


@dataclass(frozen=True)
class Shown:
    """A picture at its time in seconds; no planes for a second field, which is none of the input's pictures."""

    item: Item
    planes: Planes | None


class FieldPairs:
    """Pairs of pictures.

    Args:
        before: the input.
        after: the output.
        moved: seconds that are added to the output's times.
        field_rate: whether an output's picture halfway between two of the input is the first one's second field.

    Attributes:
        split: how many pictures of the input have become two.
        unsplit: how many are marked as interlaced, and have not.
    """

    def __init__(self, before: Source, after: Source, moved: Fraction = ZERO, *, field_rate: bool) -> None:
        self.split = 0
        self.unsplit = 0
        self._before = before
        self._after = after
        self._moved = moved
        self._field_rate = field_rate

    def __iter__(self) -> Iterator[tuple[Shown | None, Shown | None]]:
        """Each picture with its counterpart; None where there is none."""
        before, after = self._before.frames(), self._after.frames()
        old, new = next(before, None), self._next(after)
        while old is not None:
            following = next(before, None)
            yield Shown(_item(old, self._before), old.planes), new
            new = self._next(after)
            if self._field_rate:
                second = self._second(old, following)
                if second is not None and new is not None and _is_nearer(new, second, self._before, following):
                    self.split += 1
                    yield Shown(second, None), new
                    new = self._next(after)
                elif second is not None:
                    self.unsplit += old.field_order is not FieldOrder.PROGRESSIVE
            old = following
        while new is not None:
            yield None, new
            new = self._next(after)

    def _next(self, after: Iterator[Frame]) -> Shown | None:
        frame = next(after, None)
        return None if frame is None else Shown(_item(frame, self._after, self._moved), frame.planes)

    def _second(self, frame: Frame, following: Frame | None) -> Item | None:
        """When the second field of `frame` is shown, and for how long; None if the wanted part has ended by then."""
        tick = self._before.info.time_base
        step = 1 / (self._before.info.rate or FALLBACK_RATE)
        start, duration = frame.pts * tick, frame.duration * tick
        whole = duration if frame.uncut is None else frame.uncut * tick
        span = field_span(start, whole, None if following is None else following.pts * tick, step)
        if frame.uncut is not None and 2 * duration <= span:
            return None
        return Item(start + span / 2, max(ZERO, duration - span / 2))


def _is_nearer(new: Shown, second: Item, before: Source, following: Frame | None) -> bool:
    """Whether `new` is meant for `second`, and not for the `following` picture of the input."""
    assert new.item.time is not None
    assert second.time is not None
    if following is None:
        return True
    return abs(new.item.time - second.time) < abs(new.item.time - following.pts * before.info.time_base)


def _item(frame: Frame, source: Source, moved: Fraction = ZERO) -> Item:
    tick = source.info.time_base
    return Item(frame.pts * tick + moved, frame.duration * tick)
