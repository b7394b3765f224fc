"""Jobs that do not wait for their TensorRT engine: they begin elsewhere and go over, or stay, and lose nothing.

The GPU and the builder are fakes; what is computed is real on both sides.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.backends.fake_gpu import FakeDevice
from tests.test_hardware import surface_of
from vsr import Upscaler
from vsr.backends import tensorrt
from vsr.engines.handover import HandoverEngine
from vsr.errors import BackendError, InterruptedJobError
from vsr.frame import PIXEL_FORMATS, ColorSpec
from vsr.gpu import build, tensorrt_api
from vsr.gpu.build import EngineRequest, build_engine
from vsr.graphs.fidelity import waves
from vsr.job import upscale
from vsr.metrics import psnr
from vsr.report import JobProgress, JobReport
from vsr.surface import SurfacePlanes

FRAMES = 48


class Builder:
    """Takes the place of the other process: builds when it is told to, or fails."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.error: Exception | None = None
        self.asked: list[EngineRequest] = []
        self.ended = threading.Event()

    def __call__(self, request: EngineRequest, path: Path, runtime: str, unwanted: threading.Event) -> None:
        self.asked.append(request)
        try:
            while not self.go_on.wait(0.005):
                if unwanted.is_set():
                    raise InterruptedJobError("interrupted")
            if self.error is not None:
                raise self.error
            build_engine(request, path, api=tensorrt_api.choose_runtime(without_gpu=False))
        finally:
            self.ended.set()


@pytest.fixture
def builder(machine: list[FakeDevice], monkeypatch: pytest.MonkeyPatch) -> Iterator[Builder]:
    made = Builder()
    monkeypatch.setattr(tensorrt, "build_elsewhere", made)
    yield made
    assert all(device.closed for device in machine)


def run(
    source: Path, output: Path, on_progress: Callable[[JobProgress], None] = lambda _: None, **options: Any
) -> tuple[JobReport, list[str]]:
    notes: list[str] = []
    options = {"model": "bicubic", "precision": "fp32", "encoder": "ffv1", "backend": "tensorrt", **options}
    report = upscale(source, output, 2, on_progress=on_progress, on_note=notes.append, wait_engine=False, **options)
    return report, notes


