"""The TensorRT backend: its order of calls against a GPU that is a fake, its names against the real bindings."""

from __future__ import annotations

import contextlib
import ctypes
import random
import sys
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import tensorrt_rtx
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends import fake_gpu, onnx_models, reference
from tests.backends.fake_gpu import FakeApi, FakeDevice, FakeGraph
from tests.backends.reference import random_planes, worst_difference
from tests.end_to_end.command import assert_one_line, vsr
from tests.graphs.test_low_precision import psnr, smooth
from vsr.backends import device as device_module
from vsr.backends import tensorrt
from vsr.backends.device import PycudaDevice, TorchDevice, open_device
from vsr.backends.tensorrt import TensorRtBackend, TensorRtEngine
from vsr.engines.engine import EngineSpec
from vsr.errors import BackendError, EngineLoadError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes, Range, Siting
from vsr.gpu import build, cuda_driver, tensorrt_api
from vsr.gpu.build import ANY_SIZE, EngineRequest, build_engine, find_or_build
from vsr.gpu.cuda_driver import Driver
from vsr.gpu.engine_store import Profile
from vsr.gpu.names import Gpu
from vsr.graphs.frame_graph import FrameGraphSpec, Target, build_frame_graph
from vsr.job import upscale
from vsr.model import BICUBIC, Model, load_model

GPU = Gpu((8, 9), "NVIDIA Something")
COLOR = ColorSpec()


def asked_for(planes: Planes, model: Model, precision: str = "fp32") -> EngineRequest:
    size = (planes.width, planes.height)
    return EngineRequest(model, GPU, planes.format.name, COLOR, precision, Profile(size, size, size))


@contextlib.contextmanager
def opened(
    planes: Planes,
    model: Model | None = None,
    *,
    device: FakeDevice | None = None,
    graphs: bool = True,
    capturable: bool = True,
    request: EngineRequest | None = None,
    lanes: int = 3,
) -> Iterator[tuple[TensorRtEngine, FakeDevice, FakeApi]]:
    model, device = model or Model(BICUBIC, 2), device or FakeDevice()
    api: Any = FakeApi(device)
    api.capturable = capturable
    request = request or asked_for(planes, model)
    data = build_frame_graph(model, request.spec, request.form).SerializeToString()
    graph = FrameGraphSpec(planes.format, COLOR, model.scale, planes.width, planes.height)
    record = (lambda handle: FakeGraph(device, handle)) if graphs else None
    spec = EngineSpec(model, graph, "fp32", 1)
    fake: Any = device
    try:
        engine = TensorRtEngine(api, fake, data, spec, request, lanes, record)
        try:
            yield engine, device, api
        finally:
            engine.close()
    finally:
        device.close()


def picture(seed: int = 0, name: str = "yuv420p", width: int = 9, height: int = 7) -> Planes:
    return random_planes(PIXEL_FORMATS[name], width, height, seed)


@pytest.mark.parametrize("name", ["gray", "yuv420p", "yuv420p10le", "yuv422p12le", "gbrp", "yuva420p", "gbrap16le"])
@pytest.mark.parametrize("graphs", [True, False])
def test_every_format_comes_back_as_the_definition_says(name: str, graphs: bool) -> None:
    planes = picture(1, name)
    want = reference.frame_graph(planes, COLOR, 2)
    with opened(planes, graphs=graphs) as (engine, device, _):
        for _ in range(5):
            assert worst_difference(engine.submit(planes).result(), want) <= 1
        assert ("no CUDA graphs" in engine.description) != graphs
        what = {w for w, _ in device.log}
        assert ("launch" in what) == graphs


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    lanes=st.integers(1, 4),
    graphs=st.booleans(),
    plan=st.lists(st.booleans(), max_size=14),
)
def test_whatever_the_delays_every_frame_is_its_own(seed: int, lanes: int, graphs: bool, plan: list[bool]) -> None:
    """Frames are started, taken and given up in any mixture; each result is that of its own picture."""
    rng = random.Random(seed)
    device = FakeDevice(delay=lambda: rng.choice((0, 0, 0, 0.0005, 0.003)))
    pictures = [picture(i, "gray", 4, 3) for i in range(5)]
    wants = [reference.frame_graph(p, COLOR, 2) for p in pictures]
    with opened(pictures[0], device=device, graphs=graphs, lanes=lanes) as (engine, _, _):
        waiting: list[tuple[int, Any]] = []
        for i, take in enumerate([*plan, *[True] * lanes]):
            if waiting and (take or len(waiting) == engine.depth):
                number, ticket = waiting.pop(rng.randrange(len(waiting)))
                if rng.random() < 0.2:
                    ticket.cancel()
                else:
                    assert worst_difference(ticket.result(), wants[number]) <= 1
            number = i % len(pictures)
            waiting.append((number, engine.submit(pictures[number])))
        for number, ticket in waiting:
            assert worst_difference(ticket.result(), wants[number]) <= 1


