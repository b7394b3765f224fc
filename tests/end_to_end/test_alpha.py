"""Alpha is enlarged where the output holds it, and said to be left out where not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

import vsr
from tests.backends import reference
from tests.clips import ffmpeg, probe
from vsr.source import Source

PATTERN = "testsrc2=s=40x24:r=25:d=0.08,format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='clip(6*X,0,255)'"


def last_planes(path: Path) -> list[np.ndarray]:
    source = Source(path)
    try:
        return list(list(source.frames())[-1].planes.arrays)
    finally:
        source.close()


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "suffix", "held"),
    [
        ("ya8", "png", ".mov", "ya8"),
        ("ya8", "ffv1", ".mkv", "ya8"),
        ("ya16be", "png", ".mov", "yuva420p16le"),
        ("rgba", "png", ".mov", "gbrap"),
        ("rgba64be", "png", ".mov", "gbrap16le"),
        ("yuva420p", "ffv1", ".mkv", "yuva420p"),
        ("yuva444p10le", "ffv1", ".mkv", "yuva444p10le"),
    ],
)
def test_alpha_is_enlarged_by_bicubic(pix_fmt: str, codec: str, suffix: str, held: str, tmp_path: Path) -> None:
    source, result = tmp_path / f"in{suffix}", tmp_path / "out.mkv"
    ffmpeg("-f", "lavfi", "-i", PATTERN, "-pix_fmt", pix_fmt, "-c:v", codec, source)
    vsr.upscale(source, result, scale=3, model="bicubic", encoder="ffv1")
    before, after = last_planes(source), last_planes(result)
    assert probe(result).video["pix_fmt"] in (held, "bgra", "rgba64le")
    largest = 255 if before[-1].dtype == np.uint8 else 1023 if "10" in pix_fmt else 65535
    for index in (0, -1) if "rgba" not in pix_fmt else (-1,):
        want = np.rint(np.clip(reference.enlarge(before[index], 3), 0, largest))
        assert np.abs(after[index].astype(float) - want).max() <= 1, index


def test_a_palette_keeps_its_transparency(tmp_path: Path) -> None:
    from PIL import Image

    stripes = np.repeat(np.arange(4, dtype=np.uint8), 10)
    picture = Image.fromarray(np.tile(stripes, (24, 1)), "P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png", transparency=2)
    source, result = tmp_path / "in.mov", tmp_path / "out.mkv"
    ffmpeg("-i", tmp_path / "a.png", "-c:v", "copy", source)
    vsr.upscale(source, result, scale=2, model="bicubic")
    alpha = last_planes(result)[-1]
    assert alpha.shape == (48, 80)
    assert (alpha.min(), alpha.max()) == (0, 255)


@pytest.mark.parametrize("pix_fmt", ["ya8", "rgba"])
def test_where_there_is_no_room_for_alpha_it_is_said(pix_fmt: str, tmp_path: Path) -> None:
    source = tmp_path / "in.mov"
    ffmpeg("-f", "lavfi", "-i", PATTERN, "-pix_fmt", pix_fmt, "-c:v", "png", source)
    report = vsr.upscale(source, tmp_path / "out.mp4", scale=2, model="bicubic")
    assert any("alpha channel is left out" in note for note in report.notes)
    assert not report.pix_fmt.startswith(("yuva", "gbrap"))


def test_vp9_keeps_alpha_in_webm(tmp_path: Path) -> None:
    """FFmpeg's own decoder of VP9 leaves it out; libvpx's shows it."""
    source, result = tmp_path / "in.mkv", tmp_path / "out.webm"
    ffmpeg("-f", "lavfi", "-i", PATTERN, "-pix_fmt", "yuva420p", "-c:v", "ffv1", source)
    vsr.upscale(source, result, scale=2, model="bicubic", encoder="vp9", crf=0)
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-c:v",
        "libvpx-vp9",
        "-i",
        result,
        "-vf",
        "alphaextract",
        "-f",
        "rawvideo",
        "-",
    ]
    raw = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    alpha = np.frombuffer(raw, np.uint8)[: 80 * 48].reshape(48, 80).astype(float)
    assert np.abs(alpha - reference.enlarge(last_planes(source)[-1], 2).clip(0, 255)).mean() < 3