def decoded(path: Path) -> tuple[list[Any], list[np.ndarray]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [f.pts * f.time_base for f in frames], [f.to_ndarray(format="yuv420p") for f in frames]


@pytest.fixture
def source(clip: Callable[..., Path]) -> Path:
    return clip("a.mp4", frames=FRAMES, size=(32, 24))


def test_a_video_goes_over_in_the_middle_and_nothing_is_lost(
    builder: Builder, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, plain = itertools.count(), HandoverEngine.submit

    def submit(self: HandoverEngine, planes: Any) -> Any:
        if next(numbers) == 5:  # the engine comes between the fifth frame and the sixth
            builder.go_on.set()
            self._thread.join(20)
        return plain(self, planes)

    monkeypatch.setattr(HandoverEngine, "submit", submit)
    report, notes = run(source, tmp_path / "both.mkv")
    upscale(source, tmp_path / "cpu.mkv", 2, model="bicubic", precision="fp32", encoder="ffv1", backend="openvino")
    (times, pictures), (wanted_times, wanted) = decoded(tmp_path / "both.mkv"), decoded(tmp_path / "cpu.mkv")
    assert times == wanted_times
    assert max(np.abs(a.astype(int) - b.astype(int)).max() for a, b in zip(pictures, wanted, strict=True)) <= 1
    assert report.frames_out == sum(report.engines.values()) == FRAMES
    first, second = report.engines
    assert first.startswith("OpenVINO")
    assert second.startswith("TensorRT")
    assert report.engines == {first: 5, second: FRAMES - 5}
    assert (report.backend, report.engine) == ("tensorrt", second)
    start, change = notes
    assert start.startswith(f"starting on {first}, until bicubic_x2_yuv420p_")
    assert start.endswith("fake-rt_sm_89.engine is built: it is not there yet")
    assert change == f"after 5 frames the work goes over to {second}"


def test_a_failed_build_is_one_line_and_the_job_goes_on(builder: Builder, source: Path, tmp_path: Path) -> None:
    builder.error = BackendError("fake-rt 1.0 cannot build model bicubic for sm_89: no kernel")
    builder.go_on.set()
    report, notes = run(source, tmp_path / "out.mkv")
    assert report.frames_out == FRAMES
    assert list(report.engines.values()) == [FRAMES]
    assert report.backend == "openvino"
    assert notes[1] == f"the work stays with {report.engine}: {builder.error}"
    assert len(notes) == 2


def test_a_job_that_ends_before_its_engine_comes_gives_it_up(builder: Builder, source: Path, tmp_path: Path) -> None:
    report, notes = run(source, tmp_path / "out.mkv")
    assert (report.ok, report.frames_out, report.backend) == (True, FRAMES, "openvino")
    assert notes[1:] == ["the engine that was being built did not come before the end, and was given up"]
    assert builder.ended.is_set()


def test_interrupted_while_building_it_stops_and_keeps_what_is_done(
    builder: Builder, source: Path, tmp_path: Path
) -> None:
    stop = threading.Event()

    def on_progress(progress: JobProgress) -> None:
        if progress.frames == 3:
            stop.set()

    with pytest.raises(InterruptedJobError, match=r"what is done is in .*out\.partial\.mkv"):
        run(source, tmp_path / "out.mkv", on_progress, stop=stop)
    assert builder.ended.is_set()
    assert 1 <= len(decoded(tmp_path / "out.partial.mkv")[0]) < FRAMES
    assert not list((tmp_path / "engines").glob("*.engine"))


def test_an_engine_that_is_there_is_used_from_the_start(builder: Builder, source: Path, tmp_path: Path) -> None:
    builder.go_on.set()
    options = {"model": "bicubic", "precision": "fp32", "encoder": "ffv1", "backend": "tensorrt"}
    upscale(source, tmp_path / "waited.mkv", 2, **options)
    report, notes = run(source, tmp_path / "out.mkv")
    assert [name.split(" (")[0] for name in report.engines] == ["TensorRT"]
    assert builder.asked == notes == []


def test_with_a_backend_that_builds_nothing_there_is_nothing_to_wait_for(source: Path, tmp_path: Path) -> None:
    report, notes = run(source, tmp_path / "out.mkv", backend="openvino")
    assert report.backend == "openvino"
    assert notes == ["backend openvino builds no engine that would have to be waited for"]


@pytest.mark.parametrize(("precision", "wanted", "bound"), [("auto", "fp16", 55), ("int8", "int8", 45)])
def test_the_precision_is_not_measured_and_both_sides_are_as_near_as_it_promises(
    precision: str, wanted: str, bound: float, builder: Builder
) -> None:
    planes, notes = waves(PIXEL_FORMATS["yuv420p"], 12, 10), list[str]()
    with Upscaler(2, "fast", backend="tensorrt", precision=precision, wait=False, on_note=notes.append) as upscaler:
        before = upscaler.upscale_planes(planes, ColorSpec())
        assert upscaler.backend == "openvino"
        builder.go_on.set()
        engine: Any = upscaler.prepare(planes.format, ColorSpec(), 12, 10)
        engine._thread.join(20)
        after = upscaler.upscale_planes(planes, ColorSpec())
        assert upscaler.backend == "tensorrt"
        assert f" {wanted}, " in upscaler.description
    assert [request.precision for request in builder.asked] == [wanted]
    assert psnr(before.arrays[0], after.arrays[0]) >= bound
    assert len(notes) == 2


def test_a_still_is_done_before_the_engine_could_be(builder: Builder) -> None:
    with Upscaler(2, "bicubic", backend="tensorrt", precision="fp32", wait=False) as upscaler:
        assert upscaler.upscale(np.zeros((6, 8, 3), np.uint8)).shape == (12, 16, 3)
    assert builder.ended.is_set()
    assert not list(build.default_folder().glob("*.engine"))


def test_pictures_that_begin_in_host_memory_stay_there_and_come_as_surfaces(builder: Builder) -> None:
    """An encoder is opened for the one or for the other."""
    planes = waves(PIXEL_FORMATS["yuv420p"], 12, 10)
    options: Any = {"backend": "tensorrt", "precision": "fp32", "wait": False, "surfaces": True, "keep": True}
    with Upscaler(2, "bicubic", **options) as upscaler:
        pictures = [upscaler.upscale_planes(surface_of(planes), ColorSpec())]
        builder.go_on.set()
        engine: Any = upscaler.prepare(planes.format, ColorSpec(), 12, 10)
        engine._thread.join(20)
        pictures.append(upscaler.upscale_planes(surface_of(planes), ColorSpec()))
        assert upscaler.backend == "tensorrt"
        assert not any(isinstance(picture, SurfacePlanes) for picture in pictures)
    assert [request.pix_fmt for request in builder.asked] == ["nv12"]
