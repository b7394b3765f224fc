"""What is put in front of and behind a foreign model's graph so that it takes what every other model takes.

Nodes are added to the model itself, so the frame graph, every backend and every compiler handle the result as they
handle any model.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def with_float_ends(proto: Any) -> Any:
    """A copy of a model that takes and returns float32, with a Cast at each end that was float16."""
    import onnx
    from onnx import TensorProto, helper

    result = _copy(proto)
    graph = result.graph
    source, output = _source(graph), graph.output[0]
    halves = [e for e in (source, output) if e.type.tensor_type.elem_type == TensorProto.FLOAT16]
    inner = {end.name: f"{end.name}_half" for end in halves}
    _rename(graph, inner)
    for end in halves:
        end.type.tensor_type.elem_type = TensorProto.FLOAT
    first, last = [], []
    if source in halves:
        first = [helper.make_node("Cast", [source.name], [inner[source.name]], name="to_half", to=TensorProto.FLOAT16)]
    if output in halves:
        last = [helper.make_node("Cast", [inner[output.name]], [output.name], name="from_half", to=TensorProto.FLOAT)]
    _surround(graph, first, last)
    onnx.checker.check_model(result)
    return result


def with_any_size(proto: Any, multiple: int, minimum: int, scale: int) -> Any:
    """A copy of a model that takes pictures of any size where `proto` takes multiples of a size only.

    The right and the lower edge are repeated up to the next size that it takes, and what it makes of them is cut off.

    Args:
        proto: enlarges [N, C, H, W]; of opset 13 or later.
        multiple: that height and width must be of.
        minimum: of height and width.
        scale: whole enlargement factor.
    """
    from onnx import helper, numpy_helper

    result = _copy(proto)
    graph = result.graph
    source, output = _source(graph), graph.output[0]
    inner = {source.name: "ends/padded", output.name: "ends/enlarged"}
    _rename(graph, inner)

    def constant(name: str, *values: int) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), f"ends/{name}"))
        return f"ends/{name}"

    def node(kind: str, inputs: list[str], name: str, **attributes: Any) -> Any:
        return helper.make_node(kind, inputs, [name], name=name, **attributes)

    two, four, axes = constant("two", 2), constant("four", 4), constant("axes", 2, 3)
    unit = constant("unit", multiple)
    first = [
        node("Shape", [source.name], "ends/shape"),
        node("Slice", ["ends/shape", two, four], "ends/size"),
        node("Max", ["ends/size", constant("minimum", minimum)], "ends/least"),
        node("Add", ["ends/least", constant("rest", multiple - 1)], "ends/reach"),
        node("Div", ["ends/reach", unit], "ends/units"),
        node("Mul", ["ends/units", unit], "ends/full"),
        node("Sub", ["ends/full", "ends/size"], "ends/extra"),
        node("Concat", [constant("none", 0, 0, 0, 0, 0, 0), "ends/extra"], "ends/pads", axis=0),
        node("Pad", [source.name, "ends/pads"], "ends/padded", mode="edge"),
        node("Mul", ["ends/size", constant("scale", scale)], "ends/stop"),
    ]
    last = node("Slice", ["ends/enlarged", constant("start", 0, 0), "ends/stop", axes], "ends/cut")
    last.output[0] = output.name
    _surround(graph, first, [last])
    return result


def folded(proto: Any) -> Any:
    """A copy of a model in which constants are weights, and no node copies a weight: as exporters need not write it."""
    result = _copy(proto)
    graph = result.graph
    weights = {w.name for w in graph.initializer}
    outputs = {o.name for o in graph.output}
    alias: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [alias.get(n, n) for n in node.input]
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            weight = graph.initializer.add()
            weight.CopyFrom(node.attribute[0].t)
            weight.name = node.output[0]
            weights.add(weight.name)
        elif node.op_type == "Identity" and node.input[0] in weights and node.output[0] not in outputs:
            alias[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    return result


def _copy(proto: Any) -> Any:
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(proto)
    del result.graph.value_info[:]  # what it says of shapes and types need not be true any more
    return result


def _source(graph: Any) -> Any:
    weights = {w.name for w in graph.initializer}
    return next(i for i in graph.input if i.name not in weights)


def _rename(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]


def _surround(graph: Any, first: list[Any], last: list[Any]) -> None:
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
