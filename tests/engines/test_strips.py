"""Strips: the plan covers the picture, the halo is as wide as the model reaches, and the result is the whole's."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.backends import onnx_models
from tests.backends.reference import random_planes
from vsr.engines.compile import compile_engine
from vsr.engines.engine import Backend, EngineSpec, load_backend
from vsr.engines.tiles import plan_spans
from vsr.errors import BackendError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Siting
from vsr.graphs.footprint import footprint, frame_halo
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.model import BICUBIC, Model, load_model, shipped_models
from vsr.networks import create
from vsr.networks.base import EnlargedNetwork


@given(height=st.integers(1, 3000), rows=st.integers(1, 700), halo=st.integers(0, 40), unit=st.sampled_from([1, 2, 4]))
def test_kept_rows_cover_the_picture_once_and_never_depend_on_a_cut(
    height: int, rows: int, halo: int, unit: int
) -> None:
    try:
        size, strips = plan_spans(height, rows, halo, unit)
    except ValueError:
        assume(False)
    assert size <= max(rows, min(height, rows))
    assert [s.keep_start for s in strips] == [0, *(s.keep_stop for s in strips[:-1])]
    assert strips[-1].keep_stop == height
    for strip in strips:
        stop = strip.start + size
        assert 0 <= strip.start <= strip.keep_start < strip.keep_stop <= stop <= height
        assert strip.start % unit == 0
        assert strip.keep_start % unit == 0
        assert strip.start == 0 or strip.keep_start - strip.start >= halo
        assert stop == height or stop - strip.keep_stop >= halo


def test_a_budget_below_the_halo_is_refused() -> None:
    with pytest.raises(ValueError, match="halo"):
        plan_spans(100, 8, 4, 1)


@pytest.fixture(scope="module")
def backend() -> Backend:
    return load_backend("openvino")


def both_ways(backend: Backend, model: Model, name: str, size: tuple[int, int], rows: int) -> tuple[Any, Any, str]:
    """The picture computed at once, and in strips of at most `rows`."""
    fmt = PIXEL_FORMATS[name]
    planes = random_planes(fmt, *size)
    spec = EngineSpec(model, FrameGraphSpec(fmt, ColorSpec(siting=Siting.LEFT), model.scale, *size), "fp32", 1)
    whole = backend.compile(spec)
    budget = rows * size[0] * footprint(model).bytes_per_sample
    cut = compile_engine(backend, spec, budget)
    try:
        return whole.submit(planes).result(), cut.submit(planes).result(), cut.description
    finally:
        whole.close()
        cut.close()


@pytest.mark.parametrize(("model_name", "scale"), [(BICUBIC, 3), *shipped_models()])
def test_strips_give_the_picture_that_the_whole_gives(backend: Backend, model_name: str, scale: int) -> None:
    model = load_model(model_name, scale)
    halo = frame_halo(model, footprint(model).halo or 0, 2)
    for name, size in (("yuv420p", (20, 101)), ("gbrp10le", (9, 90)), ("yuv422p", (13, 97))):
        whole, cut, description = both_ways(backend, model, name, size, 2 * halo + 22)
        assert "strips" in description
        for one, other in zip(whole.arrays, cut.arrays, strict=True):
            assert np.abs(one.astype(int) - other.astype(int)).max() <= (1 if name == "gbrp10le" else 0)


@settings(max_examples=8, deadline=None)
@given(
    name=st.sampled_from(["yuv420p", "yuv410p", "gray", "yuva420p"]),
    height=st.integers(40, 120),
    rows=st.integers(30, 60),
    scale=st.sampled_from([2, 3]),
)
def test_strips_of_any_height_meet_without_a_seam(name: str, height: int, rows: int, scale: int) -> None:
    whole, cut, _ = both_ways(load_backend("openvino"), Model(BICUBIC, scale), name, (11, height), rows)
    assert all((a == b).all() for a, b in zip(whole.arrays, cut.arrays, strict=True))


@pytest.mark.parametrize(("name", "scale"), shipped_models())
def test_the_halo_read_off_the_graph_is_that_of_the_metadata(name: str, scale: int) -> None:
    """Or one more, on the enlargement: the graph's kernel holds taps that are zero for some of its phases."""
    model = load_model(name, scale)
    more = (0, 1) if isinstance(create(name, scale), EnlargedNetwork) else (0,)
    assert footprint(model).halo in [int(model.metadata["vsr.halo"]) + n for n in more]


