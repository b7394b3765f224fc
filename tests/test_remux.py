"""The remux: what is copied is copied bit by bit, and what cannot be is told before the work starts."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.clips import ffmpeg, make_clip, packets, probe
from vsr.comparison.compare import compare
from vsr.errors import ContainerError
from vsr.job import upscale
from vsr.remux import Remux
from vsr.writing.containers import MATROSKA, MOV, MP4, TS, WEBM, Container

Clip = Callable[..., Path]
MILLISECOND_BYTES = 48 * 2 * 2
QUICK: dict[str, Any] = {"scale": 2, "model": "bicubic", "threads": 1, "preset": "ultrafast"}


def decoded_sound(path: Path) -> bytes:
    """The samples that a player would play, in 16 bits stereo: priming, padding and edit lists respected."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-map", "0:a:0", "-ac", "2", "-f", "s16le", "-"]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout


def with_sound(folder: Path, video: Path, suffix: str, codec: str, *more: str) -> Path:
    path = folder / f"in{suffix}"
    tone = "sine=f=440:d=0.5,aformat=channel_layouts=stereo:sample_rates=48000"
    ffmpeg(
        "-i", video, "-f", "lavfi", "-i", tone, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", codec, *more, path
    )
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "result"),
    [
        (".mp4", "aac", ".mp4"),
        (".mp4", "aac", ".mkv"),
        (".mkv", "aac", ".mp4"),
        (".mkv", "libopus", ".mp4"),
        (".mkv", "flac", ".mp4"),
        (".mkv", "ac3", ".mp4"),
        (".mov", "pcm_s16le", ".mkv"),
        (".ts", "aac", ".ts"),
        (".ts", "mp2", ".mkv"),
    ],
)
def test_sound_is_copied_packet_by_packet_and_plays_the_same(
    suffix: str, codec: str, result: str, clip: Clip, tmp_path: Path
) -> None:
    source = with_sound(tmp_path, clip("v.mkv", rate=25, frames=12), suffix, codec)
    made = tmp_path / f"out{result}"
    upscale(source, made, **QUICK)
    played, wanted = decoded_sound(made), decoded_sound(source)
    # Containers say in different ways, or not at all, how much of the first and last packet is padding
    assert wanted[MILLISECOND_BYTES:] in played
    assert 0 <= len(played) - len(wanted) + MILLISECOND_BYTES <= 30 * MILLISECOND_BYTES
    before, after = packets(source, "a:0"), packets(made, "a:0")
    if not (codec == "aac" and suffix == ".ts") and codec != "pcm_s16le":  # ADTS headers, and PCM cut differently
        assert [digest for _, digest in after] == [digest for _, digest in before]
    tick = Fraction(1, 1000)
    assert abs(after[0][0] - before[0][0]) <= tick


def test_every_track_keeps_place_language_and_flags(clip: Clip, tmp_path: Path) -> None:
    source, made = tmp_path / "in.mkv", tmp_path / "out.mkv"
    tones = [a for f in (300, 500, 700) for a in ("-f", "lavfi", "-i", f"sine=f={f}:d=0.5")]
    ffmpeg(*tones, "-i", clip("v.mkv", rate=25), "-map", "0", "-map", "3:v", "-map", "1", "-map", "2", "-c:a", "aac",
           "-c:v", "copy", "-metadata:s:a:0", "language=ger", "-metadata:s:a:2", "title=Comment",
           "-disposition:a:1", "default", "-disposition:a:2", "comment", source)  # fmt: skip
    upscale(source, made, **QUICK)
    before, after = probe(source).streams, probe(made).streams
    assert [s["codec_type"] for s in after] == ["audio", "video", "audio", "audio"]
    for one, other in zip(before, after, strict=True):
        assert other["disposition"] == one["disposition"]
        for tag in ("language", "title"):
            assert other.get("tags", {}).get(tag) == one.get("tags", {}).get(tag)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_tracks_that_the_muxer_writes_anew_are_not_called_left_out(suffix: str, tmp_path: Path) -> None:
    source = make_clip(tmp_path / f"in{suffix}", chapters=True, rate=25)
    report = upscale(source, tmp_path / "chapters.mp4", **QUICK)
    assert len(probe(source).streams) == len(probe(tmp_path / "chapters.mp4").streams) == 2
    assert report.notes == []
    timed = tmp_path / f"tmcd{suffix}"
    ffmpeg("-i", source, "-map", "0:v", "-map_chapters", "-1", "-c", "copy", "-timecode", "01:02:03:04", timed)
    report = upscale(timed, tmp_path / "timed.mov", **QUICK)
    tracks = probe(tmp_path / "timed.mov").streams
    assert [(s.get("codec_tag_string"), s["tags"]["timecode"]) for s in tracks[1:]] == [("tmcd", "01:02:03:04")]
    assert report.notes == []
    # A stream that does not come back is still told of.
    untagged = tmp_path / "untagged.mkv"
    assert any("is left out" in note for note in upscale(timed, untagged, **QUICK).notes)


