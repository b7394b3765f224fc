"""When each of the two fields of a picture is shown."""

from __future__ import annotations

from fractions import Fraction
from typing import Final, TypeVar

Time = TypeVar("Time", int, Fraction)  # ticks or seconds

GAP: Final = Fraction(3, 2)  # durations; what is farther from the next picture than this is followed by a gap


def field_span(start: Time, duration: Time, following: Time | None, step: Time) -> Time:
    """How long both fields of a picture last together. The second field is shown half of it after the first.

    It is the distance to the next picture, so that fields are evenly spaced however the container rounds its times; but
    of a picture before a gap, and of the last one, it is the picture's own duration.

    Args:
        start: when the picture is shown.
        duration: of the picture; 0 if unknown.
        following: when the next picture is shown, or None if there is none.
        step: the usual distance of two pictures, for the last one if its duration is unknown.

    Returns:
        In the unit of the arguments.
    """
    if following is None:
        return duration or step
    span = following - start
    return duration if 0 < duration * GAP < span else span
