"""What users of interlaced footage are promised: deinterlaced unless asked otherwise, never silently, sound in step."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import vsr
from tests.clips import ffmpeg, ffprobe, frame_count, probe, video_tick, video_times
from tests.end_to_end.command import upscaled
from tests.end_to_end.command import vsr as run
from tests.faults.damage import spoil_packets
from tests.interlaced import make_interlaced, make_mixed
from vsr.comparison.compare import compare
from vsr.trim import Trim


def with_sound(path: Path, codec: str, **arguments: Any) -> Path:
    pictures = make_interlaced(path.with_stem("pictures"), codec, **arguments)
    sound = ("-f", "lavfi", "-i", "sine=r=48000:d=0.4")
    ffmpeg("-i", pictures, *sound, "-map", "0", "-map", "1", "-c:v", "copy", "-c:a", "mp2", path)
    return path


@pytest.mark.parametrize(
    ("source", "codec", "suffix"), [("in.ts", "mpeg2", ".mkv"), ("in.ts", "mpeg2", ".ts"), ("in.mkv", "h264", ".mp4")]
)
@pytest.mark.parametrize("field_rate", [False, True])
def test_output_is_proved_against_its_input(
    source: str, codec: str, suffix: str, field_rate: bool, tmp_path: Path
) -> None:
    path, output = with_sound(tmp_path / source, codec, rate="30000/1001"), tmp_path / f"out{suffix}"
    report = vsr.upscale(path, output, scale=2, model="bicubic", field_rate=field_rate)
    assert (report.frames_in, report.frames_deinterlaced) == (8, 8)
    assert report.frames_out == frame_count(output) == (16 if field_rate else 8)
    result = compare(path, output, field_rate=field_rate, allow_dropped=suffix == ".ts")
    assert result.ok, result.differences
    before, after = video_times(path), video_times(output)
    tick = video_tick(output)
    assert [abs(a - b) <= tick / 2 for a, b in zip(before, after[:: 2 if field_rate else 1], strict=True)] == [True] * 8
    entries = ("-select_streams", "v", "-show_frames", "-show_entries", "frame=interlaced_frame:stream=field_order")
    answer = ffprobe(output, *entries)
    assert {frame["interlaced_frame"] for frame in answer["frames"]} == {0}
    assert answer["streams"][0]["field_order"] == "progressive"
    rate = Fraction(60000 if field_rate else 30000, 1001)
    assert Fraction(probe(output).video["r_frame_rate"]) == pytest.approx(rate, rel=1e-2)


def test_an_output_at_field_rate_is_proved_only_if_that_is_said(tmp_path: Path) -> None:
    source, output = make_interlaced(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    vsr.upscale(source, output, scale=2, model="bicubic", field_rate=True)
    assert run("verify", source, output, "--field-rate").code == 0
    assert run("verify", source, output).code == 1
    single = tmp_path / "single.mkv"
    vsr.upscale(source, single, scale=2, model="bicubic")
    assert "second fields" in [check.name for check in compare(source, single, field_rate=True).differences]
    missing = tmp_path / "missing.mkv"
    ffmpeg("-i", output, "-vf", "select=not(eq(n\\,7))", "-vsync", "0", "-c:v", "ffv1", missing)
    assert not compare(source, missing, field_rate=True).ok


def test_what_is_not_deinterlaced_is_said(tmp_path: Path) -> None:
    source, output = make_interlaced(tmp_path / "in.mkv", order="bff"), tmp_path / "out.mkv"
    done = upscaled(source, "-s", "2", "--model", "bicubic", "-o", output, "--deinterlace", "off")
    assert "the video is interlaced (bottom field first) and is upscaled as if it were progressive" in done.notes
    assert ffprobe(output, "-show_streams")["streams"][0]["field_order"] == "progressive"
    report = vsr.upscale(source, tmp_path / "auto.mkv", scale=2, model="bicubic")
    assert report.notes == ["the video is deinterlaced by bwdif (bottom field first), one picture of each"]
    late = make_mixed(tmp_path / "late.ts", progressive=range(8))
    report = vsr.upscale(late, tmp_path / "late.mkv", scale=2, model="bicubic", deinterlace="off")
    assert report.notes == ["4 frames are interlaced, and were upscaled as if they were progressive"]
    report = vsr.upscale(late, tmp_path / "mixed.mkv", scale=2, model="bicubic", field_rate=True)
    assert (report.frames_in, report.frames_out, report.frames_deinterlaced) == (12, 16, 4)
    assert compare(late, tmp_path / "mixed.mkv", field_rate=True).ok


@pytest.mark.parametrize("lost", [3, 7])
def test_a_lost_picture_is_replaced_by_as_many_as_it_would_have_become(lost: int, tmp_path: Path) -> None:
    source = spoil_packets(make_interlaced(tmp_path / "whole.mkv", "prores", pix_fmt="yuv422p10le"),
                           tmp_path / "in.mkv", {lost})  # fmt: skip
    output = tmp_path / "out.mkv"
    report = vsr.upscale(source, output, scale=2, model="bicubic", field_rate=True)
    assert (report.frames_in, report.frames_repeated, report.frames_out) == (8, 1, 16)
    assert video_times(output) == [Fraction(n, 50) for n in range(16)]


def test_a_part_is_deinterlaced_without_what_is_around_it(tmp_path: Path) -> None:
    source, output = make_interlaced(tmp_path / "in.ts", "mpeg2", frames=12), tmp_path / "out.mkv"
    report = vsr.upscale(source, output, scale=2, model="bicubic", field_rate=True, start="0.12", frames=4)
    assert (report.frames_in, report.frames_deinterlaced, report.frames_out) == (4, 4, 8)
    assert [b - a for a, b in itertools.pairwise(video_times(output))] == [Fraction(1, 50)] * 7
    assert compare(source, output, trim=Trim.parse(start="0.12", frames=4), field_rate=True).ok


@pytest.mark.parametrize(("end", "fields"), [("0.13", 7), ("0.15", 8)])
def test_a_field_belongs_to_a_part_if_it_is_shown_before_its_end(end: str, fields: int, tmp_path: Path) -> None:
    source, output = make_interlaced(tmp_path / "in.mkv", frames=6), tmp_path / "out.mkv"
    report = vsr.upscale(source, output, scale=2, model="bicubic", field_rate=True, end=end)
    assert (report.frames_in, report.frames_out) == (4, fields)
    assert video_times(output) == [Fraction(n, 50) for n in range(fields)]
    trim = Trim.parse(end=end)
    assert compare(source, output, trim=trim, field_rate=True).ok
    other = tmp_path / "other.mkv"
    vsr.upscale(source, other, scale=2, model="bicubic", field_rate=True, end="0.15" if fields == 7 else "0.13")
    assert not compare(source, other, trim=trim, field_rate=True).ok


def test_a_sequence_is_deinterlaced_when_its_field_order_is_told(tmp_path: Path) -> None:
    source = make_interlaced(tmp_path / "in.mkv", frames=5)
    ffmpeg("-i", source, tmp_path / "f_%03d.png")
    report = vsr.upscale(tmp_path / "f_%03d.png", tmp_path / "o.mkv", 2, model="bicubic", field_order="tff")
    assert (report.frames_in, report.frames_deinterlaced) == (5, 5)
    assert "every picture is deinterlaced by bwdif (top field first), one picture of each" in report.notes


def test_info_tells_the_field_order(tmp_path: Path) -> None:
    source = make_interlaced(tmp_path / "in.mkv", order="bff", frames=2)
    assert run("info", "--json", source).json["streams"][0]["field_order"] == "bottom field first"


def test_field_options_that_contradict_each_other_are_wrong_usage(tmp_path: Path) -> None:
    source = make_interlaced(tmp_path / "in.mkv", frames=2)
    done = run("upscale", source, "-o", tmp_path / "o.mkv", "--deinterlace", "off", "--field-rate")
    assert (done.code, "deinterlacing is off" in done.err) == (2, True)
