"""Models in the form of FFmpeg's own network code, which its filter `sr` reads (libavfilter/dnn, before FFmpeg 6.1).

A header, the layers (a number for the kind, then what the kind needs, then the numbers of its operands), the operands,
and at last how many there are of both; all numbers are 32-bit and little-endian, weights [out, row, column, in].
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

from vsr.errors import ModelError

HEADER: Final = b"FFMPEGDNNNATIVE"
VERSION: Final = (1, 23)
CONVOLUTION, DEPTH_TO_SPACE = 1, 2
SAME: Final = 1  # padding with zeros
ACTIVATIONS: Final = {"Relu": 0, "Tanh": 1, "": 3}
INPUT, OUTPUT, BETWEEN = 1, 2, 3
FLOAT: Final = 1


def native_model(onnx_bytes: bytes) -> bytes:
    """A model of plain convolutions with ReLU or tanh between them, and a pixel shuffle at the end.

    Raises:
        ModelError: it has something else.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_model_from_string(onnx_bytes).graph
    weights = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    nodes = list(graph.node)
    layers: list[bytes] = []
    while nodes:
        node, follower = nodes[0], nodes[1].op_type if len(nodes) > 1 else ""
        place = len(layers), len(layers) + 1  # the operands read and written
        if node.op_type == "Conv" and len(node.input) == 3:
            activation = follower if follower in ("Relu", "Tanh") else ""
            kernel = weights[node.input[1]]
            layers.append(_convolution(kernel, weights[node.input[2]], activation, place))
            del nodes[: 2 if activation else 1]
        elif node.op_type == "DepthToSpace" and len(nodes) == 1:
            scale = next(int(a.i) for a in node.attribute if a.name == "blocksize")
            layers.append(_numbers(DEPTH_TO_SPACE, scale, *place))
            del nodes[0]
        else:
            raise ModelError(f"FFmpeg's own network code has no {node.op_type} as it stands here")
    names = ["x", *(f"l{n}" for n in range(1, len(layers))), "y"]
    operands = b"".join(_operand(n, name, len(layers)) for n, name in enumerate(names))
    return HEADER + _numbers(*VERSION) + b"".join(layers) + operands + _numbers(len(layers), len(names))


def _convolution(kernel: Any, bias: Any, activation: str, place: tuple[int, int]) -> bytes:
    count, channels, side, _ = kernel.shape
    head = _numbers(CONVOLUTION, 1, SAME, ACTIVATIONS[activation], channels, count, side, 1)
    values = np.concatenate([kernel.transpose(0, 2, 3, 1).ravel(), bias]).astype("<f4").tobytes()
    return head + values + _numbers(*place)


def _operand(number: int, name: str, last: int) -> bytes:
    kind = INPUT if number == 0 else OUTPUT if number == last else BETWEEN
    text = name.encode() + b"\0"
    dims = (1, -1, -1, 1 if kind != BETWEEN else -1)
    return _numbers(number, len(text)) + text + _numbers(kind, FLOAT, *dims)


def _numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)