def test_tags_and_chapters_are_copied_and_those_of_the_old_file_itself_are_not(tmp_path: Path) -> None:
    tags = {"title": "A film", "artist": "Somebody", "comment": "grüße"}
    for suffix in (".mkv", ".mp4"):
        source = make_clip(tmp_path / f"in{suffix}", metadata=tags, chapters=True, rate=25)
        made = tmp_path / f"out{suffix}"
        upscale(source, made, **QUICK)
        found = {k.lower(): v for k, v in probe(made).format["tags"].items()}
        assert {k: found.get(k) for k in tags} == tags
        assert [c["tags"]["title"] for c in probe(made).chapters] == ["One", "Two"]
        assert [(c["start_time"], c["end_time"]) for c in probe(made).chapters] == [
            (c["start_time"], c["end_time"]) for c in probe(source).chapters
        ]


def test_attachments_are_copied_byte_by_byte(tmp_path: Path) -> None:
    data = bytes(range(256)) * 11
    source = make_clip(tmp_path / "in.mkv", attachment=data, rate=25)
    upscale(source, tmp_path / "out.mkv", **QUICK)
    with av.open(str(tmp_path / "out.mkv")) as made:
        (found,) = [s for s in made.streams if s.type == "attachment"]
        assert bytes(found.data) == data
        assert found.metadata["filename"] == "font.ttf"
        assert found.metadata["mimetype"] == "application/x-truetype-font"


# -- what cannot be held ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "codec"), [(WEBM, "aac"), (WEBM, "ac3"), (TS, "flac"), (TS, "libvorbis"), (MP4, "wavpack")]
)
def test_sound_that_a_container_cannot_hold_is_named_with_two_ways_out(
    container: Container, codec: str, clip: Clip, tmp_path: Path
) -> None:
    source = with_sound(tmp_path, clip("v.mkv", rate=25), ".mkv", codec, "-t", "0.4")
    with pytest.raises(ContainerError) as caught:
        Remux(source, 0, container)
    assert f"{container.title} cannot hold stream 1 (audio, " in caught.value.message
    assert ".mkv" in str(caught.value.hint)
    assert "--on-unsupported drop" in str(caught.value.hint)
    remux = Remux(source, 0, container, "drop")
    assert [p.copied for p in remux.plans] == [False]
    assert len(remux.notes) == 1
    assert "stream 1 (audio" in remux.notes[0]
    remux.close()