def test_frames_overlap() -> None:
    """All lanes are started before the first has to be waited for."""
    planes = picture(0, "gray")
    with opened(planes, graphs=False) as (engine, device, _):
        device.log.clear()
        tickets = [engine.submit(planes) for _ in range(engine.depth)]
        before = [w for w, _ in device.log]
        assert before == ["upload", "execute", "download", "record"] * 3
        assert len({stream for _, stream in device.log}) == 3
        for ticket in tickets:
            ticket.result()


def test_more_frames_than_lanes_are_refused_and_do_no_harm() -> None:
    planes = picture(2)
    with opened(planes) as (engine, _, _):
        tickets = [engine.submit(planes) for _ in range(engine.depth)]
        with pytest.raises(BackendError, match="in flight"):
            engine.submit(planes)
        for ticket in tickets:
            ticket.result()
        engine.submit(planes).result()


def test_an_engine_runs_in_another_thread_than_it_was_made_in() -> None:
    planes = picture(3)
    with opened(planes) as (engine, _, _), ThreadPoolExecutor(1) as pool:
        got = pool.submit(lambda: engine.submit(planes).result()).result()
    assert worst_difference(got, reference.frame_graph(planes, COLOR, 2)) <= 1


def test_an_engine_of_free_sizes_is_told_the_size_first() -> None:
    planes, model = picture(4, "yuv420p10le", 70, 66), Model(BICUBIC, 2)
    request = EngineRequest(model, GPU, planes.format.name, COLOR, "fp32", ANY_SIZE)
    with opened(planes, model, request=request) as (engine, _, _):
        assert worst_difference(engine.submit(planes).result(), reference.frame_graph(planes, COLOR, 2)) <= 1


def test_a_model_of_ones_own_runs() -> None:
    planes, model = (
        picture(5, "yuv444p"),
        Model("own.onnx", 3, onnx_models.compact(3, noise=0.01).SerializeToString(), 3),
    )
    want = reference.rgb_frame_graph(planes, COLOR, 3, onnx_models.bare_rgb(onnx_models.compact(3, noise=0.01)))
    with opened(planes, model) as (engine, _, _):
        assert worst_difference(engine.submit(planes).result(), want) <= 1


def test_work_that_cannot_be_recorded_is_enqueued_piece_by_piece() -> None:
    planes = picture(6, "gray")
    with opened(planes, capturable=False) as (engine, device, _):
        engine.submit(planes).result()
        assert "no CUDA graphs" in engine.description
        assert "launch" not in {w for w, _ in device.log}


def test_a_call_that_cannot_be_recorded_ends_the_recording_and_the_frame_is_enqueued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planes = picture(6, "gray")
    plain = FakeDevice.download

    def refuse_while_recording(self: FakeDevice, target: Any, source: Any, stream: Any) -> None:
        if stream.recording is not None:
            raise fake_gpu.FakeError("operation not permitted when stream is capturing")
        plain(self, target, source, stream)

    monkeypatch.setattr(FakeDevice, "download", refuse_while_recording)
    with opened(planes) as (engine, device, _):
        assert "no CUDA graphs" in engine.description
        assert all(stream.recording is None for stream in device.streams.values())
        assert worst_difference(engine.submit(planes).result(), reference.frame_graph(planes, COLOR, 2)) <= 1


def test_with_little_memory_there_are_fewer_lanes_and_with_less_a_clear_line() -> None:
    planes = picture(7, "gray", 8, 8)
    need = 8 * 8 * 5
    with opened(planes, device=FakeDevice(memory=2 * need + 1)) as (engine, device, _):
        assert engine.depth == 2
        engine.submit(planes).result()
    assert device.memories == {}
    with (
        pytest.raises(BackendError, match=r"memory does not hold.*out of memory.*close what else"),
        opened(planes, device=FakeDevice(memory=need - 1)),
    ):
        pass


def test_closing_frees_everything_once() -> None:
    planes = picture(8)
    with opened(planes) as (engine, device, _):
        engine.submit(planes).result()
        engine.close()
        engine.close()
        assert device.memories == {}
        assert device.closed


def test_a_frame_that_is_not_enqueued_or_fails_is_an_error_of_ours_and_gives_its_lane_back() -> None:
    planes = picture(9, "gray")
    with opened(planes, graphs=False) as (engine, device, api):
        assert api.engine is not None
        api.engine.refuses = True
        for _ in range(engine.depth + 1):
            with pytest.raises(BackendError, match="does not enqueue"):
                engine.submit(planes)
        api.engine.refuses = False
        ticket = engine.submit(planes)
        device.failures.append(fake_gpu.FakeError("illegal address\nmore lines"))
        with pytest.raises(BackendError, match=r"^TensorRT failed on a frame: illegal address$"):
            ticket.result()


