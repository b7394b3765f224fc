"""Odd, tiny and huge pictures: they work, or one line names the limit and the way round it."""

from __future__ import annotations

from pathlib import Path

import pytest

import vsr
from tests.clips import frame_count, make_clip, probe
from vsr.errors import EncoderError


def upscale_or_refusal(source: Path, result: Path, scale: int) -> str:
    """What is said against it, or nothing where it was done."""
    try:
        vsr.upscale(source, result, scale=scale, model="bicubic")
    except EncoderError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("size", [(17, 13), (2, 2), (1, 1), (3, 200), (5, 1)])
@pytest.mark.parametrize("extension", [".mkv", ".mp4"])
def test_odd_and_tiny_sizes_work(extension: str, size: tuple[int, int], scale: int, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", codec="rawvideo", size=size, frames=3)
    result = tmp_path / f"out{extension}"
    width, height = size[0] * scale, size[1] * scale
    refusal = upscale_or_refusal(source, result, scale)
    if refusal:  # no encoder of this container holds it: then those that can are named
        assert extension == ".mp4"
        assert f"{width}x{height}" in refusal
        assert any(name in refusal for name in ("ffv1", "vp9", "svtav1", ".mkv"))
        assert not result.exists()
        return
    assert probe(result).size == (width, height)
    assert frame_count(result) == 3


@pytest.mark.parametrize("model", ["espcn", "fsrcnn"])
@pytest.mark.parametrize("size", [(17, 13), (2, 2), (1, 1)])
def test_odd_and_tiny_sizes_work_with_networks(size: tuple[int, int], model: str, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", codec="rawvideo", size=size, frames=2)
    vsr.upscale(source, tmp_path / "out.mkv", scale=3, model=model)
    assert probe(tmp_path / "out.mkv").size == (3 * size[0], 3 * size[1])


def test_an_encoder_asked_for_by_name_that_cannot_hold_the_size_is_refused(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", codec="rawvideo", size=(2, 2), frames=3)
    with pytest.raises(EncoderError, match=r"x265.*6x6"):
        vsr.upscale(source, tmp_path / "out.mkv", scale=3, model="bicubic", encoder="x265")
    assert not (tmp_path / "out.mkv").exists()


def test_huge_pictures_work_or_name_the_limit(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", size=(16384, 16), frames=2)
    result = tmp_path / "out.mkv"
    refusal = upscale_or_refusal(source, result, 2)
    if refusal:
        assert "32768x32" in refusal
        assert not result.exists()
    else:
        assert probe(result).size == (32768, 32)
