"""Sizes asked for come out: the pictures, their shape on the screen, how they are turned, and what is cropped."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner

import vsr
from tests.clips import ffmpeg, ffprobe, probe
from tests.end_to_end.test_pictures import BICUBIC, psnr_by_plane
from vsr.cli import cli
from vsr.comparison.compare import compare
from vsr.errors import OptionError
from vsr.size import SizeRequest
from vsr.source import Source

Clip = Callable[..., Path]
DVD = {"size": (72, 58), "frames": 3, "video_tags": {"sample_aspect_ratio": Fraction(64, 45)}}


def call(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(a) for a in arguments], standalone_mode=False)


@pytest.mark.parametrize(
    ("pix_fmt", "size"),
    [("yuv420p", (100, 74)), ("yuv422p10le", (94, 70)), ("gray", (155, 115)), ("yuv444p", (63, 47))],
)
def test_bicubic_to_any_size_equals_zimg(pix_fmt: str, size: tuple[int, int], clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mkv", codec="ffv1", size=(62, 46), frames=3, pix_fmt=pix_fmt)
    result = tmp_path / "out.mkv"
    asked = "{}x{}".format(*size)
    vsr.upscale(source, result, size=asked, fit="stretch", model="bicubic", encoder="ffv1")
    sited = ":chromalin=left:chromal=left" if pix_fmt.startswith("yuv42") else ""
    frames = psnr_by_plane(result, source, f"zscale=w={size[0]}:h={size[1]}:{BICUBIC}{sited}")
    assert len(frames) == 3
    for planes in frames:
        assert all(value > 60 for value in planes.values()), planes


def test_a_network_makes_any_size_better_than_bicubic(samples: Path, tmp_path: Path) -> None:
    """x1.5: twice as large, and shrunk by Lanczos."""
    original, small = tmp_path / "original.mkv", tmp_path / "small.mkv"
    ffmpeg("-i", samples / "clip.mp4", "-frames:v", "3", "-an", "-sn", "-vf", "crop=240:180", "-c:v", "ffv1", original)
    ffmpeg("-i", original, "-vf", f"zscale=w=160:h=120:{BICUBIC}", "-c:v", "ffv1", small)
    score = {}
    for name in ("bicubic", "fast"):
        report = vsr.upscale(small, tmp_path / f"{name}.mkv", size="240x-2", model=name, encoder="ffv1")
        assert (report.width, report.height, report.scale) == (240, 180, 1.5)
        frames = psnr_by_plane(tmp_path / f"{name}.mkv", original, "null")
        score[name] = sum(frame["y"] for frame in frames) / len(frames)
    assert score["fast"] > score["bicubic"] + 0.3, score


@pytest.mark.parametrize("scale", [6, 2.5])
def test_scales_beyond_those_of_the_models(scale: float, clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mkv", size=(32, 24), frames=2)
    result = tmp_path / "out.mkv"
    done = call("upscale", source, "-s", scale, "-o", result, "--json")
    assert done.return_value == 0, done.output
    assert probe(result).size == (int(32 * scale), int(24 * scale))
    assert json.loads(done.stdout.splitlines()[-1])["scale"] == scale
    assert call("verify", source, result, "-s", scale).return_value == 0
    assert call("verify", source, result).return_value == (0 if scale == 6 else 1)


# -- the shape of samples ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".ts", ".webm"])
def test_samples_keep_their_shape_or_become_square(suffix: str, clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mkv", **DVD)
    kept, square = tmp_path / f"kept{suffix}", tmp_path / f"square{suffix}"
    vsr.upscale(source, kept, size="-2x116", model="bicubic")
    vsr.upscale(source, square, size="-2x116", square_pixels=True, model="bicubic")
    assert (probe(kept).size, probe(kept).video["sample_aspect_ratio"]) == ((144, 116), "64:45")
    assert (probe(square).size, probe(square).video["sample_aspect_ratio"]) == ((204, 116), "1:1")
    drop = suffix == ".ts"
    assert compare(source, kept, size=SizeRequest(size="-2x116"), allow_dropped=drop).ok
    request = SizeRequest(size="-2x116", square_pixels=True)
    assert compare(source, square, size=request, decode=True, allow_dropped=drop).ok
    wrong = compare(source, square, size=SizeRequest(size="-2x116"), allow_dropped=drop)
    assert {c.name.split(": ")[1] for c in wrong.differences} == {"size", "sample aspect ratio"}


def test_sizes_of_another_shape_are_refused_before_anything_is_written(clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mkv", size=(64, 48), frames=2)
    result = tmp_path / "out.mkv"
    done = call("upscale", source, "--size", "192x108", "-o", result)
    assert isinstance(done.exception, OptionError)
    assert "144x108" in str(done.exception)
    assert not result.exists()
    assert call("upscale", source, "--size", "192x108", "--fit", "inside", "-o", result, "-q").return_value == 0
    assert probe(result).size == (144, 108)
    assert call("verify", source, result, "--size", "192x108", "--fit", "inside").return_value == 0
    both = call("upscale", source, "--size", "192x108", "-s", "2", "-o", result)
    assert "contradict" in str(both.exception)


def test_a_still_has_its_size_as_displayed(tmp_path: Path) -> None:
    from PIL import Image

    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    report = vsr.UpscaleOptions(size="40x60")
    from vsr.stills import upscale_still

    done = upscale_still(tmp_path / "turned.png", tmp_path / "out.png", report)
    assert (done.width, done.height) == (60, 40)
    with Image.open(tmp_path / "out.png") as result:
        assert result.size == (60, 40)
        assert result.getexif()[274] == 6


# -- turned, mirrored and cropped -------------------------------------------------------------------------------------


def turned_clip(path: Path, matrix: tuple[int, ...], size: tuple[int, int] = (64, 48)) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height = size
        stream.set_display_matrix(matrix)
        for index in range(3):
            frame = av.VideoFrame(*size, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes((i + 40 * index) % 251 for i in range(plane.buffer_size)))
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def display_matrix(path: Path) -> tuple[int, ...] | None:
    source = Source(path)
    try:
        return source.info.display_matrix
    finally:
        source.close()


ONE = 65536
TURNS = {
    "90": (0, ONE, 0, -ONE, 0, 0, 48 * ONE, 0, 1 << 30),
    "180": (-ONE, 0, 0, 0, -ONE, 0, 64 * ONE, 48 * ONE, 1 << 30),
    "270": (0, -ONE, 0, ONE, 0, 0, 0, 64 * ONE, 1 << 30),
    "mirror": (-ONE, 0, 0, 0, ONE, 0, 64 * ONE, 0, 1 << 30),
}


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("turn", TURNS)
def test_pictures_stay_turned_and_mirrored_and_sizes_are_those_on_the_screen(
    turn: str, suffix: str, tmp_path: Path
) -> None:
    source = turned_clip(tmp_path / "in.mp4", TURNS[turn])
    before = display_matrix(source)
    assert before is not None
    result = tmp_path / f"out{suffix}"
    shown = "96x128" if turn in ("90", "270") else "128x96"
    vsr.upscale(source, result, size=shown, model="bicubic")
    assert probe(result).size == (128, 96)
    after = display_matrix(result)
    assert after is not None
    assert [after[i] for i in (0, 1, 3, 4)] == [before[i] for i in (0, 1, 3, 4)]
    if suffix != ".mkv":  # which has turns only
        assert (after[6], after[7]) == (2 * before[6], 2 * before[7])
    assert compare(source, result, size=SizeRequest(size=shown)).ok
    stream = ffprobe(result, "-select_streams", "v", "-show_streams")["streams"][0]
    assert any(data["side_data_type"] == "Display Matrix" for data in stream["side_data_list"])
