"""Trimming: what is kept is exactly what lies between start and end, at its time, with everything in step."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vsr
from tests.clips import ffmpeg, ffprobe, make_clip
from tests.end_to_end import command
from vsr.comparison.compare import compare
from vsr.errors import OptionError
from vsr.source import Source
from vsr.trim import CLOCK_PERIOD, Trim, Window, nearest_on_clock, parse_time, window_of

MILLISECOND = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", "0"),
        ("90.5", "181/2"),
        (90.1, "901/10"),
        (3, "3"),
        (Fraction(1, 3), "1/3"),
        ("1:30", "90"),
        ("01:02:03.004", "3723004/1000"),
        ("0:59:59.999", "3599999/1000"),
        ("1e1", "10"),
    ],
)
def test_times_are_read_exactly(text: Any, seconds: str) -> None:
    assert parse_time(text) == Fraction(seconds)


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "inf", "1:60", "1:2:3:4", "61:00:00:1", "1:70:00", -0.5])
def test_what_is_no_time_is_refused(text: Any) -> None:
    with pytest.raises(OptionError, match=r"start .*MM:SS"):
        parse_time(text, "start")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": 2, "end": 2}, "is not after the start"),
        ({"end": 0}, "is not after the start"),
        ({"end": 2, "duration": 1}, "both given"),
        ({"duration": 0}, "leaves nothing"),
        ({"frames": 0}, "must be 1 or more"),
    ],
)
def test_contradictions_are_refused_before_any_file_is_opened(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        vsr.upscale("missing.mp4", "out.mp4", 2, **options)


times = st.fractions(min_value=0, max_value=100, max_denominator=1000)
ticks = st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1, 12800), Fraction(1001, 24000)])


@given(times, times, times, ticks)
def test_what_is_kept_begins_where_the_file_began(start: Fraction, origin: Fraction, late: Fraction, tick: Fraction):
    window = window_of(Trim(start or None), origin=origin, first=origin + late, time_base=tick, clocked=False)
    assert (window.shift / tick).denominator == 1
    first_kept = origin + start  # anything that is kept is shown from here on
    assert 0 <= first_kept - window.shift - origin < tick


@given(st.integers(-(1 << 20), -1), st.booleans())
def test_a_picture_before_time_zero_moves_everything(ticks_before: int, clocked: bool) -> None:
    first = Fraction(ticks_before, 90_000)
    window = window_of(Trim(), origin=first, first=first, time_base=Fraction(1, 90_000), clocked=clocked)
    assert first - window.shift == (first + CLOCK_PERIOD if clocked else 0)


@given(times, st.integers(-3, 3))
def test_the_clock_of_mpeg_shows_a_time_and_all_that_are_a_period_away(time: Fraction, periods: int) -> None:
    assert nearest_on_clock(time + periods * CLOCK_PERIOD, time) == time


@given(st.lists(times, min_size=2, max_size=6, unique=True), times, times)
def test_chapters_are_clipped_and_moved(edges: list[Fraction], start: Fraction, length: Fraction) -> None:
    edges = sorted(round(e, 3) for e in edges)
    start, end = round(start, 3), round(start, 3) + round(length, 3) + MILLISECOND
    chapters = [
        {"id": i, "start": int(a * 1000), "end": int(b * 1000), "time_base": MILLISECOND, "metadata": {"title": str(i)}}
        for i, (a, b) in enumerate(itertools.pairwise(edges))
    ]
    kept = Window(start, end, start).chapters(chapters)
    expected = [c for c in chapters if c["end"] > start * 1000 and c["start"] < end * 1000]
    assert [c["metadata"] for c in kept] == [c["metadata"] for c in expected]
    for new, old in zip(kept, expected, strict=True):
        assert new["start"] == max(old["start"], start * 1000) - start * 1000
        assert new["end"] == min(old["end"], end * 1000) - start * 1000


# -- what the source yields -------------------------------------------------------------------------------------------


def shown(path: Path, trim: Trim | None = None) -> tuple[list[Fraction], list[int], Source]:
    """Time and a number for the content of every frame."""
    source = Source(path, trim=trim)
    try:
        frames = list(source.frames())
        return (
            [f.pts * source.info.time_base for f in frames],
            [hash(f.planes.arrays[0].tobytes()) for f in frames],
            source,
        )
    finally:
        source.close()


SOURCES: dict[str, dict[str, Any]] = {
    "b.mp4": {"bframes": 3, "options": {"g": "8"}},
    "vfr.mkv": {"vfr": True, "bframes": 2, "options": {"g": "6"}},
    "open.mkv": {"bframes": 2, "options": {"g": "7", "x264-params": "open-gop=1:keyint=7:min-keyint=7"}},
    "refresh.mkv": {"options": {"x264-params": "intra-refresh=1:keyint=9"}},
    "b.ts": {"bframes": 2, "options": {"g": "8"}},
    "open.ts": {"codec": "mpeg2video", "bframes": 2, "options": {"g": "6"}, "rate": 25},
    "late.mkv": {"start_offset": 3, "audio": "aac", "audio_offset": 3},
    "hevc.mp4": {
        "codec": "libx265",
        "size": (64, 64),
        "options": {"x265-params": "log-level=none:pools=none:keyint=8"},
    },
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "6"}},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "b.avi": {"bframes": 2, "options": {"g": "8"}},
    "fragments.mp4": {
        "bframes": 2,
        "options": {"g": "8"},
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("trim")
    made = {name: make_clip(folder / name, frames=30, **options) for name, options in SOURCES.items()}
    made["edit.mp4"] = folder / "edit.mp4"
    ffmpeg("-ss", "0.3", "-i", made["b.mp4"], "-c", "copy", made["edit.mp4"])
    made["raw.h264"] = folder / "raw.h264"
    ffmpeg("-i", made["b.mp4"], "-c", "copy", made["raw.h264"])
    return made


@pytest.mark.parametrize("name", [*SOURCES, "edit.mp4", "raw.h264"])
def test_the_frames_are_those_between_start_and_end(name: str, clips: dict[str, Path]) -> None:
    path = clips[name]
    all_times, all_pictures, whole = shown(path)
    origin = all_times[0]
    tick = whole.info.time_base
    cuts = (0, Fraction(1, 100), all_times[9] - origin, Fraction(87, 100), all_times[-1] - origin)
    for start in cuts:
        for end in (None, start + tick, start + Fraction(2, 5), Fraction(100)):
            wanted = [i for i, t in enumerate(all_times) if start <= t - origin and (end is None or t - origin < end)]
            trim = Trim(Fraction(start), None if end is None else Fraction(end))
            if not wanted:
                with pytest.raises(OptionError, match="no picture"):
                    shown(path, trim)
                continue
            got_times, pictures, source = shown(path, trim)
            assert pictures == [all_pictures[i] for i in wanted], (start, end)
            assert got_times == [all_times[i] - source.window.shift for i in wanted]
            assert 0 <= origin + start - source.window.shift - origin < tick
            assert source.report.frames == len(wanted)


@pytest.mark.parametrize("name", ["b.mp4", "vfr.mkv", "open.ts", "b.avi", "raw.h264"])
def test_a_number_of_frames_counts_from_the_start(name: str, clips: dict[str, Path]) -> None:
    all_times, all_pictures, _ = shown(clips[name])
    for start in (Fraction(0), all_times[5] - all_times[0] + MILLISECOND):
        first = sum(t - all_times[0] < start for t in all_times)
        for count in (1, 7):
            _, pictures, _ = shown(clips[name], Trim(start, frames=count))
            assert pictures == all_pictures[first : first + count]


def test_decoding_begins_at_the_key_frame_and_not_at_the_start(clips: dict[str, Path]) -> None:
    times, _, whole = shown(clips["b.mp4"])
    assert whole.report.packets == 30
    _, _, source = shown(clips["b.mp4"], Trim(times[26]))
    assert source.report.packets <= 8  # a group of pictures


def test_what_is_refused_says_how_long_the_video_is(clips: dict[str, Path]) -> None:
    with pytest.raises(OptionError, match=r"no picture .* between 9.000 s and its end; .* ends at 1.250 s"):
        Source(clips["b.mp4"], trim=Trim(Fraction(9)))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(st.integers(1, 200), min_size=3, max_size=14),
    start=st.integers(0, 1500),
    length=st.integers(1, 1500),
    first=st.integers(0, 300),
)
def test_of_any_video_the_frames_within_are_kept_and_sound_stays_in_step(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], start: int, length: int, first: int
) -> None:
    """Random times in milliseconds, random cut, through the whole job; FLAC's packets say where they are."""
    folder = tmp_path_factory.mktemp("any")
    source, output = folder / "in.mkv", folder / "out.mkv"
    times = [first + sum(steps[:i]) for i in range(len(steps) + 1)]
    write_timed(source, times)
    origin = min(first, 0)  # the sound begins at 0
    kept = [t for t in times if start <= t - origin < start + length]
    options = {"start": Fraction(start, 1000), "duration": Fraction(length, 1000)}
    if not kept:
        with pytest.raises(OptionError, match="no picture"):
            vsr.upscale(source, output, 2, model="bicubic", encoder="ffv1", **options)
        return
    vsr.upscale(source, output, 2, model="bicubic", encoder="ffv1", **options)
    got = packet_times(output)
    assert got[0] == [t - start for t in kept]
    sound = [t for t in packet_times(source)[1] if start <= t < start + length]
    assert got[1] == [t - start for t in sound]
    assert compare(source, output, trim=Trim.parse(**options)).differences == []


