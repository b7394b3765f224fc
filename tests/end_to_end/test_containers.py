"""What goes in comes out: frames, times, sound and tags, for many containers and codecs."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import vsr
from tests.clips import ffmpeg, ffprobe, frame_count, packets, payload, probe, video_tick, video_times
from vsr.comparison.compare import compare

Clip = Callable[..., Path]
NTSC = Fraction(30000, 1001)

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4 h264": ("a.mp4", {}),
    "mp4 h264 B-frames aac": ("a.mp4", {"bframes": 3, "audio": "aac"}),
    "mp4 h264 B-frames VFR aac": ("a.mp4", {"bframes": 3, "audio": "aac", "vfr": True}),
    "mp4 h264 29.97": ("a.mp4", {"bframes": 2, "rate": NTSC, "audio": "aac"}),
    "mp4 hevc B-frames aac": ("a.mp4", {"codec": "libx265", "size": (96, 64), "bframes": 2, "audio": "aac"}),
    "mp4 av1": ("a.mp4", {"codec": "libsvtav1"}),
    "mp4 mpeg4 mp3": ("a.mp4", {"codec": "mpeg4", "bframes": 1, "audio": "libmp3lame"}),
    "mp4 video starts late": ("a.mp4", {"bframes": 2, "start_offset": Fraction(1, 2), "audio": "aac"}),
    "mp4 audio starts late": ("a.mp4", {"bframes": 2, "audio_offset": Fraction(1, 3), "audio": "aac"}),
    "mp4 faststart": ("a.mp4", {"audio": "aac", "container_options": {"movflags": "faststart"}}),
    "mp4 fragmented": (
        "a.mp4",
        {"audio": "aac", "bframes": 2, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    ),
    "mov prores pcm": ("a.mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "audio": "pcm_s16le"}),
    "mov h264 aac": ("a.mov", {"bframes": 2, "audio": "aac"}),
    "mkv h264 VFR opus": ("a.mkv", {"bframes": 3, "vfr": True, "audio": "libopus"}),
    "mkv h264 29.97": ("a.mkv", {"bframes": 2, "rate": NTSC}),
    "mkv starts at 5 s": ("a.mkv", {"bframes": 2, "start_offset": 5, "audio_offset": 5, "audio": "aac"}),
    "mkv hevc 10 bits": (
        "a.mkv",
        {"codec": "libx265", "pix_fmt": "yuv420p10le", "size": (96, 64), "bframes": 2},
    ),
    "mkv h264 4:4:4": ("a.mkv", {"pix_fmt": "yuv444p"}),
    "mkv h264 4:2:2 flac": ("a.mkv", {"pix_fmt": "yuv422p", "audio": "flac"}),
    "mkv grey": ("a.mkv", {"pix_fmt": "gray"}),
    "mkv ffv1 flac": ("a.mkv", {"codec": "ffv1", "audio": "flac"}),
    "mkv ffv1 RGB": ("a.mkv", {"codec": "ffv1", "pix_fmt": "bgr0"}),
    "mkv mpeg4 mp3": ("a.mkv", {"codec": "mpeg4", "bframes": 2, "audio": "libmp3lame"}),
    "mkv mpeg2 ac3": ("a.mkv", {"codec": "mpeg2video", "bframes": 2, "audio": "ac3"}),
    "mkv mjpeg pcm": ("a.mkv", {"codec": "mjpeg", "pix_fmt": "yuvj422p", "audio": "pcm_s16le"}),
    "mkv raw video": ("a.mkv", {"codec": "rawvideo"}),
    "webm vp9 opus": ("a.webm", {"codec": "libvpx-vp9", "audio": "libopus"}),
    "webm vp9 VFR": ("a.webm", {"codec": "libvpx-vp9", "vfr": True}),
    "ts h264 B-frames aac": ("a.ts", {"bframes": 3, "audio": "aac"}),
    "ts mpeg2 mp2": ("a.ts", {"codec": "mpeg2video", "bframes": 2, "audio": "mp2"}),
    "ts starts late": ("a.ts", {"bframes": 2, "start_offset": 10, "audio_offset": 10, "audio": "aac"}),
    "avi mjpeg pcm": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "audio": "pcm_s16le"}),
    "avi mpeg4 mp3": ("a.avi", {"codec": "mpeg4", "audio": "libmp3lame"}),
    "one frame": ("a.mp4", {"frames": 1}),
    "two frames": ("a.mkv", {"frames": 2, "bframes": 2}),
}


@pytest.fixture(params=CASES)
def source(request: pytest.FixtureRequest, clip: Clip) -> Path:
    name, arguments = CASES[request.param]
    return clip(name, **arguments)


def assert_same_times(source: Path, result: Path) -> None:
    """Every frame is shown when it was, to the nearest tick of the output container, with no shift."""
    tick = video_tick(result)
    before, after = video_times(source), video_times(result)
    assert len(after) == len(before)
    assert after == sorted(set(after))
    wrong = [(old, new) for old, new in zip(before, after, strict=True) if abs(old - new) > tick / 2]
    assert not wrong, f"tick {tick}: {wrong[:3]}"


def assert_same_sound(source: Path, result: Path) -> None:
    """Every audio track has the same packets at the same times."""
    before, after = probe(source).of_type("audio"), probe(result).of_type("audio")
    assert [s["codec_name"] for s in after] == [s["codec_name"] for s in before]
    for index, stream in enumerate(before):
        if stream["codec_name"].startswith("pcm"):
            assert payload(result) == payload(source)
            continue
        old, new = packets(source, f"a:{index}"), packets(result, f"a:{index}")
        assert [digest for _, digest in new] == [digest for _, digest in old]
        tick = max(Fraction(s["time_base"]) for s in (stream, after[index]))
        late = [(a, b) for (a, _), (b, _) in zip(old, new, strict=True) if abs(a - b) > tick]
        assert not late, f"tick {tick}: {late[:3]}"


def test_frames_times_size_and_sound_are_kept(source: Path, tmp_path: Path) -> None:
    result = tmp_path / f"out{source.suffix}".replace(".avi", ".mkv")  # AVI cannot keep times: it is not written
    report = vsr.upscale(source, result, scale=2, model="bicubic")
    width, height = probe(source).size
    assert probe(result).size == (2 * width, 2 * height)
    assert report.frames_in == report.frames_out == frame_count(result) == frame_count(source)
    assert_same_times(source, result)
    assert_same_sound(source, result)
    assert sorted(p.name for p in tmp_path.iterdir()) == [result.name]


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "ts"])
@pytest.mark.parametrize(
    "origin", ["mp4 video starts late", "mkv h264 VFR opus", "ts h264 B-frames aac", "avi mpeg4 mp3"]
)
def test_times_survive_a_change_of_container(origin: str, container: str, clip: Clip, tmp_path: Path) -> None:
    name, arguments = CASES[origin]
    source = clip(name, **{**arguments, "audio": None})
    result = tmp_path / f"out.{container}"
    vsr.upscale(source, result, scale=2, model="bicubic")
    assert_same_times(source, result)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_size_is_exactly_the_scale_times_the_input(scale: int, clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mkv", size=(46, 34), frames=4)
    result = tmp_path / "out.mkv"
    vsr.upscale(source, result, scale=scale, model="bicubic")
    assert probe(result).size == (46 * scale, 34 * scale)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(
    "tags",
    [
        pytest.param({"color_range": 1, "colorspace": 1, "color_primaries": 1, "color_trc": 1}, id="bt709"),
        pytest.param({"color_range": 1, "colorspace": 5, "color_primaries": 5, "color_trc": 6}, id="bt601-625"),
        pytest.param({"color_range": 2, "colorspace": 6, "color_primaries": 6, "color_trc": 6}, id="full-range"),
        pytest.param({}, id="unspecified"),
    ],
)
def test_colour_tags_are_carried_and_the_unspecified_stay_so(
    name: str, tags: dict[str, int], clip: Clip, tmp_path: Path
) -> None:
    source = clip(name, video_tags=tags, frames=3)
    result = tmp_path / f"out{source.suffix}"
    vsr.upscale(source, result, scale=2, model="bicubic")
    keys = ("color_range", "color_space", "color_primaries", "color_transfer")
    before, after = probe(source).video, probe(result).video
    assert {key: after.get(key) for key in keys} == {key: before.get(key) for key in keys}


def test_sample_aspect_ratio_is_carried(clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mkv", video_tags={"sample_aspect_ratio": Fraction(16, 11)}, frames=3)
    assert probe(source).video["sample_aspect_ratio"] == "16:11"
    result = tmp_path / "out.mkv"
    vsr.upscale(source, result, scale=2, model="bicubic")
    assert probe(result).video["sample_aspect_ratio"] == "16:11"


def test_everything_else_in_a_matroska_file_is_carried(clip: Clip, tmp_path: Path) -> None:
    font = bytes(range(256)) * 8
    source = clip(
        "a.mkv",
        audio="libopus",
        subtitles="subrip",
        chapters=True,
        attachment=font,
        metadata={"title": "A title", "artist": "Someone"},
    )
    result = tmp_path / "out.mkv"
    vsr.upscale(source, result, scale=2, model="bicubic")
    before, after = probe(source), probe(result)
    assert [s["codec_type"] for s in after.streams] == [s["codec_type"] for s in before.streams]
    assert packets(result, "s:0") == packets(source, "s:0")
    assert after.of_type("subtitle")[0]["tags"]["language"] == "eng"
    wanted = ("start_time", "end_time", "tags")
    assert [{k: c[k] for k in wanted} for c in after.chapters] == [{k: c[k] for k in wanted} for c in before.chapters]
    assert after.format["tags"]["title"] == "A title"
    assert after.format["tags"]["ARTIST"] == "Someone"
    attachment = after.of_type("attachment")[0]
    assert attachment["tags"]["filename"] == "font.ttf"
    assert attachment["extradata_size"] == len(font)


def test_mp4_subtitles_and_language_tags_are_carried(clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mp4", audio="aac", subtitles="mov_text", chapters=True, metadata={"title": "A title"})
    result = tmp_path / "out.mp4"
    vsr.upscale(source, result, scale=2, model="bicubic")
    assert packets(result, "s:0") == packets(source, "s:0")
    after = probe(result)
    assert after.of_type("subtitle")[0]["tags"]["language"] == "eng"
    assert [c["tags"]["title"] for c in after.chapters] == ["One", "Two"]
    assert after.format["tags"]["title"] == "A title"


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_phone_clip_of_uneven_times_and_a_place_is_proved_against_its_input(suffix: str, tmp_path: Path) -> None:
    """Pictures out of order and at uneven times have each other's durations in MOV, after a remux the last one too."""
    encoded, source, output = tmp_path / "encoded.mov", tmp_path / "in.mov", tmp_path / f"out{suffix}"
    uneven = "settb=1/600,setpts='N*20+7*mod(N*N,3)'"
    times = ("-vf", uneven, "-vsync", "passthrough", "-enc_time_base", "1/600", "-video_track_timescale", "600")
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=r=30:s=96x64", "-frames:v", "30", *times, "-c:v", "libx264", "-bf", "2", encoded
    )
    ffmpeg("-i", encoded, "-c", "copy", "-metadata", "location=+48.1+011.57549/", source)
    vsr.upscale(source, output, scale=2, model="bicubic")
    result = compare(source, output)
    assert not [check for check in result.checks if not check.ok]
    spans = [float(p["duration_time"]) for p in ffprobe(source, "-show_packets", "-select_streams", "v")["packets"]]
    assert min(spans) < 0.01  # or it would be a tame clip
