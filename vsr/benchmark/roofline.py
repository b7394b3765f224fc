"""What a frame graph has to compute and to move, counted from the graph, and the least time that this can take.

The roofline model: S. Williams, A. Waterman and D. Patterson, "Roofline: An Insightful Visual Performance Model for
Multicore Architectures", CACM 52(4), 2009. It is applied to each convolution alone: what lies between two of them is
taken to be fused into them, so each reads its input once and writes its output once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Final

from vsr.graphs.frame_graph import FrameGraphSpec, GraphForm, build_frame_graph
from vsr.graphs.shapes import infer_shapes
from vsr.model import Model

BYTES: Final = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}  # of an activation, by precision


@dataclass(frozen=True)
class Layer:
    """One convolution: operations (a multiplication and an addition are two), and bytes read and written."""

    flop: float
    bytes: float


@dataclass(frozen=True)
class Work:
    """What one picture takes.

    Attributes:
        layers: the convolutions, those of chroma included.
        plane_bytes: of the planes in and out, which cross the bus too.
    """

    layers: tuple[Layer, ...]
    plane_bytes: int

    @property
    def flop(self) -> float:
        """Operations in all."""
        return sum(layer.flop for layer in self.layers)

    @property
    def bytes(self) -> float:
        """Bytes that the convolutions read and write in all."""
        return sum(layer.bytes for layer in self.layers)


@dataclass(frozen=True)
class Peak:
    """What a device reaches: operations and bytes a second."""

    flop_s: float
    bytes_s: float


def least_ms(work: Work, peak: Peak) -> float:
    """The roofline: milliseconds below which no engine comes that computes one convolution after the other."""
    return sum(max(layer.flop / peak.flop_s, layer.bytes / peak.bytes_s) for layer in work.layers) * 1000


def count(model: Model, spec: FrameGraphSpec, precision: str) -> Work:
    """Count the frame graph of `spec` around `model`, with activations and weights of `precision`."""
    proto = build_frame_graph(model, spec, GraphForm())
    shapes = infer_shapes(proto)
    size = BYTES[precision]
    layers = [_layer(node, shapes, size) for node in proto.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    planes = sum(prod(shapes[v.name]) for v in (*proto.graph.input, *proto.graph.output))
    return Work(tuple(layers), planes * spec.format.dtype.itemsize)


def _layer(node: Any, shapes: dict[str, list[int]], size: int) -> Layer:
    source, weight, result = (shapes[name] for name in (node.input[0], node.input[1], node.output[0]))
    # One multiplication for each weight and place: of the output, or of what a transposed one spreads.
    place = result if node.op_type == "Conv" else source
    multiplications = prod(weight) * prod(place[2:]) * place[0]
    return Layer(2.0 * multiplications, float(size * (prod(source) + prod(weight) + prod(result))))
