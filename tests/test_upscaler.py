"""The upscaler: arrays and streams of frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.backends import onnx_models, reference
from vsr import upscaler as upscaler_module
from vsr.errors import BackendError, ModelError, OptionError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Frame, Planes, Range
from vsr.upscaler import Upscaler

GRAY = PIXEL_FORMATS["gray"]


def frame(index: int, repeated: bool = False, size: tuple[int, int] = (9, 7)) -> Frame:
    return Frame(reference.random_planes(GRAY, *size, seed=index), index * 10, 10, repeated)


@pytest.fixture
def bicubic() -> Iterator[Upscaler]:
    with Upscaler(2, "bicubic", threads=2) as upscaler:
        yield upscaler


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [None, 3, 4])
def test_arrays_are_enlarged_as_full_range_pictures_of_bt601(dtype: type, channels: int | None) -> None:
    shape = (11, 8) if channels is None else (11, 8, channels)
    array = np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    with Upscaler(3, "bicubic", threads=1) as upscaler:
        got = upscaler.upscale(array)
    assert got.shape == (33, 24, *shape[2:])
    assert got.dtype == dtype
    planes = [array] if channels is None else [array[:, :, i] for i in range(channels)]
    for i, plane in enumerate(planes):
        want = np.clip(np.rint(reference.enlarge(plane, 3)), 0, np.iinfo(dtype).max)
        result = got if channels is None else got[:, :, i]
        # Bicubic is linear, so that R'G'B' comes out as if each had gone its own way
        assert np.abs(result.astype(float) - want).max() <= 1


@pytest.mark.parametrize("layout", ["reversed", "transposed", "every other", "read-only", "from Pillow"])
def test_arrays_of_any_layout_are_enlarged_and_not_changed(layout: str, bicubic: Upscaler) -> None:
    plain = np.random.default_rng(2).integers(0, 256, (6, 10)).astype(np.uint8)
    array = {
        "reversed": plain[::-1, ::-1].copy()[::-1, ::-1],
        "transposed": np.asfortranarray(plain),
        "every other": np.repeat(plain, 2, 1)[:, ::2],
        "read-only": np.frombuffer(plain.tobytes(), np.uint8).reshape(plain.shape),
        "from Pillow": np.asarray(Image.fromarray(plain)),
    }[layout]
    got = bicubic.upscale(array)
    assert (got == bicubic.upscale(plain.copy())).all()
    assert (array == plain).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4), np.int16),
        np.zeros((4, 4), bool),
        np.zeros((4,), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        np.array(5, np.uint8),
    ],
    ids=lambda a: f"{a.dtype}{list(a.shape)}",
)
def test_other_arrays_are_refused_with_those_that_are_allowed(array: np.ndarray, bicubic: Upscaler) -> None:
    with pytest.raises(OptionError, match=r"allowed are arrays \[H, W\].*uint8"):
        bicubic.upscale(array)


@pytest.mark.parametrize("scale", [0, 1, 17, -2, float("nan")])
def test_scales_that_enlarge_nothing_or_too_much_are_refused(scale: int) -> None:
    with pytest.raises(OptionError, match=r"allowed are numbers over 1, up to 16"):
        Upscaler(scale)


def test_a_model_of_ones_own_may_have_another_scale(tmp_path: Path) -> None:
    path = onnx_models.saved(onnx_models.nearest(5), tmp_path / "five.onnx")
    with Upscaler(5, path, threads=1) as upscaler:
        assert upscaler.upscale(np.full((3, 4), 77, np.uint8)).shape == (15, 20)
    with pytest.raises(ModelError, match="use -s 5"):
        Upscaler(6, path)


def test_the_engine_is_kept_for_pictures_of_one_kind_and_made_anew_for_others(
    monkeypatch: pytest.MonkeyPatch, bicubic: Upscaler
) -> None:
    made: list[Any] = []
    real = upscaler_module.open_engine

    def counting(spec: Any, name: str, **options: bool) -> Any:
        made.append(spec.graph)
        return real(spec, name, **options)

    monkeypatch.setattr(upscaler_module, "open_engine", counting)
    for shape in ((4, 4), (4, 4), (5, 4), (5, 4), (4, 4)):
        bicubic.upscale(np.zeros(shape, np.uint8))
    assert len(made) == 3


def test_what_was_chosen_can_be_read_off(bicubic: Upscaler) -> None:
    assert bicubic.description == ""
    bicubic.upscale(np.zeros((4, 4), np.uint8))
    assert bicubic.backend in ("openvino", "torch")
    assert bicubic.backend_reason.startswith(bicubic.backend)
    assert bicubic.description


def test_planes_without_a_colour_are_limited_range(bicubic: Upscaler) -> None:
    planes = reference.random_planes(PIXEL_FORMATS["yuv420p"], 9, 7)
    got = bicubic.upscale_planes(planes)
    assert reference.worst_difference(got, reference.frame_graph(planes, ColorSpec(), 2)) <= 1
    full = bicubic.upscale_planes(planes, ColorSpec(range=Range.FULL))
    assert full.format is planes.format


def test_a_closed_upscaler_opens_again_when_it_is_used(bicubic: Upscaler) -> None:
    first = bicubic.upscale(np.full((4, 4), 9, np.uint8))
    bicubic.close()
    bicubic.close()
    assert (bicubic.upscale(np.full((4, 4), 9, np.uint8)) == first).all()


# -- streams ----------------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(repeats=st.lists(st.booleans(), max_size=25))
def test_frames_come_out_in_order_with_their_times_and_repeats_are_of_the_one_before(repeats: list[bool]) -> None:
    frames: list[Frame] = []
    for index, repeated in enumerate(repeats):
        if repeated and frames:
            frames.append(Frame(frames[-1].planes, index * 10, 10, True))
        else:
            frames.append(frame(index))
    with Upscaler(2, "bicubic", threads=2) as upscaler:
        got = list(upscaler.stream(iter(frames), ColorSpec()))
    assert [(f.pts, f.duration, f.repeated) for f in got] == [(f.pts, f.duration, f.repeated) for f in frames]
    for before, after in zip(frames, got, strict=True):
        want = reference.frame_graph(before.planes, ColorSpec(), 2)
        assert reference.worst_difference(after.planes, want) <= 1


def test_a_stream_that_begins_with_a_repeat_is_computed(bicubic: Upscaler) -> None:
    got = list(bicubic.stream(iter([frame(0, repeated=True), frame(1)]), ColorSpec()))
    assert len(got) == 2


def test_a_stopped_stream_ends_and_the_upscaler_stays_usable(bicubic: Upscaler) -> None:
    taken = 0

    def stop() -> bool:
        return taken >= 3

    for _ in bicubic.stream((frame(i) for i in range(50)), ColorSpec(), stop):
        taken += 1
    assert 3 <= taken <= 4
    assert len(list(bicubic.stream((frame(i) for i in range(10)), ColorSpec()))) == 10


def test_a_stream_that_is_left_gives_its_tickets_back(bicubic: Upscaler) -> None:
    for _ in range(4):
        running = bicubic.stream((frame(i) for i in range(30)), ColorSpec())
        next(running)
        running.close()  # type: ignore[attr-defined]
    assert len(list(bicubic.stream((frame(i) for i in range(10)), ColorSpec()))) == 10


def test_an_error_of_the_frames_comes_out_and_gives_the_tickets_back(bicubic: Upscaler) -> None:
    def broken() -> Iterator[Frame]:
        yield from (frame(i) for i in range(5))
        raise BackendError("source")

    for _ in range(4):
        with pytest.raises(BackendError, match="source"):
            list(bicubic.stream(broken(), ColorSpec()))
    assert len(list(bicubic.stream((frame(i) for i in range(10)), ColorSpec()))) == 10


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_a_stream_whose_pictures_change_size_loses_none(backend: str) -> None:
    frames = [frame(i, size=(9, 7) if i < 6 else (12, 5)) for i in range(11)]
    with Upscaler(2, "bicubic", backend=backend, threads=2) as upscaler:
        got = list(upscaler.stream(iter(frames), ColorSpec()))
    for before, after in zip(frames, got, strict=True):
        want = reference.frame_graph(before.planes, ColorSpec(), 2)
        assert reference.worst_difference(after.planes, want) <= 1


def test_no_more_frames_are_in_flight_than_the_engine_takes(bicubic: Upscaler) -> None:
    asked = 0

    def counted() -> Iterator[Frame]:
        nonlocal asked
        for i in range(40):
            asked += 1
            yield frame(i)

    depth = bicubic.prepare(GRAY, ColorSpec(), 9, 7).depth
    for done, _ in enumerate(bicubic.stream(counted(), ColorSpec())):
        assert asked - done <= depth + 1


def test_planes_of_the_result_belong_to_the_caller(bicubic: Upscaler) -> None:
    planes = Planes((np.full((4, 4), 50, np.uint8),), GRAY, 4, 4)
    first = bicubic.upscale_planes(planes)
    first.arrays[0][:] = 1
    assert (bicubic.upscale_planes(planes).arrays[0] == 50).all()
