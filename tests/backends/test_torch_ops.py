"""Each operator that the torch backend executes, against ONNX's own reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

torch = pytest.importorskip("torch")
ops = pytest.importorskip("vsr.backends.torch_ops")

rng = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


X = floats(1, 4, 7, 9)
Array = np.ndarray | None


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


# (operator, inputs, attributes)
CASES: list[tuple[str, list[Array], dict[str, Any]]] = [
    ("Add", [X, floats(4, 1, 1)], {}),
    ("Sub", [X, floats(1, 1, 7, 1)], {}),
    ("Mul", [X, f32(2.5)], {}),
    ("Div", [X, np.abs(floats(9)) + 0.1], {}),
    ("Div", [ints(7, 8, 9, -7), ints(4)], {}),
    ("Erf", [X], {}),
    ("Exp", [X], {}),
    ("GlobalAveragePool", [X], {}),
    ("HardSigmoid", [X], {"alpha": 0.3}),
    ("HardSwish", [X * 4], {}),
    ("InstanceNormalization", [X, floats(4), floats(4)], {"epsilon": 1e-3}),
    ("LayerNormalization", [X, floats(9), floats(9)], {}),
    ("LayerNormalization", [X, floats(7, 9), floats(7, 9)], {"axis": -2}),
    ("Max", [ints(3, 9), ints(5)], {}),
    ("Min", [X, floats(4, 1, 1), np.float32(0.3)], {}),
    ("Pow", [np.abs(X), np.float32(2)], {}),
    ("ReduceMean", [X, ints(1)], {}),
    ("ReduceMean", [X, ints(2, 3)], {"keepdims": 0}),
    ("ReduceMean", [X], {}),
    ("Softmax", [X], {"axis": 1}),
    ("Softplus", [X], {}),
    ("SpaceToDepth", [floats(1, 3, 6, 8)], {"blocksize": 2}),
    ("Sqrt", [np.abs(X)], {}),
    ("Relu", [X], {}),
    ("LeakyRelu", [X], {}),
    ("LeakyRelu", [X], {"alpha": 0.3}),
    ("MatMul", [X, floats(9, 5)], {}),
    ("MatMul", [floats(3, 7), X], {}),
    ("MaxPool", [X], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("PRelu", [X, floats(4, 1, 1)], {}),
    ("PRelu", [X, f32(0.2)], {}),
    ("Tanh", [X], {}),
    ("Sigmoid", [X], {}),
    ("Identity", [X], {}),
    ("Round", [np.arange(-4, 4.5, 0.5, dtype=np.float32)], {}),
    ("Clip", [X, np.float32(-0.5), np.float32(0.5)], {}),
    ("Clip", [X, None, np.float32(0.5)], {}),
    ("Clip", [X, np.float32(-0.5)], {}),
    ("Clip", [X], {}),
    ("Cast", [X * 10], {"to": TensorProto.INT32}),
    ("Cast", [np.abs(X) * 10], {"to": TensorProto.UINT8}),
    ("Cast", [np.abs(X) * 1000], {"to": TensorProto.UINT16}),
    ("Cast", [np.arange(5, dtype=np.uint16) * 10000], {"to": TensorProto.FLOAT}),
    ("Cast", [X], {"to": TensorProto.DOUBLE}),
    ("Concat", [X, floats(1, 2, 7, 9)], {"axis": 1}),
    ("Concat", [X, floats(1, 4, 7, 3), floats(1, 4, 7, 1)], {"axis": -1}),
    ("Conv", [X, floats(3, 4, 3, 3), floats(3)], {"pads": [1, 1, 1, 1]}),
    ("Conv", [X, floats(3, 4, 3, 3)], {}),
    ("Conv", [X, floats(3, 4, 3, 3)], {"pads": [0, 1, 2, 3]}),
    ("Conv", [X, floats(3, 4, 3, 5)], {"pads": [2, 4, 2, 4], "dilations": [2, 2]}),
    ("Conv", [X, floats(8, 1, 3, 3)], {"group": 4, "pads": [1, 1, 1, 1]}),
    ("Conv", [X, floats(3, 4, 3, 3)], {"strides": [2, 3], "pads": [1, 0, 1, 0]}),
    ("Conv", [X, floats(3, 4, 3, 3)], {"auto_pad": "SAME_UPPER"}),
    ("Conv", [X, floats(3, 4, 4, 4)], {"auto_pad": "SAME_UPPER"}),
    ("Conv", [X, floats(3, 4, 4, 2)], {"auto_pad": "SAME_LOWER"}),
    ("Conv", [X, floats(3, 4, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", [X, floats(3, 4, 3, 3)], {"auto_pad": "VALID"}),
    ("ConvTranspose", [X, floats(4, 2, 4, 4), floats(2)], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("ConvTranspose", [X, floats(4, 2, 9, 9)], {"strides": [3, 3], "pads": [4, 4, 4, 4], "output_padding": [2, 2]}),
    ("ConvTranspose", [X, floats(4, 2, 3, 3)], {"strides": [2, 2], "pads": [0, 1, 1, 0]}),
    ("ConvTranspose", [X, floats(4, 1, 3, 3)], {"strides": [2, 2], "group": 4}),
    ("ConvTranspose", [X, floats(4, 2, 3, 3)], {"dilations": [2, 2]}),
    ("DepthToSpace", [X], {"blocksize": 2}),
    ("DepthToSpace", [floats(2, 12, 3, 4)], {"blocksize": 2, "mode": "DCR"}),
    ("DepthToSpace", [floats(2, 12, 3, 4)], {"blocksize": 2, "mode": "CRD"}),
    ("DepthToSpace", [floats(1, 18, 3, 4)], {"blocksize": 3, "mode": "CRD"}),
    ("Pad", [X, ints(0, 0, 1, 2, 0, 0, 3, 4)], {}),
    ("Pad", [X, ints(0, 1, 1, 2, 0, 2, 3, 4), np.float32(0.7)], {"mode": "constant"}),
    ("Pad", [X, ints(0, 0, 9, 12, 0, 0, 8, 1)], {"mode": "edge"}),
    ("Pad", [X, ints(0, 0, 3, 4, 0, 0, 6, 8)], {"mode": "reflect"}),
    ("Pad", [X, ints(2, 1, 0, 3), None, ints(2, 3)], {"mode": "edge"}),
    ("Pad", [X, ints(2, 1, 0, 3), None, ints(-2, -1)], {"mode": "constant"}),
    ("Slice", [X, ints(1), ints(3), ints(1)], {}),
    ("Slice", [X, ints(0, 2), ints(1, 100)], {}),
    ("Slice", [X, ints(-3, -100), ints(-1, 5), ints(2, -1)], {}),
    ("Slice", [X, ints(1, 0), ints(7, 9), ints(2, 3), ints(2, 3)], {}),
    ("Slice", [X, ints(5), ints(2), ints(3)], {}),
    ("Slice", [X, ints(0), ints(2**63 - 1), ints(3)], {}),
    ("Reshape", [X, ints(1, 4, -1)], {}),
    ("Reshape", [X, ints(0, 0, 63, 1)], {}),
    ("Transpose", [X], {"perm": [0, 2, 3, 1]}),
    ("Transpose", [X], {}),
    ("Floor", [X], {}),
    ("Squeeze", [X[:1, :1], ints(0)], {}),
    ("Squeeze", [X[:1, :1], ints(-3, 0)], {}),
    ("Squeeze", [X[:1, :1]], {}),
    ("Unsqueeze", [X, ints(0, 2)], {}),
    ("Unsqueeze", [X, ints(-1)], {}),
    ("Shape", [X], {}),
    ("Shape", [X], {"start": 2}),
    ("Shape", [X], {"start": -2, "end": -1}),
    ("Gather", [X, ints(2, 0, 1)], {"axis": 1}),
    ("Gather", [X, ints(-1)], {"axis": 2}),
    ("Gather", [ints(5, 6, 7), np.array(1)], {}),
    ("Split", [X, ints(1, 3)], {"axis": 1}),
    ("Split", [X], {"axis": 1, "num_outputs": 2}),
    ("Split", [X], {"axis": 3, "num_outputs": 2}),
    ("Constant", [], {"value": numpy_helper.from_array(f32(1, 2, 3))}),
    ("QuantizeLinear", [X, np.float32(0.05), np.uint8(120)], {}),
    ("QuantizeLinear", [X, np.float32(0.05), np.int8(3)], {}),
    ("QuantizeLinear", [X, np.abs(floats(4)) + 0.01, np.zeros(4, np.int8)], {"axis": 1}),
    ("DequantizeLinear", [np.arange(0, 256, 5).astype(np.uint8), np.float32(0.05), np.uint8(120)], {}),
    (
        "DequantizeLinear",
        [np.arange(8).astype(np.int8).reshape(4, 2), f32(1, 2, 3, 4), np.zeros(4, np.int8)],
        {"axis": 0},
    ),
]


def outputs_of(op: str, attributes: dict[str, Any], inputs: list[Array]) -> int:
    if op != "Split":
        return 1
    if "num_outputs" in attributes:
        return int(attributes["num_outputs"])
    sizes = inputs[1]
    assert sizes is not None
    return len(sizes)


def by_reference(op: str, inputs: list[Array], attributes: dict[str, Any]) -> list[np.ndarray]:
    names = [f"i{n}" if value is not None else "" for n, value in enumerate(inputs)]
    outputs = [f"o{n}" for n in range(outputs_of(op, attributes, inputs))]
    node = helper.make_node(op, names, outputs, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.asarray(v).dtype), np.shape(v))
            for n, v in zip(names, inputs, strict=True)
            if v is not None
        ],
        [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    feed = {n: np.asarray(v) for n, v in zip(names, inputs, strict=True) if v is not None}
    return [np.asarray(v) for v in ReferenceEvaluator(model).run(None, feed)]


def by_torch(op: str, inputs: list[Array], attributes: dict[str, Any]) -> list[np.ndarray]:
    node = helper.make_node(op, [], [], **attributes)
    read = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if "value" in read:
        read["value"] = torch.from_numpy(numpy_helper.to_array(read["value"]).copy())
    tensors = [None if v is None else torch.from_numpy(np.asarray(v).copy()) for v in inputs]
    result = ops.OPERATORS[op](tensors, read)
    return [t.numpy() for t in (result if isinstance(result, tuple) else (result,))]


def name(case: tuple[str, list[Array], dict[str, Any]]) -> str:
    op, inputs, attributes = case
    small = [str(v.tolist()) for v in inputs if isinstance(v, np.ndarray) and v.dtype == np.int64]
    return " ".join([op, *small, *(f"{k}={v}" for k, v in attributes.items() if k != "value")])


@pytest.mark.parametrize("case", CASES, ids=name)
def test_an_operator_returns_what_onnx_defines(case: tuple[str, list[Array], dict[str, Any]]) -> None:
    op, inputs, attributes = case
    if op not in ops.OPERATORS:
        pytest.fail(f"{op} is no longer executed: take it out of this table")
    want, got = by_reference(op, inputs, attributes), by_torch(op, inputs, attributes)
    assert len(got) == len(want)
    for mine, theirs in zip(got, want, strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        assert np.allclose(mine, theirs, atol=1e-4)


REFUSED: list[tuple[str, list[Array], dict[str, Any]]] = [
    ("ConvTranspose", [X, floats(4, 2, 3, 3)], {"strides": [2, 2], "output_shape": [14, 18]}),
    ("ConvTranspose", [X, floats(4, 2, 3, 3)], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("Slice", [X, ints(5), ints(0), ints(3), ints(-1)], {}),
    ("Pad", [X, ints(0, 0, 1, 1, 0, 0, 1, 1)], {"mode": "wrap"}),
    ("Cast", [X], {"to": TensorProto.STRING}),
]


@pytest.mark.parametrize("case", REFUSED, ids=name)
def test_what_is_not_executed_is_refused_and_not_guessed(case: tuple[str, list[Array], dict[str, Any]]) -> None:
    op, inputs, attributes = case
    try:
        got = by_torch(op, inputs, attributes)
    except ValueError:
        return
    want = by_reference(op, inputs, attributes)
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(got, want, strict=True))


def test_every_operator_is_in_the_table() -> None:
    covered = {case[0] for case in CASES} | {"Resize"}  # Resize has a test of its own, in test_graph.py
    assert sorted(set(ops.OPERATORS) - covered) == []
    assert all(onnx.defs.has(op) for op in ops.OPERATORS)
