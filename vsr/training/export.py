"""Torch → ONNX: the deployed form of a network as a model file with its metadata inside.

The graph is built layer by layer from the collapsed kernels, so that it holds nothing but Conv, an
activation, perhaps an Add for the skip, and DepthToSpace, with batch, height and width dynamic. Networks on the
bicubic enlargement have that in front, as the frame graph has it; the auto-encoder also MaxPool, Concat, Shape and
Slice.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vsr.errors import ModelError, TrainingError
from vsr.evaluation.pairs import PROTOCOL
from vsr.graphs.ends import with_float_ends
from vsr.graphs.low_precision import half
from vsr.networks.base import LumaNetwork, PlainNetwork, bicubic_kernels
from vsr.networks.blocks import LEAK, Activation, PlainLayer
from vsr.resample import MARGIN
from vsr.training.evaluate import from_module, standard_psnr

OPSET = 17
IR_VERSION = 10
TRAINING_DATA = "59 photographs (CC0, CC-BY, BSD, public domain, Unsplash) and 13 clips (Apache-2.0, MIT, CC0, BSD)"
#: Every export is run and compared with torch; a larger difference (luma in 0 to 1) refuses it.
TOLERANCE = 1e-4
_NODES: dict[Activation, str] = {"relu": "Relu", "leaky": "LeakyRelu", "tanh": "Tanh", "prelu": "PRelu"}


class OnnxOperations:
    """The operations of a network (`vsr.networks.base.Operations`) as ONNX nodes; a value is its name."""

    def __init__(self, layers: Sequence[PlainLayer]) -> None:
        self.layers = layers
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._times: Counter[str] = Counter()

    def layer(self, number: int, x: str) -> str:
        """As in `Operations`."""
        layer = self.layers[number]
        kernel, label = layer.plan.kernel, number + 1
        inputs = [*self.convolution_inputs(number, x), self._constant(f"b{label}", layer.bias)]
        out = self._node("Conv", inputs, f"conv{label}", kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)
        if layer.activation == "none":
            return out
        extra = [] if layer.slope is None else [self._constant(f"slope{label}", layer.slope.reshape(-1, 1, 1))]
        attributes = {"alpha": LEAK} if layer.activation == "leaky" else {}
        return self._node(_NODES[layer.activation], [out, *extra], f"act{label}", **attributes)

    def convolution_inputs(self, number: int, x: str) -> tuple[str, str]:
        """The input and the weights of convolution `number` as it takes them."""
        return x, self._constant(f"w{number + 1}", self.layers[number].weight)

    def add(self, x: str, y: str) -> str:
        """As in `Operations`."""
        return self._node("Add", [x, y], self._name("skip"))

    def shuffle(self, x: str, scale: int) -> str:
        """As in `Operations`."""
        return self._node("DepthToSpace", [x], self._name("shuffle"), blocksize=scale, mode="CRD")

    def enlarge(self, x: str, scale: int) -> str:
        """As in `Operations`, and as `vsr.graphs.frame_graph` enlarges chroma."""
        down, across = (kernel.numpy() for kernel in bicubic_kernels(scale, torch.device("cpu")))
        pads = self._constant("bicubic_pads", np.array([0, 0, MARGIN, MARGIN] * 2, np.int64))
        x = self._node("Pad", [x, pads], "bicubic_pad", mode="edge")
        x = self._node("Conv", [x, self._constant("bicubic_down_kernel", down)], "bicubic_down")
        kernel = self._constant("bicubic_across_kernel", across)
        x = self._node("Conv", [x, kernel], "bicubic_across", group=scale)
        return self._node("DepthToSpace", [x], "bicubic", blocksize=scale, mode="CRD")

    def pool(self, x: str) -> str:
        """As in `Operations`."""
        name = self._name("pool")
        return self._node("MaxPool", [x], name, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)

    def repeat(self, x: str, like: str) -> str:
        """As in `Operations`."""
        name = self._name("repeat")
        # four copies and a shuffle: every runtime agrees on them, as not all do on Resize
        four = self._node("Concat", [x] * 4, f"{name}_copies", axis=1)
        twice = self._node("DepthToSpace", [four], f"{name}_twice", blocksize=2, mode="DCR")
        size = self._node("Shape", [like], f"{name}_size", start=2, end=4)
        starts = self._constant(f"{name}_starts", np.zeros(2, np.int64))
        axes = self._constant(f"{name}_axes", np.array([2, 3], np.int64))
        return self._node("Slice", [twice, starts, size, axes], name)

    def _name(self, stem: str) -> str:
        self._times[stem] += 1
        return stem if self._times[stem] == 1 else f"{stem}{self._times[stem]}"

    def _node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name


def build_model(
    network: LumaNetwork, properties: dict[str, str], operations: OnnxOperations | None = None
) -> onnx.ModelProto:
    """The ONNX model of a network: input `y` [N,1,H,W], output `y_upscaled` [N,1,sH,sW], float32.

    operations: what writes its layers; default: in float32, as they are.
    """
    scale = network.scale
    ops = operations or OnnxOperations(network.plain())
    network.flow(ops, "y")
    ops.nodes[-1].output[0] = "y_upscaled"
    graph = helper.make_graph(
        ops.nodes,
        f"{network.name}_x{scale}",
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info("y_upscaled", TensorProto.FLOAT, ["N", 1, f"{scale}H", f"{scale}W"])],
        ops.weights,
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


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model computed in float16: its input and output stay float32, with a Cast at either end."""
    halved: onnx.ModelProto = with_float_ends(half(model))
    return halved


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
    others = {"Add", "DepthToSpace", "Pad", "MaxPool", "Concat", "Shape", "Slice"}
    layers: list[PlainLayer] = []
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and set(node.input[1:]) <= set(values):
            layers.append(PlainLayer(values[node.input[1]], values[node.input[2]], "none"))
        elif node.op_type in names and layers and all(abs(a.f - LEAK) < 1e-6 for a in node.attribute):
            slope = values[node.input[1]].reshape(-1) if node.op_type == "PRelu" else None
            layers[-1] = PlainLayer(layers[-1].weight, layers[-1].bias, names[node.op_type], slope)
        elif node.op_type not in others and not node.name.startswith("bicubic_"):
            raise ModelError(f"{path} is not a model that this project's training wrote ({node.op_type})")
    if not layers:
        raise ModelError(f"{path} holds no convolutions to start from")
    return layers


