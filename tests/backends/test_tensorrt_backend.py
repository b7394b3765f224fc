"""What the TensorRT backend is asked for, on a machine whose GPU is a fake, and what it says on one that has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.backends import onnx_models, reference
from tests.backends.fake_gpu import GPU, FakeContext, FakeDevice, FakeTensorRt
from tests.backends.reference import picture, worst_difference
from tests.end_to_end.command import assert_one_line, vsr
from vsr.backends import device as device_module
from vsr.backends import tensorrt
from vsr.backends.device import open_device
from vsr.backends.tensorrt import TensorRtBackend
from vsr.engines.engine import EngineSpec, choose_backend
from vsr.errors import BackendError, EngineLoadError, OptionError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Range, Siting
from vsr.gpu import build, cuda_driver, tensorrt_api
from vsr.gpu.build import ANY_SIZE, EngineRequest, build_engine, find_or_build
from vsr.gpu.cuda_driver import Driver
from vsr.gpu.engine_store import Profile
from vsr.gpu.names import Gpu
from vsr.graphs.fidelity import waves
from vsr.graphs.frame_graph import FrameGraphSpec, Target
from vsr.job import upscale
from vsr.metrics import psnr
from vsr.model import BICUBIC, Model, load_model
from vsr.options import UpscaleOptions

COLOR = ColorSpec()


def test_without_a_gpu_the_reason_is_that_and_no_runtime_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "probe", lambda number=0: "no NVIDIA driver is installed (libcuda.so.1 is missing)")
    monkeypatch.setattr(tensorrt_api, "load", lambda _: pytest.fail("TensorRT was touched"))
    assert "libcuda.so.1 is missing" in str(TensorRtBackend().unavailable_reason())
    assert TensorRtBackend().gpu_name() is None
    graph = FrameGraphSpec(PIXEL_FORMATS["gray"], COLOR, 2, 4, 4)
    with pytest.raises(BackendError, match="needs a GPU"):
        TensorRtBackend().compile(EngineSpec(Model(BICUBIC, 2), graph))


def test_a_driver_that_is_too_old_is_told_before_a_runtime_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "probe", lambda number=0: Driver(GPU, 1 << 34, (12, 4)))
    monkeypatch.setattr(tensorrt_api, "available", lambda name: name == "tensorrt-rtx")
    monkeypatch.setattr(tensorrt_api, "load", lambda _: pytest.fail("TensorRT was touched"))
    with pytest.raises(BackendError, match=r"tensorrt is not available: .*12\.4.* needs 13\.0; update the driver"):
        choose_backend("tensorrt")


def test_with_a_gpu_it_is_said_how_to_reach_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "probe", lambda number=0: Driver(GPU, 1 << 34, (13, 0)))
    assert TensorRtBackend().gpu_name() == "NVIDIA Something"
    monkeypatch.setattr(device_module.importlib.util, "find_spec", lambda _: None)
    assert "pip install 'vsr[cuda]'" in str(device_module.missing())
    with pytest.raises(BackendError, match="neither pycuda nor torch"):
        open_device()


@pytest.mark.skipif(not isinstance(cuda_driver.probe(), str), reason="this machine has a GPU")
def test_asked_for_without_a_gpu_upscale_says_so_in_one_line(samples: Path, tmp_path: Path) -> None:
    outcome = vsr("upscale", samples / "clip.mp4", "-s", "2", "--backend", "tensorrt", "-o", tmp_path / "out.mp4")
    assert_one_line(outcome, "backend tensorrt is not available", "driver|GPU")
    assert list(tmp_path.iterdir()) == []


def test_what_was_built_ahead_is_found_and_what_was_not_is_built_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "default_folder", lambda: tmp_path)
    api, model, notes = tensorrt_api.load("tensorrt-rtx"), Model(BICUBIC, 2), list[str]()
    exact = EngineRequest(model, GPU, "gray", COLOR, "fp16", Profile((66, 64), (66, 64), (66, 64)))
    path, used = find_or_build(exact, api, notes.append)
    assert used == exact
    assert notes == [f"building {path.name}: it is not there yet"]
    assert find_or_build(exact, api, pytest.fail) == (path, exact)
    other = EngineRequest(model, GPU, "gray", COLOR, "fp16", Profile((80, 64), (80, 64), (80, 64)))
    ahead = build_engine(EngineRequest(model, Gpu((8, 9)), "gray", COLOR, "fp16", ANY_SIZE))
    path, used = find_or_build(other, api, pytest.fail)
    assert (path, used.profile) == (ahead.path, ANY_SIZE)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_spec_becomes_an_engine_that_computes_in_the_precision_asked_for(
    precision: str, machine: list[FakeDevice]
) -> None:
    planes, notes = waves(PIXEL_FORMATS["yuv420p"], 12, 10), list[str]()
    graph = FrameGraphSpec(planes.format, COLOR, 2, 12, 10)
    backend = TensorRtBackend()
    assert backend.unavailable_reason() is None
    spec = EngineSpec(load_model("fast", 2, precision), graph, precision, on_note=notes.append)
    want = reference.frame_graph(planes, COLOR, 2, onnx_models.bare(load_model("fast", 2)))
    for _ in range(2):
        engine = backend.compile(spec)
        got = engine.submit(planes).result()
        assert psnr(want[0], got.arrays[0]) >= {"fp32": 60, "fp16": 55, "int8": 45}[precision]
        assert precision in engine.description
        assert "Fake 9000" in engine.description
        engine.close()
    assert len(notes) == 1  # built once
    assert notes[0].startswith("building fast_x2_yuv420p_bt709-limited-left_12x10_")


def test_a_video_goes_through_it_from_file_to_file(
    machine: list[FakeDevice], clip: Callable[..., Path], tmp_path: Path
) -> None:
    source, notes = clip("a.mp4", frames=6, size=(32, 24)), list[str]()
    common = {"model": "bicubic", "precision": "fp32", "encoder": "ffv1"}
    upscale(source, tmp_path / "cpu.mkv", 2, backend="openvino", **common)
    report = upscale(source, tmp_path / "gpu.mkv", 2, backend="tensorrt", on_note=notes.append, **common)
    assert (report.backend, report.frames_out) == ("tensorrt", 6)
    assert any("building bicubic_x2_yuv420p" in note for note in notes)
    assert (tmp_path / "engines" / "fake-rt-1.0-sm_89.timing").read_bytes() == b"grown"
    pairs = zip(frames_of(tmp_path / "cpu.mkv"), frames_of(tmp_path / "gpu.mkv"), strict=True)
    assert all(np.abs(a.astype(int) - b.astype(int)).max() <= 1 for a, b in pairs)


def test_batches_of_a_video_come_in_order_and_the_last_one_may_be_incomplete(
    machine: list[FakeDevice], clip: Callable[..., Path], tmp_path: Path
) -> None:
    source = clip("a.mp4", frames=11, size=(32, 24))
    common: Any = {"model": "bicubic", "precision": "fp32", "encoder": "ffv1"}
    upscale(source, tmp_path / "cpu.mkv", 2, backend="openvino", **common)
    report = upscale(source, tmp_path / "gpu.mkv", 2, backend="tensorrt", batch=4, **common)
    assert "3 lanes of 4 pictures" in report.engine
    assert (report.frames_in, report.frames_out) == (11, 11)
    work = [what for what, _ in machine[-1].log]
    assert work[-1] == "wait"
    assert work[-6:].count("launch") <= 3  # of 4, 4 and 3 frames
    pairs = zip(frames_of(tmp_path / "cpu.mkv"), frames_of(tmp_path / "gpu.mkv"), strict=True)
    assert all(np.abs(a.astype(int) - b.astype(int)).max() <= 1 for a, b in pairs)


def test_a_batch_that_fails_in_the_middle_of_a_video_ends_the_job_and_leaves_no_file(
    machine: list[FakeDevice], clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder, plain = clip("a.mp4", frames=11, size=(32, 24)), tmp_path / "out", FakeContext.execute_async_v3
    folder.mkdir()

    def stop_at_the_end(self: FakeContext, handle: int) -> bool:
        return machine[-1].left > 0 and plain(self, handle)

    def spoil(progress: Any) -> None:
        machine[-1].left = 0

    monkeypatch.setattr(FakeContext, "execute_async_v3", stop_at_the_end)
    monkeypatch.setattr(tensorrt.RecordedGraph, "begin", None)  # nothing is recorded
    options: Any = {"model": "bicubic", "precision": "fp32", "encoder": "ffv1", "backend": "tensorrt", "batch": 2}
    with pytest.raises(BackendError, match="TensorRT does not enqueue the frame"):
        upscale(source, folder / "a.mkv", 2, on_progress=spoil, **options)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("batch", [0, 65, 1.5])
def test_a_batch_is_a_number_of_frames(batch: Any) -> None:
    with pytest.raises(OptionError, match=r"batch .*; allowed are 1 to 64 frames at once"):
        UpscaleOptions(batch=batch)


def test_a_batch_for_the_cpu_is_refused_in_one_line(samples: Path, tmp_path: Path) -> None:
    outcome = vsr("upscale", samples / "clip.mp4", "-s", "2", "--batch", "2", "-o", tmp_path / "out.mp4")
    assert outcome.code == 2
    said = "backend openvino computes one picture at a time, and a batch of 2 was asked for; use --backend tensorrt"
    assert outcome.err == f"vsr: error: {said}\n"
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_the_runtime_does_not_load_is_built_again_once(
    machine: list[FakeDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    planes, notes, refusals = picture(13, "gray"), list[str](), [1]
    plain = FakeTensorRt.deserialise

    def refuse(self: Any, data: bytes) -> Any:
        if refusals[0]:
            refusals[0] -= 1
            raise EngineLoadError("fake-rt 1.0 does not load the engine: Version tag does not match")
        return plain(self, data)

    monkeypatch.setattr(FakeTensorRt, "deserialise", refuse)
    graph = FrameGraphSpec(planes.format, COLOR, 2, planes.width, planes.height)
    spec = EngineSpec(Model(BICUBIC, 2), graph, "fp32", on_note=notes.append)
    engine = TensorRtBackend().compile(spec)
    assert worst_difference(engine.submit(planes).result(), reference.frame_graph(planes, COLOR, 2)) <= 1
    engine.close()
    assert [n.split(": ")[1] for n in notes] == [
        "it is not there yet",
        "fake-rt 1.0 does not load the engine",
        "it has no manifest",
    ]
    refusals[0] = 2
    with pytest.raises(EngineLoadError, match="Version tag"):
        TensorRtBackend().compile(spec)


def test_any_output_size_has_an_engine_of_its_own(machine: list[FakeDevice]) -> None:
    planes, notes = picture(12, "gray", 70, 66), list[str]()
    for size in ((100, 90), (150, 140), (140, 132)):  # the last is twice the input
        graph = FrameGraphSpec(planes.format, COLOR, 2, 70, 66, Target(size))
        engine = TensorRtBackend().compile(EngineSpec(Model(BICUBIC, 2), graph, "fp32", on_note=notes.append))
        got = engine.submit(planes).result()
        engine.close()
        assert (got.width, got.height) == size
    assert worst_difference(got, reference.frame_graph(planes, COLOR, 2)) <= 1
    assert len({note.split(":")[0] for note in notes}) == 3


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]


def test_streams_that_differ_in_nothing_that_is_computed_share_an_engine() -> None:
    fmt, luma = PIXEL_FORMATS["yuv420p"], Model(BICUBIC, 2)
    rgb = Model("own.onnx", 2, onnx_models.compact(2).SerializeToString(), 3)
    tagged = ColorSpec(1, 1, 1, Range.LIMITED, Siting.LEFT)
    plain = build.arithmetic_part(ColorSpec(), fmt, luma)
    assert plain == build.arithmetic_part(tagged, fmt, luma) == ColorSpec(1, range=Range.LIMITED, siting=Siting.LEFT)
    assert build.arithmetic_part(ColorSpec(), fmt, rgb) != build.arithmetic_part(tagged, fmt, rgb)
    assert build.arithmetic_part(ColorSpec(range=Range.FULL), fmt, luma) != plain
