"""The pictures themselves: the right ones, in order, where they were, and with chroma where it belongs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import vsr
from tests.clips import ffmpeg, make_clip, probe

Clip = Callable[..., Path]
# zimg's bicubic with a = -0.5. (libswscale's takes no fraction for it through this filter.)
BICUBIC = "filter=bicubic:param_a=0:param_b=0.5:dither=none"


def psnr_by_plane(result: Path, reference: Path, filters: str) -> list[dict[str, float]]:
    """PSNR of each frame and plane of `result` against `reference` put through the filters, by ffmpeg."""
    graph = f"[1:v]{filters}[expected];[0:v][expected]psnr=stats_file=-"
    command = ["ffmpeg", "-v", "error", "-i", result, "-i", reference, "-lavfi", graph, "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    frames = [dict(re.findall(r"psnr_([a-z]+):(\S+)", line)) for line in done.stdout.splitlines()]
    return [{plane: float(value) for plane, value in frame.items()} for frame in frames]


def assert_like_zimg(source: Path, result: Path, scale: int, siting: str | None) -> None:
    sited = f":chromalin={siting}:chromal={siting}" if siting else ""
    frames = psnr_by_plane(result, source, f"zscale=w={62 * scale}:h={46 * scale}:{BICUBIC}{sited}")
    assert len(frames) == 7
    for number, planes in enumerate(frames):
        assert all(value > 60 for value in planes.values()), (number, planes)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "gray", "yuv420p10le", "yuv422p10le"])
def test_bicubic_equals_zimg_in_every_plane_and_frame(pix_fmt: str, scale: int, clip: Clip, tmp_path: Path) -> None:
    """Frames that are lost, repeated or swapped, chroma half a sample off, or a wrong range all show here."""
    source = clip("a.mkv", codec="ffv1", size=(62, 46), frames=7, pix_fmt=pix_fmt)
    result = tmp_path / "out.mkv"
    vsr.upscale(source, result, scale=scale, model="bicubic", encoder="ffv1")
    assert_like_zimg(source, result, scale, "left" if pix_fmt.startswith("yuv42") else None)


@pytest.mark.parametrize("siting", ["left", "center", "topleft"])
def test_chroma_stays_where_it_is_sited(siting: str, clip: Clip, tmp_path: Path) -> None:
    options = {"qp": "0", "preset": "ultrafast", "chroma_sample_location": siting}
    source = clip("a.mkv", size=(62, 46), frames=7, options=options)
    assert probe(source).video["chroma_location"] == siting
    vsr.upscale(source, tmp_path / "exact.mkv", scale=2, model="bicubic", encoder="ffv1")
    assert_like_zimg(source, tmp_path / "exact.mkv", 2, siting)
    vsr.upscale(source, tmp_path / "tagged.mkv", scale=2, model="bicubic", encoder="x264")
    assert probe(tmp_path / "tagged.mkv").video["chroma_location"] == siting


@pytest.mark.parametrize("model", ["espcn", "fsrcnn"])
def test_networks_bring_back_more_than_bicubic(model: str, samples: Path, tmp_path: Path) -> None:
    """A sample, made a third as large: what the network makes of it is nearer to the original than bicubic's."""
    original, small = tmp_path / "original.mkv", tmp_path / "small.mkv"
    ffmpeg("-i", samples / "clip.mp4", "-frames:v", "4", "-an", "-sn", "-c:v", "ffv1", original)
    ffmpeg("-i", original, "-vf", f"zscale=w=160:h=90:{BICUBIC}", "-c:v", "ffv1", small)
    score = {}
    for name in ("bicubic", model):
        vsr.upscale(small, tmp_path / f"{name}.mkv", scale=3, model=name, encoder="ffv1")
        frames = psnr_by_plane(tmp_path / f"{name}.mkv", original, "null")
        score[name] = sum(frame["y"] for frame in frames) / len(frames)
    assert score[model] > score["bicubic"] + 0.2, score


def test_backends_agree_through_the_whole_pipeline(clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mkv", codec="ffv1", size=(62, 46), frames=3)
    for name in ("openvino", "torch"):
        vsr.upscale(
            source, tmp_path / f"{name}.mkv", scale=3, model="espcn", backend=name, precision="fp32", encoder="ffv1"
        )
    for planes in psnr_by_plane(tmp_path / "torch.mkv", tmp_path / "openvino.mkv", "null"):
        assert all(value > 60 for value in planes.values()), planes


def test_a_lossless_encoder_keeps_the_extremes(tmp_path: Path) -> None:
    """Footroom and headroom are kept: black stays 16 or below, white 235 or above, as coded."""
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", size=(32, 32), frames=2, pix_fmt="gray")
    full = tmp_path / "full.mkv"
    levels = "geq=lum='if(lt(X,16),2,253)'"
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, "-vf", levels, "-c:v", "ffv1", full], check=True, timeout=60)
    vsr.upscale(full, tmp_path / "out.mkv", scale=2, model="bicubic", encoder="ffv1")
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", tmp_path / "out.mkv", "-f", "rawvideo", "-"], capture_output=True, check=True
    ).stdout
    first_line = raw[:64]
    assert set(first_line[:24]) == {2}
    assert set(first_line[40:]) == {253}
