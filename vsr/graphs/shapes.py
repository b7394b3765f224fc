"""The shapes of all values of a graph whose inputs have fixed sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx


def infer_shapes(proto: onnx.ModelProto) -> dict[str, list[int]]:
    """Shapes by name, of inputs, weights and results; dimensions that cannot be told are 0.

    `proto` is changed: a `Shape` becomes the constant that it comes to, for onnx's own inference follows none of them
    into the bounds of a `Slice`.
    """
    import onnx

    while True:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
        values = (*inferred.input, *inferred.value_info, *inferred.output)
        shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
        shapes |= {w.name: list(w.dims) for w in inferred.initializer}
        known = [n for n in proto.graph.node if n.op_type == "Shape" and all(shapes.get(n.input[0], [0]))]
        if not known:
            break
        for node in known:
            bounds = {a.name: a.i for a in node.attribute}
            size = np.array(shapes[node.input[0]][bounds.get("start", 0) : bounds.get("end")], np.int64)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(size, node.output[0]))
            proto.graph.node.remove(node)
    for node in inferred.node:  # a quantised weight has the shape of what it is made from
        if node.op_type == "DequantizeLinear" and node.input[0] in shapes:
            shapes.setdefault(node.output[0], shapes[node.input[0]])
    return shapes
