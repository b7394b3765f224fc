"""The sample clips: what README and scripts/demo show must work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vsr
from tests.clips import frame_count, packets, probe
from tests.end_to_end.test_containers import assert_same_sound, assert_same_times


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip10.mkv"])
def test_samples_keep_frames_times_sound_and_subtitles(name: str, samples: Path, tmp_path: Path) -> None:
    source, result = samples / name, tmp_path / name
    report = vsr.upscale(source, result, scale=2, model="bicubic", preset="ultrafast", encoder="x264")
    assert report.frames_out == frame_count(source)
    assert probe(result).size == (960, 540)
    assert_same_times(source, result)
    assert_same_sound(source, result)
    if probe(source).of_type("subtitle"):
        assert packets(result, "s:0") == packets(source, "s:0")


def test_ten_bits_stay_ten_bits(samples: Path, tmp_path: Path) -> None:
    vsr.upscale(samples / "clip10.mkv", tmp_path / "out.mkv", scale=2, model="bicubic", encoder="x264")
    assert probe(tmp_path / "out.mkv").video["pix_fmt"] == "yuv420p10le"


def test_the_samples_are_small_and_come_from_the_script(samples: Path, tmp_path: Path) -> None:
    """The script draws them anew, of the same length and nearly the same size (library versions differ)."""
    assert sum(p.stat().st_size for p in samples.iterdir()) < 2_000_000
    subprocess.run([sys.executable, samples / "make_samples.py", tmp_path], check=True, capture_output=True)
    for name in ("clip.mp4", "clip.mkv", "clip10.mkv"):
        assert frame_count(tmp_path / name) == frame_count(samples / name)
        assert (tmp_path / name).stat().st_size == pytest.approx((samples / name).stat().st_size, rel=0.1)
    assert (tmp_path / "still.png").exists()
