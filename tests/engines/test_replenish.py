"""Conditional replenishment: the same bits as without it, for less work, and never where it could differ."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.backends import onnx_models
from tests.backends.reference import random_planes
from vsr.engines import replenish
from vsr.engines.compile import open_engine
from vsr.engines.engine import DoneTicket, Engine, EngineSpec, Ticket
from vsr.engines.replenish import ChangeDetector, ReplenishingEngine, plan_grid
from vsr.engines.tiles import TileGrid
from vsr.errors import BackendError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Frame, PixelFormat, Planes
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.job import upscale
from vsr.model import BICUBIC, Model, load_model
from vsr.upscaler import Upscaler

HALO = 7


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines for parts cost nothing, so that they are there from the first part on."""
    monkeypatch.setattr(replenish, "PRICE", 0.0)


def grid_of(name: str, width: int, height: int, scale: int = 2) -> TileGrid:
    grid = plan_grid(FrameGraphSpec(PIXEL_FORMATS[name], ColorSpec(), scale, width, height), HALO)
    assert grid is not None
    return grid


def copy(planes: Planes) -> Planes:
    return Planes(tuple(a.copy() for a in planes.arrays), planes.format, planes.width, planes.height)


def flip(planes: Planes, plane: int, top: int, left: int, height: int = 1, width: int = 1) -> Planes:
    """A copy in which the lowest bit of a rectangle is flipped."""
    changed = copy(planes)
    changed.arrays[plane][top : top + height, left : left + width] ^= 1
    return changed


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["yuv420p", "yuv422p", "yuv410p", "gray", "yuv420p10le", "gbrap"]),
    width=st.integers(70, 300),
    height=st.integers(70, 200),
    data=st.data(),
)
def test_the_tiles_found_changed_are_those_whose_samples_differ(
    name: str, width: int, height: int, data: st.DataObject
) -> None:
    grid = plan_grid(FrameGraphSpec(PIXEL_FORMATS[name], ColorSpec(), 2, width, height), HALO)
    if grid is None:
        return
    before = random_planes(grid.graph.format, width, height)
    after = copy(before)
    for _ in range(data.draw(st.integers(0, 3))):
        array = after.arrays[data.draw(st.integers(0, len(after.arrays) - 1))]
        y, x = (data.draw(st.integers(0, n - 1)) for n in array.shape)
        array[y : y + data.draw(st.integers(1, 9)), x : x + data.draw(st.integers(1, 9))] ^= 1
    want = [
        any((a != b).any() for a, b in zip(grid.cut(before, tile).arrays, grid.cut(after, tile).arrays, strict=True))
        for tile in grid.tiles
    ]
    assert ChangeDetector(grid).changed(before, after, len(grid)).ravel().tolist() == want


def test_motion_everywhere_is_seen_at_the_first_look() -> None:
    grid = grid_of("yuv420p", 480, 270)
    one, other = (random_planes(grid.graph.format, 480, 270, seed=seed) for seed in (1, 2))
    detector = ChangeDetector(grid)
    detector._planes[1].changed = lambda a, b: pytest.fail("looked at chroma")  # type: ignore[method-assign]
    assert detector.changed(one, other, limit=10).all()


