"""Frame graphs in the forms that GPUs take: fp16, symmetric int8, NV12 and P010, bytes in pairs, batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.backends import onnx_models, reference
from tests.backends.reference import random_planes, worst_difference
from vsr.errors import ModelError, OptionError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes, Range, Siting
from vsr.graphs.fidelity import waves
from vsr.graphs.frame_graph import FrameGraphSpec, GraphForm, build_frame_graph, plane_shapes
from vsr.graphs.low_precision import half, half_fits, quantised_type, symmetric_int8
from vsr.metrics import psnr
from vsr.model import BICUBIC, Model, load_model, shipped_models

COLOR = ColorSpec(siting=Siting.LEFT)


def packed(planes: Planes, form: GraphForm) -> dict[str, np.ndarray]:
    """The planes as a program that has NV12 or P010 would give them."""
    arrays = dict(zip(planes.format.plane_names, planes.arrays, strict=True))
    if form.interleaved:
        arrays = {"y": arrays["y"], "uv": np.stack([arrays["u"], arrays["v"]], axis=-1)}
    out = {}
    for name, array in arrays.items():
        array = np.ascontiguousarray(array << np.array(form.shift, array.dtype))
        shape = (1, *array.shape) if name == "uv" else (1, 1, *array.shape)
        if form.byte_pairs and array.dtype == np.uint16:
            array = array.view(np.uint8)
            shape = (*shape, 2)
        out[name] = array.reshape(shape).repeat(form.batch, 0)
    return out


def unpacked(results: list[np.ndarray], like: Planes, scale: int, form: GraphForm) -> list[Planes]:
    width, height = like.width * scale, like.height * scale
    found = []
    for i in range(form.batch):
        arrays = []
        for result in results:
            array = result[i]
            if form.byte_pairs and like.format.bits > 8:
                array = np.ascontiguousarray(array).view(np.uint16)[..., 0]
            assert not (array & np.array((1 << form.shift) - 1, array.dtype)).any()
            array = array >> np.array(form.shift, array.dtype)
            arrays += [array[..., 0], array[..., 1]] if array.ndim == 3 and array.shape[-1] == 2 else [array[0]]
        found.append(Planes(tuple(arrays), like.format, width, height))
    return found


def run_form(model: Model, planes: Planes, form: GraphForm, color: ColorSpec = COLOR) -> list[Planes]:
    """By ONNX's own reference, which computes fp16 in fp16."""
    spec = FrameGraphSpec(planes.format, color, model.scale, planes.width, planes.height)
    proto = build_frame_graph(model, spec, form)
    inputs = packed(planes, form)
    if not form.dynamic:
        shapes = {i.name: tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in proto.graph.input}
        assert {n: a.shape for n, a in inputs.items()} == shapes == plane_shapes(spec, form)
    results: Any = ReferenceEvaluator(proto).run(None, inputs)
    if not form.dynamic:
        declared = [tuple(d.dim_value for d in o.type.tensor_type.shape.dim) for o in proto.graph.output]
        assert [r.shape for r in results] == declared
    return unpacked(results, planes, model.scale, form)


FORMS = [
    ("yuv420p", GraphForm(interleaved=True)),
    ("yuv420p", GraphForm(batch=2, dynamic=True)),
    ("yuv420p10le", GraphForm(byte_pairs=True)),
    ("yuv420p10le", GraphForm(interleaved=True, byte_pairs=True, shift=6, batch=2)),
    ("yuv420p16le", GraphForm(interleaved=True, byte_pairs=True, dynamic=True)),
    ("gbrp12le", GraphForm(byte_pairs=True)),
    ("yuva420p", GraphForm()),
]


