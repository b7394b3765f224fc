"""Jobs: what the report says, and that no failure of any part leaves anything behind."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.clips import frame_count, listing, make_clip, probe
from vsr import job as job_module
from vsr import sink as sink_module
from vsr.engines.compile import open_engine
from vsr.enlarged import frame_bytes
from vsr.errors import (
    BackendError,
    DiskFullError,
    EncoderError,
    InterruptedJobError,
    ModelError,
    OptionError,
    OutputExistsError,
    VerificationError,
    VsrError,
)
from vsr.frame import PIXEL_FORMATS, ColorSpec, Range, Siting, VideoInfo
from vsr.job import upscale
from vsr.options import UpscaleOptions
from vsr.report import JobProgress
from vsr.sink import Sink
from vsr.siting import arithmetic_color
from vsr.source import Source
from vsr.trim import Window, expected_frames

Clip = Callable[..., Path]
QUICK: dict[str, Any] = {"scale": 2, "model": "bicubic", "threads": 1, "preset": "ultrafast"}


@pytest.fixture
def source(clip: Clip) -> Path:
    return clip("in.mkv", frames=40, rate=25, audio="aac", bframes=2)


class BoomError(Exception):
    """Not one of ours: must come out as it is."""


def vsr_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("vsr-")]


# -- a job that goes well ---------------------------------------------------------------------------------------------


def test_the_report_of_a_job(source: Path, tmp_path: Path) -> None:
    seen: list[JobProgress] = []
    notes: list[str] = []
    report = upscale(source, tmp_path / "out.mp4", on_progress=seen.append, on_note=notes.append, **QUICK)
    assert report.ok
    assert (report.frames_in, report.frames_out, report.frames_repeated, report.decode_errors) == (40, 40, 0, 0)
    assert (report.width, report.height, report.scale, report.model) == (128, 96, 2, "bicubic")
    assert (report.encoder, report.pix_fmt) == ("x264", "yuv420p")
    assert report.backend in report.backend_reason
    assert report.engine
    assert report.duration_s == pytest.approx(40 / 25, abs=0.05)
    assert report.wall_s > 0
    assert report.fps == pytest.approx(40 / report.wall_s)
    assert [s["name"] for s in report.stages] == ["decode", "upscale", "encode"]
    assert [s["items"] for s in report.stages] == [40, 40, 40]
    assert report.bottleneck in ("decode", "upscale", "encode")
    assert report.streams_dropped == []
    with av.open(str(source)) as file:
        audio = sum(1 for p in file.demux(audio=0) if p.size)
    assert report.streams_copied == {1: audio}
    assert report.notes == notes
    assert [p.frames for p in seen] == list(range(1, 41))
    assert {p.frames_expected for p in seen} <= {40, 41}  # the sound is a little longer than the picture
    assert all(b.wall_s >= a.wall_s and b.time_s > a.time_s for a, b in itertools.pairwise(seen))
    assert json.loads(json.dumps(report.to_dict()))["frames_out"] == 40
    assert not vsr_threads()


def test_a_job_writes_no_more_than_its_output(source: Path, tmp_path: Path) -> None:
    upscale(source, tmp_path / "out.mkv", **QUICK)
    assert set(listing(tmp_path)) == {"out.mkv"}


def test_the_input_is_only_read(source: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    upscale(source, tmp_path / "out.mkv", **QUICK)
    assert source.read_bytes() == before


# -- whatever fails ---------------------------------------------------------------------------------------------------


def failing_source(monkeypatch: pytest.MonkeyPatch, at: int) -> type[BaseException]:
    real = Source.frames

    def frames(self: Source, stop: Callable[[], bool] = lambda: False) -> Iterator[Any]:
        for number, frame in enumerate(real(self, stop)):
            if number == at:
                raise BoomError("source")
            yield frame

    monkeypatch.setattr(Source, "frames", frames)
    return BoomError


def failing_engine(monkeypatch: pytest.MonkeyPatch, at: int) -> type[BaseException]:
    class Engine:
        def __init__(self, real: Any) -> None:
            self.real, self.number = real, 0
            self.description, self.depth = real.description, real.depth

        def submit(self, planes: Any) -> Any:
            self.number += 1
            if self.number == at + 1:
                raise BackendError("the device has gone")
            return self.real.submit(planes)

        def close(self) -> None:
            self.real.close()

    def opened(*arguments: Any, **keywords: Any) -> Any:
        opened = open_engine(*arguments, **keywords)
        return replace(opened, engine=Engine(opened.engine))

    monkeypatch.setattr("vsr.upscaler.open_engine", opened)
    return BackendError


def failing_result(monkeypatch: pytest.MonkeyPatch, at: int) -> type[BaseException]:
    from vsr.backends.openvino import OpenVinoTicket

    real, numbers = OpenVinoTicket.result, itertools.count()

    def result(self: OpenVinoTicket) -> Any:
        if next(numbers) == at:
            self.cancel()
            raise BackendError("out of memory on the device")
        return real(self)

    monkeypatch.setattr(OpenVinoTicket, "result", result)
    return BackendError


def failing_encoder(monkeypatch: pytest.MonkeyPatch, at: int) -> type[BaseException]:
    real, numbers = Sink._encode, itertools.count()

    def encode(self: Sink, frame: Any) -> None:
        if next(numbers) == at:
            raise av.error.ExternalError(542398533, "Generic error in an external library")
        real(self, frame)

    monkeypatch.setattr(Sink, "_encode", encode)
    return VsrError


def failing_disk(monkeypatch: pytest.MonkeyPatch, at: int) -> type[BaseException]:
    real, numbers = Sink._mux, itertools.count()

    def mux(self: Sink, packet: Any) -> None:
        if next(numbers) == at:
            raise av.error.OSError(28, "No space left on device")
        real(self, packet)

    monkeypatch.setattr(Sink, "_mux", mux)
    return DiskFullError


def failing_remux(monkeypatch: pytest.MonkeyPatch, at: int) -> type[BaseException]:
    from vsr.remux import Remux

    real, numbers = Remux.packets_until, itertools.count()

    def packets_until(self: Remux, time: Any) -> Iterator[Any]:
        if next(numbers) == at:
            raise BoomError("remux")
        yield from real(self, time)

    monkeypatch.setattr(Remux, "packets_until", packets_until)
    return BoomError


@pytest.mark.parametrize("at", [0, 1, 17, 39])
@pytest.mark.parametrize(
    "part", [failing_source, failing_engine, failing_result, failing_encoder, failing_disk, failing_remux]
)
def test_a_failure_anywhere_comes_out_and_leaves_nothing(
    part: Callable[..., type[BaseException]],
    at: int,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    precious = tmp_path / "out.mp4"
    precious.write_bytes(b"precious")
    expected = part(monkeypatch, at)
    with pytest.raises(expected):
        upscale(source, precious, overwrite=True, **QUICK)
    assert precious.read_bytes() == b"precious"
    assert set(listing(tmp_path)) == {"out.mp4"}
    assert not vsr_threads()


def test_a_failure_of_the_progress_display_ends_the_job(source: Path, tmp_path: Path) -> None:
    def broken(progress: JobProgress) -> None:
        if progress.frames == 5:
            raise BoomError("display")

    with pytest.raises(BoomError):
        upscale(source, tmp_path / "out.mp4", on_progress=broken, **QUICK)
    assert set(listing(tmp_path)) == set()
    assert not vsr_threads()


def test_a_file_that_does_not_pass_verification_is_not_published(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise VerificationError("holds 39 pictures, and 40 were encoded")

    monkeypatch.setattr(sink_module, "check_output", refuse)
    with pytest.raises(VerificationError, match="39 pictures"):
        upscale(source, tmp_path / "out.mp4", **QUICK)
    assert set(listing(tmp_path)) == set()


def test_an_encoder_that_swallows_a_frame_is_found_out(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, numbers = Sink._mux, itertools.count()

    def mux(self: Sink, packet: Any) -> None:
        if next(numbers) != 20:
            real(self, packet)

    monkeypatch.setattr(Sink, "_mux", mux)
    with pytest.raises(VsrError, match=r"40 frames .* 39 packets|39 pictures"):
        upscale(source, tmp_path / "out.mp4", **QUICK)
    assert set(listing(tmp_path)) == set()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"model": "nonesuch"}, ModelError),
        ({"encoder": "nonesuch"}, EncoderError),
        ({"crf": 99}, OptionError),
        ({"backend": "nonesuch"}, OptionError),
        ({"precision": "fp16", "backend": "openvino"}, OptionError),
        ({"preset": "warp"}, OptionError),
        ({"pix_fmt": "nonsense"}, VsrError),
    ],
)
def test_wrong_options_are_refused_before_anything_is_made(
    options: dict[str, Any], error: type[VsrError], source: Path, tmp_path: Path
) -> None:
    with pytest.raises(error):
        upscale(source, tmp_path / "out.mp4", **{**QUICK, **options})
    assert set(listing(tmp_path)) == set()


def test_numbers_may_be_numbers() -> None:
    asked = UpscaleOptions(max_decode_errors=5, bitrate=2.5e6, frames=np.int64(3))
    assert str(asked.error_budget()) == "5"
    assert asked.encoder_request().bitrate == 2_500_000


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 1},
        {"scale": 17},
        {"size": "large"},
        {"fit": "somehow"},
        {"scale": 0, "model": "x.onnx"},
        {"threads": -1},
        {"threads": "two"},
        {"frames": 2.5},
        {"crf": "x"},
        {"on_truncated": "maybe"},
        {"on_unsupported": "perhaps"},
        {"max_decode_errors": "lots"},
        {"colour": "blue"},
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], source: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        upscale(source, tmp_path / "out.mp4", **options)


def test_an_output_that_appears_during_the_job_is_kept(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"

    def meanwhile(progress: JobProgress) -> None:
        if progress.frames == 10:
            target.write_bytes(b"theirs")

    with pytest.raises(OutputExistsError):
        upscale(source, target, on_progress=meanwhile, **QUICK)
    assert listing(tmp_path).keys() == {"out.mp4"}
    assert target.read_bytes() == b"theirs"


# -- interruption -----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(60)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("after", [1, 9, 30])
def test_an_interrupted_job_leaves_what_is_done_and_says_how_much(
    suffix: str, after: int, source: Path, tmp_path: Path
) -> None:
    stop = threading.Event()

    def progress(now: JobProgress) -> None:
        if now.frames == after:
            stop.set()

    with pytest.raises(InterruptedJobError) as caught:
        upscale(source, tmp_path / f"out{suffix}", stop=stop, on_progress=progress, **QUICK)
    partial = tmp_path / f"out.partial{suffix}"
    assert set(listing(tmp_path)) == {partial.name}
    count = frame_count(partial)
    assert after <= count <= after + 10
    assert f"{partial}: {count} frames" in str(caught.value)
    assert caught.value.exit_code == 130
    assert not vsr_threads()


@pytest.mark.timeout(60)
def test_a_job_interrupted_before_its_first_frame_leaves_nothing(source: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedJobError, match="before anything was written"):
        upscale(source, tmp_path / "out.mp4", stop=stop, **QUICK)
    assert set(listing(tmp_path)) == set()


@pytest.mark.timeout(60)
def test_an_interruption_while_the_encoder_is_slowest_ends_at_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All channels are full then, and the stages before the encoder wait for it."""
    real, stop, numbers = Sink._encode, threading.Event(), itertools.count()

    def slow(self: Sink, frame: Any) -> None:
        if next(numbers) == 3:
            threading.Event().wait(0.5)
            stop.set()
        real(self, frame)

    monkeypatch.setattr(Sink, "_encode", slow)
    with pytest.raises(InterruptedJobError):
        upscale(source, tmp_path / "out.mkv", stop=stop, **QUICK)
    assert not vsr_threads()


