"""Frames dealt to several engines: whatever their pace, every ticket gives its own frame, and errors come out."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.reference import random_planes
from vsr.engines.compile import open_engine
from vsr.engines.deal import DealingEngine
from vsr.engines.engine import EngineSpec
from vsr.errors import BackendError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Frame, Planes
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.job import UpscaleOptions
from vsr.model import BICUBIC, Model
from vsr.upscaler import Upscaler

GRAY = PIXEL_FORMATS["gray"]


class SlowEngine:
    """Doubles the samples after a while, and knows how many frames it holds."""

    description = "slow"

    def __init__(self, rng: random.Random, depth: int = 2, fail_at: int | None = None) -> None:
        self.rng, self.depth, self.fail_at = rng, depth, fail_at
        self.submitted, self.held, self.closed = 0, 0, False
        self.threads: set[int] = set()

    def submit(self, planes: Planes) -> Any:
        self.threads.add(threading.get_ident())
        assert self.held < self.depth
        self.held += 1
        self.submitted += 1
        engine, failing = self, self.submitted == self.fail_at

        class Ticket:
            def result(self) -> Planes:
                time.sleep(engine.rng.choice((0, 0, 0.001, 0.003)))
                engine.held -= 1
                if failing:
                    raise BackendError("this one fails")
                return Planes((planes.arrays[0] * np.uint8(2),), GRAY, planes.width, planes.height)

            def cancel(self) -> None:
                engine.held -= 1

        return Ticket()

    def close(self) -> None:
        self.closed = True


def numbered(number: int) -> Planes:
    return Planes((np.full((1, 1), number, np.uint8),), GRAY, 1, 1)


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("engine ")]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 9999),
    depths=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    frames=st.integers(0, 40),
    in_order=st.booleans(),
    cancels=st.booleans(),
)
def test_every_ticket_gives_its_own_frame(
    seed: int, depths: list[int], frames: int, in_order: bool, cancels: bool
) -> None:
    rng = random.Random(seed)
    engines: list[Any] = [SlowEngine(random.Random(seed + i), depth) for i, depth in enumerate(depths)]
    dealing = DealingEngine(engines)
    waiting: deque[tuple[int, Any]] = deque()

    def take() -> None:
        if not in_order:
            waiting.rotate(rng.randrange(len(waiting)))
        number, ticket = waiting.popleft()
        if cancels and rng.random() < 0.3:
            ticket.cancel()
        else:
            assert ticket.result().arrays[0][0, 0] == 2 * number

    for number in range(frames):
        if len(waiting) == dealing.depth:
            with pytest.raises(BackendError, match="frames in flight"):
                dealing.submit(numbered(0))
            take()
        waiting.append((number, dealing.submit(numbered(number))))
    while waiting:
        take()
    dealing.close()
    assert all(engine.closed and engine.held == 0 for engine in engines)
    if frames > 3 * dealing.depth and in_order and not cancels:
        assert all(engine.submitted for engine in engines)
    assert all(threading.get_ident() not in engine.threads for engine in engines)
    assert workers() == []


def test_in_order_the_frames_go_round() -> None:
    engines: list[Any] = [SlowEngine(random.Random(i), 2) for i in range(3)]
    dealing = DealingEngine(engines)
    waiting = deque(dealing.submit(numbered(n)) for n in range(dealing.depth))
    for _ in range(60):
        waiting.popleft().result()
        waiting.append(dealing.submit(numbered(0)))
    while waiting:
        waiting.popleft().result()
    dealing.close()
    assert [engine.submitted for engine in engines] == [23, 23, 23]


@pytest.mark.parametrize("closing", [False, True])
def test_the_error_of_one_engine_is_the_streams_and_all_is_joined(closing: bool) -> None:
    """Through the upscaler, as in a job: frames before the failure come out, then the error, and nothing is left."""
    engines: list[Any] = [SlowEngine(random.Random(i), 2, fail_at=3 if i == 1 else None) for i in range(3)]

    def refuse() -> None:
        engines[0].closed = True
        raise BackendError("cannot be closed")

    if closing:
        engines[0].close = refuse
    dealing = DealingEngine(engines)
    upscaler = Upscaler(2, "bicubic")
    upscaler.prepare = lambda *_: dealing  # type: ignore[method-assign, assignment, return-value]
    stream = upscaler.stream((Frame(numbered(n), n) for n in range(100)), ColorSpec())
    for number in range(7):
        frame = next(stream)
        assert (frame.pts, frame.planes.arrays[0][0, 0]) == (number, 2 * number)
    with pytest.raises(BackendError, match="this one fails"):
        next(stream)
    if closing:
        with pytest.raises(BackendError, match="cannot be closed"):
            dealing.close()
    else:
        dealing.close()
    assert all(engine.closed and engine.held == 0 for engine in engines)
    assert workers() == []


def test_several_engines_of_a_backend_give_what_one_gives() -> None:
    fmt = PIXEL_FORMATS["yuv420p"]
    spec = EngineSpec(Model(BICUBIC, 2), FrameGraphSpec(fmt, ColorSpec(), 2, 16, 12), "fp32", 1)
    pictures = [random_planes(fmt, 16, 12, seed) for seed in range(9)]
    one = open_engine(spec, "openvino").engine
    several = open_engine(replace(spec, devices=("cpu", "cpu")), "openvino")
    assert several.backend_reason == "openvino: asked for"
    assert "2 engines in turn" in several.engine.description
    waiting = deque[Any]()
    results = []
    for planes in pictures:
        if len(waiting) == several.engine.depth:
            results.append(waiting.popleft().result())
        waiting.append(several.engine.submit(planes))
    results += [ticket.result() for ticket in waiting]
    for planes, result in zip(pictures, results, strict=True):
        want = one.submit(planes).result()
        assert all(np.array_equal(a, b) for a, b in zip(want.arrays, result.arrays, strict=True))
    several.engine.close()
    one.close()
    assert workers() == []


def test_a_second_engine_that_cannot_be_compiled_closes_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from vsr.backends.openvino import OpenVinoBackend

    made: list[Any] = []

    def compile(self: OpenVinoBackend, spec: EngineSpec) -> Any:
        if made:
            raise BackendError("no room")
        made.append(SlowEngine(random.Random(0)))
        return made[0]

    monkeypatch.setattr(OpenVinoBackend, "compile", compile)
    spec = EngineSpec(Model(BICUBIC, 2), FrameGraphSpec(GRAY, ColorSpec(), 2, 4, 4), "fp32", devices=("cpu", "cpu"))
    with pytest.raises(BackendError, match="no room"):
        open_engine(spec, "openvino")
    assert made[0].closed


def test_options_and_upscaler_take_a_device() -> None:
    with UpscaleOptions(scale=2, model="bicubic", precision="fp32", device="cpu").upscaler() as upscaler:
        enlarged = upscaler.upscale_planes(random_planes(GRAY, 8, 6))
        assert (enlarged.width, enlarged.height) == (16, 12)
        assert upscaler.backend_reason == "openvino: runs on cpu"