# -- the real names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (fake_gpu.FakeContext, tensorrt_rtx.IExecutionContext),
        (fake_gpu.FakeEngine, tensorrt_rtx.ICudaEngine),
    ],
)
def test_the_fake_has_only_what_the_bindings_have(fake: type, real: type) -> None:
    names = [n for n, v in vars(fake).items() if not n.startswith("_") and callable(v)]
    assert names
    assert [n for n in names if not hasattr(real, n)] == []


def test_what_the_bindings_must_have_is_there() -> None:
    for owner, names in {
        tensorrt_rtx.Runtime: ["deserialize_cuda_engine"],
        tensorrt_rtx.Builder: ["create_network", "create_builder_config", "create_optimization_profile"],
        tensorrt_rtx.IBuilderConfig: ["create_timing_cache", "set_timing_cache", "add_optimization_profile"],
        tensorrt_rtx.ITimingCache: ["serialize"],
    }.items():
        assert [n for n in names if not hasattr(owner, n)] == []


# -- what is there, and what is not -----------------------------------------------------------------------------------


def test_without_a_gpu_the_reason_is_that_and_no_runtime_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "probe", lambda: "no NVIDIA driver is installed (libcuda.so.1 is missing)")
    monkeypatch.setattr(tensorrt_api, "load", lambda _: pytest.fail("TensorRT was touched"))
    assert "libcuda.so.1 is missing" in str(TensorRtBackend().unavailable_reason())
    assert TensorRtBackend().gpu_name() is None
    graph = FrameGraphSpec(PIXEL_FORMATS["gray"], COLOR, 2, 4, 4)
    with pytest.raises(BackendError, match="needs a GPU"):
        TensorRtBackend().compile(EngineSpec(Model(BICUBIC, 2), graph))


def test_with_a_gpu_it_is_said_how_to_reach_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "probe", lambda: Driver(GPU, 1 << 34, (13, 0)))
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


class FakeTensorRt(FakeApi):
    """With the builder's side, too: what it builds is the frame graph itself."""

    ties_to_gpu_name = True

    def check_target(self, gpu: Gpu) -> None:
        assert gpu == GPU

    def build(self, graph: bytes, name: str, gpu: Gpu, profile: Any, timing: bytes | None) -> Any:
        assert timing is not None  # the GPU is here
        return tensorrt_api.Built(graph, ()), timing + b"grown"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeDevice]]:
    """A machine with a fake GPU, as `TensorRtBackend` sees it; the devices that were opened."""
    devices: list[FakeDevice] = []

    def open_fake() -> FakeDevice:
        devices.append(FakeDevice())
        return devices[-1]

    def choose(*, without_gpu: bool) -> Any:
        assert not without_gpu
        return FakeTensorRt(devices[-1] if devices else FakeDevice())

    def deserialise(self: Any, data: bytes) -> Any:
        self.device = devices[-1]
        return FakeApi.deserialise(self, data)

    for module in (tensorrt, build):
        monkeypatch.setattr(module, "probe", lambda: Driver(GPU, 1 << 34, (13, 0)))
    monkeypatch.setattr(build, "default_folder", lambda: tmp_path / "engines")
    monkeypatch.setattr(FakeTensorRt, "deserialise", deserialise)
    monkeypatch.setattr(tensorrt, "open_device", open_fake)
    monkeypatch.setattr(tensorrt_api, "choose_runtime", choose)
    monkeypatch.setattr(tensorrt.RecordedGraph, "begin", lambda handle: FakeGraph(devices[-1], handle))
    yield devices
    for device in devices:
        assert device.closed
        assert device.memories == {}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_spec_becomes_an_engine_that_computes_in_the_precision_asked_for(
    precision: str, machine: list[FakeDevice]
) -> None:
    planes, notes = smooth("yuv420p", 12, 10), list[str]()
    graph = FrameGraphSpec(planes.format, COLOR, 2, 12, 10)
    backend = TensorRtBackend()
    assert backend.unavailable_reason() is None
    spec = EngineSpec(load_model("fast", 2, precision), graph, precision, on_note=notes.append)
    want = reference.frame_graph(planes, COLOR, 2, onnx_models.bare(load_model("fast", 2)))
    for _ in range(2):
        engine = backend.compile(spec)
        got = engine.submit(planes).result()
        assert psnr(got.arrays[0], want[0], 255) >= {"fp32": 60, "fp16": 55, "int8": 45}[precision]
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


# -- the two device interfaces, against stand-ins of their packages ---------------------------------------------------


