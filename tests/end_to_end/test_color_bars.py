"""Colour bars of known code values come out as they went in, through lossless encoders and raw decoded planes."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest

import vsr
from tests.clips import ffprobe
from vsr.comparison.compare import compare
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


def red_green_blue(values: list[tuple[int, int, int]], system: str, full: bool, bits: int) -> np.ndarray:
    """What the code values show, as [bars, 3] from 0 to 1 (H.273, equations 20 to 31 and 38 to 43, the other way)."""
    kr, kb, _ = SYSTEMS[system]
    y, cb, cr = np.array(values, dtype=float).T
    step, largest, middle = 2 ** (bits - 8), 2**bits - 1, 2 ** (bits - 1)
    y = y / largest if full else (y - 16 * step) / (219 * step)
    cb, cr = ((c - middle) / (largest if full else 224 * step) for c in (cb, cr))
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return np.clip(np.stack([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue], axis=1), 0, 1)


def shown_by_ffmpeg(path: Path, pix_fmt: str, size: tuple[int, int]) -> np.ndarray:
    """The first picture as FFmpeg shows it: [height, width, 3] as G, B, R, or [height, width]."""
    command = ("ffmpeg", "-v", "error", "-i", path, "-frames:v", "1", "-pix_fmt", pix_fmt, "-f", "rawvideo", "-")
    dtype = np.dtype("<u2" if "16" in pix_fmt or "10" in pix_fmt else "u1")
    samples = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, dtype)
    return samples.reshape(-1, size[1], size[0]).transpose(1, 2, 0).squeeze()


@pytest.mark.parametrize(
    ("encoder", "pix_fmt", "bits"),
    [("x264rgb", "bgr24", 8), ("x265", "gbrp10le", 10), ("ffv1", "bgr0", 8), ("vp9", "gbrp", 8)],
)
@pytest.mark.parametrize(("system", "full"), [("601", False), ("709", True), ("709", False), ("2020", False)])
def test_bars_are_shown_in_their_colours_by_rgb_encoders(
    encoder: str, pix_fmt: str, bits: int, system: str, full: bool, tmp_path: Path
) -> None:
    source, result = tmp_path / "bars.mkv", tmp_path / "out.mkv"
    values = make_bars(source, system, full, bits)
    vsr.upscale(source, result, scale=2, model="bicubic", encoder=encoder, pix_fmt=pix_fmt, lossless=True)
    stream = ffprobe(result, "-show_streams")["streams"][0]
    assert (stream["color_space"], stream["color_range"]) == ("gbr", "pc")
    planar = "gbrp" if bits == 8 else "gbrp10le"
    seen = shown_by_ffmpeg(result, planar, (2 * BAR * len(values), 128))[:, BAR :: 2 * BAR, (2, 0, 1)]
    want = red_green_blue(values, system, full, bits) * (2**bits - 1)
    assert np.abs(seen - want).max() <= 1
    found = {check.name: check for check in compare(source, result).checks}
    assert all(found[f"picture: {name}"].ok for name in ("matrix", "primaries", "transfer", "range"))
    assert not found["picture: samples"].ok  # a conversion is none that `verify` lets pass in silence


@pytest.mark.parametrize("encoder", ["x264", "x265", "svtav1", "vp9", "ffv1", "prores"])
def test_grey_without_a_range_is_shown_as_it_was(encoder: str, tmp_path: Path) -> None:
    """FFmpeg takes such grey for full range, and YUV without a range, as which it decodes H.264's grey, for limited."""
    source, result = tmp_path / "grey.mkv", tmp_path / "out.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "gray"
        for index in range(3):
            ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
            frame = av.VideoFrame.from_ndarray(ramp, format="gray")
            frame.pts, frame.color_range = index, 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "color_range" not in ffprobe(source, "-show_streams")["streams"][0]
    lossless = encoder in ("x264", "x265", "vp9")
    vsr.upscale(source, result, scale=2, model="bicubic", encoder=encoder, lossless=lossless)
    before = shown_by_ffmpeg(source, "rgb24", (64 * 3, 64))[8:-8]
    after = shown_by_ffmpeg(result, "rgb24", (128 * 3, 128))[16:-16:2]
    # A ramp enlarged lies a quarter of a step before and behind each sample of it
    shown = after.reshape(len(after), 64, 2, 3).mean(axis=2)[:, 4:-4]
    distance = np.abs(shown - before.reshape(len(before), 64, 3)[:, 4:-4])
    assert distance.max() <= (3 if encoder in ("svtav1", "prores") else 1.5)
    differing = [c.name for c in compare(source, result).checks if not c.ok]
    assert differing == []
