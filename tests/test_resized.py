"""Sizes that are no whole multiple, and enlargements in more than one pass, against independent float64 evaluations."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.backends import onnx_models, reference
from vsr.engines.compile import compile_engine
from vsr.engines.engine import EngineSpec, load_backend
from vsr.errors import BackendError, ModelError, OptionError
from vsr.frame import PIXEL_FORMATS, ColorSpec, PixelFormat, Planes, Range, Siting
from vsr.graphs.chain import factors, load_chain, scales_of
from vsr.graphs.footprint import footprint
from vsr.graphs.frame_graph import FrameGraphSpec, Target
from vsr.model import BICUBIC, Model, load_model
from vsr.resample import windows
from vsr.upscaler import Upscaler

backends = pytest.mark.parametrize("backend", ["openvino", "torch"])


def duchon(x: np.ndarray) -> np.ndarray:
    """sin(πx)/(πx) under the main lobe of the same, three times as wide."""
    safe = np.where(x == 0, 1, x)
    value = 3 * np.sin(np.pi * safe) * np.sin(np.pi * safe / 3) / (np.pi * safe) ** 2
    return np.where(x == 0, 1.0, np.where(np.abs(x) < 3, value, 0.0))


def shrink(picture: np.ndarray, count: int, axis: int) -> np.ndarray:
    """Lanczos with three lobes as wide as output samples lie apart, edges replicated."""
    size = picture.shape[axis]
    if size == count:
        return picture
    step = size / count
    at = (np.arange(count) + 0.5) * step - 0.5
    reach = int(3 * step) + 2
    taps = np.floor(at).astype(int)[:, None] + np.arange(-reach, reach + 1)
    weights = duchon((at[:, None] - taps) / step)
    weights /= weights.sum(1, keepdims=True)
    out = np.take(picture, np.clip(taps, 0, size - 1), axis)
    return np.einsum("jt...,jt->j..." if axis == 0 else "ijt,jt->ij", out, weights)


def stretch(plane: np.ndarray, size: tuple[int, int], ratios: tuple[float, float]) -> np.ndarray:
    rows = reference.interpolate(plane.astype(float), reference.sample_positions(size[1], ratios[1]), 0)
    return reference.interpolate(rows, reference.sample_positions(size[0], ratios[0]), 1)


def run(backend: str, model: Model, planes: Planes, color: ColorSpec, target: Target) -> Planes:
    graph = FrameGraphSpec(planes.format, color, model.scale, planes.width, planes.height, target)
    engine = load_backend(backend).compile(EngineSpec(model, graph, "fp32", 1))
    try:
        return engine.submit(planes).result()
    finally:
        engine.close()


def expected_chroma(planes: Planes, index: int, color: ColorSpec, target: Target) -> np.ndarray:
    fmt, size = planes.format, target.size
    assert size is not None
    dx, dy = reference.chroma_offsets(color.siting, fmt)
    new_dx, new_dy = reference.chroma_offsets(target.siting or color.siting, fmt)
    width, height = -(-size[0] >> fmt.log2_w), -(-size[1] >> fmt.log2_h)
    across, down = size[0] / planes.width, size[1] / planes.height
    rows = reference.sample_positions(height, down, fmt.log2_h, dy, new_dy)
    columns = reference.sample_positions(width, across, fmt.log2_w, dx, new_dx)
    half = reference.interpolate(planes.arrays[index].astype(float), rows, 0)
    return reference.interpolate(half, columns, 1)


def worst(got: np.ndarray, want: np.ndarray, bits: int) -> float:
    return float(np.abs(got.astype(float) - np.rint(np.clip(want, 0, 2**bits - 1))).max())


@backends
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["yuv420p", "yuv422p10le", "yuva420p", "yuv410p", "gray", "gbrap", "yuv420p16le"]),
    siting=st.sampled_from(list(Siting)),
    new_siting=st.sampled_from([None, Siting.LEFT, Siting.CENTER]),
    size=st.tuples(st.integers(3, 45), st.integers(3, 45)),
    more=st.tuples(st.integers(0, 60), st.integers(1, 60)),
    scale=st.sampled_from([2, 3]),
)
def test_bicubic_to_any_size_gives_the_numbers_of_the_definition(
    backend: str,
    name: str,
    siting: Siting,
    new_siting: Siting | None,
    size: tuple[int, int],
    more: tuple[int, int],
    scale: int,
) -> None:
    """In one step, whatever the scale that a model would have."""
    fmt = PIXEL_FORMATS[name]
    planes = reference.random_planes(fmt, *size)
    new_size = (size[0] + more[0], size[1] + more[1])
    color, target = ColorSpec(siting=siting), Target(new_size, new_siting)
    got = run(backend, Model(BICUBIC, scale), planes, color, target)
    assert (got.width, got.height) == new_size
    ratios = (new_size[0] / size[0], new_size[1] / size[1])
    for index, plane in enumerate(fmt.plane_names):
        if plane in ("u", "v"):
            want = expected_chroma(planes, index, color, target)
        elif fmt.family == "rgb" and plane != "a":
            continue  # bicubic is linear, so that it is the same as if each had gone its own way, but for clipping
        else:
            want = stretch(planes.arrays[index], new_size, ratios)
        assert worst(got.arrays[index], want, fmt.bits) <= 1, plane


@backends
@pytest.mark.parametrize("name", ["gray10le", "yuv420p", "gbrp"])
@pytest.mark.parametrize("new_size", [(29, 20), (40, 21), (26, 28), (39, 22)])
def test_what_a_model_made_too_large_is_shrunk_by_lanczos(
    backend: str, name: str, new_size: tuple[int, int], tmp_path: Path
) -> None:
    proto = onnx_models.nearest(3, 0.9, 0.02)
    model = onnx_models.loaded(proto, tmp_path, 3)
    network = onnx_models.bare(proto)
    fmt = PIXEL_FORMATS[name]
    planes = reference.random_planes(fmt, 20, 14)
    color = ColorSpec(1, range=Range.LIMITED)

    def enlarged(luma: np.ndarray) -> np.ndarray:
        return shrink(shrink(network(luma), new_size[1], 0), new_size[0], 1)

    got = run(backend, model, planes, color, Target(new_size))
    if fmt.family != "rgb":
        unit = 255 * 2 ** (fmt.bits - 8)
        assert worst(got.arrays[0], enlarged(planes.arrays[0] / unit) * unit, fmt.bits) <= 1
        return
    g, b, r = (a / 255 for a in planes.arrays)
    kr, kb = 0.2126, 0.0722
    y = kr * r + (1 - kr - kb) * g + kb * b
    ratios = (new_size[0] / 20, new_size[1] / 14)
    cb, cr = (stretch(c, new_size, ratios) for c in ((b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)))
    y = (enlarged((16 + 219 * y) / 255) * 255 - 16) / 219
    assert worst(got.arrays[1], (y + (2 - 2 * kb) * cb) * 255, 8) <= 1
    assert worst(got.arrays[2], (y + (2 - 2 * kr) * cr) * 255, 8) <= 1


@given(
    size=st.integers(1, 300),
    new_size=st.integers(1, 600),
    phase=st.sampled_from([0.25, 0.5, 0.75]),
    new_phase=st.sampled_from([0.25, 0.5, 0.75]),
)
def test_windows_keep_what_is_flat_flat_and_stay_inside(
    size: int, new_size: int, phase: float, new_phase: float
) -> None:
    plan = windows(size, new_size, Fraction(new_size, size), phase, new_phase)
    assert plan.index.min() >= 0
    assert plan.index.max() < size
    assert plan.weight.shape[0] * plan.weight.shape[1] >= new_size
    assert np.abs(plan.weight.sum(2) - 1).max() < 1e-5


@pytest.mark.parametrize(("name", "new_height"), [("yuv420p", 303), ("gray", 150), ("yuv420p10le", 404)])
def test_strips_of_resized_pictures_are_those_of_the_whole(name: str, new_height: int) -> None:
    model, fmt = load_model("fast", 2), PIXEL_FORMATS[name]
    if new_height > 202:
        model = load_model("fast", 4)
    planes = reference.random_planes(fmt, 20, 100 if name == "gray" else 202)
    size = (new_height * 20 // planes.height, new_height)
    graph = FrameGraphSpec(fmt, ColorSpec(), model.scale, 20, planes.height, Target(size))
    backend = load_backend("openvino")
    spec = EngineSpec(model, graph, "fp32", 1)
    whole, cut = compile_engine(backend, spec), None
    budget = 20 * (footprint(model).bytes_per_sample + 16 * model.scale**2) * 90
    try:
        cut = compile_engine(backend, spec, budget)
        assert "strips" in cut.description
        pairs = zip(whole.submit(planes).result().arrays, cut.submit(planes).result().arrays, strict=True)
        assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in pairs)
    finally:
        whole.close()
        if cut is not None:
            cut.close()


def test_a_picture_whose_weights_never_repeat_is_not_cut() -> None:
    graph = FrameGraphSpec(PIXEL_FORMATS["gray"], ColorSpec(), 2, 20, 211, Target((30, 307)))
    with pytest.raises(BackendError, match="ask for a whole multiple"):
        compile_engine(load_backend("openvino"), EngineSpec(load_model("fast", 2), graph, "fp32", 1), 200_000)


# -- more than one pass -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "want"),
    [(2, (2,)), (4, (4,)), (6, (2, 3)), (8, (2, 4)), (9, (3, 3)), (12, (3, 4)), (16, (4, 4)), (5, None), (14, None)],
)
def test_the_fewest_passes_are_taken_and_the_smallest_first(scale: int, want: tuple[int, ...] | None) -> None:
    assert factors(scale, (2, 3, 4)) == want


def test_which_enlargements_there_are(tmp_path: Path) -> None:
    assert scales_of("fast") == scales_of(None) == (2, 3, 4, 6, 8, 9, 12, 16)
    assert scales_of(BICUBIC) == tuple(range(2, 17))
    assert scales_of(onnx_models.saved(onnx_models.nearest(2), tmp_path / "two.onnx")) == (2, 4, 8, 16)
    assert scales_of(onnx_models.saved(onnx_models.nearest(5), tmp_path / "five.onnx")) == (5,)


@backends
def test_two_passes_are_one_after_the_other_without_rounding_between(backend: str, tmp_path: Path) -> None:
    proto = onnx_models.mixed(17)
    path = onnx_models.saved(proto, tmp_path / "own.onnx")
    network = onnx_models.bare(proto)
    model = load_chain(path, 4)
    assert (model.scale, model.name) == (4, "own.onnx x2 x2")
    planes = reference.random_planes(PIXEL_FORMATS["yuv420p"], 7, 6)
    want = reference.frame_graph(planes, ColorSpec(), 4, lambda y: network(network(y)))
    assert reference.worst_difference(run(backend, model, planes, ColorSpec(), Target()), want) <= 1


def test_shipped_models_are_joined_with_a_halo_of_both_and_in_int8_too() -> None:
    joined = load_chain("fast", 6)
    single = [footprint(load_model("fast", s)).halo for s in (2, 3)]
    halo = footprint(joined).halo
    assert halo is not None
    assert None not in single
    assert single[0] < halo <= single[0] + -(-single[1] // 2)  # type: ignore[operator]
    y, x = np.mgrid[:24, :32]
    array = (128 + 60 * np.sin(x / 3.0) * np.cos(y / 4.0) + 40 * ((x // 8 + y // 8) % 2)).astype(np.uint8)
    with (
        Upscaler(6, precision="fp32", threads=1) as fp32,
        Upscaler(6, precision="int8", threads=1) as int8,
    ):
        a, b = fp32.upscale(array), int8.upscale(array)
    assert a.shape == b.shape == (144, 192)
    assert 0 < np.abs(a.astype(int) - b).mean() < 2


def test_enlargements_that_no_model_makes_are_made_by_the_next_and_reduced() -> None:
    array = np.random.default_rng(2).integers(60, 200, (8, 6, 3), dtype=np.uint8)
    with Upscaler(5, threads=1) as upscaler:
        assert upscaler.upscale(array).shape == (40, 30, 3)
        assert upscaler.model.scale == 6
    with Upscaler(1.5, "bicubic", threads=1) as upscaler:
        assert upscaler.upscale(array).shape == (12, 9, 3)
    with Upscaler(size="24x-2", threads=1) as upscaler:
        assert upscaler.upscale(array[:, :, 0]).shape == (32, 24)
        assert upscaler.upscale(array[:7, :, 0]).shape == (28, 24)
        assert upscaler.upscale(array[:, :2, 0].repeat(2, 0), turned=True).shape == (24, 4)


def test_a_model_of_ones_own_is_not_reduced_to_a_whole_scale_that_it_does_not_make(tmp_path: Path) -> None:
    path = onnx_models.saved(onnx_models.nearest(4), tmp_path / "four.onnx")
    with pytest.raises(ModelError, match="use -s 4"):
        Upscaler(3, path)
    with Upscaler(size="30x-1", model=path, threads=1) as upscaler:
        assert upscaler.upscale(np.full((10, 10), 99, np.uint8)).shape == (30, 30)
        with pytest.raises(OptionError, match="at most 16 times"):
            upscaler.upscale(np.full((9, 1), 99, np.uint8))


def test_the_model_is_known_when_the_picture_is() -> None:
    upscaler = Upscaler(size="4k")
    with pytest.raises(OptionError, match="depends on the picture"):
        _ = upscaler.model


def plain(fmt: PixelFormat) -> Planes:
    return Planes(tuple(np.full(fmt.plane_size(n, 9, 7)[::-1], 77, fmt.dtype) for n in fmt.plane_names), fmt, 9, 7)


@pytest.mark.parametrize("name", ["yuv420p", "yuva444p16le", "gbrap", "gray14le"])
def test_a_flat_picture_stays_flat_at_every_size(name: str) -> None:
    planes = plain(PIXEL_FORMATS[name])
    with Upscaler(2, "bicubic", threads=1) as upscaler:
        for size in ((9, 8), (10, 7), (18, 14), (31, 29)):
            got = upscaler.prepare(planes.format, ColorSpec(), 9, 7, Target(size)).submit(planes).result()
            assert all(set(np.unique(a)) == {77} for a in got.arrays), size