def walk(fmt: PixelFormat, width: int, height: int) -> list[Planes]:
    """Frames such as a screen recording has: a duplicate, a caret, a window, a cut, noise, and stillness after it."""
    first = random_planes(fmt, width, height, seed=1)
    caret = flip(first, 0, height // 2, width // 2)
    last_plane = len(fmt.plane_names) - 1
    corner = flip(caret, last_plane, *(n - 1 for n in caret.arrays[last_plane].shape))
    window = flip(corner, 0, 3, 5, height // 4, width // 4)
    cut = random_planes(fmt, width, height, seed=2)
    return [first, first, caret, caret, corner, window, cut, flip(cut, 0, 0, 0), copy(cut)]


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize(
    ("model", "precision", "name"),
    [
        ("fast", "fp32", "yuv420p"),
        ("fast", "int8", "yuv420p"),
        ("espcn", "fp32", "gbrp"),
        ("fsrcnn", "fp32", "yuv422p"),
        (BICUBIC, "fp32", "yuva420p"),
        ("fast", "fp32", "yuv420p10le"),
        ("autoencoder", "fp32", "gray"),  # whose tiles must not cut its squares
    ],
)
def test_every_frame_has_the_bits_that_it_has_alone(model: str, precision: str, name: str) -> None:
    fmt, (width, height) = PIXEL_FORMATS[name], (241, 133)
    spec = EngineSpec(load_model(model, 2, precision), FrameGraphSpec(fmt, ColorSpec(), 2, width, height), precision, 2)
    plain, engine = open_engine(spec).engine, open_engine(spec, reuse=True).engine
    assert isinstance(engine, ReplenishingEngine)
    frames = walk(fmt, width, height)
    tickets: list[Ticket] = []
    results: list[Planes] = []
    for frame in frames:
        if len(tickets) - len(results) == engine.depth:
            results.append(tickets[len(results)].result())
        tickets.append(engine.submit(frame))
    results += [ticket.result() for ticket in tickets[len(results) :]]
    for frame, result in zip(frames, results, strict=True):
        for one, other in zip(plain.submit(frame).result().arrays, result.arrays, strict=True):
            assert (one == other).all()
    assert engine.reused > 0.3  # each new shape is paid for with a picture computed whole
    engine.close()
    plain.close()


class Recorder:
    """An engine that repeats samples and keeps count; `error` is added to what it makes."""

    description = "recorder"

    def __init__(self, scale: int, depth: int = 2, error: int = 0) -> None:
        self.scale, self.depth, self.error = scale, depth, error
        self.in_flight = self.submitted = self.cancelled = 0
        self.closed = False

    def submit(self, planes: Planes) -> Ticket:
        assert self.in_flight < self.depth, "more frames in flight than the engine takes"
        self.in_flight += 1
        self.submitted += 1
        arrays = tuple(np.kron(a, np.ones((self.scale, self.scale), a.dtype)) + self.error for a in planes.arrays)
        large = Planes(arrays, planes.format, planes.width * self.scale, planes.height * self.scale)
        return RecordedTicket(self, large)

    def close(self) -> None:
        self.closed = True


class RecordedTicket(DoneTicket):
    def __init__(self, engine: Recorder, planes: Planes) -> None:
        super().__init__(planes)
        self._engine: Recorder | None = engine

    def _leave(self) -> Recorder:
        assert self._engine is not None, "a ticket is used once"
        engine, self._engine = self._engine, None
        engine.in_flight -= 1
        return engine

    def result(self) -> Planes:
        self._leave()
        return super().result()

    def cancel(self) -> None:
        self._leave().cancelled += 1


class Parts(list[Recorder]):
    """The engines that are opened for parts of a picture, in order."""

    def __init__(self, error: int = 0) -> None:
        super().__init__()
        self.error = error

    def open(self, graph: FrameGraphSpec) -> Recorder:
        self.append(Recorder(graph.scale, depth=2, error=self.error))
        return self[-1]

    def sum(self, name: str) -> int:
        return sum(int(getattr(engine, name)) for engine in self)


def recorded(error: int = 0) -> tuple[ReplenishingEngine, Recorder, Parts]:
    whole, parts = Recorder(2, depth=3), Parts(error)
    return ReplenishingEngine(whole, grid_of("gray", 300, 200), parts.open), whole, parts


def gray(seed: int = 0) -> Planes:
    return random_planes(PIXEL_FORMATS["gray"], 300, 200, seed=seed)


def test_a_frame_like_the_one_before_costs_nothing() -> None:
    engine, whole, parts = recorded()
    picture = gray()
    results = [engine.submit(copy(picture)).result() for _ in range(10)]
    assert (whole.submitted, len(parts)) == (1, 0)
    assert all(r is results[0] for r in results)
    assert engine.reused == pytest.approx(0.9)


@pytest.mark.usefixtures("free")
def test_motion_everywhere_compiles_no_engine_for_parts() -> None:
    engine, whole, parts = recorded()
    for seed in range(5):
        engine.submit(gray(seed)).result()
    assert (whole.submitted, len(parts), engine.reused) == (5, 0, 0.0)


def test_lasting_motion_is_looked_at_seldom_and_what_stops_moving_is_found() -> None:
    engine, whole, _ = recorded()
    looks = []
    changed = engine._detector.changed
    engine._detector.changed = lambda *args: looks.append(engine.frames) or changed(*args)  # type: ignore[method-assign]
    for seed in range(64):
        engine.submit(gray(seed)).result()
    assert looks == [*range(1, replenish.PATIENCE), *range(replenish.PATIENCE, 64, replenish.GLANCE_EVERY)]
    still = [engine.submit(gray(64)).result() for _ in range(20)]
    assert whole.submitted - 64 <= replenish.GLANCE_EVERY + 1
    assert still[-1] is still[-2]


@pytest.mark.usefixtures("free")
def test_after_a_part_that_differs_by_a_bit_all_is_computed_whole() -> None:
    engine, whole, parts = recorded(error=1)
    picture = gray()
    engine.submit(picture).result()
    for n in range(4):
        picture = flip(picture, 0, 10 + n, 10)
        out = engine.submit(picture).result()
        assert (out.arrays[0] == np.kron(picture.arrays[0], np.ones((2, 2), np.uint8))).all()
    assert whole.submitted == 5
    assert parts.sum("submitted") == 1, "only for the proof"


@pytest.mark.usefixtures("free")
def test_no_more_parts_in_flight_than_an_engine_takes_whatever_the_order_of_waiting() -> None:
    engine, whole, parts = recorded()
    pictures = [gray()]
    for n in range(8):
        pictures.append(flip(pictures[-1], 0, 20 * n, 30 * n, 9, 9))
    tickets = [engine.submit(p) for p in pictures]
    for picture, ticket in reversed(list(zip(pictures, tickets, strict=True))):
        assert (ticket.result().arrays[0] == np.kron(picture.arrays[0], np.ones((2, 2), np.uint8))).all()
    assert whole.in_flight == parts.sum("in_flight") == 0
    assert engine.reused > 0.3


def test_an_engine_is_compiled_when_it_has_been_missed_as_often_as_it_costs() -> None:
    engine, whole, parts = recorded()
    picture = gray()
    engine.submit(picture).result()
    spared, frames = 0.0, 0
    while not parts:
        picture = flip(picture, 0, 90, 90)
        engine.submit(picture).result()
        frames += 1
        spared += 1 - engine._cost(*_shape_of_a_sample(engine))
    assert whole.submitted == 1 + frames
    assert replenish.PRICE <= spared < replenish.PRICE + 1
    for _ in range(5):
        picture = flip(picture, 0, 90, 90)
        engine.submit(picture).result()
    assert (whole.submitted, len(parts), parts[0].submitted) == (1 + frames, 1, 6)


def _shape_of_a_sample(engine: ReplenishingEngine) -> tuple[int, int]:
    """Of the rectangle around the tiles that read the sample (90, 90)."""
    before = gray()
    mask = engine._detector.changed(before, flip(before, 0, 90, 90), 10**6)
    return int(mask.any(axis=1).sum()), int(mask.any(axis=0).sum())


@pytest.mark.usefixtures("free")
def test_the_engine_longest_unused_makes_room_and_its_frames_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replenish, "MOST_ENGINES", 2)
    engine, whole, parts = recorded()
    pictures = [gray()]
    for n in (1, 20, 60, 100, 1, 20, 60):
        pictures.append(flip(pictures[-1], 0, 90, 90, n, n))
    tickets = [engine.submit(p) for p in pictures]
    for picture, ticket in zip(pictures, tickets, strict=True):
        assert (ticket.result().arrays[0] == np.kron(picture.arrays[0], np.ones((2, 2), np.uint8))).all()
    assert len(parts) > 2
    assert sum(not part.closed for part in parts) == 2
    assert whole.in_flight == parts.sum("in_flight") == 0


def test_engines_that_take_turns_are_compiled_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replenish, "MOST_ENGINES", 1)
    monkeypatch.setattr(replenish, "PRICE", 1.0)
    engine, _, parts = recorded()
    picture, compiled = gray(), []
    engine.submit(picture).result()
    for n in range(160):
        picture = flip(picture, 0, 90, 90) if n // 4 % 2 else flip(picture, 0, 20, 20, 160, 100)
        engine.submit(picture).result()
        compiled.append(len(parts))
    assert compiled[79] > 3
    assert compiled[-1] - compiled[79] < compiled[79]


