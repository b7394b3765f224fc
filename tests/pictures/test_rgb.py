"""Planes as pictures: against the formulae worked out in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends import reference
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes, Range, Siting
from vsr.pictures.rgb import picture_of_planes, planes_of_picture

SITINGS = [Siting.UNSPECIFIED, Siting.LEFT, Siting.CENTER, Siting.TOPLEFT, Siting.TOP, Siting.BOTTOM]


def planes(name: str, width: int, height: int, seed: int = 0) -> Planes:
    fmt = PIXEL_FORMATS[name]
    rng = np.random.default_rng(seed)
    sizes = [fmt.plane_size(n, width, height) for n in fmt.plane_names]
    made = tuple(rng.integers(0, 1 << fmt.bits, (h, w)).astype(fmt.dtype) for w, h in sizes)
    return Planes(made, fmt, width, height)


def expected(given: Planes, color: ColorSpec, bits: int) -> np.ndarray:
    fmt = given.format
    arrays = {n: a.astype(float) for n, a in zip(fmt.plane_names, given.arrays, strict=True)}
    unit, full = 2 ** (fmt.bits - 8), color.range is Range.FULL
    y = arrays["y"] / (2**fmt.bits - 1) if full else (arrays["y"] - 16 * unit) / (219 * unit)
    if fmt.family == "gray":
        return np.clip(y, 0, 1) * (2**bits - 1)
    offset_x, offset_y = reference.chroma_offsets(color.siting, fmt)
    chroma = []
    for name in "uv":
        c = (arrays[name] - 2 ** (fmt.bits - 1)) / ((2**fmt.bits - 1) if full else 224 * unit)
        c = reference.interpolate(c, (np.arange(given.height) - offset_y) / (1 << fmt.log2_h), 0)
        chroma.append(reference.interpolate(c, (np.arange(given.width) - offset_x) / (1 << fmt.log2_w), 1))
    kr, kb = reference.WEIGHTS.get(color.matrix, reference.BT601)
    red, blue = y + 2 * (1 - kr) * chroma[1], y + 2 * (1 - kb) * chroma[0]
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], axis=2), 0, 1) * (2**bits - 1)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(
        ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv440p", "yuv410p", "yuv444p12le", "gray", "gray10le"]
    ),
    size=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    matrix=st.sampled_from([1, 2, 5, 9]),
    color_range=st.sampled_from(list(Range)),
    siting=st.sampled_from(SITINGS),
    bits=st.sampled_from([8, 16]),
)
def test_colours_are_those_of_the_standard(
    name: str, size: tuple[int, int], matrix: int, color_range: Range, siting: Siting, bits: int
) -> None:
    given_planes = planes(name, *size)
    color = ColorSpec(matrix, range=color_range, siting=siting)
    got = picture_of_planes(given_planes, color, bits)
    want = expected(given_planes, color, bits)
    assert got.shape == want.shape
    assert got.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert np.abs(got - want).max() <= (0.51 if bits == 8 else 0.6)  # float32 at 16 bits


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_pictures_become_planes_and_the_same_pictures_again(channels: int, kind: type) -> None:
    rng = np.random.default_rng(channels)
    samples = rng.integers(0, np.iinfo(kind).max + 1, (5, 7, channels)).astype(kind)
    samples = samples[:, :, 0] if channels == 1 else samples
    color = ColorSpec(range=Range.FULL)
    back = picture_of_planes(planes_of_picture(samples), color, 8 * samples.itemsize)
    assert (back == samples).all()


def test_alpha_stays_beside_colour_and_makes_grey_coloured() -> None:
    given_planes = planes("yuva420p10le", 6, 4)
    got = picture_of_planes(given_planes, ColorSpec(1), 16)
    assert got.shape == (4, 6, 4)
    assert np.abs(got[:, :, 3] - given_planes.arrays[3] / 1023 * 65535).max() <= 0.5