def run_model(model: onnx.ModelProto, y: NDArray[np.float32]) -> NDArray[Any]:
    """Run a model in OpenVINO at full float32 precision: y [N,1,H,W] → [N,1,sH,sW]."""
    return runner(model)(y)


def runner(model: onnx.ModelProto, threads: int = 1) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """A model in OpenVINO at full float32 precision: [N,C,H,W] → [N,C,sH,sW]."""
    from vsr.backends.openvino import shared_core

    core = shared_core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads)},
    )

    def run(picture: NDArray[np.float32]) -> NDArray[Any]:
        result: NDArray[Any] = compiled([picture])[0]
        return result

    return run


def describe(network: LumaNetwork, data_sha256: str, figures: dict[str, float]) -> dict[str, str]:
    """The metadata of a network's model. figures: PSNR on the test sets, in dB."""
    return {
        "vsr.schema": "1",
        "vsr.network": network.name,
        "vsr.scale": str(network.scale),
        "vsr.input": "y",
        "vsr.halo": str(network.halo),
        "vsr.macs": str(network.macs),
        "vsr.parameters": str(network.parameters_deployed),
        "vsr.training_data": TRAINING_DATA,
        "vsr.training_data_sha256": data_sha256,
        "vsr.licence": "MIT",
        "vsr.psnr": json.dumps({**figures, "protocol": PROTOCOL}),
    }


def export_network(
    network: LumaNetwork, path: Path, data_sha256: str, test_folder: Path | None = None
) -> dict[str, float]:
    """Write a network as a model file, checked against torch; returns its PSNR on the test sets found, in dB.

    Raises `TrainingError` when the exported model computes something else than the network, or cannot be
    written.
    """
    figures: dict[str, float] = {}
    if test_folder is not None:
        found = standard_psnr(test_folder, network.scale, from_module(PlainNetwork(network)))
        figures = {k: round(v, 3) for k, v in found.items()}
    model = build_model(network, describe(network, data_sha256, figures))
    check_model(model, network)
    write_model(model, path)
    return figures


def check_model(model: onnx.ModelProto, network: LumaNetwork) -> None:
    """See that an exported model computes what the network does.

    Raises `TrainingError` if not.
    """
    y = np.random.default_rng(0).random((2, 1, 19, 26), dtype=np.float32)
    with torch.no_grad():
        wanted = network(torch.from_numpy(y)).numpy()
    difference = float(np.abs(run_model(model, y) - wanted).max())
    if not difference < TOLERANCE:
        raise TrainingError(f"the exported model differs from the network by {difference:.2g} (allowed: {TOLERANCE})")


def write_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a model file, replacing one that is there. Raises `TrainingError` when it cannot be written."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(model.SerializeToString())
        temporary.replace(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise TrainingError(f"cannot write the model {path}: {exc}") from exc
