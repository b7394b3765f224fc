"""What a model reads and holds for each picture element: its receptive radius, and the memory of its activations.

Both are read off the graph of convolutions. They decide whether a picture can be cut into strips, and whether it has
to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any, Final

from vsr.model import Model

# Operators that compute each sample from the samples at the same place only.
POINTWISE: Final = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "Concat", "Cast", "Round", "Clip", "Constant", "Identity"),
        *("Relu", "PRelu", "LeakyRelu", "Tanh", "Sigmoid", "QuantizeLinear", "DequantizeLinear"),
    )
)
BICUBIC_HALO: Final = 2
FLOAT_BYTES: Final = 4


@dataclass(frozen=True)
class Footprint:
    """What a model needs around and for one input sample.

    Attributes:
        halo: receptive radius in input samples, or None if the graph does not tell (it may read all of the picture).
        bytes_per_sample: of activations alive at once, in fp32.
    """

    halo: int | None
    bytes_per_sample: int


@dataclass(frozen=True)
class _Tensor:
    radius: Fraction  # in input samples
    density: Fraction  # output samples per input sample, along one axis
    channels: int


def footprint(model: Model) -> Footprint:
    """Read the footprint of `model` off its graph."""
    bicubic_bytes = FLOAT_BYTES * (2 + model.scale + 2 * model.scale**2)
    if model.is_bicubic:
        return Footprint(BICUBIC_HALO, bicubic_bytes)
    import onnx

    graph = onnx.load_model_from_string(model.onnx_bytes).graph
    weights = {w.name: tuple(w.dims) for w in graph.initializer}
    constants = {w.name: onnx.numpy_helper.to_array(w).tolist() for w in graph.initializer if len(w.dims) == 1}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t).tolist()
    source = next(i.name for i in graph.input if i.name not in weights)
    tensors = {source: _Tensor(Fraction(0), Fraction(1), model.channels)}
    local, peak = True, Fraction(0)
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:  # of a quantised weight
            weights[node.output[0]] = weights[node.input[0]]
            continue
        inputs = [tensors[n] for n in node.input if n in tensors]
        if not inputs:
            continue  # constants
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Resize":
            result = _resize(inputs[0], constants.get(node.input[2]) if len(node.input) > 2 else None, attributes)
        else:
            result = _apply(node.op_type, inputs, [weights.get(n, ()) for n in node.input], attributes)
        if result is None:
            local = False
            result = inputs[0]
        alive = sum((t.channels * t.density**2 for t in {*inputs, result}), Fraction(0))
        peak = max(peak, alive)
        for name in node.output:
            tensors[name] = result
    halo = ceil(tensors[graph.output[0].name].radius) if local and graph.output[0].name in tensors else None
    return Footprint(halo, max(bicubic_bytes, ceil(FLOAT_BYTES * peak)))


def frame_halo(model: Model, halo: int, subsampling: int) -> int:
    """Rows of luma beside a cut that a frame graph's result depends on.

    Args:
        model: in the frame graph.
        halo: of the model itself.
        subsampling: of chroma along that axis.
    """
    chroma = BICUBIC_HALO * subsampling
    if model.channels == 1:
        return max(halo, chroma)
    # Chroma is enlarged before an RGB model, and made smaller after it by a cubic of 2 samples of chroma on each side.
    return chroma + halo + ceil(Fraction(2 * subsampling, model.scale)) + 1


def _apply(op: str, inputs: list[_Tensor], shapes: list[tuple[int, ...]], attributes: dict[str, Any]) -> _Tensor | None:
    """The tensor that an operator makes; None for one whose reach is not known."""
    first = inputs[0]
    if op == "Conv" and len(shapes) > 1 and len(shapes[1]) == 4:
        if any(s != 1 for s in attributes.get("strides", [1])):
            return None
        reach = max(_conv_reach(axis, shapes[1][2 + axis], attributes) for axis in (0, 1))
        return _Tensor(first.radius + reach / first.density, first.density, shapes[1][0])
    if op == "ConvTranspose" and len(shapes) > 1 and len(shapes[1]) == 4:
        stride = max(attributes.get("strides", [1]))
        reach = Fraction(ceil(Fraction(max(shapes[1][2:]), stride))) / first.density
        group = attributes.get("group", 1)
        return _Tensor(first.radius + reach, first.density * stride, shapes[1][1] * group)
    if op == "Split" and attributes.get("axis", 0) == 1:
        return first
    if op == "DepthToSpace":
        block = attributes["blocksize"]
        return _Tensor(first.radius, first.density * block, first.channels // block**2)
    if op == "Pad" and attributes.get("mode") == b"edge":  # reads no farther than the convolution that it is for
        return first
    if op in POINTWISE:
        channels = sum(t.channels for t in inputs) if op == "Concat" else max(t.channels for t in inputs)
        return _Tensor(max(t.radius for t in inputs), max(t.density for t in inputs), channels)
    return None


def _resize(first: _Tensor, scales: Any, attributes: dict[str, Any]) -> _Tensor | None:
    """Enlarging by one whole factor; whatever the interpolation, it reads at most two samples away."""
    whole = isinstance(scales, list) and len(scales) == 4 and scales[:2] == [1, 1] and scales[2] == scales[3]
    if not whole or scales[2] != int(scales[2]) or attributes.get("coordinate_transformation_mode") == b"align_corners":
        return None
    reach = 1 if attributes.get("mode", b"nearest") == b"nearest" else 2
    return _Tensor(first.radius + reach / first.density, first.density * int(scales[2]), first.channels)


def _conv_reach(axis: int, kernel: int, attributes: dict[str, Any]) -> Fraction:
    """How far a convolution reads from the place it writes, on the farther side: padding may be lopsided."""
    span = (kernel - 1) * attributes.get("dilations", [1, 1])[axis]
    if attributes.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
        return Fraction(-(-span // 2))
    before = attributes.get("pads", [0, 0, 0, 0])[axis]
    return Fraction(max(before, span - before))
