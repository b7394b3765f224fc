"""Files as other programs write them, made with the ffmpeg command."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

import vsr
from tests.clips import ffmpeg, frame_count, packets, probe, video_tick, video_times
from tests.end_to_end.test_containers import assert_same_sound, assert_same_times

PICTURES = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1")
SOUND = ("-f", "lavfi", "-i", "sine=d=1")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def upscale(source: Path, **options: Any) -> Path:
    """The result beside the source, in its container if that is one that is written."""
    written = {".mp4", ".mov", ".mkv", ".webm", ".ts"}
    result = source.with_name(f"out{source.suffix if source.suffix in written else '.mkv'}")
    report = vsr.upscale(source, result, scale=2, model="bicubic", **options)
    assert report.frames_out == frame_count(result) == frame_count(source)
    width, height = probe(source).size
    assert probe(result).size == (2 * width, 2 * height)
    return result


def assert_regular(result: Path, step: Fraction) -> None:
    """Frames follow one another at the same distance, to the tick of the container."""
    times = video_times(result)
    tick = video_tick(result)
    assert all(abs(time - times[0] - index * step) <= tick for index, time in enumerate(times))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.flv", ("-c:v", "flv", "-c:a", "libmp3lame", "-ar", "44100")),
        ("a.ogv", ("-c:v", "libtheora", "-c:a", "libvorbis")),
        ("a.3gp", ("-c:v", "h263", "-s", "176x144", "-c:a", "aac")),
        ("a.m2ts", (*H264, "-bf", "2", "-c:a", "ac3")),
        ("a.mxf", ("-c:v", "mpeg2video", "-c:a", "pcm_s16le", "-ar", "48000")),
        ("a.nut", ("-c:v", "ffv1", "-c:a", "flac")),
    ],
)
def test_other_containers_are_read(name: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    source = tmp_path / name
    ffmpeg(*PICTURES, *SOUND, *arguments, source)
    result = upscale(source)
    assert_same_times(source, result)
    assert len(probe(result).of_type("audio")) == 1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.h264", (*H264, "-bf", "2")),
        ("a.m2v", ("-c:v", "mpeg2video", "-bf", "2")),
        ("a.mjpeg", ("-c:v", "mjpeg")),
        ("a.mpg", ("-c:v", "mpeg1video", "-bf", "2", "-f", "mpeg")),
        ("a.avi", (*H264, "-bf", "2")),
        ("a.avi", ("-c:v", "mpeg4", "-bf", "2")),
        ("a.y4m", ("-pix_fmt", "yuv420p")),
    ],
)
def test_frames_of_files_without_time_stamps_are_regular(name: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    source = tmp_path / name
    ffmpeg(*PICTURES, *arguments, source)
    assert_regular(upscale(source), Fraction(1, 25))


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.gif", "gif", "bgr8"),
        ("a.avi", "rawvideo", "pal8"),
        ("a.avi", "rawvideo", "yuyv422"),
        ("a.nut", "rawvideo", "monow"),
        ("a.nut", "rawvideo", "yuv411p"),
        ("a.mkv", "rawvideo", "nv12"),
        ("a.mkv", "ffv1", "yuva444p"),
        ("a.mkv", "ffv1", "yuva420p"),
        ("a.mkv", "ffv1", "gbrp10le"),
        ("a.mkv", "ffv1", "gray10le"),
        ("a.mkv", "ffv1", "yuv420p16le"),
        ("a.mkv", "ffv1", "yuv440p"),
        ("a.mov", "png", "rgb24"),
        ("a.mov", "png", "rgb48be"),
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("a.mov", "qtrle", "argb"),
        ("a.avi", "dvvideo", "yuv420p"),
        ("a.avi", "huffyuv", "rgb24"),
        ("a.avi", "utvideo", "yuv422p"),
    ],
)
def test_pixel_formats_of_all_kinds_are_taken(name: str, codec: str, pix_fmt: str, tmp_path: Path) -> None:
    source = tmp_path / name
    size = ("-s", "720x576") if codec == "dvvideo" else ()
    ffmpeg(*PICTURES, *size, "-frames:v", "4", "-c:v", codec, "-pix_fmt", pix_fmt, source)
    upscale(source)


def test_rotation_of_phone_videos_is_carried(tmp_path: Path) -> None:
    upright, source = tmp_path / "upright.mp4", tmp_path / "in.mp4"
    ffmpeg(*PICTURES, *H264, upright)
    ffmpeg("-i", upright, "-c", "copy", "-metadata:s:v", "rotate=90", source)
    rotation = [side["rotation"] for side in probe(source).video["side_data_list"]]
    assert rotation[0] in {90, -90}
    assert [side["rotation"] for side in probe(upscale(source)).video["side_data_list"]] == rotation


def test_tracks_keep_their_order_languages_and_flags(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    tags = ("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu", "-metadata:s:a:1", "title=Ton")
    flags = ("-disposition:a:0", "0", "-disposition:a:1", "default+hearing_impaired")
    mapped = ("-map", "1", "-map", "0", "-map", "2")
    ffmpeg(*PICTURES, *SOUND, *SOUND, *mapped, *H264, "-c:a", "flac", *tags, *flags, source)
    result = upscale(source)
    assert_same_sound(source, result)
    for before, after in zip(probe(source).streams, probe(result).streams, strict=True):
        assert after["codec_type"] == before["codec_type"]
        assert after["disposition"] == before["disposition"]
        for key in ("language", "title"):
            assert after.get("tags", {}).get(key) == before.get("tags", {}).get(key)


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_cover_art_is_carried_and_not_upscaled(extension: str, tmp_path: Path) -> None:
    cover, source = tmp_path / "cover.png", tmp_path / f"in.{extension}"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=32x32:d=1", "-frames:v", "1", cover)
    if extension == "mp4":
        mapped = ("-i", cover, "-map", "0", "-map", "1", "-c:v:1", "copy", "-disposition:v:1", "attached_pic")
    else:
        mapped = ("-attach", cover, "-metadata:s:t", "mimetype=image/png", "-metadata:s:t", "filename=cover.png")
    ffmpeg(*PICTURES, *mapped, "-c:v:0", *H264[1:], source)
    result = upscale(source)
    before, after = probe(source).streams[1], probe(result).streams[1]
    assert (after["width"], after["height"]) == (before["width"], before["height"]) == (32, 32)
    assert after["disposition"]["attached_pic"] == 1


def test_an_edit_list_from_a_cut_is_respected(tmp_path: Path) -> None:
    whole, source = tmp_path / "whole.mp4", tmp_path / "in.mp4"
    ffmpeg(*PICTURES, *SOUND, *H264, "-bf", "2", "-g", "10", "-c:a", "aac", whole)
    ffmpeg("-ss", "0.53", "-i", whole, "-c", "copy", source)
    result = upscale(source)
    assert_same_times(source, result)
    assert_same_sound(source, result)


def test_a_transport_stream_whose_clock_wraps_around_is_kept_in_order(tmp_path: Path) -> None:
    """The 33-bit clock starts again at zero after 26.5 hours: here in the middle of the clip."""
    source = tmp_path / "in.ts"
    offset = ("-output_ts_offset", "95443.2", "-muxdelay", "0", "-muxpreload", "0")
    ffmpeg(*PICTURES, *H264, "-bf", "2", *offset, source)
    assert_regular(upscale(source), Fraction(1, 25))


@pytest.mark.parametrize("codec", ["ass", "subrip", "webvtt"])
def test_subtitle_codecs_of_matroska_are_copied(codec: str, tmp_path: Path) -> None:
    """One line lies within the clip, one starts after its end."""
    lines, source = tmp_path / "lines.srt", tmp_path / "in.mkv"
    lines.write_text("1\n00:00:00,100 --> 00:00:00,600\nhi\n\n2\n00:00:05,000 --> 00:00:09,000\nlate\n")
    ffmpeg(*PICTURES, "-i", lines, "-map", "0", "-map", "1", *H264, "-c:s", codec, source)
    result = upscale(source)
    assert probe(result).of_type("subtitle")[0]["codec_name"] == codec
    assert packets(result, "s:0") == packets(source, "s:0")


def test_tags_that_only_phones_write_are_kept_in_mp4(tmp_path: Path) -> None:
    source = tmp_path / "phone.mp4"
    tags = ("-metadata", "com.android.version=13", "-metadata", "title=Walk")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.2", "-movflags", "use_metadata_tags", *tags, source)
    vsr.upscale(source, tmp_path / "out.mp4", 2, model="bicubic")
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.metadata["com.android.version"] == "13"
        assert file.metadata["title"] == "Walk"
