"""What went wrong while decoding, and how much of it is allowed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

from vsr.errors import CorruptInputError

FREE_ERRORS: Final = 10  # below this many, a percentage says nothing


@dataclass(frozen=True)
class ErrorBudget:
    """How many packets may fail to decode: a number, or a share of those read.

    Attributes:
        value: packets, or per cent of the packets of the file (then the first ten are free).
        percent: which of the two.
    """

    value: float = 10.0
    percent: bool = True

    @classmethod
    def parse(cls, text: str) -> ErrorBudget:
        """Read `N` or `N%`.

        Raises:
            ValueError: it is neither, or negative.
        """
        percent = text.endswith("%")
        value = float(text.removesuffix("%")) if percent else float(int(text))
        if not 0 <= value <= (100 if percent else math.inf):
            raise ValueError(text)
        return cls(value, percent)

    def allows(self, errors: int, packets: int) -> bool:
        """Whether `errors` of `packets` are within the budget."""
        if not self.percent:
            return errors <= self.value
        return errors <= max(FREE_ERRORS if self.value else 0, self.value * packets / 100)

    def __str__(self) -> str:
        return f"{self.value:g}%" if self.percent else f"{self.value:g}"


@dataclass
class DecodeReport:
    """What happened while decoding.

    Attributes:
        packets: video packets read.
        frames: frames yielded, repeats included.
        repeated: frames that stand in for ones that could not be decoded.
        errors: packets the decoder refused.
        damaged: frames the decoder returned but marked as damaged.
        shifted: frames whose time stamp did not increase and was moved to the next tick.
        rescaled: frames of another size or format than the first, fitted to it.
        missing_s: seconds missing at the end, None if nothing is, NaN if unknown.
        end: where the last packet ends, in seconds.
    """

    packets: int = 0
    frames: int = 0
    repeated: int = 0
    errors: int = 0
    damaged: int = 0
    shifted: int = 0
    rescaled: int = 0
    missing_s: float | None = None
    end: Fraction = field(default_factory=Fraction)


def times_jump_back(path: Path, back: Fraction, after: Fraction) -> CorruptInputError:
    """The refusal of times that jump back by more than pictures can be out of order: all that follows would have none.

    Args:
        path: of the file.
        back: by how much, in seconds.
        after: where in the file, in seconds.
    """
    at = math.floor(after * 1000) / 1000
    return CorruptInputError(
        f"the time stamps of {path} jump back by {float(back):.3f} s after {at:.3f} s, as where recordings were put "
        "one behind the other",
        f"give it new ones first: ffmpeg -i {path.name} -map 0 -c copy joined.mkv; or take what is before with "
        f"--end {at:.3f}",
    )
