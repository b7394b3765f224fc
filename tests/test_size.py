"""What size the output has: what is asked, what that means for a picture, and that it comes out so."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vsr.errors import OptionError
from vsr.model import BICUBIC
from vsr.orientation import is_turned
from vsr.size import NAMED, OutputSize, SizeRequest, next_scale, output_size
from vsr.upscaler import Upscaler

DVD_WIDE = Fraction(64, 45)  # 720x576 shown as 16:9
DVD_NTSC = Fraction(8, 9)  # 720x480 shown as 4:3

CASES = [
    # request, width, height, sample aspect ratio: width, height, sample aspect ratio
    (SizeRequest(3), (51, 39, None), (153, 117, None)),
    (SizeRequest(2), (720, 576, DVD_WIDE), (1440, 1152, DVD_WIDE)),
    (SizeRequest(1.5), (1280, 720, None), (1920, 1080, None)),
    (SizeRequest(1.5), (51, 33, None), (76, 50, None)),  # 76.5 and 49.5, to even numbers
    (SizeRequest(2, square_pixels=True), (720, 576, DVD_WIDE), (2048, 1152, Fraction(1))),
    (SizeRequest(2, square_pixels=True), (720, 480, DVD_NTSC), (1440, 1080, Fraction(1))),
    (SizeRequest(2, square_pixels=True), (640, 480, None), (1280, 960, None)),
    (SizeRequest(size="1920x1080"), (1280, 720, None), (1920, 1080, None)),
    (SizeRequest(size="854x480"), (640, 360, Fraction(1)), (854, 480, Fraction(1))),
    (SizeRequest(size="1920x1080"), (720, 576, DVD_WIDE), (1920, 1080, Fraction(1))),  # by its shape on the screen
    (SizeRequest(size="1440x1152"), (720, 576, DVD_WIDE), (1440, 1152, DVD_WIDE)),  # by that of its samples
    (SizeRequest(size="-2x1080"), (720, 576, DVD_WIDE), (1350, 1080, DVD_WIDE)),
    (SizeRequest(size="-2x1080", square_pixels=True), (720, 576, DVD_WIDE), (1920, 1080, Fraction(1))),
    (SizeRequest(size="1920x-2"), (1280, 534, None), (1920, 800, None)),  # 801
    (SizeRequest(size="1920x-1"), (1280, 534, None), (1920, 801, None)),
    (SizeRequest(size="4k"), (1920, 1080, None), (3840, 2160, None)),
    (SizeRequest(size="4K"), (1920, 800, None), (3840, 1600, None)),
    (SizeRequest(size="4k"), (1080, 1920, None), (2160, 3840, None)),  # a box is turned along with the picture
    (SizeRequest(size="1080p"), (640, 480, None), (1440, 1080, None)),
    (SizeRequest(size="1080p"), (720, 576, DVD_WIDE), (1350, 1080, DVD_WIDE)),
    (SizeRequest(size="1080p", square_pixels=True), (720, 480, DVD_NTSC), (1440, 1080, Fraction(1))),
    (SizeRequest(size="1920x1080", fit="inside"), (1280, 534, None), (1920, 800, None)),
    (SizeRequest(size="1920x1080", fit="stretch"), (848, 480, None), (1920, 1080, None)),
    (SizeRequest(size="1920x1080", fit="stretch"), (720, 576, DVD_NTSC), (1920, 1080, Fraction(1))),
    (SizeRequest(2.2), (720, 480, None), (1584, 1056, None)),
]


@pytest.mark.parametrize(("request_", "picture", "want"), CASES, ids=str)
def test_what_is_asked_means_this_size(
    request_: SizeRequest, picture: tuple[int, int, Fraction | None], want: tuple[int, int, Fraction | None]
) -> None:
    got = output_size(request_, *picture)
    assert (got.width, got.height, got.sample_aspect_ratio) == want
    assert got.factor == max(Fraction(want[0], picture[0]), Fraction(want[1], picture[1]))


def test_sizes_are_meant_as_displayed() -> None:
    """A phone's clip, stored lying and shown standing."""
    got = output_size(SizeRequest(size="1080x1920"), 1280, 720, turned=True)
    assert (got.width, got.height) == (1920, 1080)
    anamorphic = output_size(SizeRequest(2, square_pixels=True), 576, 720, 1 / DVD_WIDE, turned=True)
    assert anamorphic == OutputSize(1152, 2048, Fraction(1), Fraction(2048, 720))
    box = output_size(SizeRequest(size="4k"), 1920, 1080, turned=True)
    assert (box.width, box.height) == (3840, 2160)