def write_timed(path: Path, times: list[int]) -> None:
    """FFV1 pictures at `times` and one packet of PCM every 25, in milliseconds."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 16, 16, "gray"
        video.codec_context.time_base = MILLISECOND
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        container.start_encoding()
        packets = []
        for number, time in enumerate(times):
            frame = av.VideoFrame(16, 16, "gray")
            frame.planes[0].update(bytes([number]) * frame.planes[0].buffer_size)
            frame.pts, frame.time_base = time, MILLISECOND
            packets += video.encode(frame)
        packets += video.encode(None)
        for time in range(0, times[-1] + 100, 25):
            packet = av.Packet(bytes([time % 251]) * 400)
            packet.stream, packet.time_base, packet.pts, packet.dts, packet.duration = (
                sound,
                MILLISECOND,
                time,
                time,
                25,
            )
            packets.append(packet)
        packets.sort(key=lambda p: p.dts * p.time_base)
        container.mux(packets)


def packet_times(path: Path) -> list[list[int]]:
    """The times of all packets in milliseconds, stream by stream."""
    found: dict[int, list[int]] = {}
    for packet in ffprobe(path, "-show_packets", "-show_entries", "packet=stream_index,pts")["packets"]:
        found.setdefault(packet["stream_index"], []).append(packet["pts"])
    return [found.get(i, []) for i in range(2)]


# -- through the whole job --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "end"), [("0.5", "1.1"), ("0.3001", "0.9999")])
def test_the_ffmpeg_command_selects_the_same_frames(
    start: str, end: str, clips: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("b.mp4", "vfr.mkv", "open.ts"):
        reference, output = tmp_path / "reference.mkv", tmp_path / f"{name}.mkv"
        select = f"select='gte(t,{start})*lt(t,{end})'"
        ffmpeg("-i", clips[name], "-vf", select, "-vsync", "passthrough", "-c:v", "ffv1", reference)
        options = {"start": start, "end": end}
        vsr.upscale(clips[name], output, 2, model="bicubic", encoder="ffv1", **options)
        theirs, ours = (packet_times(p)[0] for p in (reference, output))
        assert len(ours) == len(theirs) > 5
        steps = [[b - a for a, b in itertools.pairwise(times)] for times in (ours, theirs)]
        assert all(abs(a - b) <= 1 for a, b in zip(*steps, strict=True))
        assert compare(clips[name], output, decode=True, trim=Trim.parse(**options)).differences == []


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound, subtitles that lap over the cuts, chapters, a font."""
    return make_clip(
        tmp_path_factory.mktemp("rich") / "rich.mkv",
        frames=16,
        bframes=2,
        audio="flac",
        subtitles="subrip",
        chapters=True,
        attachment=b"font",
        options={"g": "5"},
    )


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_everything_is_cut_and_moved_alike(rich: Path, suffix: str, tmp_path: Path) -> None:
    output = tmp_path / f"out{suffix}"
    options = {"start": "0.1", "end": "0.3"}
    vsr.upscale(rich, output, 2, model="bicubic", on_unsupported="drop", **options)
    result = compare(rich, output, decode=True, allow_dropped=True, trim=Trim.parse(**options))
    assert result.differences == []
    if suffix == ".ts":
        return
    chapters = ffprobe(output, "-show_chapters")["chapters"]
    edges = [(float(c["start_time"]), float(c["end_time"])) for c in chapters]
    assert sum(edges, ()) == pytest.approx((0, 0.1, 0.1, 0.2), abs=0.0011)
    lines = ffprobe(output, "-select_streams", "s", "-show_packets")["packets"]
    spans = [(float(p["pts_time"]), float(p["duration_time"])) for p in lines if int(p["size"]) > 2]
    assert sum(spans, ()) == pytest.approx((0, 0.05, 0.15, 0.05), abs=0.0011)  # 0.05 to 0.15, and 0.25 to 0.4
    duration = float(ffprobe(output, "-show_format")["format"]["duration"])
    assert 0.19 < duration < 0.2 + 4608 / 48000 + 0.001  # the last packet of FLAC is not cut


