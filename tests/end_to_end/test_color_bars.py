"""Colour bars of known code values come out as they went in, through lossless encoders and raw decoded planes."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest

import vsr
from vsr.frame import Planes
from vsr.source import Source

# Kr, Kb and code points of matrix, primaries and transfer
SYSTEMS = {"601": (0.299, 0.114, (6, 6, 6)), "709": (0.2126, 0.0722, (1, 1, 1)), "2020": (0.2627, 0.0593, (9, 9, 14))}
COLORS = [(r, g, b) for r, g, b in product((0.0, 0.75), repeat=3)]  # the eight bars at 75 %
BAR = 24  # samples wide


def codes(system: str, full: bool, bits: int) -> list[tuple[int, int, int]]:
    """Y, Cb and Cr of each bar, by BT.601, BT.709 and BT.2020 (all of one form; H.273, equations 1 to 24)."""
    kr, kb, _ = SYSTEMS[system]
    found = []
    for r, g, b in COLORS:
        y = kr * r + (1 - kr - kb) * g + kb * b
        cb, cr = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
        if full:
            largest = 2**bits - 1
            values = (largest * y, largest * cb + 2 ** (bits - 1), largest * cr + 2 ** (bits - 1))
        else:
            step = 2 ** (bits - 8)
            values = ((219 * y + 16) * step, (224 * cb + 128) * step, (224 * cr + 128) * step)
        found.append(tuple(int(np.clip(np.rint(v), 0, 2**bits - 1)) for v in values))
    return found  # type: ignore[return-value]


def make_bars(path: Path, system: str, full: bool, bits: int) -> list[tuple[int, int, int]]:
    """Three pictures of the bars, 4:2:0, FFV1."""
    values, matrix = codes(system, full, bits), SYSTEMS[system][2]
    pix_fmt, dtype = ("yuv420p", np.uint8) if bits == 8 else ("yuv420p10le", np.uint16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = BAR * len(values), 64, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = matrix
        context.color_range = 2 if full else 1
        for index in range(3):
            frame = av.VideoFrame(stream.width, 64, pix_fmt)
            for number, plane in enumerate(frame.planes):
                row = np.zeros(plane.line_size // dtype().itemsize, dtype)
                bar = BAR if number == 0 else BAR // 2
                row[: bar * len(values)] = np.repeat([v[number] for v in values], bar)
                plane.update(row.tobytes() * plane.height)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return values


def pictures(path: Path) -> list[Planes]:
    source = Source(path)
    try:
        return [frame.planes for frame in source.frames()]
    finally:
        source.close()


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_bars_come_out_with_the_code_values_of_their_standard(
    system: str, full: bool, bits: int, tmp_path: Path
) -> None:
    source = tmp_path / "bars.mkv"
    values = make_bars(source, system, full, bits)
    for encoder, model, options in (
        ("ffv1", "fast", {}),
        ("x264" if bits == 8 else "x265", "bicubic", {"lossless": True}),
    ):
        result = tmp_path / f"{encoder}.mkv"
        vsr.upscale(source, result, scale=2, model=model, encoder=encoder, precision="fp32", **options)
        shown = Source(result)
        color = shown.info.color
        shown.close()
        assert (color.matrix, color.primaries, color.transfer) == SYSTEMS[system][2]
        assert color.range == (2 if full else 1)
        for planes in pictures(result):
            for number, (plane, wide) in enumerate(zip(planes.arrays, (2 * BAR, BAR, BAR), strict=True)):
                middles = plane[:, wide // 2 :: wide].astype(int)
                want = np.array([v[number] for v in values])
                # Overshoot of the network's and the cubic's edges ends well before the middle of a bar
                assert np.abs(middles - want).max() <= 1, (encoder, number)
