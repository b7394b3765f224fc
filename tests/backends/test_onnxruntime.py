"""The frame graphs in ONNX Runtime, which nothing is run in here: a judge of its own over every shipped model.

The reference is torch, operator by operator. OpenVINO is held to it beside ONNX Runtime.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from tests.backends.reference import random_planes
from vsr.benchmark.loops import import_onnxruntime
from vsr.engines.engine import EngineSpec, load_backend
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes, Siting
from vsr.graphs.frame_graph import FrameGraphSpec, GraphForm, build_frame_graph
from vsr.metrics import psnr
from vsr.model import Model, load_model, shipped_models

if importlib.util.find_spec("onnxruntime") is None:
    pytest.skip("onnxruntime is not installed: frame graphs are not run in it", allow_module_level=True)

COLOR = ColorSpec(1, siting=Siting.LEFT)
FORMATS = ("yuv420p", "yuv422p10le", "gbrp")
SIZE = (23, 17)
LEAST_DB = {"fp16": 55.0, "int8": 45.0, "symmetric int8": 43.0}  # half of the levels are below what ReLU leaves


def spec_of(model: Model, planes: Planes) -> FrameGraphSpec:
    return FrameGraphSpec(planes.format, COLOR, model.scale, planes.width, planes.height)


def by_onnxruntime(model: Model, planes: Planes, form: GraphForm | None = None) -> list[np.ndarray]:
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    proto = build_frame_graph(model, spec_of(model, planes), form)
    session = runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = dict(zip((i.name for i in session.get_inputs()), (a[None, None] for a in planes.arrays), strict=True))
    return [result[0, 0] for result in session.run(None, inputs)]


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
    (got,) = by_onnxruntime(model, planes, GraphForm(half=True))
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
    (as_tensorrt,) = by_onnxruntime(quantised, planes, GraphForm(half=True))
    assert psnr(want, as_tensorrt) >= LEAST_DB["symmetric int8"]
