"""Torch → ONNX: the deployed form of a network as a model file with its metadata inside.

The graph is built layer by layer from the collapsed kernels, so that it holds nothing but Conv, an
activation, perhaps an Add for the skip, and DepthToSpace, with batch, height and width dynamic.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vsr.errors import ModelError, TrainingError
from vsr.networks.base import LumaNetwork, PlainNetwork
from vsr.networks.blocks import Activation, PlainLayer
from vsr.training.evaluate import PROTOCOL, from_module, standard_psnr

OPSET = 17
IR_VERSION = 10
TRAINING_DATA = "59 photographs (CC0, CC-BY, BSD, public domain, Unsplash) and 13 clips (Apache-2.0, MIT, CC0, BSD)"
#: Every export is run and compared with torch; a larger difference (luma in 0 to 1) refuses it.
TOLERANCE = 1e-4
_NODES: dict[Activation, str] = {"relu": "Relu", "tanh": "Tanh", "prelu": "PRelu"}


def build_model(network: LumaNetwork, properties: dict[str, str]) -> onnx.ModelProto:
    """The ONNX model of a network: input `y` [N,1,H,W], output `y_upscaled` [N,1,sH,sW], float32."""
    scale = network.scale
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def constant(name: str, value: NDArray[Any]) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    value = "y"
    for number, layer in enumerate(network.plain(), 1):
        kernel = layer.plan.kernel
        inputs = [value, constant(f"w{number}", layer.weight), constant(f"b{number}", layer.bias)]
        value = f"conv{number}"
        nodes.append(
            helper.make_node("Conv", inputs, [value], name=value, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)
        )
        if layer.activation != "none":
            extra = []
            if layer.slope is not None:
                extra = [constant(f"slope{number}", layer.slope.reshape(-1, 1, 1))]
            act = f"act{number}"
            nodes.append(helper.make_node(_NODES[layer.activation], [value, *extra], [act], name=act))
            value = act
    if network.skip:  # one channel is broadcast over scale²: the nearest-neighbour enlargement
        nodes.append(helper.make_node("Add", [value, "y"], ["sum"], name="skip"))
        value = "sum"
    nodes.append(helper.make_node("DepthToSpace", [value], ["y_upscaled"], name="shuffle", blocksize=scale, mode="CRD"))
    graph = helper.make_graph(
        nodes,
        f"{network.name}_x{scale}",
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info("y_upscaled", TensorProto.FLOAT, ["N", 1, f"{scale}H", f"{scale}W"])],
        weights,
    )
    model = helper.make_model(
        graph,
        producer_name="vsr",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    return model


def read_plain(path: Path) -> list[PlainLayer]:
    """The layers of a model that `export_network` wrote, to start another training from.

    Raises `ModelError` for any other model.
    """
    try:
        model = onnx.load(str(path))
    except Exception as exc:  # onnx raises protobuf's and its own kinds
        raise ModelError(f"cannot read the model {path}: {exc}") from exc
    values = {t.name: numpy_helper.to_array(t).astype(np.float32) for t in model.graph.initializer}
    names: dict[str, Activation] = {node: activation for activation, node in _NODES.items()}
    layers: list[PlainLayer] = []
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and set(node.input[1:]) <= set(values):
            layers.append(PlainLayer(values[node.input[1]], values[node.input[2]], "none"))
        elif node.op_type in names and layers:
            slope = values[node.input[1]].reshape(-1) if node.op_type == "PRelu" else None
            layers[-1] = PlainLayer(layers[-1].weight, layers[-1].bias, names[node.op_type], slope)
        elif node.op_type not in ("Add", "DepthToSpace"):
            raise ModelError(f"{path} is not a model that this project's training wrote ({node.op_type})")
    if not layers:
        raise ModelError(f"{path} holds no convolutions to start from")
    return layers


def run_model(model: onnx.ModelProto, y: NDArray[np.float32]) -> NDArray[Any]:
    """Run a model in OpenVINO at full float32 precision: y [N,1,H,W] → [N,1,sH,sW]."""
    from vsr.backends.openvino import shared_core

    core = shared_core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"},
    )
    result: NDArray[Any] = compiled([y])[0]
    return result


def export_network(
    network: LumaNetwork, path: Path, data_sha256: str, test_folder: Path | None = None
) -> dict[str, float]:
    """Write a network as a model file, checked against torch; returns its PSNR on the test sets found, in dB.

    Raises `TrainingError` when the exported model computes something else than the network, or cannot be
    written.
    """
    plain = PlainNetwork(network.plain(), network.scale, skip=network.skip)
    figures: dict[str, float] = {}
    if test_folder is not None:
        figures = {k: round(v, 3) for k, v in standard_psnr(test_folder, network.scale, from_module(plain)).items()}
    properties = {
        "vsr.schema": "1",
        "vsr.network": network.name,
        "vsr.scale": str(network.scale),
        "vsr.input": "y",
        "vsr.halo": str(network.halo),
        "vsr.training_data": TRAINING_DATA,
        "vsr.training_data_sha256": data_sha256,
        "vsr.licence": "MIT",
        "vsr.psnr": json.dumps({**figures, "protocol": PROTOCOL}),
    }
    model = build_model(network, properties)
    y = np.random.default_rng(0).random((2, 1, 19, 26), dtype=np.float32)
    with torch.no_grad():
        wanted = network(torch.from_numpy(y)).numpy()
    difference = float(np.abs(run_model(model, y) - wanted).max())
    if not difference < TOLERANCE:
        raise TrainingError(f"the exported model differs from the network by {difference:.2g} (allowed: {TOLERANCE})")
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(model.SerializeToString())
        temporary.replace(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise TrainingError(f"cannot write the model {path}: {exc}") from exc
    return figures
