"""SMPTE time codes: the numbers of pictures as hours, minutes, seconds and frames (SMPTE ST 12-1)."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

TIMECODE: Final = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d{2,3})")
TAG: Final = "timecode"
DROPPING_RATE: Final = 30  # for each of these in the nominal rate, two numbers are left out
DROPPED: Final = 2


def advanced(timecode: str, frames: int, rate: Fraction) -> str:
    """The time code of the picture that comes `frames` after the one that has `timecode`; it starts anew after a day.

    With `;` or `.` before the frames, numbers are left out: the first two of each minute but every tenth at 29.97
    pictures a second, and the first four at 59.94. What is no time code comes back as it is.

    >>> advanced("01:00:59;29", 1, Fraction(30000, 1001))
    '01:01:00;02'
    """
    match = TIMECODE.fullmatch(timecode.strip())
    nominal = round(rate)
    if match is None or nominal < 1:
        return timecode
    hours, minutes, seconds, number = (int(match[i]) for i in (1, 2, 3, 5))
    dropped = DROPPED * (nominal // DROPPING_RATE) if match[4] != ":" else 0
    in_minute = nominal * 60 - dropped
    in_ten = in_minute * 10 + dropped
    minute = hours * 60 + minutes
    count = (minute * 60 + seconds) * nominal + number - dropped * (minute - minute // 10)
    tens, rest = divmod((count + frames) % (in_ten * 6 * 24), in_ten)
    if rest >= nominal * 60:  # after the first of ten minutes, which leaves nothing out
        rest += dropped * (1 + (rest - nominal * 60) // in_minute)
    total, number = divmod(tens * 600 * nominal + rest, nominal)
    hours, minutes, seconds = total // 3600, total // 60 % 60, total % 60
    return f"{hours:02}:{minutes:02}:{seconds:02}{match[4]}{number:0{len(match[5])}}"


def begun_later(tags: dict[str, str], frames: int, rate: Fraction | None) -> dict[str, str]:
    """`tags` of a video, or of its file, whose first `frames` pictures are left out: its time code goes on."""
    found = next((key for key in tags if key.lower() == TAG), None)
    if found is None or not frames or not rate:
        return tags
    return {**tags, found: advanced(tags[found], frames, Fraction(rate))}