def reach(run: Any, height: int) -> int:
    """How far a changed input row is felt, in input rows."""
    plain, changed = np.full((height, 5), 0.5, np.float32), np.full((height, 5), 0.5, np.float32)
    middle = height // 2
    changed[middle] = 0.9
    before, after = run(plain), run(changed)
    rows = np.argwhere(np.abs(after - before).max(axis=1) > 1e-9).ravel() // (before.shape[0] // height)
    return int(np.abs(rows - middle).max())


def conv_net(*nodes: onnx.NodeProto, **weights: np.ndarray) -> onnx.ModelProto:
    base = {
        "k3": np.ones((4, 1, 3, 1), np.float32),
        "k1": np.ones((4, 1, 1, 1), np.float32),
        "up": np.ones((1, 1, 9, 9), np.float32),
        **weights,
    }
    return onnx_models.make_model(nodes, base)


SHUFFLE = helper.make_node("DepthToSpace", ["x"], ["output"], blocksize=2, mode="CRD")
NETS = {
    "centred": conv_net(helper.make_node("Conv", ["input", "k3"], ["x"], pads=[1, 0, 1, 0]), SHUFFLE),
    "dilated": conv_net(helper.make_node("Conv", ["input", "k3"], ["x"], pads=[4, 0, 4, 0], dilations=[4, 1]), SHUFFLE),
    "padded below only": conv_net(helper.make_node("Conv", ["input", "k3"], ["x"], pads=[0, 0, 2, 0]), SHUFFLE),
    "transposed": conv_net(
        helper.make_node("ConvTranspose", ["input", "up"], ["output"], strides=[2, 2], pads=[4, 4, 3, 3])
    ),
    "cropped and padded": conv_net(
        helper.make_node("Conv", ["input", "k1"], ["w"], pads=[0, 0, 5, 0]),
        helper.make_node("Slice", ["w", "five", "end", "axis"], ["x"]),
        SHUFFLE,
        five=np.array([5]),
        end=np.array([1 << 40]),
        axis=np.array([2]),
    ),
    "every other sample": conv_net(
        helper.make_node("Slice", ["input", "zero", "end", "axis", "two"], ["p"]),
        helper.make_node("Resize", ["p", "", "four"], ["output"], mode="nearest"),
        zero=np.array([0, 0]),
        end=np.array([1 << 40] * 2),
        axis=np.array([2, 3]),
        two=np.array([2, 2]),
        four=np.array([1, 1, 4, 4], np.float32),
    ),
    "pooled": conv_net(
        helper.make_node("MaxPool", ["input"], ["p"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        helper.make_node("Resize", ["p", "", "four"], ["output"], mode="nearest"),
        four=np.array([1, 1, 4, 4], np.float32),
    ),
    "strided": conv_net(
        helper.make_node("Conv", ["input", "k5"], ["c"], pads=[1, 0, 3, 0], strides=[2, 2]),
        helper.make_node("Resize", ["c", "", "four"], ["output"], mode="nearest"),
        k5=np.ones((1, 1, 5, 1), np.float32),
        four=np.array([1, 1, 4, 4], np.float32),
    ),
    "repeated at its edges": conv_net(
        helper.make_node("Pad", ["input", "around"], ["p"], mode="edge"),
        helper.make_node("Conv", ["p", "k3"], ["x"]),
        SHUFFLE,
        around=np.array([0, 0, 2, 0, 0, 0, 0, 0]),
    ),
}


@pytest.mark.parametrize("what", NETS)
def test_the_halo_is_never_less_than_the_reach(what: str) -> None:
    """None (unknown) is an answer; too small a halo shows as seams."""
    model = Model("own", 2, NETS[what].SerializeToString())
    need = footprint(model)
    assert need.halo is None or need.halo >= reach(onnx_models.bare(model), 41)
    assert (need.halo is None) == (what in ("cropped and padded", "every other sample"))
    assert need.unit == (2 if what in ("pooled", "strided") else 1)


def test_a_model_that_may_read_the_whole_picture_is_refused_when_it_is_too_large(backend: Backend) -> None:
    mean = helper.make_node("ReduceMean", ["input"], ["m"], axes=[2, 3], keepdims=1)
    add = helper.make_node("Add", ["input", "m"], ["a"])
    wide = helper.make_node("Conv", ["a", "k1"], ["x"])
    model = Model("own", 2, conv_net(mean, add, wide, SHUFFLE).SerializeToString())
    assert footprint(model).halo is None
    spec = EngineSpec(model, FrameGraphSpec(PIXEL_FORMATS["gray"], ColorSpec(), 2, 100, 100))
    with pytest.raises(BackendError, match=r"own would need .* cannot be computed in strips"):
        compile_engine(backend, spec, 1000)