# -- small parts ------------------------------------------------------------------------------------------------------


def info(**changes: Any) -> VideoInfo:
    values = {"width": 64, "height": 48, "format": PIXEL_FORMATS["yuv420p"], "pix_fmt_from_header": "yuv420p"}
    return VideoInfo(**{**values, "color": ColorSpec(), "time_base": Fraction(1, 1000), **changes})  # type: ignore[arg-type]


def test_expected_frames_come_from_the_count_else_from_duration_and_rate() -> None:
    assert expected_frames(info(), Window()) is None
    assert (
        expected_frames(info(num_frames_from_header=7, duration_from_header=Fraction(9), rate=Fraction(25)), Window())
        == 7
    )
    assert expected_frames(info(duration_from_header=Fraction(2), rate=Fraction(30000, 1001)), Window()) == 60
    assert expected_frames(info(duration_from_header=Fraction(1, 1000), rate=Fraction(25)), Window()) == 1
    assert expected_frames(info(rate=Fraction(25)), Window()) is None


def test_only_jpeg_video_has_centred_chroma_where_nothing_is_said() -> None:
    assert arithmetic_color(info(codec="h264")).siting is Siting.UNSPECIFIED
    color = arithmetic_color(info(codec="mjpeg", color=ColorSpec(1, 2, 3, Range.FULL)))
    assert color == ColorSpec(1, 2, 3, Range.FULL, Siting.CENTER)
    left = ColorSpec(siting=Siting.LEFT)
    assert arithmetic_color(info(codec="mjpeg", color=left)).siting is Siting.LEFT


