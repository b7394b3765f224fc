"""ONNX models made by hand: small, odd, and as other people's exporters write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from vsr.model import Model, load_model

Weights = dict[str, np.ndarray]


def make_model(
    nodes: Sequence[onnx.NodeProto],
    weights: Weights,
    *,
    opset: int = 17,
    input_name: str = "input",
    output_name: str = "output",
    input_shape: Sequence[Any] | None = (1, 1, "h", "w"),
    output_shape: Sequence[Any] | None = (1, 1, "oh", "ow"),
    input_type: int = TensorProto.FLOAT,
    weights_as_inputs: bool = False,
    metadata: dict[str, str] | None = None,
) -> onnx.ModelProto:
    """A model of one input and one output around `nodes`."""
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()]
    inputs = [helper.make_tensor_value_info(input_name, input_type, input_shape)]
    if weights_as_inputs:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    output = helper.make_tensor_value_info(output_name, TensorProto.FLOAT, output_shape)
    graph = helper.make_graph(list(nodes), "net", inputs, [output], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    for key, value in (metadata or {}).items():
        proto.metadata_props.add(key=key, value=value)
    return proto


def nearest(scale: int, gain: float = 1.0, offset: float = 0.0, **options: Any) -> onnx.ModelProto:
    """Each sample becomes scale x scale samples of gain · sample + offset."""
    nodes = [
        helper.make_node("Conv", ["input", "w", "b"], ["wide"]),
        helper.make_node("DepthToSpace", ["wide"], ["output"], blocksize=scale, mode="CRD"),
    ]
    weights = {
        "w": np.full((scale * scale, 1, 1, 1), gain, np.float32),
        "b": np.full(scale * scale, offset, np.float32),
    }
    return make_model(nodes, weights, **options)


def blocks(scale: int, multiple: int, channels: int = 1, opset: int = 17) -> onnx.ModelProto:
    """Nearest neighbour in blocks of `multiple`, of which height and width must be multiples."""
    inner = channels * multiple * multiple
    weights: Weights = {
        "w": np.eye(inner, dtype=np.float32).reshape(inner, inner, 1, 1) if inner <= 64 else np.ones((1,), np.float32),
        "scales": np.array([1, 1, scale, scale], np.float32),
        "roi": np.array([], np.float32),
    }
    nearest_mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes = [
        helper.make_node("SpaceToDepth", ["input"], ["deep"], blocksize=multiple),
        helper.make_node("Conv" if inner <= 64 else "Mul", ["deep", "w"], ["same"]),
        helper.make_node("DepthToSpace", ["same"], ["flat"], blocksize=multiple),
        helper.make_node("Resize", ["flat", "roi", "scales"], ["output"], **nearest_mode),
    ]
    shape = ("n", channels, "h", "w")
    return make_model(nodes, weights, opset=opset, input_shape=shape, output_shape=("n", channels, "oh", "ow"))


def mixed(opset: int, mode: str = "CRD", *, input_name: str = "y", weights_as_inputs: bool = True) -> onnx.ModelProto:
    """x2 by every way that foreign networks use, under names that a frame graph gives to things of its own."""
    rng = np.random.default_rng(3)

    def kernel(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.6 / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    weights: Weights = {
        "u": kernel(8, 1, 3, 3),
        "frame/const_0": kernel(8),
        "y_out": np.full((8, 1, 1), 0.2, np.float32),
        "frame/const_1": kernel(8, 8, 3, 3),
        "net/y": kernel(4, 8, 1, 1),
        "up": kernel(8, 1, 4, 4),
        "roi": np.array([], np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    nearest_mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes = [
        helper.make_node("Conv", [input_name, "u", "frame/const_0"], ["v"], name="y", pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["v", "y_out"], ["net/input"]),
        helper.make_node("Conv", ["net/input", "frame/const_1"], ["frame/Pad_0"], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["frame/Pad_0"], ["a"], alpha=0.1),
        helper.make_node("Conv", ["a", "net/y"], ["b"]),
        helper.make_node("Tanh", ["b"], ["c"]),
        helper.make_node("DepthToSpace", ["c"], ["d"], blocksize=2, mode=mode),
        helper.make_node("ConvTranspose", ["a", "up"], ["e"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Resize", [input_name, "roi", "scales"], ["f"], **nearest_mode),
        helper.make_node("Add", ["d", "e"], ["g"]),
        helper.make_node("Add", ["g", "f"], ["v_out"], name="v_out"),
    ]
    return make_model(
        nodes, weights, opset=opset, input_name=input_name, output_name="v_out", weights_as_inputs=weights_as_inputs
    )


def compact(scale: int, channels: int = 3, width: int = 8, seed: int = 5, noise: float = 0.05) -> onnx.ModelProto:
    """Like SRVGGNetCompact of Real-ESRGAN with random weights: convolutions, PReLU, pixel shuffle, nearest skip.

    With SPAN's gate in the middle: x · (sigmoid(x) − ½).
    """
    rng = np.random.default_rng(seed)
    out = channels * scale * scale

    def kernel(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * noise).astype(np.float32)

    weights: Weights = {
        "w1": kernel(width, channels, 3, 3),
        "b1": kernel(width),
        "s1": np.full((width, 1, 1), 0.1, np.float32),
        "w2": kernel(width, width, 3, 3),
        "half": np.float32(0.5),
        "w3": kernel(out, width, 3, 3),
        "scales": np.array([1, 1, scale, scale], np.float32),
    }
    nearest_mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["c1", "s1"], ["a1"]),
        helper.make_node("Conv", ["a1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c2"], ["sig"]),
        helper.make_node("Sub", ["sig", "half"], ["gate"]),
        helper.make_node("Mul", ["c2", "gate"], ["gated"]),
        helper.make_node("Add", ["gated", "a1"], ["sum"]),
        helper.make_node("Conv", ["sum", "w3"], ["c3"], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["c3"], ["large"], blocksize=scale, mode="CRD"),
        helper.make_node("Resize", ["input", "", "scales"], ["skip"], **nearest_mode),
        helper.make_node("Add", ["large", "skip"], ["output"]),
    ]
    return make_model(nodes, weights, input_shape=("n", channels, "h", "w"), output_shape=("n", channels, "oh", "ow"))


def bare_rgb(proto: onnx.ModelProto) -> Any:
    """An RGB model as a function of [3, H, W] in [0, 1], run by ONNX's own reference."""
    evaluator = ReferenceEvaluator(proto)

    def run(rgb: np.ndarray) -> np.ndarray:
        outputs: Any = evaluator.run(None, {proto.graph.input[0].name: rgb[None].astype(np.float32)})
        return np.asarray(outputs[0][0], np.float64)

    return run


def bare(proto: onnx.ModelProto | Model) -> Any:
    """The model as a function of luma in [0, 1], run by ONNX's own reference."""
    loaded = proto if isinstance(proto, onnx.ModelProto) else onnx.load_model_from_string(proto.onnx_bytes)
    weights = {w.name for w in loaded.graph.initializer}
    name = next(i.name for i in loaded.graph.input if i.name not in weights)
    evaluator = ReferenceEvaluator(loaded)

    def run(y: np.ndarray) -> np.ndarray:
        outputs: Any = evaluator.run(None, {name: y[None, None].astype(np.float32)})
        return np.asarray(outputs[0][0, 0], np.float64)

    return run


def saved(proto: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def loaded(proto: onnx.ModelProto, folder: Path, scale: int) -> Model:
    """The model as a user's own would be loaded."""
    return load_model(saved(proto, folder / "own.onnx"), scale)
