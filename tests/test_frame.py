"""Frames, planes and formats: what cannot be right is refused where it is made."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsr.frame import LUMA_WEIGHTS, PIXEL_FORMATS, ColorSpec, Frame, Planes, Range, Siting, VideoInfo

formats = st.sampled_from(sorted(PIXEL_FORMATS.values(), key=lambda f: f.name))


def planes(name: str = "yuv420p", width: int = 5, height: int = 3) -> Planes:
    fmt = PIXEL_FORMATS[name]
    sizes = (fmt.plane_size(n, width, height) for n in fmt.plane_names)
    return Planes(tuple(np.zeros((h, w), fmt.dtype) for w, h in sizes), fmt, width, height)


def info(**changes: object) -> VideoInfo:
    values = {"width": 2, "height": 2, "format": PIXEL_FORMATS["gray"], "pix_fmt_from_header": "gray"}
    return VideoInfo(**{**values, "color": ColorSpec(), "time_base": Fraction(1, 25), **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(PIXEL_FORMATS))
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (17, 13), (16, 16), (33, 3)])
def test_formats_are_what_ffmpeg_means_by_their_names(name: str, size: tuple[int, int]) -> None:
    fmt = PIXEL_FORMATS[name]
    theirs = av.VideoFormat(name, *size)
    assert [c.bits for c in theirs.components] == [fmt.bits] * len(fmt.plane_names)
    assert theirs.is_rgb == (fmt.family == "rgb")
    assert any(c.is_alpha for c in theirs.components) == fmt.alpha
    frame = av.VideoFrame(*size, name)
    packed = fmt.family == "gray" and fmt.alpha  # FFmpeg has grey with alpha in one plane only, sample beside sample
    assert len(frame.planes) == (1 if packed else len(fmt.plane_names))
    for letter, component in zip(fmt.plane_names, theirs.components, strict=True):
        plane = frame.planes[component.plane]
        assert fmt.plane_size(letter, *size) == (plane.width, plane.height)


@given(fmt=formats, width=st.integers(1, 500), height=st.integers(1, 500))
def test_odd_chroma_rounds_up_and_never_to_nothing(fmt: object, width: int, height: int) -> None:
    assert isinstance(fmt, type(PIXEL_FORMATS["gray"]))
    for name in fmt.plane_names:
        w, h = fmt.plane_size(name, width, height)
        if name in "uv":
            assert (w - 1) << fmt.log2_w < width <= w << fmt.log2_w
            assert (h - 1) << fmt.log2_h < height <= h << fmt.log2_h
        else:
            assert (w, h) == (width, height)


def test_every_depth_has_its_sample_type() -> None:
    for fmt in PIXEL_FORMATS.values():
        assert fmt.dtype == (np.uint8 if fmt.bits == 8 else np.uint16)
        assert fmt.name.endswith("le") == (fmt.bits > 8)


def test_plane_count_shape_and_type_are_checked() -> None:
    good = planes()
    y, u, v = good.arrays
    fmt = good.format
    for wrong in ((y, u), (y, u, v, v), (y, u, v.astype(np.uint16)), (y, u[:, :2], v), (y[None], u, v), (y.T, u, v)):
        with pytest.raises(ValueError, match="plane"):
            Planes(wrong, fmt, 5, 3)


def test_strided_views_are_planes_too() -> None:
    padded = np.zeros((3, 64), np.uint8)
    assert Planes((padded[:, :5],), PIXEL_FORMATS["gray"], 5, 3).arrays[0].base is padded
    assert Planes((padded[::-1, :5],), PIXEL_FORMATS["gray"], 5, 3).arrays[0].strides[0] < 0


def test_everything_is_frozen() -> None:
    for thing in (planes(), Frame(planes(), 0), ColorSpec(), info(), PIXEL_FORMATS["gray"]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, dataclasses.fields(thing)[0].name, 1)


def test_negative_durations_are_refused_and_negative_times_are_not() -> None:
    assert Frame(planes(), -5).pts == -5
    with pytest.raises(ValueError, match="negative"):
        Frame(planes(), 0, -1)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"height": -1}, {"time_base": Fraction(0)}])
def test_impossible_streams_are_refused(wrong: dict[str, object]) -> None:
    assert info().width == 2
    with pytest.raises(ValueError, match="must be"):
        info(**wrong)


@pytest.mark.parametrize(
    ("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (5, 0.299, 0.114), (6, 0.299, 0.114), (9, 0.2627, 0.0593)]
)
def test_luma_weights_of_the_standards(matrix: int, kr: float, kb: float) -> None:
    assert ColorSpec(matrix=matrix).luma_weights() == (kr, kb)


@pytest.mark.parametrize("matrix", [0, 2, 8, 14, 99])
def test_a_matrix_without_weights_counts_as_601(matrix: int) -> None:
    assert ColorSpec(matrix=matrix).luma_weights() == LUMA_WEIGHTS[6]


def test_unspecified_range_counts_as_limited_and_stays_unspecified() -> None:
    spec = ColorSpec()
    assert not spec.is_full_range()
    assert (spec.range, spec.siting, spec.matrix) == (Range.UNSPECIFIED, Siting.UNSPECIFIED, 2)
    assert ColorSpec(range=Range.FULL).is_full_range()
