"""Where a GPU's memory ends: fewer frames in flight, then strips, the same bits, and at last a line that says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

from tests.backends import onnx_models
from tests.backends.fake_gpu import FakeApi, FakeDevice, FakeEngine, FakeTensorRt
from tests.backends.reference import random_planes
from vsr.backends import tensorrt
from vsr.backends.openvino import OpenVinoBackend
from vsr.backends.tensorrt import TensorRtBackend
from vsr.backends.torch import TorchEngine
from vsr.engines.compile import open_engine
from vsr.engines.engine import Engine, EngineSpec
from vsr.engines.fitting import compile_fitting, memory_budget, planned
from vsr.errors import BackendError, DeviceMemoryError, OptionError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes
from vsr.gpu.build import ANY_SIZE
from vsr.gpu.memory import lacks_memory
from vsr.graphs.footprint import footprint
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.job import upscale
from vsr.model import BICUBIC, Model, load_model


def spec_for(planes: Planes, model: Model | None = None, notes: list[str] | None = None) -> EngineSpec:
    model = model or Model(BICUBIC, 2)
    graph = FrameGraphSpec(planes.format, ColorSpec(), model.scale, planes.width, planes.height)
    return EngineSpec(model, graph, "fp32", 1, on_note=(notes if notes is not None else []).append)


def of_few_rows(rows: int, sizes: list[int] | None = None) -> Callable[[EngineSpec], Engine]:
    """OpenVINO on a device that holds `rows` rows."""

    def compile_spec(spec: EngineSpec) -> Engine:
        if sizes is not None:
            sizes.append(spec.graph.height)
        if spec.graph.height > rows:
            raise DeviceMemoryError("the GPU's memory does not hold it", "close what else uses the GPU")
        return OpenVinoBackend().compile(spec)

    return compile_spec


def same(engine: Engine, other: Engine, planes: Planes) -> bool:
    pairs = zip(engine.submit(planes).result().arrays, other.submit(planes).result().arrays, strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("model", [None, ("fast", 2)])
def test_what_a_gpu_does_not_hold_is_computed_in_strips_with_the_same_bits(model: tuple[str, int] | None) -> None:
    planes, notes, sizes = random_planes(PIXEL_FORMATS["yuv420p"], 18, 150), list[str](), list[int]()
    spec = spec_for(planes, None if model is None else load_model(*model), notes)
    cut, whole = compile_fitting(of_few_rows(60, sizes), spec), OpenVinoBackend().compile(spec)
    assert same(cut, whole, planes)
    assert "strips" in cut.description
    assert sizes[0] == 150
    assert 60 < sizes[1] <= 75
    assert sizes[2] <= 37
    assert [note.split(": ")[0] for note in notes] == ["the GPU's memory does not hold it"] * 2
    assert notes[-1].endswith(f"strips of {sizes[2]} rows")
    cut.close()
    whole.close()


def test_strips_of_a_few_rows_are_the_end_and_nothing_is_left_open() -> None:
    planes, sizes = random_planes(PIXEL_FORMATS["gray"], 10, 160), list[int]()
    with pytest.raises(
        DeviceMemoryError, match=r"^the GPU's memory .* not even for \d+ strips of \d+ rows; close what"
    ):
        compile_fitting(of_few_rows(4, sizes), spec_for(planes))
    assert sizes == sorted(set(sizes), reverse=True)
    assert 8 <= sizes[-1] < 40
    with pytest.raises(DeviceMemoryError, match="not even for one picture of 10x12"):
        compile_fitting(of_few_rows(4), spec_for(random_planes(PIXEL_FORMATS["gray"], 10, 12)))


def test_a_model_that_reads_the_whole_picture_is_not_cut_and_that_is_said() -> None:
    mean = helper.make_node("ReduceMean", ["input"], ["m"], axes=[2, 3], keepdims=1)
    nodes = [mean, helper.make_node("Add", ["input", "m"], ["a"]), helper.make_node("Conv", ["a", "k"], ["x"])]
    nodes.append(helper.make_node("DepthToSpace", ["x"], ["output"], blocksize=2, mode="CRD"))
    proto = onnx_models.make_model(nodes, {"k": np.ones((4, 1, 1, 1), np.float32)})
    sizes = list[int]()
    spec = spec_for(random_planes(PIXEL_FORMATS["gray"], 10, 160), Model("own.onnx", 2, proto.SerializeToString()))
    with pytest.raises(DeviceMemoryError, match=r"does not hold it; model own.onnx cannot be computed in strips"):
        compile_fitting(of_few_rows(80, sizes), spec)
    assert sizes == [160]


def test_other_errors_are_not_tried_again() -> None:
    def refuse(_: EngineSpec) -> Engine:
        raise BackendError("no")

    with pytest.raises(BackendError, match=r"^no$"):
        compile_fitting(refuse, spec_for(random_planes(PIXEL_FORMATS["gray"], 10, 160)))


@pytest.mark.parametrize(
    "said",
    [
        "cuMemAlloc failed: out of memory",
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB",
        "CUDA: cuGraphInstantiate failed with CUDA_ERROR_OUT_OF_MEMORY",
        "Error Code 2: OutOfMemory (Requested size was 2147483648 bytes.)",
        "cudaErrorMemoryAllocation",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        MemoryError(),
        torch.OutOfMemoryError(),
    ],
)
def test_memory_is_told_from_other_trouble(said: Any) -> None:
    assert lacks_memory(said)
    assert not lacks_memory("CUDA: an illegal memory access was encountered")
    assert not lacks_memory(RuntimeError("operation not permitted when stream is capturing"))


def test_a_backend_that_takes_one_picture_at_a_time_refuses_batches() -> None:
    spec = replace(spec_for(random_planes(PIXEL_FORMATS["gray"], 10, 16)), batch=2)
    with pytest.raises(OptionError, match="openvino computes one picture at a time, and a batch of 2 was asked for"):
        open_engine(spec, "openvino")
    with pytest.raises(OptionError, match="batch 0; it must be 1 or more"):
        replace(spec, batch=0)


# -- torch ------------------------------------------------------------------------------------------------------------


def test_torch_goes_to_strips_when_recording_finds_no_memory() -> None:
    planes, notes = random_planes(PIXEL_FORMATS["yuv420p"], 16, 120), list[str]()

    def record(run: Callable[[], Any]) -> Any:
        if run()[0].shape[2] > 2 * 64:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nand much more")
        return run

    spec = spec_for(planes, notes=notes)
    cut = compile_fitting(lambda part: TorchEngine(part, "cpu", record), spec)
    whole = TorchEngine(spec, "cpu")
    assert same(cut, whole, planes)
    assert len(notes) == 1
    assert notes[0].startswith("the GPU's memory does not hold what one frame needs: CUDA out of memory. Tried to")


class TightTorch(TorchEngine):
    """Its device holds `room` frames at once."""

    room = 1

    def _run(self, inputs: Any) -> Any:
        if self._outstanding >= self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super()._run(inputs)


def test_torch_takes_fewer_frames_at_once_where_two_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> Any:
        raise RuntimeError("cannot be recorded")

    planes, notes = random_planes(PIXEL_FORMATS["yuv420p"], 16, 12), list[str]()
    engine = TightTorch(spec_for(planes, notes=notes), "cpu", refuse)
    assert engine.depth == 1
    assert notes == ["the GPU's memory holds 1 of 2 frames in flight"]
    assert same(engine, TorchEngine(spec_for(planes), "cpu"), planes)
    monkeypatch.setattr(TightTorch, "room", 0)
    with pytest.raises(DeviceMemoryError, match="close what else uses the GPU"):
        TightTorch(spec_for(planes), "cpu", refuse)


# -- TensorRT ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_gpu(machine: list[FakeDevice], monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that says how much memory the fake GPU has."""
    left = [1 << 30]

    def open_fake(number: int) -> FakeDevice:
        machine.append(FakeDevice(number=number, memory=left[0]))
        return machine[-1]

    monkeypatch.setattr(tensorrt, "open_device", open_fake)
    return lambda size: left.__setitem__(0, size)


