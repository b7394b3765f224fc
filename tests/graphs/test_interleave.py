"""The last shuffle outside the graph: the same samples, for every kind of output."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from tests.backends.reference import random_planes
from vsr.frame import PIXEL_FORMATS, ColorSpec
from vsr.graphs import interleave as interleaving
from vsr.graphs.frame_graph import FrameGraphSpec, build_frame_graph
from vsr.graphs.interleave import interleave, without_last_shuffle
from vsr.model import BICUBIC, Model, load_model


@given(
    scale=st.integers(2, 5),
    rows=st.integers(1, 6),
    columns=st.integers(1, 7),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    data=st.data(),
)
def test_samples_come_to_their_places(scale: int, rows: int, columns: int, dtype: type, data: st.DataObject) -> None:
    blocks = np.arange(rows * columns * scale**2, dtype=dtype).reshape(rows, columns, scale**2)
    height, width = (data.draw(st.integers(scale * (n - 1) + 1, scale * n)) for n in (rows, columns))
    plane = interleave(blocks, height, width)
    assert plane.shape == (height, width)
    y, x = np.mgrid[:height, :width]
    assert (plane == blocks[y // scale, x // scale, (y % scale) * scale + x % scale]).all()


@pytest.mark.parametrize("band", [1, 40, 100])
def test_samples_come_to_their_places_whatever_the_band(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (5, 4, 9), dtype=np.uint8)
    want = interleave(blocks, 15, 12)
    monkeypatch.setattr(interleaving, "BAND", band)
    assert (interleave(blocks, 15, 12) == want).all()


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "gray", "yuva420p", "yuv420p10le", "gbrp", "gbrap"])
@pytest.mark.parametrize(("model", "scale"), [(BICUBIC, 2), ("fast", 3), ("espcn", 4)])
def test_graph_and_interleaving_together_give_what_the_graph_gives(name: str, model: str, scale: int) -> None:
    fmt = PIXEL_FORMATS[name]
    spec = FrameGraphSpec(fmt, ColorSpec(), scale, 9, 7)  # odd: chroma is cropped
    proto = build_frame_graph(load_model(model, scale), spec)
    flat, taken_out = without_last_shuffle(proto)
    onnx.checker.check_model(flat, full_check=True)
    planes = random_planes(fmt, 9, 7)
    feeds = {n: a[None, None] for n, a in zip(fmt.plane_names, planes.arrays, strict=True)}
    wanted, got = (ReferenceEvaluator(p).run(None, feeds) for p in (proto, flat))
    names = [o.name for o in proto.graph.output]
    for output, one, other in zip(names, wanted, got, strict=True):
        plane = interleave(other[0], *one.shape[2:]) if output in taken_out else other[0, 0]
        assert (plane == one[0, 0]).all()
    # What follows the shuffle in RGB mixes three planes, so it must stay there.
    assert taken_out == ({"a_out"} & set(names) if fmt.family == "rgb" else set(names))


def test_a_graph_without_a_shuffle_stays_as_it_is() -> None:
    node = onnx.helper.make_node("Conv", ["input", "up"], ["mid"], pads=[1, 1, 1, 1])
    wide = onnx.helper.make_node("Resize", ["mid", "", "twice"], ["output"], mode="nearest")
    weights = {"up": np.ones((1, 1, 3, 3), np.float32), "twice": np.array([1, 1, 2, 2], np.float32)}
    graph = onnx.helper.make_graph(
        [node, wide],
        "g",
        [onnx.helper.make_tensor_value_info("input", 1, ["N", 1, "h", "w"])],
        [onnx.helper.make_tensor_value_info("output", 1, ["N", 1, "H", "W"])],
        [onnx.numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    own = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    spec = FrameGraphSpec(PIXEL_FORMATS["gray"], ColorSpec(), 2, 8, 6)
    proto = build_frame_graph(Model("own", 2, own.SerializeToString()), spec)
    flat, taken_out = without_last_shuffle(proto)
    assert not taken_out
    assert [n.op_type for n in flat.graph.node] == [n.op_type for n in proto.graph.node]
    assert flat.graph.output == proto.graph.output
