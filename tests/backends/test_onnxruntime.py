"""The frame graphs in ONNX Runtime, which nothing is run in here: a judge of its own over every shipped model.

The reference is torch, operator by operator. OpenVINO is held to it beside ONNX Runtime.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from tests.backends.reference import random_planes
from vsr.benchmark.loops import import_onnxruntime
from vsr.engines.engine import EngineSpec, load_backend
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes, Siting
from vsr.graphs.frame_graph import FrameGraphSpec, GraphForm, build_frame_graph
from vsr.graphs.low_precision import HALF_QDQ_OPSET, half, symmetric_int8
from vsr.graphs.opset import convert_opset
from vsr.metrics import psnr
from vsr.model import Model, load_model, shipped_models
from vsr.training.evaluate import standard_psnr

if importlib.util.find_spec("onnxruntime") is None:
    pytest.skip("onnxruntime is not installed: frame graphs are not run in it", allow_module_level=True)

COLOR = ColorSpec(1, siting=Siting.LEFT)
HALF = GraphForm(half=True)
FORMATS = ("yuv420p", "yuv422p10le", "gbrp")
SIZE = (23, 17)
LEAST_DB = {"fp16": 55.0, "int8": 45.0}
LARGEST_LOSS_DB = 0.10


def spec_of(model: Model, planes: Planes) -> FrameGraphSpec:
    return FrameGraphSpec(planes.format, COLOR, model.scale, planes.width, planes.height)


def session_of(proto: onnx.ModelProto) -> Any:
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def in_fp32(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model in fp16 with its constants as they are, but computed in fp32.

    As GPUs scale what int8 convolutions sum up. ONNX Runtime on a CPU multiplies their two steps in fp16, where the
    product has three or four bits left, and loses 0.2 to 0.5 dB that no GPU loses.
    """
    for weight in proto.graph.initializer:
        if weight.data_type == TensorProto.FLOAT16:
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), weight.name))
    for node in proto.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return proto


def run_graph(proto: onnx.ModelProto, planes: Planes) -> list[np.ndarray]:
    session = session_of(proto)
    inputs = dict(zip((i.name for i in session.get_inputs()), (a[None, None] for a in planes.arrays), strict=True))
    return [result[0, 0] for result in session.run(None, inputs)]


def by_onnxruntime(model: Model, planes: Planes, form: GraphForm | None = None) -> list[np.ndarray]:
    return run_graph(build_frame_graph(model, spec_of(model, planes), form), planes)


def by_backend(name: str, model: Model, planes: Planes, precision: str = "fp32") -> list[np.ndarray]:
    engine = load_backend(name).compile(EngineSpec(model, spec_of(model, planes), precision, 1))
    try:
        return list(engine.submit(planes).result().arrays)
    finally:
        engine.close()


def smooth(seed: int) -> Planes:
    """Random waves of luma with noise: what networks are made for, and what int8 was calibrated on."""
    rng, (width, height) = np.random.default_rng(seed), SIZE
    y, x = np.mgrid[0:height, 0:width]
    wave = 120 + 60 * np.sin(x / rng.uniform(3, 6)) * np.cos(y / rng.uniform(3, 6)) + rng.normal(0, 2, (height, width))
    return Planes((wave.astype(np.uint8),), PIXEL_FORMATS["gray"], width, height)


@pytest.mark.parametrize("pix_fmt", FORMATS)
@pytest.mark.parametrize(("name", "scale"), shipped_models())
def test_fp32_is_within_one_code_value_of_torch(name: str, scale: int, pix_fmt: str) -> None:
    model, planes = load_model(name, scale), random_planes(PIXEL_FORMATS[pix_fmt], *SIZE, 7)
    want = by_backend("torch", model, planes)
    for got in (by_onnxruntime(model, planes), by_backend("openvino", model, planes)):
        for a, b in zip(got, want, strict=True):
            assert np.abs(a.astype(int) - b.astype(int)).max() <= 1


@pytest.mark.parametrize(("name", "scale"), shipped_models())
def test_fp16_is_near_fp32(name: str, scale: int) -> None:
    model, planes = load_model(name, scale), smooth(scale)
    (want,) = by_backend("torch", model, planes)
    (got,) = by_onnxruntime(model, planes, HALF)
    assert psnr(want, got) >= LEAST_DB["fp16"]


@pytest.mark.parametrize(("name", "scale"), shipped_models(quantised=True))
def test_int8_is_near_fp32(name: str, scale: int) -> None:
    quantised, planes = load_model(name, scale, "int8"), smooth(scale)
    (want,) = by_backend("torch", load_model(name, scale), planes)
    for got in (
        by_onnxruntime(quantised, planes),
        by_backend("openvino", quantised, planes, "int8"),
        by_backend("torch", quantised, planes, "int8"),
    ):
        assert psnr(want, got[0]) >= LEAST_DB["int8"]
    (as_tensorrt,) = run_graph(in_fp32(build_frame_graph(quantised, spec_of(quantised, planes), HALF)), planes)
    assert psnr(want, as_tensorrt) >= LEAST_DB["int8"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), shipped_models(quantised=True))
def test_int8_as_tensorrt_takes_it_loses_no_more_than_it_may(name: str, scale: int, test_data: Path) -> None:
    proto = symmetric_int8(onnx.load_model_from_string(load_model(name, scale, "int8").onnx_bytes), name)
    session = session_of(in_fp32(half(convert_opset(proto, HALF_QDQ_OPSET, name))))

    def enlarge(low: np.ndarray) -> np.ndarray:
        return session.run(None, {session.get_inputs()[0].name: low[None, None]})[0][0, 0]

    stated = load_model(name, scale).psnr
    for folder, figure in standard_psnr(test_data, scale, enlarge).items():
        assert figure >= stated[folder] - LARGEST_LOSS_DB
