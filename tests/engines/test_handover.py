"""Handover: every frame once, in order, by the engine that had to have it, whatever takes how long or fails."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.reference import random_planes, worst_difference
from vsr.backends.torch import TorchEngine
from vsr.engines.engine import EngineSpec, load_backend
from vsr.engines.handover import HandoverEngine, bound_check
from vsr.errors import BackendError, InterruptedJobError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.metrics import psnr
from vsr.model import BICUBIC, Model, load_model
from vsr.surface import SurfacePlanes

GRAY = PIXEL_FORMATS["gray"]


def picture(number: int) -> Planes:
    return Planes((np.array([[number, 0]], np.uint8),), GRAY, 2, 1)


class CountingEngine:
    """Writes its own number into each picture. Knows its tickets, and objects to what a real engine would object to."""

    def __init__(self, number: int, depth: int, delay: Callable[[], float] = lambda: 0.0) -> None:
        self.number, self.depth, self.delay = number, depth, delay
        self.description = f"engine {number}"
        self.in_flight = 0
        self.closed = 0
        self.broken_after: int | None = None

    def submit(self, planes: Planes) -> CountingTicket:
        assert not self.closed
        assert self.in_flight < self.depth
        if self.broken_after is not None:
            if self.broken_after == 0:
                raise BackendError("out of memory")
            self.broken_after -= 1
        self.in_flight += 1
        return CountingTicket(self, planes)

    def close(self) -> None:
        assert self.in_flight == 0
        self.closed += 1


class CountingTicket:
    def __init__(self, engine: CountingEngine, planes: Planes) -> None:
        self.engine, self.planes, self.ended = engine, planes, False

    def result(self) -> Planes:
        self.cancel()
        time.sleep(self.engine.delay())
        out = np.array(self.planes.arrays[0])
        out[0, 1] = self.engine.number
        return Planes((out,), GRAY, 2, 1)

    def cancel(self) -> None:
        assert not self.ended
        assert not self.engine.closed
        self.ended = True
        self.engine.in_flight -= 1


def always(_want: Planes, _got: Planes) -> None:
    return None


def settled(engine: HandoverEngine) -> None:
    """Until the other engine is there, or has failed."""
    engine._thread.join(60)
    assert not engine._thread.is_alive()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    depths=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    frames=st.integers(0, 40),
    ready_after=st.integers(0, 45),
    outcome=st.sampled_from(["there", "disagrees", "fails", "breaks"]),
    cancel_at_end=st.booleans(),
)
def test_every_frame_once_in_order_by_the_engine_that_was_there(
    seed: int, depths: tuple[int, int], frames: int, ready_after: int, outcome: str, cancel_at_end: bool
) -> None:
    """As `Upscaler.stream` drives an engine: as many in flight as it takes, taken in order."""
    rng = random.Random(seed)
    engines = [CountingEngine(i, depth, lambda: rng.choice((0, 0, 0, 0.0005))) for i, depth in enumerate(depths)]
    ready, notes = threading.Event(), list[str]()
    if outcome == "breaks":
        engines[1].broken_after = 0

    def prepare(unwanted: threading.Event) -> Any:
        while not ready.wait(0.0005):
            if unwanted.is_set():
                raise InterruptedJobError("not wanted any more")
        if outcome == "fails":
            raise BackendError("no kernel")
        return engines[1]

    wrong = "too far off" if outcome == "disagrees" else None
    engine = HandoverEngine(engines[0], prepare, lambda _w, _g: wrong, notes.append)
    out: list[tuple[int, int]] = []

    def take(ticket: Any) -> None:
        array = ticket.result().arrays[0]
        out.append((int(array[0, 0]), int(array[0, 1])))

    waiting: list[Any] = []
    for number in range(frames):
        if number == ready_after:
            ready.set()
            settled(engine)
        while len(waiting) >= engine.depth:
            take(waiting.pop(0))
        waiting.append(engine.submit(picture(number)))
    for ticket in waiting:
        if cancel_at_end:
            ticket.cancel()
        else:
            take(ticket)
    engine.close()

    assert [number for number, _ in out] == list(range(len(out)))
    if not cancel_at_end:
        assert len(out) == frames
    goes_over = outcome == "there" and ready_after < frames
    assert [who for _, who in out] == [int(goes_over and number >= ready_after) for number in range(len(out))]
    assert engine.has_gone_over == goes_over
    assert engines[0].closed == 1
    came = ready_after < frames and outcome != "fails"
    assert engines[1].closed == int(came)
    if ready_after < frames:
        words = {
            "there": f"after {ready_after} frames the work goes over to engine 1",
            "disagrees": "the work stays with engine 0: too far off",
            "fails": "the work stays with engine 0: no kernel",
            "breaks": "the work stays with engine 0: out of memory",
        }
        assert notes == [words[outcome]]
    elif frames:
        assert notes == ["the engine that was being built did not come before the end, and was given up"]
    else:
        assert notes == []


def test_the_first_engine_is_closed_with_its_last_frame() -> None:
    engines = [CountingEngine(0, 3), CountingEngine(1, 2)]
    ready = threading.Event()

    def prepare(_: threading.Event) -> Any:
        ready.wait(20)
        return engines[1]

    engine = HandoverEngine(engines[0], prepare, always, lambda _: None)
    tickets = [engine.submit(picture(i)) for i in range(2)]
    ready.set()
    settled(engine)
    tickets.append(engine.submit(picture(2)))
    assert (engine.description, engine.depth) == ("engine 1", 2)
    tickets[1].cancel()
    assert engines[0].closed == 0
    tickets[0].result()
    assert engines[0].closed == 1
    tickets[2].result()
    engine.close()
    assert [e.closed for e in engines] == [1, 1]


def test_closing_does_not_wait_for_what_is_being_made() -> None:
    def prepare(unwanted: threading.Event) -> Any:
        assert unwanted.wait(20)
        raise InterruptedJobError("not wanted any more")

    engine = HandoverEngine(CountingEngine(0, 1), prepare, always, lambda _: None)
    started = time.monotonic()
    engine.close()
    assert time.monotonic() - started < 5


def test_an_engine_that_comes_too_late_is_closed() -> None:
    late = CountingEngine(1, 1)

    def prepare(unwanted: threading.Event) -> Any:
        unwanted.wait(20)
        return late

    HandoverEngine(CountingEngine(0, 1), prepare, always, lambda _: None).close()
    assert late.closed == 1


def test_an_error_that_nobody_foresaw_is_one_line_too() -> None:
    def prepare(_: threading.Event) -> Any:
        raise RuntimeError("pybind11\nsays much")

    notes: list[str] = []
    engine = HandoverEngine(CountingEngine(0, 1), prepare, always, notes.append)
    settled(engine)
    engine.submit(picture(0)).result()
    engine.close()
    assert notes == ["the work stays with engine 0: RuntimeError: pybind11 says much"]


# -- engines that compute ---------------------------------------------------------------------------------------------


def compiled(backend: str, model: Model, precision: str, planes: Planes) -> Any:
    graph = FrameGraphSpec(planes.format, ColorSpec(), model.scale, planes.width, planes.height)
    return load_backend(backend).compile(EngineSpec(model, graph, precision, 1))


@pytest.mark.parametrize(("name", "pix_fmt"), [("bicubic", "yuv420p10le"), ("fast", "yuv420p")])
def test_from_one_runtime_to_another_frames_are_within_one_code_value(name: str, pix_fmt: str) -> None:
    model = Model(BICUBIC, 2) if name == "bicubic" else load_model(name, 2)
    pictures = [random_planes(PIXEL_FORMATS[pix_fmt], 21, 17, seed) for seed in range(6)]
    alone = compiled("openvino", model, "fp32", pictures[0])
    want = [alone.submit(planes).result() for planes in pictures]
    alone.close()
    notes: list[str] = []
    first = compiled("openvino", model, "fp32", pictures[0])
    ready = threading.Event()

    def prepare(_: threading.Event) -> Any:
        ready.wait(20)
        return compiled("torch", model, "fp32", pictures[0])

    engine = HandoverEngine(first, prepare, bound_check("fp32"), notes.append)
    got = []
    for number, planes in enumerate(pictures):
        if number == 3:
            ready.set()
            settled(engine)
        got.append(engine.submit(planes).result())
    engine.close()
    assert [note.split(" torch ")[0] for note in notes] == ["after 3 frames the work goes over to"]
    assert all(worst_difference(g, w.arrays) <= 1 for g, w in zip(got, want, strict=True))


def test_an_engine_whose_pictures_are_elsewhere_does_not_take_over() -> None:
    """What encodes surfaces, or planes, is open already."""
    planes, notes = random_planes(PIXEL_FORMATS["yuv420p"], 16, 12), list[str]()
    graph = FrameGraphSpec(planes.format, ColorSpec(), 2, 16, 12)
    kept = EngineSpec(Model(BICUBIC, 2), graph, "fp32", 1, surfaces=True, keep=True)
    first, other = TorchEngine(kept, "cpu"), load_backend("openvino").compile(kept)
    engine = HandoverEngine(first, lambda _: other, always, notes.append)
    settled(engine)
    assert isinstance(engine.submit(planes).result(), SurfacePlanes)
    assert not engine.has_gone_over
    engine.close()
    assert notes == [f"the work stays with {first.description}: its pictures are in other memory"]


def test_an_engine_of_another_model_is_found_out_at_its_first_frame() -> None:
    """What a broken runtime or a mistaken cache would do."""
    planes = random_planes(PIXEL_FORMATS["yuv420p"], 21, 17, 1)
    notes: list[str] = []
    first = compiled("openvino", load_model("fast", 2), "fp32", planes)
    engine = HandoverEngine(
        first, lambda _: compiled("openvino", Model(BICUBIC, 2), "fp32", planes), bound_check("fp16"), notes.append
    )
    settled(engine)
    engine.submit(planes).result()
    assert not engine.has_gone_over
    engine.close()
    assert "is " in notes[0]
    assert "dB from this one's, and fp16 must reach 55 dB" in notes[0]


@pytest.mark.parametrize(("precision", "sigma", "accepted"), [("fp16", 0.3, True), ("fp16", 0.7, False)])
def test_the_bound_is_on_luma_in_db(precision: str, sigma: float, accepted: bool) -> None:
    rng = np.random.default_rng(0)
    luma = rng.integers(30, 200, (40, 40), dtype=np.uint8)
    off = np.rint(luma + sigma * rng.standard_normal(luma.shape)).astype(np.uint8)
    chroma = np.full((20, 20), 128, np.uint8)
    fmt = PIXEL_FORMATS["yuv420p"]
    want, got = Planes((luma, chroma, chroma), fmt, 40, 40), Planes((off, chroma + 9, chroma), fmt, 40, 40)
    assert (psnr(luma, off) >= 55) is accepted
    assert (bound_check(precision)(want, got) is None) is accepted


def test_the_bound_of_fp32_is_one_code_value_of_every_plane() -> None:
    planes = random_planes(PIXEL_FORMATS["gbrp"], 5, 4, 0)
    for off, wrong in ((0, None), (1, None), (2, "off by 2")):
        arrays = tuple(np.where(a > 100, a - np.uint8(off), a) for a in planes.arrays)
        said = bound_check("fp32")(planes, Planes(arrays, planes.format, 5, 4))
        assert (said is None) if wrong is None else wrong in str(said)