def test_the_command_line_trims_and_verifies(rich: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    trim = ("--start", "0:00.25", "--frames", "4")
    command.upscaled(rich, "-o", output, "-s", "2", "-m", "bicubic", *trim)
    done = command.vsr("verify", rich, output, "--json", *trim)
    assert done.code == 0
    frames = next(c for c in done.json["checks"] if c["name"].endswith("frames"))
    assert frames["expected"] == frames["got"] == "4"
    assert compare(rich, output, trim=Trim.parse("0.25", frames=5)).differences
    assert compare(rich, output).differences
    refused = command.vsr("upscale", rich, "-o", tmp_path / "no.mkv", "-m", "bicubic", "--start", "99")
    assert refused.code == 2
    assert "no picture" in refused.errors[0]
    assert not (tmp_path / "no.mkv").exists()


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_stream_of_which_nothing_is_left_is_told(suffix: str, tmp_path: Path) -> None:
    source, output = tmp_path / "in.mkv", tmp_path / f"out{suffix}"
    make_clip(source, frames=24, audio="aac", audio_offset=Fraction(1, 2))
    report = vsr.upscale(source, output, 2, model="bicubic", end="0.4")
    assert any("nothing of stream 1 (audio, aac) lies in this part" in note for note in report.notes)
    assert compare(source, output, trim=Trim.parse(end="0.4")).differences == []
    part = tmp_path / "part.mkv"
    ffmpeg("-i", output, "-map", "0:v", "-c", "copy", part)
    assert any(c.name == "streams" for c in compare(source, part, trim=Trim.parse(end="0.8")).differences)


def test_progress_counts_what_is_left(clips: dict[str, Path], tmp_path: Path) -> None:
    told = []
    options = {"start": "0.5", "frames": 5}
    vsr.upscale(clips["b.mp4"], tmp_path / "o.mp4", 2, model="bicubic", on_progress=told.append, **options)
    assert [(p.frames, p.frames_expected) for p in told] == [(i, 5) for i in range(1, 6)]
    vsr.upscale(clips["b.mp4"], tmp_path / "p.mp4", 2, model="bicubic", on_progress=told.append, start="0.5")
    assert told[-1].frames == told[-1].frames_expected == 18


def test_more_frames_than_there_are_is_said(clips: dict[str, Path], tmp_path: Path) -> None:
    report = vsr.upscale(clips["b.mp4"], tmp_path / "o.mp4", 2, model="bicubic", start="1", frames=50)
    assert report.frames_out == 6
    assert any("50 frames are asked for, and there are 6" in note for note in report.notes)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_pictures_before_time_zero_come_out_with_everything_in_step(suffix: str, tmp_path: Path) -> None:
    source, output = tmp_path / "in.mkv", tmp_path / f"out{suffix}"
    with av.open(str(source), "w", options={"avoid_negative_ts": "disabled"}) as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([20 * number]) * plane.buffer_size)
            frame.pts, frame.time_base = number - 6, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    assert shown(source)[2].window.shift == Fraction(-6, 25)
    report = vsr.upscale(source, output, 2, model="bicubic")
    assert any("0.240 s before time zero" in note for note in report.notes)
    assert report.frames_out == 10
    assert compare(source, output, decode=True).differences == []
