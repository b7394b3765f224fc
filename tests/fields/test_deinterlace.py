"""Deinterlacing: the filter's own pictures, as many as there should be, each at its exact time."""

from __future__ import annotations

import itertools
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clips import ffmpeg, video_times
from tests.interlaced import (
    FIELD_RATES,
    GRADIENTS,
    SIZE,
    make_interlaced,
    make_mixed,
    make_soft_telecined,
    moving,
)
from vsr.errors import OptionError, UnsupportedInputError
from vsr.fields.deinterlace import Deinterlacer, FieldOptions
from vsr.fields.detect import Detection, detect_fields
from vsr.fields.order import FieldWriter, chain, pull_all
from vsr.fields.times import field_span
from vsr.frame import PIXEL_FORMATS, ColorSpec, FieldOrder, Frame, Planes, Range, VideoInfo
from vsr.pixel_formats import frame_from, planes_of
from vsr.source import Source

SMOOTH = (96, 64)  # of GRADIENTS; in smaller pictures the steps from line to line are too large for idet
ORDERS = {"tff": FieldOrder.TOP_FIRST, "bff": FieldOrder.BOTTOM_FIRST}
MARKED = [  # codec, container, pixel format
    ("mpeg2", ".ts", "yuv420p"),
    ("h264", ".mkv", "yuv420p"),
    ("ffv1", ".mkv", "yuv420p10le"),
    ("prores", ".mov", "yuv422p10le"),
    ("huffyuv", ".mkv", "yuv422p"),
]


def deinterlaced(path: Path, **options: Any) -> tuple[list[Frame], Deinterlacer, list[str]]:
    notes: list[str] = []
    source = Source(path)
    try:
        deinterlacer = Deinterlacer.for_source(source, FieldOptions(**options), notes.append)
        return list(deinterlacer.stream(source.frames())), deinterlacer, notes
    finally:
        source.close()


