"""A GPU's memory that gives out in the middle of a job: the frames in flight are computed anew, by less at once."""

from __future__ import annotations

import random
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.reference import random_planes
from tests.test_hardware import frame_hashes
from vsr.backends.torch import TorchBackend, TorchEngine
from vsr.engines import fitting, shrinking
from vsr.engines.engine import EngineSpec, check_planes
from vsr.engines.shrinking import ShrinkingEngine
from vsr.errors import BackendError, DeviceMemoryError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.job import upscale
from vsr.model import BICUBIC, Model

GRAY = PIXEL_FORMATS["gray"]
FULL = "the GPU's memory does not hold what one frame needs: CUDA out of memory"


@pytest.fixture(autouse=True, scope="module")
def nothing_to_collect() -> Iterator[None]:
    """These engines hold no memory, and a collection among all that a test run has loaded takes its time."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (shrinking, fitting):
            patch.setattr(module, "gc", types.SimpleNamespace(collect=lambda: 0))
        yield


class TallEngine:
    """Repeats samples and lines, as many frames at once as it is asked to. `fails` says when its memory gives out."""

    def __init__(self, spec: EngineSpec, fails: Callable[[TallEngine], bool]) -> None:
        self.spec, self.fails = spec, fails
        self.description = f"{spec.graph.height} rows, {spec.lanes} lanes"
        self.depth = spec.lanes or 3
        self.in_flight = 0
        self.closed = False

    def submit(self, planes: Planes) -> TallTicket:
        assert not self.closed
        assert self.in_flight < self.depth
        check_planes(planes, self.spec.graph)
        self.check()
        self.in_flight += 1
        return TallTicket(self, planes)

    def check(self) -> None:
        if self.fails(self):
            raise DeviceMemoryError(FULL, "close what else uses the GPU")

    def close(self) -> None:
        assert self.in_flight == 0
        self.closed = True


class TallTicket:
    def __init__(self, engine: TallEngine, planes: Planes) -> None:
        self.engine, self.planes, self.ended = engine, planes, False

    def result(self) -> Planes:
        self.cancel()
        self.engine.check()
        return larger(self.planes)

    def cancel(self) -> None:
        assert not self.ended
        self.ended = True
        self.engine.in_flight -= 1


def larger(planes: Planes) -> Planes:
    return Planes((planes.arrays[0].repeat(2, 0).repeat(2, 1),), GRAY, 2 * planes.width, 2 * planes.height)


def opened(
    fails: Callable[[TallEngine], bool], notes: list[str] | None = None, **options: Any
) -> tuple[ShrinkingEngine, list[TallEngine]]:
    graph = FrameGraphSpec(GRAY, ColorSpec(), 2, 4, 96)
    spec = EngineSpec(Model(BICUBIC, 2), graph, on_note=(notes if notes is not None else []).append, **options)
    made: list[TallEngine] = []

    def compile_spec(part: EngineSpec) -> TallEngine:
        made.append(TallEngine(part, fails))
        return made[-1]

    return ShrinkingEngine(compile_spec, spec), made


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 40), max_size=3))
def test_whenever_memory_gives_out_every_frame_is_its_own(seed: int, gaps: list[int]) -> None:
    rng, calls, failures = random.Random(seed), [0], [sum(gaps[: i + 1]) for i in range(len(gaps))]

    def fails(_: TallEngine) -> bool:
        calls[0] += 1
        return calls[0] in failures

    engine, made = opened(fails)
    pictures = [random_planes(GRAY, 4, 96, i) for i in range(4)]
    waiting: list[tuple[int, Any]] = []
    for step in range(16):
        while len(waiting) >= engine.depth or (waiting and rng.random() < 0.3):
            number, ticket = waiting.pop(rng.randrange(len(waiting)))
            if rng.random() < 0.2:
                ticket.cancel()
            else:
                assert np.array_equal(ticket.result().arrays[0], larger(pictures[number]).arrays[0])
        waiting.append((step % 4, engine.submit(pictures[step % 4])))
    for number, ticket in waiting:
        assert np.array_equal(ticket.result().arrays[0], larger(pictures[number]).arrays[0])
    engine.close()
    assert len(made) == 1 + sum(n <= calls[0] for n in failures)
    assert all(one.closed for one in made)


def test_first_one_picture_at_a_time_then_strips_and_each_step_is_told() -> None:
    notes: list[str] = []
    engine, made = opened(lambda one: one.in_flight > 1 or one.spec.graph.height > 50, notes)
    tickets = [engine.submit(random_planes(GRAY, 4, 96, 0))]
    assert engine.depth == 1
    assert np.array_equal(tickets[0].result().arrays[0], larger(random_planes(GRAY, 4, 96, 0)).arrays[0])
    assert [note.removeprefix(f"{FULL}: going on with ") for note in notes] == [
        "one picture of 4x96",
        f"{len(engine._plan.grid or ())} strips of {made[2].spec.graph.height} rows",
    ]
    assert [one.spec.lanes for one in made] == [0, 1, 1]
    assert "strips" in engine.description
    engine.close()


def test_a_batch_is_halved_before_strips() -> None:
    engine, made = opened(lambda one: one.spec.batch > 2, batch=8)
    engine.submit(random_planes(GRAY, 4, 96)).result()
    assert [(one.spec.batch, one.spec.lanes) for one in made] == [(8, 0), (8, 1), (4, 1), (2, 1)]
    engine.close()


def test_where_nothing_helps_there_is_one_line_again_and_again() -> None:
    engine, made = opened(lambda one: True)
    for _ in range(2):
        with pytest.raises(DeviceMemoryError, match=r"CUDA out of memory, not even for \d+ strips .*; close what else"):
            engine.submit(random_planes(GRAY, 4, 96))
    engine.close()
    assert all(one.closed for one in made)


def test_pictures_that_an_open_encoder_takes_from_the_gpu_are_not_cut() -> None:
    failing = [False]
    engine, made = opened(lambda one: failing[0], surfaces=True, keep=True)
    first, second = (engine.submit(random_planes(GRAY, 4, 96)) for _ in range(2))
    failing[0] = True
    with pytest.raises(DeviceMemoryError, match="the encoder takes no others any more; use --hw decode"):
        first.result()
    second.cancel()
    assert len(made) == 2  # one picture in flight was tried
    engine.close()


def test_other_errors_are_the_callers() -> None:
    engine, made = opened(lambda one: False)
    with pytest.raises(BackendError, match="compiled for"):
        engine.submit(random_planes(GRAY, 4, 20))
    tickets = [engine.submit(random_planes(GRAY, 4, 96)) for _ in range(engine.depth)]
    with pytest.raises(BackendError, match="more than 3 frames in flight"):
        engine.submit(random_planes(GRAY, 4, 96))
    for ticket in tickets:
        ticket.cancel()
    engine.close()
    assert len(made) == 1


# -- torch ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def torch_gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """torch as if this machine were a GPU that holds, after as many frames as the list says, as many rows."""
    state, plain = [1000, 30], TorchEngine._run

    def run(self: TorchEngine, inputs: Any) -> list[Any]:
        if self._spec.graph.height > state[1] and not state[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity")
        state[0] -= bool(state[0])
        return plain(self, inputs)

    monkeypatch.setattr(TorchEngine, "_run", run)
    monkeypatch.setattr(TorchBackend, "gpu_name", lambda _: "NVIDIA Something")
    monkeypatch.setattr(TorchBackend, "compile", lambda _, spec: TorchEngine(spec, "cpu"))
    return state


def test_a_job_on_torch_goes_on_in_strips_and_writes_the_same_pictures(
    torch_gpu: list[int], clip: Callable[..., Path], tmp_path: Path
) -> None:
    source, notes = clip("a.mp4", frames=6, size=(32, 48)), list[str]()
    options: Any = {"backend": "torch", "model": "bicubic", "precision": "fp32", "encoder": "ffv1"}
    upscale(source, tmp_path / "whole.mkv", 2, **options)
    torch_gpu[:] = 3, 30
    report = upscale(source, tmp_path / "cut.mkv", 2, on_note=notes.append, **options)
    assert report.frames_out == 6
    assert frame_hashes(tmp_path / "cut.mkv") == frame_hashes(tmp_path / "whole.mkv")
    assert [note.split(": ")[2] for note in notes] == ["going on with one picture of 32x48", notes[1].split(": ")[2]]
    assert "strips of" in notes[-1]
    assert not any("total capacity" in note for note in notes)


def test_a_job_that_no_strips_help_ends_with_one_line_and_no_file(
    torch_gpu: list[int], clip: Callable[..., Path], tmp_path: Path
) -> None:
    source, folder = clip("a.mp4", frames=6, size=(32, 22)), tmp_path / "out"
    folder.mkdir()
    torch_gpu[:] = 3, 20
    with pytest.raises(DeviceMemoryError, match=r"not even for one picture of 32x22; close what else uses the GPU"):
        upscale(source, folder / "a.mkv", 2, backend="torch", model="bicubic", precision="fp32", encoder="ffv1")
    assert list(folder.iterdir()) == []
