"""Models in fp16 and int8 as GPUs take them: TensorRT reads the precision off the ONNX graph, it chooses none itself.

TensorRT's Q/DQ is symmetric: zero point 0, int8. It reads uint8 as int8 with a warning only, and then clips everything
above 127 steps, so models quantised for CPUs are rewritten before it sees them.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from vsr.errors import ModelError

QuantisedType = Literal["int8", "fp8"]

HALF_QDQ_OPSET: Final = 19  # the first whose QuantizeLinear takes fp16
FP32_INPUTS: Final = {"Resize": (1, 2)}  # inputs that ONNX wants in fp32 whatever the picture's type: roi, scales
SHAPE_OPERATORS: Final = ("Shape", "Size")
LARGEST_HALF: Final = 65504.0
SMALLEST_HALF: Final = 6.104e-5  # below it fp16 loses digits


def quantised_type(proto: Any) -> QuantisedType | None:
    """What the activations of a Q/DQ model are rounded to; None if it has no Q/DQ nodes."""
    import onnx

    quantisers = [n for n in proto.graph.node if n.op_type == "QuantizeLinear"]
    if not quantisers:
        return None
    fp8 = (onnx.TensorProto.FLOAT8E4M3FN, onnx.TensorProto.FLOAT8E5M2)
    types = {w.name: w.data_type for w in proto.graph.initializer}
    return "fp8" if any(len(n.input) > 2 and types.get(n.input[2]) in fp8 for n in quantisers) else "int8"


def quantisation(onnx_bytes: bytes) -> QuantisedType | None:
    """`quantised_type` of a serialised model."""
    import onnx

    return quantised_type(onnx.load_model_from_string(onnx_bytes))


def symmetric_int8(proto: Any, name: str) -> Any:
    """A copy of an int8 Q/DQ model whose zero points are all 0 and whose types are all int8.

    A step of uint8 becomes 255/127 steps of int8: one bit is lost. The first rounding is left out, because with one bit
    less it would coarsen the input itself; its convolution runs in fp16.

    Raises:
        ModelError: weights have a zero point, or the parameters are not constants.
    """
    import onnx
    from onnx import numpy_helper

    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    del graph.value_info[:]  # which says uint8
    weights = {w.name: w for w in graph.initializer}
    source = next(i.name for i in graph.input if i.name not in weights)
    _drop_first_rounding(graph, source)
    rescaled: dict[tuple[str, str], tuple[str, str]] = {}
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if any(n not in weights for n in node.input[1:]):
            raise ModelError(f"model {name} computes quantisation parameters, which must be constants for TensorRT")
        zero = (
            numpy_helper.to_array(weights[node.input[2]])
            if len(node.input) > 2
            else np.zeros((), np.uint8 if node.op_type == "QuantizeLinear" else np.int8)
        )
        if zero.dtype == np.int8 and not zero.any():
            continue
        if node.input[0] in weights:
            raise ModelError(f"model {name} has weights with a zero point; TensorRT takes symmetric int8 weights only")
        key = (node.input[1], node.input[2] if len(node.input) > 2 else "")
        if key not in rescaled:
            scale = _symmetric_scale(numpy_helper.to_array(weights[node.input[1]]), zero)
            made = (f"{key[0]}/symmetric", f"{key[1] or key[0]}/zero")
            graph.initializer.append(numpy_helper.from_array(scale, made[0]))
            graph.initializer.append(numpy_helper.from_array(np.zeros(zero.shape, np.int8), made[1]))
            rescaled[key] = made
        node.input[:] = [node.input[0], *rescaled[key]]
    _drop_unused(graph)
    return result


def _symmetric_scale(scale: npt.NDArray[Any], zero: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The step of int8 around 0 that covers what the asymmetric one covers."""
    limits = np.iinfo(zero.dtype)
    centre = zero.astype(np.float64)
    reach = np.maximum(centre - limits.min, limits.max - centre)
    result: npt.NDArray[np.float32] = (scale.astype(np.float64) * reach / 127).astype(np.float32)
    return result


def _drop_first_rounding(graph: Any, source: str) -> None:
    first = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == source]
    rounded = {n.output[0] for n in first}
    back = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in rounded]
    replaced = {n.output[0] for n in back}
    for node in graph.node:
        node.input[:] = [source if n in replaced else n for n in node.input]
    for node in (*first, *back):
        graph.node.remove(node)


def _drop_unused(graph: Any) -> None:
    used = {n for node in graph.node for n in node.input}
    for weight in [w for w in graph.initializer if w.name not in used]:
        graph.initializer.remove(weight)


def half_fits(proto: Any) -> bool:
    """Whether every fp32 weight keeps its size in fp16, and every quantisation step its digits."""
    from onnx import TensorProto, numpy_helper

    steps = {n.input[1] for n in proto.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for weight in proto.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            values = np.abs(numpy_helper.to_array(weight))
            if values.size and (values.max() > LARGEST_HALF or (weight.name in steps and values.min() < SMALLEST_HALF)):
                return False
    return True


def half(proto: Any) -> Any:
    """A copy of a model that takes, computes and returns fp16 instead of fp32.

    What is computed from constants or from shapes alone stays in fp32: sizes above 2048 have no fp16.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(proto)
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    del result.graph.value_info[:]
    _Halver(result.graph, inferred.graph).run()
    return result


class _Halver:
    """Rewrites one graph from fp32 to fp16."""

    def __init__(self, graph: Any, inferred: Any) -> None:
        import onnx

        self.onnx = onnx
        self.float = onnx.TensorProto.FLOAT
        self.half = onnx.TensorProto.FLOAT16
        self.graph = graph
        self.weights = {w.name: w for w in graph.initializer}
        self.types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.input, *inferred.value_info)}
        self.types |= {w.name: w.data_type for w in graph.initializer}
        self.data = {i.name for i in graph.input if i.name not in self.weights}
        self.made: dict[str, str] = {}

    def run(self) -> None:
        nodes = list(self.graph.node)
        del self.graph.node[:]
        for node in nodes:
            of_picture = node.op_type not in SHAPE_OPERATORS and any(n in self.data for n in node.input)
            if of_picture or self._is_dequantised_weight(node):
                self._convert(node)
                self.data.update(node.output)
            self.graph.node.append(node)
        for value in (*self.graph.input, *self.graph.output):
            if value.name in self.data and value.type.tensor_type.elem_type == self.float:
                value.type.tensor_type.elem_type = self.half
        _drop_unused(self.graph)

    def _is_dequantised_weight(self, node: Any) -> bool:
        return node.op_type == "DequantizeLinear" and node.input[0] in self.weights

    def _convert(self, node: Any) -> None:
        kept = FP32_INPUTS.get(node.op_type, ())
        for i, name in enumerate(node.input):
            if name and name not in self.data and i not in kept and self.types.get(name) == self.float:
                node.input[i] = self._halved(name)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == self.float:
                attribute.i = self.half

    def _halved(self, name: str) -> str:
        if name not in self.made:
            self.made[name] = f"{name}/half"
            if name in self.weights:
                array = self.onnx.numpy_helper.to_array(self.weights[name]).astype(np.float16)
                self.graph.initializer.append(self.onnx.numpy_helper.from_array(array, self.made[name]))
            else:
                cast = self.onnx.helper.make_node("Cast", [name], [self.made[name]], to=self.half)
                self.graph.node.append(cast)
        return self.made[name]