def by_ffmpeg(path: Path, filters: str, fmt: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", filters, "-vsync", "0", "-f", "rawvideo"]
    return subprocess.run([*command, "-pix_fmt", fmt, "-"], capture_output=True, check=True, timeout=60).stdout


def raw(frame: Frame) -> bytes:
    return b"".join(np.ascontiguousarray(a).tobytes() for a in frame.planes.arrays)


def psnr(frame: bytes, other: bytes) -> float:
    a, b = (np.frombuffer(x, np.uint8)[: SIZE[0] * SIZE[1]].astype(float) for x in (frame, other))
    return float(10 * np.log10(255**2 / max(1e-3, np.mean((a - b) ** 2))))


# -- the same pictures as FFmpeg's ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "suffix", "pix_fmt"), MARKED)
@pytest.mark.parametrize("order", ORDERS)
def test_field_order_is_read_from_pictures_or_header(
    codec: str, suffix: str, pix_fmt: str, order: str, tmp_path: Path
) -> None:
    path = make_interlaced(tmp_path / f"i{suffix}", codec, order=order, pix_fmt=pix_fmt, frames=4)
    source = Source(path)
    assert source.info.field_order is ORDERS[order]
    assert {f.field_order for f in source.frames()} == {ORDERS[order]}
    source.close()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("field_rate", [False, True])
@pytest.mark.parametrize("method", ["bwdif", "yadif"])
def test_pictures_are_those_of_the_ffmpeg_command(method: str, field_rate: bool, order: str, tmp_path: Path) -> None:
    path = make_interlaced(tmp_path / "i.mkv", order=order, pix_fmt="yuv422p10le")
    frames, _, _ = deinterlaced(path, deinterlace=method, field_rate=field_rate)
    reference = by_ffmpeg(path, f"{method}=mode={'send_field' if field_rate else 'send_frame'}", "yuv422p10le")
    size = len(raw(frames[0]))
    want = [reference[i : i + size] for i in range(0, len(reference), size)]
    assert len(frames) == len(want) == (16 if field_rate else 8)
    # bwdif of FFmpeg 5.1 has another filter than 8.1 for the first and last field, which have a neighbour missing.
    ends = 1 if method == "bwdif" else 0
    inner = range(ends, len(want) - (ends if field_rate else 0))
    assert [i for i in inner if raw(frames[i]) != want[i]] == []


@pytest.mark.parametrize("order", ORDERS)
def test_every_field_becomes_the_picture_of_its_moment(order: str, tmp_path: Path) -> None:
    path = make_interlaced(tmp_path / "i.mkv", order=order)
    frames, _, _ = deinterlaced(path, field_rate=True)
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", moving("50", SIZE), "-frames:v", "16", "-f", "rawvideo"]
    moments = subprocess.run([*command, "-pix_fmt", "yuv420p", "-"], capture_output=True, check=True).stdout
    size = len(raw(frames[0]))
    quality = [psnr(raw(f), moments[i * size : (i + 1) * size]) for i, f in enumerate(frames)]
    assert min(quality[1:-1]) > 27
    assert min(quality) > 22, "the first and the last field have only one neighbour in time"


@pytest.mark.parametrize(("suffix", "codec"), [(".ts", "mpeg2"), (".mp4", "h264"), (".mkv", "ffv1"), (".avi", "dv")])
@pytest.mark.parametrize("rate", FIELD_RATES)
def test_times_at_field_rate_are_halfway_and_do_not_drift(suffix: str, codec: str, rate: str, tmp_path: Path) -> None:
    size, pix_fmt = SIZE, "yuv420p"
    if codec == "dv":
        size, pix_fmt = ((720, 576), "yuv420p") if rate == "25" else ((720, 480), "yuv411p")
    path = make_interlaced(tmp_path / f"i{suffix}", codec, rate=rate, size=size, pix_fmt=pix_fmt, order="bff", frames=6)
    before = video_times(path)
    frames, deinterlacer, _ = deinterlaced(path, field_rate=True)
    times = [f.pts * deinterlacer.info.time_base for f in frames]
    assert times[::2] == before
    following = [*before[1:], before[-1] + frames[-1].duration * 2 * deinterlacer.info.time_base]
    assert times[1::2] == [(a + b) / 2 for a, b in zip(before, following, strict=True)]
    assert deinterlacer.info.rate == Fraction(FIELD_RATES[rate])
    end = times[-1] + frames[-1].duration * deinterlacer.info.time_base
    assert abs(end - before[-1] - 1 / Fraction(rate)) < Fraction(1, 1000)


# -- mixed streams ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interlaced_first", [False, True])
def test_progressive_pictures_of_a_mixed_stream_are_left_alone(interlaced_first: bool, tmp_path: Path) -> None:
    path = make_mixed(tmp_path / "mixed.ts", progressive=range(6, 12) if interlaced_first else range(6))
    source = Source(path)
    originals = list(source.frames())
    source.close()
    orders = [f.field_order is not FieldOrder.PROGRESSIVE for f in originals]
    assert orders == ([True] * 6 + [False] * 6 if interlaced_first else [False] * 6 + [True] * 6)
    frames, deinterlacer, notes = deinterlaced(path)
    assert [f.pts for f in frames] == [f.pts for f in originals]
    assert all(raw(a) == raw(b) for a, b, o in zip(originals, frames, orders, strict=True) if not o)
    assert deinterlacer.frames_deinterlaced == 6
    want = by_ffmpeg(path, "bwdif=mode=send_frame:deint=interlaced", "yuv420p")
    skipped = 0 if interlaced_first else 6  # FFmpeg treats the first that it deinterlaces as if nothing came before it
    size = len(raw(frames[0]))
    assert [i for i, f in enumerate(frames) if i != skipped and raw(f) != want[i * size : (i + 1) * size]] == []
    late = deinterlacer.concluding_note()
    assert bool(notes) is interlaced_first
    assert late == (None if interlaced_first else "6 frames were marked as interlaced, and were deinterlaced")
    doubled, _, _ = deinterlaced(path, field_rate=True)
    assert len(doubled) == 6 + 12


def test_soft_telecined_film_is_left_alone(tmp_path: Path) -> None:
    path = make_soft_telecined(tmp_path / "film.ts")
    source = Source(path)
    originals = list(source.frames())
    source.close()
    frames, deinterlacer, notes = deinterlaced(path)
    assert [raw(f) for f in frames] == [raw(f) for f in originals]
    field_ticks = [round((b.pts - a.pts) / 1501.5) for a, b in itertools.pairwise(frames)]
    assert field_ticks == [3, 2] * 5 + [3]
    assert [f.pts * deinterlacer.info.time_base for f in frames] == video_times(path)
    assert (notes, deinterlacer.frames_interlaced) == ([], 0)


def test_fields_of_hevc_are_pictures_of_their_own(tmp_path: Path) -> None:
    path = make_interlaced(tmp_path / "i.mkv", "hevc", size=(96, 64), frames=4)
    frames, deinterlacer, notes = deinterlaced(path, field_rate=True)
    assert (len(frames), deinterlacer.frames_deinterlaced) == (4, 0)
    assert notes == [
        "the video is interlaced (top field first) and is upscaled as if it were progressive: hevc holds each field as "
        "a picture"
    ]


# -- detection --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_interlaced_and_not_marked_is_detected(order: str, tmp_path: Path) -> None:
    path = make_interlaced(tmp_path / "i.mp4", "unmarked", order=order, frames=20, scene=GRADIENTS)
    unseen = deinterlaced(path, field_rate=True)[1]
    assert (unseen.frames_deinterlaced, unseen.frames_added) == (0, 0)
    assert "no frame was marked as interlaced" in (unseen.concluding_note() or "")
    frames, deinterlacer, notes = deinterlaced(path, deinterlace="detect", field_rate=True)
    assert (len(frames), deinterlacer.frames_deinterlaced) == (40, 20)
    assert f"taken to be interlaced, {ORDERS[order].value}" in notes[0]
    assert ORDERS[order].value in notes[1]
    told, _, _ = deinterlaced(path, field_order=order, field_rate=True)
    assert [raw(f) for f in told] == [raw(f) for f in frames]


def test_what_is_marked_and_not_interlaced_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "p.mkv"
    scene = moving("25", SMOOTH, GRADIENTS)
    chain = ("-vf", "format=yuv420p,setfield=tff")
    ffmpeg("-f", "lavfi", "-i", scene, "-frames:v", "20", *chain, "-c:v", "ffv1", path)
    assert deinterlaced(path)[1].frames_deinterlaced == 20
    frames, deinterlacer, notes = deinterlaced(path, deinterlace="detect")
    assert (len(frames), deinterlacer.frames_deinterlaced) == (20, 0)
    assert notes == ["of 20 pictures looked at, 0 are interlaced: the video is taken to be progressive"]


def test_where_nothing_moves_marks_decide(tmp_path: Path) -> None:
    path = tmp_path / "still.mkv"
    ffmpeg("-f", "lavfi", "-i", "color=gray:s=64x48:d=0.5", "-c:v", "libx264", "-x264-params", "bff=1", path)
    _, deinterlacer, notes = deinterlaced(path, deinterlace="detect")
    assert deinterlacer.frames_deinterlaced == 13
    assert "marks decide" in notes[0]


def test_hard_telecine_is_told(tmp_path: Path) -> None:
    path = tmp_path / "telecined.mkv"
    film = "testsrc2=s=128x96:r=24000/1001,telecine=pattern=23"
    ffmpeg("-f", "lavfi", "-i", film, "-frames:v", "40", "-c:v", "ffv1", path)
    assert any("inverse telecine" in note for note in deinterlaced(path, deinterlace="detect")[2])
    plain = make_interlaced(tmp_path / "i.mkv", frames=40, size=(128, 96))
    assert not any("telecine" in note for note in deinterlaced(plain, deinterlace="detect")[2])


def test_a_long_file_is_looked_at_all_over(tmp_path: Path) -> None:
    """Interlaced pictures in its last third only: a look at its beginning would not find them."""
    path = tmp_path / "long.mkv"
    first = f"{moving('25', SMOOTH, GRADIENTS)},trim=end_frame=900[a]"
    second = f"{moving('50', SMOOTH, GRADIENTS)},tinterlace=interleave_top,setfield=prog,trim=end_frame=450[b]"
    graph = f"{first};{second};[a][b]concat=n=2,format=yuv420p"
    ffmpeg("-filter_complex", graph, "-c:v", "mpeg2video", "-q:v", "2", "-g", "12", path)
    seen = detect_fields(path, 0)
    assert seen.pictures <= 480
    assert seen.order is FieldOrder.TOP_FIRST
    assert seen.interlaced == pytest.approx(1 / 3, abs=0.12)


@given(
    top=st.integers(0, 500), bottom=st.integers(0, 500), progressive=st.integers(0, 500), unclear=st.integers(0, 500)
)
def test_the_verdict_follows_the_majority(top: int, bottom: int, progressive: int, unclear: int) -> None:
    seen = Detection(top + bottom + progressive + unclear, top, bottom, progressive, 0)
    if not top + bottom + progressive:
        assert seen.order is None
    elif 10 * (top + bottom) < top + bottom + progressive:
        assert seen.order is FieldOrder.PROGRESSIVE
    else:
        assert seen.order is (FieldOrder.TOP_FIRST if top >= bottom else FieldOrder.BOTTOM_FIRST)


# -- any stream -------------------------------------------------------------------------------------------------------


GRAY = PIXEL_FORMATS["gray"]
INFO = VideoInfo(8, 8, GRAY, "gray", ColorSpec(), Fraction(1, 90000), Fraction(25))


@st.composite
def streams(draw: st.DrawFn) -> list[Frame]:
    """Frames of any order and distance, some of them repeats."""
    frames: list[Frame] = []
    pts = draw(st.integers(-5000, 5000))
    for index in range(draw(st.integers(1, 9))):
        gap = draw(st.integers(1, 9000))
        order = draw(st.sampled_from(list(FieldOrder)))
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        planes = Planes((rng.integers(0, 256, (8, 8), np.uint8),), GRAY, 8, 8)
        duration = draw(st.sampled_from([0, gap, max(1, gap // 2)]))
        if index and draw(st.integers(0, 4)) == 0:
            frames.append(replace(frames[-1], pts=pts, duration=duration, repeated=True))
        else:
            frames.append(Frame(planes, pts, duration, field_order=order))
        pts += gap
    return frames


@settings(deadline=None, max_examples=30)
@given(frames=streams(), field_rate=st.booleans(), deinterlace=st.sampled_from(["auto", "bwdif", "yadif", "off"]))
def test_no_frame_is_lost_moved_or_touched_without_need(
    frames: list[Frame], field_rate: bool, deinterlace: Any
) -> None:
    field_rate = field_rate and deinterlace != "off"
    deinterlacer = Deinterlacer(INFO, FieldOptions(deinterlace, field_rate=field_rate))
    result = list(deinterlacer.stream(iter(frames)))
    ticks = 2 if field_rate else 1
    by_time = {f.pts: f for f in result}
    assert len(by_time) == len(result) == len(frames) + deinterlacer.frames_added
    assert all(a.pts < b.pts for a, b in itertools.pairwise(result))
    touched = [
        deinterlace in ("bwdif", "yadif") or (deinterlace == "auto" and f.field_order is not FieldOrder.PROGRESSIVE)
        for f in frames
    ]
    assert deinterlacer.frames_deinterlaced == sum(touched)
    assert deinterlacer.frames_added == (sum(touched) if field_rate else 0)
    for frame, is_touched in zip(frames, touched, strict=True):
        first = by_time[frame.pts * ticks]
        assert first.repeated == frame.repeated
        if not (is_touched or frame.repeated):
            assert first.planes is frame.planes
        if not (is_touched and field_rate):
            assert first.duration == frame.duration * ticks
        kept = (
            0 if frame.field_order is not FieldOrder.BOTTOM_FIRST else 1
        )  # yadif and bwdif keep the field's own lines
        if is_touched and not frame.repeated and (frame.field_order is not FieldOrder.PROGRESSIVE):
            assert (first.planes.arrays[0][kept::2] == frame.planes.arrays[0][kept::2]).all()
    for earlier, later in itertools.pairwise(result):
        if later.repeated:
            assert later.planes is earlier.planes


@settings(deadline=None, max_examples=20)
@given(frames=streams())
def test_pictures_do_not_depend_on_when_the_filter_was_opened(frames: list[Frame]) -> None:
    """It is opened and closed as needed in a mixed stream; one that is open all the time gives the same."""

    frames = [f for f in frames if not f.repeated]
    got = [raw(f) for f in Deinterlacer(INFO, FieldOptions()).stream(frames)]
    orders = [f.field_order for f in frames]
    orders[0] = FieldOrder.TOP_FIRST if orders[0] is FieldOrder.PROGRESSIVE else orders[0]  # or the next has no past
    writer = FieldWriter()
    pictures = [frame_from(f.planes, Range.UNSPECIFIED) for f in frames]
    graph = chain(pictures[0], ("bwdif", "mode=send_frame:deint=interlaced"))
    want = []
    for number, picture in enumerate(pictures):
        marked = writer.mark(picture, orders[number])
        marked.pts = number
        graph.vpush(marked)
        want += pull_all(graph)
    graph.vpush(None)
    want += pull_all(graph)
    assert len(got) == len(want)
    if frames[0].field_order is FieldOrder.PROGRESSIVE:
        del got[0], want[0]
    assert got == [raw(Frame(planes_of(p, GRAY), 0)) for p in want]


@given(
    start=st.integers(-(10**6), 10**6),
    duration=st.integers(0, 10**5),
    gap=st.none() | st.integers(1, 10**6),
    step=st.integers(1, 10**5),
)
def test_second_fields_lie_before_the_next_picture(start: int, duration: int, gap: int | None, step: int) -> None:
    span = field_span(start, duration, None if gap is None else start + gap, step)
    if gap is None:
        assert span == (duration or step)
    else:
        assert 0 < span <= gap
        assert span == gap or 2 * gap > 3 * duration > 0


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deinterlace": "weave"}, "'weave'; allowed are auto, detect, off, bwdif, yadif"),
        ({"field_order": "top"}, "'top'; allowed are auto, tff, bff"),
        ({"deinterlace": "off", "field_rate": True}, "deinterlacing is off"),
        ({"deinterlace": "off", "field_order": "tff"}, "deinterlacing is off"),
        ({"deinterlace": "detect", "field_order": "tff"}, "to be detected"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        FieldOptions(**options)


@pytest.mark.parametrize(
    ("method", "fmt", "size", "message"),
    [
        ("bwdif", "gray10le", (16, 16), "bwdif does not take pictures of gray10le; use --deinterlace off"),
        ("yadif", "yuva444p10le", (16, 16), "yadif does not take .* use --deinterlace bwdif or --deinterlace off"),
        ("bwdif", "yuv420p", (16, 2), "bwdif does not take pictures of 16x2"),
    ],
)
def test_pictures_that_a_filter_does_not_take_are_refused_beforehand(
    method: Any, fmt: str, size: tuple[int, int], message: str
) -> None:
    info = replace(INFO, format=PIXEL_FORMATS[fmt], width=size[0], height=size[1], field_order=FieldOrder.TOP_FIRST)
    with pytest.raises(UnsupportedInputError, match=message):
        Deinterlacer(info, FieldOptions(method))
    assert not Deinterlacer(info, FieldOptions("off")).works_from_start


@pytest.mark.parametrize("fmt", ["yuv420p", "yuv411p", "yuva444p10le", "gbrp", "gray16le", "yuv422p12le"])
@pytest.mark.parametrize("size", [(16, 8), (33, 31)])
def test_small_and_odd_pictures_are_deinterlaced(fmt: str, size: tuple[int, int]) -> None:
    pixel_format = PIXEL_FORMATS[fmt]
    info = replace(INFO, format=pixel_format, width=size[0], height=size[1], field_order=FieldOrder.TOP_FIRST)
    rng = np.random.default_rng(1)
    frames = []
    for number in range(3):
        sizes = [pixel_format.plane_size(name, *size) for name in pixel_format.plane_names]
        arrays: Any = tuple(rng.integers(0, 1 << pixel_format.bits, (h, w), pixel_format.dtype) for w, h in sizes)
        frames.append(Frame(Planes(arrays, pixel_format, *size), number, field_order=FieldOrder.TOP_FIRST))
    result = list(Deinterlacer(info, FieldOptions()).stream(frames))
    for before, after in zip(frames, result, strict=True):
        for old, new in zip(before.planes.arrays, after.planes.arrays, strict=True):
            assert (old[::2] == new[::2]).all()
