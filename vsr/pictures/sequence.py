"""Names of image sequences: `frame_%05d.png`, `frames/*.png`, and the files that they stand for."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from vsr.errors import ContainerError, MissingInputError, OptionError, TruncatedInputError
from vsr.pictures.files import STILL_SUFFIXES, is_still, refuse_unread

FIRST_NUMBER: Final = 1  # of a sequence that is written from something without numbers, as ffmpeg counts
DEFAULT_RATE: Final = Fraction(25)
HIGHEST_RATE: Final = 1000
NTSC: Final = (24, 30, 48, 60, 120)  # rates of which 1000/1001 is usual, and usually written with two or three digits
PLACE: Final = re.compile(r"%(?:0(\d{1,2}))?d")
SHOWN: Final = 3  # examples named in a message


@dataclass(frozen=True)
class Pattern:
    """A file name with a number in it.

    Attributes:
        folder: of the files.
        before: of the name, up to the number.
        digits: at least so many, filled up with zeros; 1 for no zeros.
        after: of the name, from the number on.
    """

    folder: Path
    before: str
    digits: int
    after: str

    @classmethod
    def parse(cls, path: Path) -> Pattern | None:
        """Read `path`; None if there is no number in it. `%%` stands for a per cent sign.

        Raises:
            OptionError: there are two numbers, or one in the folder's name.
        """
        *parts, name = path.parts or ("",)
        pieces = name.split("%%")
        found = [(i, m) for i, piece in enumerate(pieces) for m in PLACE.finditer(piece)]
        if any(PLACE.search(part.replace("%%", "")) for part in parts) or len(found) > 1:
            raise OptionError(f"{path} has more than one number; a sequence is numbered once, in its file names")
        if not found:
            return None
        index, match = found[0]
        before = "%".join([*pieces[:index], pieces[index][: match.start()]])
        after = "%".join([pieces[index][match.end() :], *pieces[index + 1 :]])
        return cls(path.parent, before, int(match[1] or 1), after)

    @property
    def suffix(self) -> str:
        """The extension, in lower case."""
        return Path(f"x{self.after}").suffix.lower()

    def path(self, number: int) -> Path:
        """The file with this number."""
        return self.folder / f"{self.before}{number:0{self.digits}d}{self.after}"

    def files(self) -> dict[int, Path]:
        """The files that there are, by number, in order. A folder that cannot be listed has none."""
        name = re.compile(re.escape(self.before) + r"(\d+)" + re.escape(self.after))
        found: dict[int, Path] = {}
        try:
            names = [entry.name for entry in self.folder.iterdir()]
        except OSError:
            return found
        for match in filter(None, map(name.fullmatch, names)):
            number = int(match[1])
            if match[1] == f"{number:0{self.digits}d}":
                found[number] = self.folder / match[0]
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class Sequence:
    """The pictures of an input.

    Attributes:
        name: as given.
        numbers: of the pictures, increasing; from 1 if their names do not count.
        paths: of the pictures, in the same order.
    """

    name: str
    numbers: tuple[int, ...]
    paths: tuple[Path, ...]

    def missing(self) -> list[int]:
        """The numbers that are left out between the first and the last, at most a few of them."""
        holes: list[int] = []
        for one, two in zip(self.numbers, self.numbers[1:], strict=False):
            holes += range(one + 1, min(two, one + 1 + SHOWN))
            if len(holes) >= SHOWN:
                break
        return holes[:SHOWN]

    @property
    def missing_count(self) -> int:
        """How many numbers are left out between the first and the last."""
        return self.numbers[-1] - self.numbers[0] + 1 - len(self.numbers)


def is_sequence(path: Path) -> bool:
    """Whether `path` stands for many pictures. The name of a file that exists stands for that file."""
    if path.exists():
        return False
    return Pattern.parse(path) is not None or glob.has_magic(str(path))


def find_sequence(path: Path, *, gaps: bool = False) -> Sequence:
    """The pictures that `path` stands for.

    Args:
        path: with a number (`%05d`), or with `*`, `?` or `[…]`; what these find is ordered by the numbers in the names.
        gaps: whether numbers may be missing in between.

    Raises:
        MissingInputError: there are none.
        ContainerError: they are not called like pictures.
        TruncatedInputError: numbers are missing.
    """
    pattern = Pattern.parse(path)
    if pattern is None:
        found = (Path(p) for p in glob.glob(str(path)))  # noqa: PTH207 (pathlib's takes no absolute patterns)
        paths = tuple(sorted((p for p in found if p.is_file()), key=natural_order))
        numbers: tuple[int, ...] = tuple(range(FIRST_NUMBER, FIRST_NUMBER + len(paths)))
    else:
        files = pattern.files()
        numbers, paths = tuple(files), tuple(files.values())
    if not paths:
        raise MissingInputError(f"no file is called like {path}", "see that folder, digits and extension are right")
    for one in paths:
        refuse_unread(one)
        if not is_still(one):
            raise ContainerError(
                f"{one} is not called like a picture; sequences are made of {', '.join(STILL_SUFFIXES)} files"
            )
    sequence = Sequence(str(path), numbers, paths)
    if sequence.missing_count and not gaps:
        shown = ", ".join(map(str, sequence.missing()))
        more = ", …" if sequence.missing_count > SHOWN else ""
        raise TruncatedInputError(
            f"{path} runs from {numbers[0]} to {numbers[-1]}, and {sequence.missing_count} of its pictures are "
            f"missing: {shown}{more}",
            "make them, or use --on-truncated keep to go on without them",
        )
    return sequence


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort key by which frame9.png comes before frame10.png."""
    return [(int(part), part) if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def parse_rate(text: str | float | Fraction) -> Fraction:
    """A frame rate: `24`, `30000/1001`, `23.976` (which is 24000/1001, as are its relatives).

    Raises:
        OptionError: it is none, or not between 0 and 1000.
    """
    try:
        rate = Fraction(str(text))
    except (ValueError, ZeroDivisionError) as exc:
        raise OptionError(
            f"fps {text!r}; give a number such as 24 or 23.976, or a fraction such as 30000/1001"
        ) from exc
    if not 0 < rate <= HIGHEST_RATE:
        raise OptionError(f"fps {text}; it must be over 0 and at most {HIGHEST_RATE}")
    if rate.denominator != 1:
        for whole in NTSC:
            exact = Fraction(whole * 1000, 1001)
            if abs(rate - exact) < Fraction(1, 150) and rate.denominator in (25, 50, 100, 125, 250, 500, 1000):
                return exact
    return rate