class FakePycuda(types.ModuleType):
    """pycuda.driver's names, as in its sources (src/wrapper/wrap_cudadrv.cpp of 2026.1)."""

    class Error(Exception):
        pass

    class event_flags:  # noqa: N801
        DISABLE_TIMING = 2

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.calls: list[str] = []
        calls = self.calls

        class Context:
            def push(self) -> None:
                calls.append("push")

            @staticmethod
            def pop() -> None:
                calls.append("pop")

            def detach(self) -> None:
                calls.append("detach")

        class Device:
            def __init__(self, _: int) -> None:
                pass

            def retain_primary_context(self) -> Context:
                return Context()

            def name(self) -> str:
                return "Fake"

        self.Device = Device
        self.Stream = lambda: types.SimpleNamespace(handle=7)
        self.Event = lambda flags: types.SimpleNamespace(flags=flags)

    def init(self) -> None:
        self.calls.append("init")

    def pagelocked_empty(self, size: int, dtype: Any) -> Any:
        class Base(np.ndarray):
            pass

        owner = np.zeros(size, dtype).view(Base)
        owner.free = lambda: self.calls.append("free host")  # type: ignore[attr-defined]
        return np.ndarray.__new__(Base, size, dtype, owner)

    def mem_alloc(self, size: int) -> Any:
        calls = self.calls

        class Allocation:
            def __int__(self) -> int:
                return 0xABC

            def free(self) -> None:
                calls.append("free device")

        return Allocation()

    def memcpy_htod_async(self, dest: int, src: Any, stream: Any) -> None:
        self.calls.append(f"up {dest:x} {len(src)} {stream.handle}")

    def memcpy_dtoh_async(self, dest: Any, src: int, stream: Any) -> None:
        self.calls.append(f"down {src:x} {len(dest)} {stream.handle}")


def test_pycuda_is_used_by_its_primary_context_only(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakePycuda()
    monkeypatch.setitem(sys.modules, "pycuda", types.ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake)
    device = PycudaDevice()
    with device.active():
        host, memory, stream = device.host(16), device.memory(16), device.stream()
        device.upload(memory, host, stream)  # type: ignore[arg-type]
        device.download(host, memory, stream)  # type: ignore[arg-type]
        assert device.event().flags == 2
        memory.free()
        host.free()
    with pytest.raises(ZeroDivisionError), device.active():
        1 / 0  # noqa: B018
    device.close()
    assert fake.calls == [
        "init",
        "push",
        "up abc 16 7",
        "down abc 16 7",
        "free device",
        "free host",
        "pop",
        "push",
        "pop",
        "detach",
    ]
    assert "pycuda.autoinit" not in sys.modules


def test_a_torch_without_cuda_is_told_apart_from_none() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this torch has a GPU")
    with pytest.raises(BackendError, match=r"torch .* cannot use the GPU; pip install 'vsr\[cuda\]'"):
        TorchDevice()


class FakeLibcuda:
    """The driver's C functions, writing through ctypes pointers as the real ones do."""

    def __init__(self, fail: str = "", code: int = 0, devices: int = 1) -> None:
        self.fail, self.code, self.devices = fail, code, devices

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == self.fail:
                return self.code
            values = {
                "cuDeviceGetCount": self.devices,
                "cuDeviceGet": 0,
                "cuDriverGetVersion": 13010,
                "cuDeviceTotalMem_v2": 1 << 34,
                "cuDeviceGetAttribute": 8 if 75 in arguments[1:] else 9,
            }
            if name == "cuDeviceGetName":
                arguments[0].value = b"NVIDIA Something"
            elif name == "cuGetErrorName":
                arguments[1]._obj.value = b"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"
            elif name in values:
                arguments[0]._obj.value = values[name]
            return 0

        return call


def probed(monkeypatch: pytest.MonkeyPatch, library: Any) -> Driver | str:
    monkeypatch.setattr(cuda_driver, "library", library)
    cuda_driver.probe.cache_clear()
    try:
        return cuda_driver.probe()
    finally:
        cuda_driver.probe.cache_clear()


def test_the_driver_is_asked_for_the_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = probed(monkeypatch, FakeLibcuda)
    assert found == Driver(Gpu((8, 9), "NVIDIA Something"), 1 << 34, (13, 1))


def test_a_driver_that_is_missing_empty_or_broken_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        return ctypes.CDLL("libnothing-of-that-name.so.1")

    assert "libcuda.so.1 is missing" in str(probed(monkeypatch, missing))
    assert "finds no GPU" in str(probed(monkeypatch, lambda: FakeLibcuda(devices=0)))
    broken = probed(monkeypatch, lambda: FakeLibcuda("cuInit", 803))
    assert "cuInit failed with CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" in str(broken)