@pytest.mark.parametrize(("name", "form"), FORMS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_form_gives_the_numbers_of_the_definition(name: str, form: GraphForm, channels: int) -> None:
    width, height = (10, 6) if form.dynamic else (9, 7)
    planes = random_planes(PIXEL_FORMATS[name], width, height, 3)
    if channels == 1:
        model = Model(BICUBIC, 3)
        want = reference.frame_graph(planes, COLOR, 3)
    else:
        proto = onnx_models.compact(3, noise=0.01)
        model = Model("own", 3, proto.SerializeToString(), 3)
        want = reference.rgb_frame_graph(planes, COLOR, 3, onnx_models.bare_rgb(proto))
    for got in run_form(model, planes, form):
        assert worst_difference(got, want) <= 1


@pytest.mark.parametrize(("name", "scale"), shipped_models())
def test_shipped_models_in_fp16_stay_above_55_db(name: str, scale: int) -> None:
    model, planes = load_model(name, scale), waves(PIXEL_FORMATS["yuv420p"], 21, 15)
    want = reference.frame_graph(planes, COLOR, scale, onnx_models.bare(model))
    (got,) = run_form(model, planes, GraphForm(half=True))
    for array, right in zip(got.arrays, want, strict=True):
        assert psnr(right, array) >= 55


@pytest.mark.parametrize("color_range", [Range.LIMITED, Range.FULL])
def test_ten_bits_in_fp16_stay_above_55_db(color_range: Range) -> None:
    model, planes, color = (
        load_model("fast", 2),
        waves(PIXEL_FORMATS["yuv420p10le"], 21, 15),
        ColorSpec(range=color_range),
    )
    want = reference.frame_graph(planes, color, 2, onnx_models.bare(model))
    (got,) = run_form(model, planes, GraphForm(half=True, interleaved=True, byte_pairs=True, shift=6), color)
    assert min(psnr(w, a, peak=1023) for a, w in zip(got.arrays, want, strict=True)) >= 55


@pytest.mark.parametrize(("name", "scale"), shipped_models(quantised=True))
def test_shipped_int8_models_made_symmetric_stay_above_45_db(name: str, scale: int) -> None:
    model, planes = load_model(name, scale, "int8"), waves(PIXEL_FORMATS["yuv420p"], 21, 15)
    want = reference.frame_graph(planes, COLOR, scale, onnx_models.bare(load_model(name, scale)))
    (got,) = run_form(model, planes, GraphForm(half=True))
    assert psnr(want[0], got.arrays[0]) >= 45


@pytest.mark.parametrize(("name", "scale"), shipped_models(quantised=True))
def test_symmetric_means_int8_and_zero_points_of_zero(name: str, scale: int) -> None:
    proto = symmetric_int8(onnx.load_model_from_string(load_model(name, scale, "int8").onnx_bytes), name)
    onnx.checker.check_model(proto, full_check=True)
    weights = {w.name: numpy_helper.to_array(w) for w in proto.graph.initializer}
    quantisers = [n for n in proto.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(quantisers) > 4
    assert all(weights[n.input[2]].dtype == np.int8 and not weights[n.input[2]].any() for n in quantisers)
    assert quantised_type(proto) == "int8"
    assert not any(n.op_type == "QuantizeLinear" and n.input[0] == proto.graph.input[0].name for n in quantisers)


def test_in_fp16_every_convolution_is_fp16_and_what_sizes_are_made_of_is_not() -> None:
    """x2 by a Resize whose sizes are computed from the shape, as exporters write it."""
    nodes = [
        helper.make_node("Shape", ["input"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["float_shape"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float_shape", "factors"], ["float_sizes"]),
        helper.make_node("Cast", ["float_sizes"], ["sizes"], to=TensorProto.INT64),
        helper.make_node("Conv", ["input", "w"], ["c"]),
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.float32(1.0))),
        helper.make_node("Mul", ["c", "k"], ["m"]),
        helper.make_node("Resize", ["m", "", "", "sizes"], ["output"], mode="nearest"),
    ]
    weights = {"factors": np.array([1, 1, 2, 2], np.float32), "w": np.ones((1, 1, 1, 1), np.float32)}
    halved = half(onnx_models.make_model(nodes, weights))
    types = {w.name: w.data_type for w in halved.graph.initializer}
    assert types == {"factors": TensorProto.FLOAT, "w/half": TensorProto.FLOAT16}
    inferred = onnx.shape_inference.infer_shapes(halved, strict_mode=True).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    assert kinds["c"] == kinds["m"] == kinds["output"] == TensorProto.FLOAT16
    assert kinds["float_sizes"] == TensorProto.FLOAT
    x = np.random.default_rng(0).random((1, 1, 3, 5)).astype(np.float16)
    (made,) = ReferenceEvaluator(halved).run(None, {"input": x})
    assert made.dtype == np.float16
    assert (made == x.repeat(2, 2).repeat(2, 3)).all()


def test_weights_beyond_fp16_keep_the_model_in_fp32() -> None:
    assert half_fits(onnx_models.nearest(2, 1000.0))
    assert not half_fits(onnx_models.nearest(2, 1e6))
    model = Model("large", 2, onnx_models.nearest(2, 1e6).SerializeToString())
    planes = random_planes(PIXEL_FORMATS["gray"], 3, 3)
    spec = FrameGraphSpec(planes.format, COLOR, 2, 3, 3)
    proto = build_frame_graph(model, spec, GraphForm(half=True))
    assert {w.data_type for w in proto.graph.initializer if w.name.startswith("net/")} == {TensorProto.FLOAT}


def test_weights_with_a_zero_point_are_refused() -> None:
    proto = onnx.load_model_from_string(load_model("fast", 2, "int8").onnx_bytes)
    weights = {weight.name: weight for weight in proto.graph.initializer}
    node = next(n for n in proto.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in weights)
    steps = numpy_helper.to_array(weights[node.input[1]])
    proto.graph.initializer.append(numpy_helper.from_array(np.full(steps.shape, 3, np.int8), "shifted"))
    node.input[:] = [*node.input[:2], "shifted"]
    with pytest.raises(ModelError, match="symmetric int8 weights only"):
        symmetric_int8(proto, "fast")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("yuv444p", GraphForm(interleaved=True)),
        ("gbrp", GraphForm(interleaved=True)),
        ("yuv420p10le", GraphForm(shift=6)),
        ("yuv420p12le", GraphForm(byte_pairs=True, shift=6)),
    ],
)
def test_forms_that_do_not_exist_are_refused(name: str, form: GraphForm) -> None:
    with pytest.raises(OptionError, match=r"interleaved form|shift"):
        build_frame_graph(Model(BICUBIC, 2), FrameGraphSpec(PIXEL_FORMATS[name], COLOR, 2, 8, 8), form)