@pytest.mark.usefixtures("free")
def test_frames_given_up_leave_nothing_in_flight_and_the_next_is_whole() -> None:
    engine, whole, parts = recorded()
    picture = gray()
    engine.submit(picture).result()
    engine.submit(flip(picture, 0, 5, 5)).result()
    waiting = [engine.submit(flip(picture, 0, 9, 100 + n)) for n in range(3)]
    for ticket in waiting:
        ticket.cancel()
    assert whole.in_flight == parts.sum("in_flight") == 0
    with pytest.raises(BackendError, match="given up"):
        waiting[-1].result()
    before = whole.submitted
    engine.submit(picture).result()
    assert whole.submitted == before + 1
    engine.close()
    assert whole.closed
    assert all(part.closed for part in parts)


def test_models_of_unknown_reach_and_small_pictures_are_always_computed_whole() -> None:
    def opened(model: Model, width: int, height: int) -> Engine:
        graph = FrameGraphSpec(PIXEL_FORMATS["gray"], ColorSpec(), 2, width, height)
        return open_engine(EngineSpec(model, graph), reuse=True).engine

    mean = helper.make_node("ReduceMean", ["input"], ["m"], axes=[2, 3], keepdims=1)
    add = helper.make_node("Add", ["input", "m"], ["a"])
    wide = helper.make_node("Conv", ["a", "k"], ["x"])
    shuffle = helper.make_node("DepthToSpace", ["x"], ["output"], blocksize=2, mode="CRD")
    proto = onnx_models.make_model((mean, add, wide, shuffle), {"k": np.ones((4, 1, 1, 1), np.float32)})
    assert not isinstance(opened(Model("own", 2, proto.SerializeToString()), 300, 200), ReplenishingEngine)
    assert not isinstance(opened(Model(BICUBIC, 2), 60, 40), ReplenishingEngine)
    assert isinstance(opened(Model(BICUBIC, 2), 300, 200), ReplenishingEngine)