@pytest.mark.parametrize("container", [MP4, MATROSKA])
def test_no_container_is_recommended_that_cannot_hold_it_either(container: Container, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip.flv", rate=25)
    source = with_sound(tmp_path, source, ".flv", "adpcm_swf", "-ar", "22050", "-ac", "1", "-t", "0.4")
    with pytest.raises(ContainerError) as caught:
        Remux(source, 0, container)
    assert caught.value.hint == "leave it out with --on-unsupported drop"


@pytest.mark.parametrize("suffix", [".m2ts", ".mts"])
def test_sound_of_camcorders_is_found_again_in_their_container(suffix: str, clip: Clip, tmp_path: Path) -> None:
    source = with_sound(tmp_path, clip("v.mkv", rate=25), ".m2ts", "pcm_bluray", "-t", "0.4")
    made = tmp_path / f"out{suffix}"
    upscale(source, made, **QUICK)
    with av.open(str(made)) as copy:
        assert [s.codec_context.name for s in copy.streams.audio] == ["pcm_bluray"]
    assert made.read_bytes()[4] == made.read_bytes()[4 + 192] == 0x47


@pytest.mark.parametrize(
    ("source", "target"), [("in.mkv", "out.m2ts"), ("in.m2ts", "out.m2ts"), ("in.m2ts", "out.mkv")]
)
def test_the_ac3_that_a_blu_ray_has_beside_truehd_need_not_be_there(source: str, target: str, tmp_path: Path) -> None:
    """libavformat makes a stream for it wherever there is TrueHD in a Blu-ray's transport stream."""
    pictures = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.4", "-f", "lavfi", "-i", "sine=d=0.4:r=48000")
    blu_ray = ("-mpegts_m2ts_mode", "1") if source.endswith("m2ts") else ()
    sound = ("-c:a", "truehd", "-strict", "-2")
    ffmpeg(*pictures, "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", *sound, *blu_ray, tmp_path / source)
    upscale(tmp_path / source, tmp_path / target, **QUICK)
    comparison = compare(tmp_path / source, tmp_path / target)
    assert [check.name for check in comparison.checks if not check.ok] == []
    assert any("(audio, truehd): packets" in check.name for check in comparison.checks)
    assert [s["codec_name"] for s in probe(tmp_path / target).streams][:2] == ["h264", "truehd"]


def test_matroska_is_no_way_out_of_itself(clip: Clip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", attachment=b"font", rate=25)
    with pytest.raises(ContainerError, match=r"cannot hold stream 1 \(attachment"):
        Remux(source, 0, MP4)
    Remux(source, 0, MATROSKA).close()


@pytest.mark.parametrize("container", [MP4, MOV, MATROSKA, WEBM])
@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "subrip"), (".mp4", "mov_text"), (".mkv", "webvtt")])
def test_text_subtitles_reach_every_container_that_has_text(
    container: Container, suffix: str, codec: str, tmp_path: Path
) -> None:
    source = make_clip(tmp_path / f"in{suffix}", subtitles=codec, rate=25, frames=14)
    result = {MP4: ".mp4", MOV: ".mov", MATROSKA: ".mkv", WEBM: ".webm"}[container]
    made = tmp_path / f"out{result}"
    options = {k: v for k, v in QUICK.items() if k != "preset"} if container is WEBM else QUICK
    upscale(source, made, **options)
    text = tmp_path / "out.srt"
    ffmpeg("-i", made, "-map", "0:s:0", text)
    content = text.read_text()
    assert "first line" in content
    assert "second line" in content
    assert "00:00:00,050 --> 00:00:00,150" in content


# -- order ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def three_tracks(clip: Clip, tmp_path: Path) -> Path:
    path = tmp_path / "in.mkv"
    ffmpeg("-i", clip("v.mkv", rate=25, frames=50), "-f", "lavfi", "-i", "sine=f=300:d=2", "-f", "lavfi", "-i",
           "sine=f=600:d=2", "-map", "0", "-map", "1", "-map", "2", "-c:v", "copy", "-c:a", "aac", path)  # fmt: skip
    return path


def pulled(path: Path, steps: Iterator[Fraction | None]) -> list[list[tuple[int, Fraction]]]:
    remux = Remux(path, 0, MATROSKA)
    with av.open("/dev/null", "w", format="matroska") as output:
        remux.add_streams(output, after_picture=False)
        output.add_stream("ffv1", rate=25)
        remux.add_streams(output, after_picture=True)
        groups = [[(p.stream_index, p.dts * p.time_base) for p in remux.packets_until(at)] for at in steps]
    remux.close()
    return groups


def test_packets_come_when_their_time_has_come_and_each_once(three_tracks: Path) -> None:
    at_once = pulled(three_tracks, iter([None]))[0]
    times = [Fraction(i, 25) for i in range(50)]
    by_and_by = pulled(three_tracks, iter([*times, None]))
    assert list(itertools.chain(*by_and_by)) == at_once
    for limit, group in zip(times, by_and_by, strict=False):
        assert all(at <= limit for _, at in group)
    assert max(len(g) for g in by_and_by[:-1]) <= 8
    for index in {i for i, _ in at_once}:
        track = [at for i, at in at_once if i == index]
        assert track == sorted(set(track))


def test_nothing_is_read_before_it_is_wanted(three_tracks: Path) -> None:
    groups = pulled(three_tracks, iter([Fraction(-1), Fraction(-1)]))
    assert [len(g) for g in groups] == [0, 0]


def test_a_file_of_pictures_only_has_nothing_to_copy(clip: Clip) -> None:
    remux = Remux(clip("v.mkv", rate=25), 0, MP4)
    assert (remux.plans, remux.notes, remux.tick_rates) == ([], [], [])
    assert list(remux.packets_until(None)) == []
    remux.close()


def test_tick_rates_are_those_of_the_copied_sound(three_tracks: Path) -> None:
    remux = Remux(three_tracks, 0, MATROSKA)
    assert remux.tick_rates == [44100, 44100]
    remux.close()
