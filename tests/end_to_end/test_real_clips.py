"""The same promises on real clips, from the folder named by VSR_TEST_DATA."""

from __future__ import annotations

from pathlib import Path

import pytest

import vsr
from tests.clips import ffmpeg, frame_count, probe
from tests.end_to_end.test_containers import assert_same_sound, assert_same_times

CONTAINERS = (
    "androidx_internal_emulator_transformer_output.mp4",
    "mdn_flower.mp4",
    "udacity_vehicle_test_video_1280x720.mp4",
    "netflix_park_joy_420_720p50_frm0to9_480x270.y4m",
)
RAW = "openh264_VID_1280x720_cavlc_temporal_direct.264"


def assert_kept(source: Path, result: Path, scale: int) -> None:
    report = vsr.upscale(source, result, scale=scale, model="bicubic", encoder="x264", preset="ultrafast")
    width, height = probe(source).size
    assert probe(result).size == (width * scale, height * scale)
    assert report.frames_in == report.frames_out == frame_count(result) == frame_count(source)


@pytest.mark.parametrize("name", CONTAINERS)
def test_real_clips_at_two(name: str, test_data: Path, tmp_path: Path) -> None:
    source = test_data / "video" / "dev" / name
    result = tmp_path / f"out{source.suffix}".replace(".y4m", ".mkv")
    assert_kept(source, result, 2)
    assert_same_times(source, result)
    assert_same_sound(source, result)


@pytest.mark.parametrize("name", CONTAINERS[2:])
def test_real_clips_at_three(name: str, test_data: Path, tmp_path: Path) -> None:
    """The first 0.8 seconds of each, copied without encoding, since large pictures take long."""
    source = whole = test_data / "video" / "dev" / name
    if whole.suffix != ".y4m":  # that one has ten frames
        source = tmp_path / f"in{whole.suffix}"
        ffmpeg("-i", whole, "-t", "0.8", "-map", "0", "-c", "copy", source)
    result = tmp_path / f"out{source.suffix}".replace(".y4m", ".mkv")
    assert_kept(source, result, 3)
    assert_same_times(source, result)
    assert_same_sound(source, result)


def test_a_raw_stream_without_time_stamps(test_data: Path, tmp_path: Path) -> None:
    whole = test_data / "video" / "dev" / RAW
    source = tmp_path / "in.264"
    ffmpeg("-i", whole, "-frames:v", "60", "-c", "copy", "-f", "h264", source)
    result = tmp_path / "out.mp4"
    assert_kept(source, result, 2)