def test_tensorrt_has_fewer_lanes_then_strips_and_the_same_bits(small_gpu: Callable[[int], None]) -> None:
    planes, notes = random_planes(PIXEL_FORMATS["gray"], 8, 96), list[str]()
    one_frame = 8 * 96 * 5
    spec = spec_for(planes, notes=notes)
    whole = TensorRtBackend().compile(spec)
    small_gpu(2 * one_frame)
    fewer = open_engine(spec, "tensorrt").engine
    assert fewer.depth == 2
    assert notes[-1] == "the GPU's memory holds 2 of 3 lanes: cuMemAlloc failed: out of memory"
    assert same(fewer, whole, planes)
    small_gpu(one_frame - 1)
    cut = open_engine(spec, "tensorrt").engine
    assert "strips" in cut.description
    assert any("does not hold what one frame needs: cuMemAlloc failed: out of memory: trying" in n for n in notes)
    assert same(cut, whole, planes)
    one_by_one = open_engine(replace(spec, batch=3), "tensorrt").engine
    assert "of 3 pictures" not in one_by_one.description
    small_gpu(one_frame * 5 // 2)
    pairs = open_engine(replace(spec, batch=5), "tensorrt").engine
    assert pairs.depth == 2
    assert "1 lanes of 2 pictures" in pairs.description
    assert any(note.endswith("trying 2 pictures at once") for note in notes)
    for engine in (whole, fewer, cut, one_by_one, pairs):
        assert same(engine, whole, planes)
    for engine in (whole, fewer, cut, one_by_one, pairs):
        engine.close()


def test_a_job_whose_frames_no_gpu_memory_holds_ends_with_one_line_and_no_file(
    small_gpu: Callable[[int], None], clip: Callable[..., Path], tmp_path: Path
) -> None:
    source, folder = clip("a.mp4", frames=2, size=(32, 24)), tmp_path / "out"
    folder.mkdir()
    small_gpu(100)
    with pytest.raises(DeviceMemoryError, match=r"not even for .*; close what else uses the GPU"):
        upscale(source, folder / "a.mkv", 2, model="bicubic", precision="fp32", backend="tensorrt", encoder="ffv1")
    assert list(folder.iterdir()) == []


def test_no_context_is_about_memory_only_if_the_runtime_says_so(
    machine: list[FakeDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    planes, notes = random_planes(PIXEL_FORMATS["gray"], 8, 96), list[str]()
    monkeypatch.setattr(FakeEngine, "create_execution_context", lambda *_: None)
    with pytest.raises(BackendError, match="makes no execution context") as error:
        open_engine(spec_for(planes), "tensorrt")
    assert not isinstance(error.value, DeviceMemoryError)
    monkeypatch.setattr(FakeApi, "said_so", True)
    with pytest.raises(DeviceMemoryError, match=r"not even for .* strips"):
        open_engine(spec_for(planes, notes=notes), "tensorrt")
    assert sum("trying" in note for note in notes) >= 2


def test_building_without_memory_builds_for_strips(machine: list[FakeDevice], monkeypatch: pytest.MonkeyPatch) -> None:
    planes, plain = random_planes(PIXEL_FORMATS["gray"], 8, 96), FakeTensorRt.build

    def build(self: Any, graph: bytes, *others: Any) -> Any:
        if FakeEngine(self.device, graph).inputs["y"][2] > 50:  # type: ignore[operator]
            raise DeviceMemoryError("cannot build: OutOfMemory")
        return plain(self, graph, *others)

    monkeypatch.setattr(FakeTensorRt, "build", build)
    engine = open_engine(spec_for(planes), "tensorrt").engine
    assert "strips" in engine.description
    assert same(engine, TorchEngine(spec_for(planes), "cpu"), planes)
    engine.close()


def test_an_engine_of_free_sizes_that_needs_too_much_gives_way_to_one_of_the_size(
    machine: list[FakeDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its contexts take what the largest size needs."""
    planes, notes = random_planes(PIXEL_FORMATS["gray"], 66, 64), list[str]()
    spec = spec_for(planes, notes=notes)
    request, api = tensorrt._request(spec)
    tensorrt.build_engine(replace(request, profile=ANY_SIZE), api=api)
    plain = FakeEngine.create_execution_context

    def create(self: FakeEngine, config: Any = None) -> Any:
        return None if None in self.inputs["y"] else plain(self, config)

    monkeypatch.setattr(FakeEngine, "create_execution_context", create)
    monkeypatch.setattr(FakeApi, "said_so", True)
    engine = TensorRtBackend().compile(spec)
    assert any("an engine for this size only needs less" in note for note in notes)
    assert same(engine, TorchEngine(spec, "cpu"), planes)
    engine.close()


@pytest.mark.parametrize("model", [("bicubic", 2), ("fast", 4)])
def test_strips_leave_room_for_those_beside_them(model: tuple[str, int]) -> None:
    """With 2 GiB for each a scan of 108 million pixels took 12 GB: several are under way at once."""
    chosen = load_model(*model)
    graph = FrameGraphSpec(PIXEL_FORMATS["gbrp"], ColorSpec(), chosen.scale, 12000, 9000)
    plan = planned(EngineSpec(chosen, graph, "fp32", 1))
    assert plan.grid is not None
    of_strip = plan.spec.graph.height * 12000 * footprint(chosen).bytes_per_sample
    assert 4 * of_strip <= memory_budget() / 2