def test_bytes_of_an_upscaled_frame() -> None:
    assert frame_bytes(info(width=128, height=96)) == 128 * 96 * 3 // 2
    assert frame_bytes(info(format=PIXEL_FORMATS["gbrap16le"], width=9, height=3)) == 9 * 3 * 4 * 2


def test_options_are_frozen_and_default_to_what_most_people_want() -> None:
    options = UpscaleOptions()
    assert (options.scale, options.model, options.overwrite, options.on_truncated) == (3, None, False, "fail")
    with pytest.raises(AttributeError):
        options.scale = 2  # type: ignore[misc]


def test_huge_frames_wait_in_shorter_queues(monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path) -> None:
    depths: list[int] = []
    real = job_module.Pipeline

    def pipeline(stages: Any, depth: int) -> Any:
        depths.append(depth)
        return real(stages, depth)

    monkeypatch.setattr(job_module, "Pipeline", pipeline)
    monkeypatch.setattr(job_module, "CHANNEL_BYTES", 2 * 128 * 96 * 3 // 2)
    upscale(source, tmp_path / "out.mkv", **QUICK)
    assert depths == [2]


def test_one_frame_is_a_video_too(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "one.mp4", frames=1)
    for name in ("out.mp4", "out.mkv", "out.mov"):
        for more in ({}, {"encoder": "x265", "pix_fmt": "yuv420p10le"}):
            report = upscale(path, tmp_path / name, overwrite=True, **{**QUICK, **more})
            assert report.frames_out == 1


ONCE_FAILED: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "PCM in MP4": ("in.mkv", {"audio": "pcm_s16le"}, "out.mp4", {"on_unsupported": "drop"}),
    "a short transport stream": ("in.mkv", {"audio": "aac", "frames": 3, "rate": 25}, "out.ts", {}),
    "a nominal rate of 1000": ("in.avi", {"vfr": True, "rate": 60}, "out.mkv", {"encoder": "svtav1", "preset": None}),
    "grey PNG in WebM": ("in.mp4", {"codec": "png", "pix_fmt": "gray", "rate": 24}, "out.webm", {"preset": None}),
    "grey PNG in Matroska": ("in.mp4", {"codec": "png", "pix_fmt": "gray", "rate": 24}, "out.mkv", {}),
}


@pytest.mark.parametrize("what", ONCE_FAILED)
def test_combinations_that_once_failed_work(what: str, tmp_path: Path) -> None:
    name, clip, result, options = ONCE_FAILED[what]
    path = make_clip(tmp_path / name, **clip)
    report = upscale(path, tmp_path / result, **{**QUICK, **options})
    assert report.frames_out == clip.get("frames", 12)
    if clip.get("pix_fmt") == "gray":
        assert probe(tmp_path / result).video.get("color_space") not in ("gbr", "rgb")
