"""The TensorRT engine: its order of calls against a GPU that is a fake, its names against the real bindings."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import tensorrt_rtx
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends import fake_gpu, onnx_models, reference
from tests.backends.fake_gpu import GPU, FakeApi, FakeDevice, FakeGraph
from tests.backends.reference import picture, worst_difference
from vsr.backends.tensorrt import TensorRtEngine
from vsr.engines.engine import EngineSpec
from vsr.errors import BackendError, DeviceMemoryError
from vsr.frame import ColorSpec, Planes
from vsr.gpu.build import ANY_SIZE, EngineRequest
from vsr.gpu.engine_store import Profile
from vsr.graphs.frame_graph import FrameGraphSpec, build_frame_graph
from vsr.model import BICUBIC, Model

COLOR = ColorSpec()


def asked_for(planes: Planes, model: Model, precision: str = "fp32", batch: int = 1) -> EngineRequest:
    size = (planes.width, planes.height)
    return EngineRequest(model, GPU, planes.format.name, COLOR, precision, Profile(size, size, size, batch))


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
    batch: int = 1,
    keep: bool = False,
) -> Iterator[tuple[TensorRtEngine, FakeDevice, FakeApi]]:
    model, device = model or Model(BICUBIC, 2), device or FakeDevice()
    api: Any = FakeApi(device)
    api.capturable = capturable
    request = request or asked_for(planes, model, batch=batch)
    data = build_frame_graph(model, request.spec, request.form).SerializeToString()
    graph = FrameGraphSpec(planes.format, COLOR, model.scale, planes.width, planes.height)
    record = (lambda handle: FakeGraph(device, handle)) if graphs else None
    spec = EngineSpec(model, graph, "fp32", 1, surfaces=keep, keep=keep)
    fake: Any = device
    try:
        engine = TensorRtEngine(api, fake, data, spec, request, lanes, record)
        try:
            yield engine, device, api
        finally:
            engine.close()
    finally:
        if not device.closed:  # no engine came about
            device.close()


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
    batch=st.integers(1, 3),
    graphs=st.booleans(),
    plan=st.lists(st.booleans(), max_size=14),
)
def test_whatever_the_delays_every_frame_is_its_own(
    seed: int, lanes: int, batch: int, graphs: bool, plan: list[bool]
) -> None:
    """Frames are started, taken and given up in any mixture; each result is that of its own picture."""
    rng = random.Random(seed)
    device = FakeDevice(delay=lambda: rng.choice((0, 0, 0, 0.0005, 0.003)))
    pictures = [picture(i, "gray", 4, 3) for i in range(5)]
    wants = [reference.frame_graph(p, COLOR, 2) for p in pictures]
    with opened(pictures[0], device=device, graphs=graphs, lanes=lanes, batch=batch) as (engine, _, _):
        assert engine.depth == lanes * batch
        waiting: list[tuple[int, Any]] = []
        for i, take in enumerate([*plan, *[True] * engine.depth]):
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


@pytest.mark.parametrize("graphs", [True, False])
def test_a_lane_starts_when_its_batch_is_full_or_one_of_it_is_asked_for(graphs: bool) -> None:
    pictures = [picture(i, "yuv420p10le", 6, 4) for i in range(6)]
    wants = [reference.frame_graph(p, COLOR, 2) for p in pictures]
    with opened(pictures[0], lanes=2, batch=3, graphs=graphs) as (engine, device, _):
        started = ["launch", "record"] if graphs else ["upload"] * 3 + ["execute"] + ["download"] * 3 + ["record"]
        device.log.clear()
        tickets = [engine.submit(p) for p in pictures[:2]]
        assert device.log == []
        tickets.append(engine.submit(pictures[2]))
        assert [what for what, _ in device.log] == started
        tickets.append(engine.submit(pictures[3]))
        device.log.clear()
        assert worst_difference(tickets.pop(3).result(), wants[3]) <= 1  # alone in its lane
        assert [what for what, _ in device.log] == [*started, "wait"]
        tickets += [engine.submit(p) for p in pictures[4:]]
        for ticket, want in zip(tickets, [*wants[:3], *wants[4:]], strict=True):
            assert worst_difference(ticket.result(), want) <= 1
        assert "2 lanes of 3 pictures" in engine.description


def test_an_error_is_every_frames_of_a_batch_and_no_others() -> None:
    planes = picture(9, "gray")
    with opened(planes, graphs=False, lanes=2, batch=2) as (engine, device, api):
        assert api.engine is not None
        first, api.engine.refuses = engine.submit(planes), True
        with pytest.raises(BackendError, match="does not enqueue"):
            engine.submit(planes)
        with pytest.raises(BackendError, match="does not enqueue"):
            first.result()
        api.engine.refuses = False
        good, bad, given_up = (engine.submit(planes) for _ in range(3))
        assert good.result().width == 2 * planes.width
        given_up.cancel()
        assert bad.result().width == 2 * planes.width
        tickets = [engine.submit(planes) for _ in range(engine.depth)]
        with pytest.raises(BackendError, match="in flight"):
            engine.submit(planes)
        for ticket in tickets:
            ticket.result()
        assert device.failures == []


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


def test_a_frame_that_is_not_enqueued_for_want_of_memory_is_told_as_that() -> None:
    planes = picture(9, "gray")
    with opened(planes, graphs=False) as (engine, _, api):
        assert api.engine is not None
        api.engine.refuses = api.said_so = True  # type: ignore[misc]
        with pytest.raises(DeviceMemoryError, match="does not enqueue the frame: the GPU's memory is full; close what"):
            engine.submit(planes)


# -- the real names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (fake_gpu.FakeContext, tensorrt_rtx.IExecutionContext),
        (fake_gpu.FakeEngine, tensorrt_rtx.ICudaEngine),
        (fake_gpu.FakeRuntimeConfig, tensorrt_rtx.IRuntimeConfig),
        (fake_gpu.FakeRuntimeCache, tensorrt_rtx.IRuntimeCache),
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
