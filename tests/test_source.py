"""The source: every picture once, in order, at its exact time, and a plain word about everything that is not so."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clips import MILLISECOND, ffmpeg, frame_times, make_clip, picture, video_times
from tests.faults.damage import spoil_packets
from vsr.errors import CorruptInputError, NotMediaError
from vsr.frame import FieldOrder, Frame, Range, Siting
from vsr.reading.decode_report import ErrorBudget
from vsr.source import Source

Clip = Callable[..., Path]


def read(path: Path, **options: Any) -> tuple[list[Frame], Source]:
    source = Source(path, **options)
    try:
        return list(source.frames()), source
    finally:
        source.close()


def times(frames: list[Frame], source: Source) -> list[Fraction]:
    return [f.pts * source.info.time_base for f in frames]


# -- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts", ".nut", ".flv"])
@pytest.mark.parametrize("bframes", [0, 2])
def test_times_are_those_that_ffprobe_gives(suffix: str, bframes: int, clip: Clip) -> None:
    if bframes and suffix == ".flv":
        return
    path = clip(f"t{suffix}", rate=Fraction(24000, 1001), bframes=bframes, frames=14)
    frames, source = read(path)
    assert times(frames, source) == video_times(path)
    assert len(frames) == 14
    assert source.report.frames == 14
    assert (source.report.errors, source.report.repeated, source.report.shifted) == (0, 0, 0)


def test_variable_frame_rate_is_kept_to_the_tick(clip: Clip) -> None:
    path = clip("vfr.mkv", vfr=True, frames=20, bframes=2)
    frames, source = read(path)
    start = times(frames, source)[0]
    want = [Fraction(round(t / MILLISECOND)) * MILLISECOND for t in frame_times(20, Fraction(24), True)]
    assert [t - start for t in times(frames, source)] == want


@pytest.mark.parametrize("offset", [Fraction(5), Fraction(2, 25)])
def test_a_start_other_than_zero_is_no_cut_and_is_kept(offset: Fraction, tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "late.mkv", start_offset=offset, container_options={"avoid_negative_ts": "disabled"}, rate=25
    )
    frames, source = read(path)
    assert times(frames, source)[0] == offset
    assert len(frames) == 12


def test_an_elementary_stream_is_timed_by_its_nominal_rate(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "raw.h264", rate=25, frames=9)
    notes: list[str] = []
    frames, source = read(path, note=notes.append)
    steps = np.diff([float(t) for t in times(frames, source)])
    assert len(frames) == 9
    assert steps == pytest.approx([1 / 25] * 8)


def test_frame_durations_reach_the_next_frame(clip: Clip) -> None:
    frames, _ = read(clip("t.mp4", rate=25, frames=8))
    assert [a.pts + a.duration for a in frames[:-1]] == [b.pts for b in frames[1:]]


def test_pictures_are_the_decoders_own(clip: Clip) -> None:
    path = clip("exact.mkv", codec="ffv1", size=(17, 13), frames=4, pix_fmt="yuv422p10le")
    frames, _ = read(path)
    for index, frame in enumerate(frames):
        want = picture(index, 17, 13, "yuv422p10le")
        for array, plane in zip(frame.planes.arrays, want.planes, strict=True):
            rows = np.frombuffer(bytes(plane), np.uint16).reshape(-1, plane.line_size // 2)
            assert (array == rows[: array.shape[0], : array.shape[1]]).all()


def test_planes_stay_valid_after_the_source_is_closed(clip: Clip) -> None:
    frames, _ = read(clip("t.mp4", rate=25, frames=8))
    sums = [int(f.planes.arrays[0].astype(int).sum()) for f in frames]
    again, _ = read(clip("t.mp4", rate=25, frames=8))
    assert sums == [int(f.planes.arrays[0].astype(int).sum()) for f in again]
    assert len(set(sums)) > 1


def test_stop_ends_the_frames_and_checks_nothing(clip: Clip) -> None:
    source = Source(clip("t.mp4", frames=14))
    seen = 0

    def stop() -> bool:
        return seen == 5

    for _ in source.frames(stop):
        seen += 1
    source.close()
    assert seen == source.report.frames == 5
    assert source.report.missing_s is None


# -- what is known before ---------------------------------------------------------------------------------------------


def test_colour_tags_are_read_as_they_are(tmp_path: Path) -> None:
    tags = {"color_range": 2, "colorspace": 1, "color_primaries": 9, "color_trc": 16}
    path = make_clip(tmp_path / "c.mkv", video_tags=tags, frames=2, options={"chroma_sample_location": "topleft"})
    color = read(path)[1].info.color
    assert (color.matrix, color.primaries, color.transfer) == (1, 9, 16)
    assert (color.range, color.siting) == (Range.FULL, Siting.TOPLEFT)


def test_what_is_unspecified_stays_unspecified(clip: Clip) -> None:
    color = read(clip("t.mkv", codec="ffv1", frames=2))[1].info.color
    assert (color.matrix, color.primaries, color.transfer, color.range) == (2, 2, 2, Range.UNSPECIFIED)


def test_full_range_of_jpeg_formats_is_told(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "j.mkv", codec="mjpeg", pix_fmt="yuvj420p", frames=2)
    info = read(path)[1].info
    assert info.color.range is Range.FULL
    assert info.format.name == "yuv420p"


def test_facts_of_the_header(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "f.mp4", size=(34, 18), frames=10, rate=Fraction(30000, 1001))
    info = read(path)[1].info
    assert (info.width, info.height, info.format.name, info.codec) == (34, 18, "yuv420p", "h264")
    assert info.rate == Fraction(30000, 1001)
    assert info.num_frames_from_header == 10
    assert info.duration_from_header == pytest.approx(10 * 1001 / 30000, abs=1e-3)
    assert info.field_order is FieldOrder.PROGRESSIVE


def test_rotation_and_pixel_shape_are_read(tmp_path: Path) -> None:
    plain, turned = make_clip(tmp_path / "p.mp4", frames=3), tmp_path / "turned.mp4"
    ffmpeg("-i", plain, "-c", "copy", "-aspect", "2:1", "-metadata:s:v", "rotate=90", turned)
    info = read(turned)[1].info
    assert info.display_matrix is not None
    assert len(info.display_matrix) == 9
    assert info.sample_aspect_ratio == Fraction(3, 2)
    assert (info.width, info.height) == (64, 48)


# -- which stream -----------------------------------------------------------------------------------------------------


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.3", "-c:a", "aac", path)
    with pytest.raises(NotMediaError, match="no video stream that can be decoded; it has 1 audio"):
        Source(path)


def test_the_picture_of_a_cover_is_no_video(tmp_path: Path) -> None:
    path, cover = tmp_path / "song.mp3", tmp_path / "cover.png"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=32x32", "-frames:v", "1", cover)
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.3", "-i", cover, "-map", "0", "-map", "1", "-c:v", "copy",
           "-disposition:v", "attached_pic", path)  # fmt: skip
    with pytest.raises(NotMediaError, match=r"1 cover picture|cover picture"):
        Source(path)


@pytest.mark.parametrize(("default", "expected"), [(None, 1), (0, 0), (1, 1)])
def test_of_several_videos_the_default_one_is_taken_else_the_largest(
    default: int | None, expected: int, tmp_path: Path, clip: Clip
) -> None:
    path = tmp_path / "two.mkv"
    small, large = clip("s.mkv", size=(32, 32), frames=3), clip("l.mkv", size=(64, 64), frames=3)
    marks = [("-disposition:v:0", "0"), ("-disposition:v:1", "0")]
    if default is not None:
        marks[default] = (marks[default][0], "default")
    ffmpeg("-i", small, "-i", large, "-map", "0:v", "-map", "1:v", "-c", "copy", *(m for p in marks for m in p), path)
    source = Source(path)
    index = source.stream_index
    source.close()
    assert index == expected


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("wrong", [{7}, {13, 14, 15}, {0, 1}, {58, 59}])
def test_lost_pictures_are_repeated_at_their_own_times(
    suffix: str, bframes: int, wrong: set[int], clip: Clip, tmp_path: Path
) -> None:
    whole = clip(f"w{suffix}", frames=60, bframes=bframes, options={"g": "12"}, rate=25)
    path = spoil_packets(whole, tmp_path / f"spoiled{suffix}", wrong)
    frames, source = read(path, budget=ErrorBudget(50))
    want = times(*read(whole))
    got = times(frames, source)
    if 0 not in wrong:  # before the first picture there is none to repeat
        assert got == want
    assert got == want[len(want) - len(got) :]
    assert source.report.errors >= 1
    assert source.report.repeated + source.report.damaged >= 1 or 0 in wrong
    for before, after in itertools.pairwise(frames):
        if after.repeated:
            assert after.planes is before.planes


def test_too_much_damage_is_refused_with_figures(clip: Clip, tmp_path: Path) -> None:
    whole = clip("w.mkv", frames=60, options={"g": "12"}, rate=25)
    path = spoil_packets(whole, tmp_path / "spoiled.mkv", set(range(10, 50)))
    with pytest.raises(CorruptInputError, match=r"\d+ of the first \d+ video packets .* budget is 10%") as caught:
        read(path)
    assert "--max-decode-errors" in str(caught.value)
    with pytest.raises(CorruptInputError, match="budget is 3"):
        read(path, budget=ErrorBudget.parse("3"))
    frames, _ = read(path, budget=ErrorBudget.parse("100%"))
    assert len(frames) == 60


def test_a_video_of_which_nothing_can_be_decoded_is_refused(clip: Clip, tmp_path: Path) -> None:
    whole = clip("w.mkv", frames=12, rate=25)
    path = spoil_packets(whole, tmp_path / "spoiled.mkv", set(range(12)))
    with pytest.raises((NotMediaError, CorruptInputError)):
        read(path, budget=ErrorBudget.parse("100%"))


def test_a_change_of_size_is_fitted_to_the_first_and_told_once(tmp_path: Path) -> None:
    parts = [
        make_clip(tmp_path / f"{i}.ts", size=size, frames=6, rate=25) for i, size in enumerate([(64, 48), (32, 32)])
    ]
    path = tmp_path / "changing.ts"
    path.write_bytes(parts[0].read_bytes() + parts[1].read_bytes())
    notes: list[str] = []
    frames, source = read(path, note=notes.append)
    assert len(frames) == 12
    assert {(f.planes.width, f.planes.height) for f in frames} == {(64, 48)}
    assert source.report.rescaled == 6
    changes = [n for n in notes if "changes from 64x48" in n]
    assert len(changes) == 1
    assert "32x32" in changes[0]
    assert all(b.pts > a.pts for a, b in itertools.pairwise(frames))


def test_times_that_do_not_increase_are_moved_to_the_next_tick(tmp_path: Path) -> None:
    path = tmp_path / "same.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        for index, pts in enumerate([0, 40, 40, 41, 120]):
            frame = picture(index, 16, 16, "yuv420p")
            frame.pts, frame.time_base = index, MILLISECOND
            for packet in stream.encode(frame):
                packet.pts = packet.dts = pts
                try:
                    out.mux(packet)
                except av.error.FFmpegError:
                    packet.dts = pts + 1
    frames, source = read(path)
    assert all(b.pts > a.pts for a, b in itertools.pairwise(frames))
    assert source.report.frames == len(frames)


def test_interlaced_video_is_told(tmp_path: Path) -> None:
    path = tmp_path / "i.mpg"
    command = ["-f", "lavfi", "-i", "testsrc=s=64x64:r=25:d=0.3", "-c:v", "mpeg2video", "-flags", "+ilme+ildct"]
    ffmpeg(*command, "-top", "1", "-pix_fmt", "yuv420p", path)
    source = Source(path)
    assert source.info.field_order is FieldOrder.TOP_FIRST
    source.close()


# -- the error budget -------------------------------------------------------------------------------------------------


@given(value=st.integers(0, 10**6))
def test_a_number_of_packets_is_read_back_as_written(value: int) -> None:
    budget = ErrorBudget.parse(str(value))
    assert str(budget) == f"{value:g}"
    assert budget.allows(value, 1)
    assert not budget.allows(value + 1, 10**9)


@given(value=st.floats(0, 100), packets=st.integers(1, 10**6), errors=st.integers(0, 10**5))
def test_a_percentage_is_of_the_packets_with_the_first_ten_free(value: float, packets: int, errors: int) -> None:
    budget = ErrorBudget.parse(f"{value}%")
    allowed = budget.allows(errors, packets)
    if errors <= value * packets / 100 or (errors <= 10 and value > 0):
        assert allowed
    else:
        assert not allowed


def test_zero_allows_nothing() -> None:
    for text in ("0", "0%"):
        assert ErrorBudget.parse(text).allows(0, 100)
        assert not ErrorBudget.parse(text).allows(1, 100)


@pytest.mark.parametrize("text", ["", "%", "-1", "-1%", "101%", "ten", "1.5", "5%%", "nan%", "inf%", "1e3", "0x10"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        ErrorBudget.parse(text)


def test_no_descriptor_stays_open(clip: Clip) -> None:
    path = clip("t.mp4", rate=25, frames=8)
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("no /proc here")
    read(path)
    before = len(list(folder.iterdir()))
    for _ in range(5):
        read(path)
    assert len(list(folder.iterdir())) == before