@pytest.mark.usefixtures("free")
def test_a_stream_of_frames_is_the_same_with_and_without() -> None:
    fmt = PIXEL_FORMATS["yuv420p"]
    frames = [Frame(p, n) for n, p in enumerate(walk(fmt, 200, 150))]

    def streamed(reuse: bool) -> Iterator[Any]:
        with Upscaler(3, BICUBIC, threads=2, reuse=reuse) as upscaler:
            for frame in upscaler.stream(iter(frames), ColorSpec()):
                yield frame.pts, [a.tobytes() for a in frame.planes.arrays]
            assert (upscaler.reused > 0.4) is reuse

    assert list(streamed(True)) == list(streamed(False))


@pytest.mark.usefixtures("free")
def test_a_screen_recording_is_written_bit_for_bit_the_same_for_less_work(tmp_path: Path) -> None:
    """A picture that stands still, a window that moves over 5 % of it, and frames in which nothing happens."""
    source = tmp_path / "screen.mkv"
    command = "ffmpeg -v error -f lavfi -i mandelbrot=s=320x240 -f lavfi -i testsrc2=s=64x60 -filter_complex "
    command += "[0]trim=end_frame=1,loop=24:1[still];[still][1]overlay=128:90:enable='lt(n,12)' "
    subprocess.run(
        [*command.split(), "-frames:v", "25", "-pix_fmt", "yuv420p", "-c:v", "ffv1", str(source)], check=True
    )
    made: dict[bool, bytes] = {}
    for reuse in (True, False):
        out = tmp_path / f"{reuse}.mkv"
        report = upscale(source, out, 2, model=BICUBIC, encoder="ffv1", threads=1, reuse=reuse)
        assert report.frames_out == 25
        assert report.reused == pytest.approx(0.75, abs=0.15) if reuse else report.reused == 0
        packets = ["ffmpeg", "-v", "error", "-i", str(out), "-c", "copy", "-f", "md5", "-"]
        made[reuse] = subprocess.run(packets, check=True, capture_output=True).stdout
    assert made[True] == made[False]
