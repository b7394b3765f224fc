"""The size of the output: from what is asked to whole numbers of samples, and the shape that keeps the picture's.

Whatever is asked, a picture is shown in the shape in which it was: width times sample aspect ratio over height stays,
to the rounding of one side. Only `--fit stretch` changes it. Sizes are meant as displayed: a picture that its display
matrix turns by 90° is asked for turned, and coded the other way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from vsr.errors import OptionError

LARGEST_SCALE: Final = 16
FITS: Final = ("exact", "inside", "stretch")
NAMED: Final = {
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "2160p": (3840, 2160),
    "4k": (3840, 2160),
    "4320p": (7680, 4320),
    "8k": (7680, 4320),
}
FREE: Final = -1  # of a side: whatever keeps the shape
FREE_EVEN: Final = -2  # the same, even
PATTERN: Final = re.compile(r"(\d+|-[12])x(\d+|-[12])")
WHERE_WRITTEN: Final = f"give WIDTHxHEIGHT, one of them -2 to follow from the other, or {', '.join(NAMED)}"


@dataclass(frozen=True)
class SizeRequest:
    """What size is asked for.

    Attributes:
        scale: enlargement of both sides; any number over 1 and up to 16. Without meaning if there is a `size`.
        size: `1920x1080`, `1920x-2`, `-2x2160`, `4k` and the like (`NAMED`, boxes that the picture fits into), or None.
        fit: what WIDTHxHEIGHT means for a picture of another shape: `exact` refuses it, `inside` takes the largest size
            that fits into it, `stretch` distorts the picture.
        square_pixels: whether samples that are not square become so, by enlarging the side that is too short.

    Raises:
        OptionError: one of them is not allowed.
    """

    scale: float = 3
    size: str | None = None
    fit: str = "exact"
    square_pixels: bool = False

    def __post_init__(self) -> None:
        try:
            number = float(self.scale) if not isinstance(self.scale, str) else math.nan
        except (TypeError, ValueError):  # numbers of NumPy and fractions are numbers too
            number = math.nan
        if math.isnan(number):
            raise OptionError(f"scale {self.scale!r}; allowed are numbers over 1, up to {LARGEST_SCALE}")
        object.__setattr__(self, "scale", number)
        if not math.isfinite(self.scale) or not 1 < self.scale <= LARGEST_SCALE:
            raise OptionError(f"scale {self.scale:g}; allowed are numbers over 1, up to {LARGEST_SCALE}")
        if self.fit not in FITS:
            raise OptionError(f"fit {self.fit!r}; allowed are {', '.join(FITS)}")
        if self.size is not None:
            self.sides()

    @property
    def is_plain(self) -> bool:
        """Whether it is one whole factor for both sides, whatever the picture."""
        return self.size is None and self.scale == int(self.scale) and not self.square_pixels

    def sides(self) -> tuple[int, int]:
        """Width and height of `size`, either of which may be `FREE` or `FREE_EVEN`.

        Raises:
            OptionError: it is none.
        """
        text = str(self.size).lower()
        if text in NAMED:
            return NAMED[text]
        match = PATTERN.fullmatch(text)
        width, height = (int(match[1]), int(match[2])) if match else (0, 0)
        if 0 in (width, height) or max(width, height) < 1:
            raise OptionError(f"size {self.size!r}; {WHERE_WRITTEN}")
        return width, height


@dataclass(frozen=True)
class OutputSize:
    """What a request means for one picture.

    Attributes:
        width: of the output, in samples as coded.
        height: likewise.
        sample_aspect_ratio: of the output; None if it is as unknown as the input's.
        factor: the larger one of the enlargements of the two sides.
    """

    width: int
    height: int
    sample_aspect_ratio: Fraction | None
    factor: Fraction

    @property
    def plain_factor(self) -> float:
        """The factor as a number for reports: an int if it is whole."""
        return int(self.factor) if self.factor.denominator == 1 else float(self.factor)


def output_size(
    request: SizeRequest,
    width: int,
    height: int,
    sample_aspect_ratio: Fraction | None = None,
    *,
    turned: bool = False,
) -> OutputSize:
    """What `request` means for a picture.

    Args:
        width: of the picture, in samples as coded.
        height: likewise.
        sample_aspect_ratio: width of a sample over its height, or None if unknown, which is taken for square.
        turned: whether it is displayed turned by 90°, so that width and height change places.

    Raises:
        OptionError: the output would be smaller, too large, or of another shape.
    """
    shape = sample_aspect_ratio or Fraction(1)
    if turned:
        width, height, shape = height, width, 1 / shape
    picture = _Picture(width, height, shape)
    if request.size is None:
        new_width, new_height, new_shape = _scaled(request, picture)
    else:
        new_width, new_height, new_shape = _sized(request, picture)
    if new_width < width or new_height < height or (new_width, new_height) == (width, height):
        raise OptionError(
            f"the output would be {new_width}x{new_height}, and the input is {width}x{height} already",
            "ask for a larger size; what makes pictures smaller is ffmpeg's scale filter",
        )
    factor = max(Fraction(new_width, width), Fraction(new_height, height))
    if factor > LARGEST_SCALE:
        raise OptionError(
            f"the output would be {new_width}x{new_height}, {float(factor):.1f} times as large as {width}x{height}; "
            f"at most {LARGEST_SCALE} times is allowed"
        )
    if turned:
        new_width, new_height, new_shape = new_height, new_width, 1 / new_shape
    unknown = sample_aspect_ratio is None and new_shape == 1
    return OutputSize(new_width, new_height, None if unknown else new_shape, factor)


def next_scale(factor: Fraction, scales: Sequence[int]) -> int:
    """The least of the `scales` of a model that is `factor` or more.

    Raises:
        OptionError: there is none.
    """
    enough = [s for s in scales if s >= factor]
    if not enough:
        raise OptionError(
            f"the output would be {float(factor):.2f} times as large; this model enlarges at most {max(scales)} times"
        )
    return min(enough)


@dataclass(frozen=True)
class _Picture:
    width: int
    height: int
    shape: Fraction  # of a sample

    def aspect(self, square: bool) -> Fraction:
        """Width over height in samples of the output."""
        return Fraction(self.width, self.height) * (self.shape if square else 1)


def _scaled(request: SizeRequest, picture: _Picture) -> tuple[int, int, Fraction]:
    scale = Fraction(request.scale).limit_denominator(1000)
    width, height = (_multiple(side * scale) for side in (picture.width, picture.height))
    if not request.square_pixels:
        return width, height, picture.shape
    if picture.shape > 1:
        width = _even(picture.width * scale * picture.shape)
    elif picture.shape < 1:
        height = _even(picture.height * scale / picture.shape)
    return width, height, Fraction(1)


def _sized(request: SizeRequest, picture: _Picture) -> tuple[int, int, Fraction]:
    width, height = request.sides()
    square = request.square_pixels
    named = (request.size or "").lower() in NAMED
    if named and picture.aspect(square=True) < 1:
        width, height = height, width
    shape = Fraction(1) if square else picture.shape
    if width < 0:
        return _side(height * picture.aspect(square), even=width == FREE_EVEN), height, shape
    if height < 0:
        return width, _side(width / picture.aspect(square), even=height == FREE_EVEN), shape
    if named or request.fit == "inside":
        return *_inside(width, height, picture, shape), shape
    if request.fit == "stretch":
        return width, height, Fraction(1)
    if not square and _same_shape(width, height, picture.aspect(square=False)):
        return width, height, picture.shape
    if _same_shape(width, height, picture.aspect(square=True)):
        return width, height, Fraction(1)
    aspect = picture.aspect(square=True)
    raise OptionError(
        f"{width}x{height} is of another shape than the picture, which is {picture.width}x{picture.height}"
        + (f" with samples {picture.shape} as wide as high" if picture.shape != 1 else ""),
        f"{width}x{_even(width / aspect)} and {_even(height * aspect)}x{height} keep it; --fit inside takes what fits, "
        "--fit stretch distorts it",
    )


def _inside(width: int, height: int, picture: _Picture, shape: Fraction) -> tuple[int, int]:
    """The largest size, even, that is displayed within width x height square pixels."""
    gain = min(Fraction(width) / (picture.width * picture.shape), Fraction(height, picture.height))
    new_height = min(_even(picture.height * gain), height)
    new_width = min(_even(picture.width * picture.shape * gain / shape), math.floor(width / shape))
    return max(1, new_width), max(1, new_height)


def _same_shape(width: int, height: int, aspect: Fraction) -> bool:
    """Whether one side follows from the other, to a sample."""
    return abs(width - height * aspect) <= 1 or abs(height - width / aspect) <= 1


def _side(length: Fraction, *, even: bool) -> int:
    return _even(length) if even else max(1, round(length))


def _even(length: Fraction) -> int:
    """The nearest even number, for what is computed must not depend on the chroma format."""
    return max(2, 2 * round(length / 2))


def _multiple(length: Fraction) -> int:
    """A side times the scale: as it is if that is whole, else even."""
    return int(length) if length.denominator == 1 else _even(length)