@pytest.mark.parametrize(
    ("request_", "picture", "words"),
    [
        (SizeRequest(size="1920x1080"), (1280, 534), "1920x800.*2588x1080.*--fit inside"),
        (SizeRequest(size="1920x1080"), (848, 480), "1920x1086 and 1908x1080"),
        (SizeRequest(size="640x480"), (640, 480), "640x480 already.*ask for a larger size"),
        (SizeRequest(size="720p"), (1920, 1080), "would be 1280x720.*1920x1080 already"),
        (SizeRequest(size="1920x1080", fit="stretch"), (100, 1200), "1920x1080"),
        (SizeRequest(size="8k"), (320, 180), "24.0 times as large as 320x180; at most 16"),
    ],
    ids=str,
)
def test_other_shapes_smaller_sizes_and_huge_ones_are_refused(
    request_: SizeRequest, picture: tuple[int, int], words: str
) -> None:
    with pytest.raises(OptionError) as caught:
        output_size(request_, *picture)
    assert re.search(words, str(caught.value), re.DOTALL)


@pytest.mark.parametrize(
    "size", ["", "1920", "1920*1080", "0x100", "-2x-2", "-1x-2", "1920x-3", "5k", "axb", " 4k", 1080]
)
def test_what_is_no_size_is_refused_with_what_is(size: Any) -> None:
    with pytest.raises(OptionError, match=r"give WIDTHxHEIGHT.*4k"):
        SizeRequest(size=size)


@pytest.mark.parametrize("scale", [np.float32(2), np.int64(2), Fraction(2)])
def test_any_kind_of_number_is_a_scale(scale: float) -> None:
    assert SizeRequest(scale) == SizeRequest(2)
    assert Upscaler(scale, BICUBIC).output_size(5, 4) == (10, 8)


@pytest.mark.parametrize(
    "changes",
    [{"scale": 1}, {"scale": 16.1}, {"scale": float("inf")}, {"scale": "2"}, {"scale": None}, {"fit": "fill"}],
    ids=str,
)
def test_other_requests_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="allowed are"):
        SizeRequest(**changes)  # type: ignore[arg-type]


SHAPES = st.sampled_from([None, Fraction(1), DVD_WIDE, DVD_NTSC, Fraction(16, 15), Fraction(4, 3)])


@given(
    width=st.integers(2, 4000),
    height=st.integers(2, 4000),
    shape=SHAPES,
    turned=st.booleans(),
    square=st.booleans(),
    how=st.one_of(
        st.floats(1.01, 16).map(lambda s: {"scale": s}),
        st.sampled_from(sorted(NAMED)).map(lambda n: {"size": n}),
        st.integers(2, 9000).map(lambda n: {"size": f"{n}x-2"}),
        st.integers(2, 9000).map(lambda n: {"size": f"-2x{n}"}),
        st.tuples(st.integers(2, 9000), st.integers(2, 9000)).map(
            lambda n: {"size": f"{n[0]}x{n[1]}", "fit": "inside"}
        ),
    ),
)
def test_whatever_is_asked_the_picture_keeps_its_shape_on_the_screen(
    width: int, height: int, shape: Fraction | None, turned: bool, square: bool, how: dict[str, object]
) -> None:
    request = SizeRequest(square_pixels=square, **how)  # type: ignore[arg-type]
    try:
        got = output_size(request, width, height, shape, turned=turned)
    except OptionError:
        assume(False)
        return
    assert got.width >= width
    assert got.height >= height
    before = Fraction(width, height) * (shape or 1)
    after = Fraction(got.width, got.height) * (got.sample_aspect_ratio or 1)
    # One side is rounded to an even number, or both by less than that
    assert abs(math.log(after / before)) <= 2.1 * (1 / got.width + 1 / got.height)
    if square:
        assert got.sample_aspect_ratio in (None, 1)
    else:
        assert got.sample_aspect_ratio == shape
    swapped = output_size(request, height, width, None if shape is None else 1 / shape, turned=not turned)
    assert (swapped.height, swapped.width, swapped.factor) == (got.width, got.height, got.factor)


def test_the_next_scale_is_the_least_that_is_enough() -> None:
    scales = (2, 3, 4, 6, 8)
    assert [next_scale(Fraction(f), scales) for f in (Fraction(1, 1), 2, Fraction(9, 4), 5, 8)] == [2, 2, 3, 6, 8]
    with pytest.raises(OptionError, match="enlarges at most 8 times"):
        next_scale(Fraction(17, 2), scales)


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        (None, False),
        ((65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30), False),
        ((0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30), True),
        ((0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30), True),
        ((-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30), False),
        ((0, 65536, 0, 65536, 0, 0, 0, 0, 1 << 30), True),
    ],
)
def test_which_display_matrices_turn_by_a_right_angle(matrix: tuple[int, ...] | None, turned: bool) -> None:
    assert is_turned(matrix) is turned
