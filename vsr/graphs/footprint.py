"""What a model reads and holds for each picture element: its receptive radius, and the memory of its activations.

All is read off the graph. It decides whether a picture can be cut into tiles, where, and whether it has to be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm
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
ROWS_AND_COLUMNS: Final = (0, 1)


@dataclass(frozen=True)
class Footprint:
    """What a model needs around and for one input sample.

    Attributes:
        halo: receptive radius in input samples, or None if the graph does not tell (it may read all of the picture).
        bytes_per_sample: of activations alive at once, in fp32.
        unit: a part of a picture must begin at a multiple of as many input samples, for what is pooled or strided.
    """

    halo: int | None
    bytes_per_sample: int
    unit: int = 1


@dataclass(frozen=True)
class _Tensor:
    density: Fraction  # samples per input sample, along one axis
    channels: int


Span = tuple[int, int]
"""First and last sample along an axis."""
Reads = Callable[[Span, int], Span]
"""What of its inputs an operator reads for a span of its result, along an axis (0: rows, 1: columns)."""


@dataclass(frozen=True)
class _Step:
    inputs: list[str]
    outputs: list[str]
    reads: Reads


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
    tensors = {source: _Tensor(Fraction(1), model.channels)}
    steps: list[_Step] = []
    local, peak = True, Fraction(0)
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:  # of a quantised weight
            weights[node.output[0]] = weights[node.input[0]]
            continue
        read = [n for n in node.input if n in tensors]
        if not read or node.op_type == "Shape":
            continue  # constants, and sizes
        inputs = [tensors[n] for n in read]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        operands = [(weights.get(n, ()), constants.get(n)) for n in node.input]
        result, reads = _apply(node.op_type, inputs, operands, attributes) or (inputs[0], None)
        local = local and reads is not None
        alive = sum((t.channels * t.density**2 for t in {*inputs, result}), Fraction(0))
        peak = max(peak, alive)
        tensors.update(dict.fromkeys(node.output, result))
        if reads is not None:
            steps.append(_Step(read, list(node.output), reads))
    target = graph.output[0].name
    unit = lcm(*(tensor.density.denominator for tensor in tensors.values()))
    halo = _halo(source, target, steps, tensors[target].density, unit) if local and target in tensors else None
    return Footprint(halo, max(bicubic_bytes, ceil(FLOAT_BYTES * peak)), unit)


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


def _halo(source: str, target: str, steps: list[_Step], scale: Fraction, unit: int) -> int:
    """How far the samples of `target` read in `source`: followed backwards from each, until places repeat."""
    farthest = 0
    for axis in ROWS_AND_COLUMNS:
        for sample in range(int(scale * unit)):
            needed: dict[str, Span] = {target: (sample, sample)}
            for step in reversed(steps):
                wanted = [needed[name] for name in step.outputs if name in needed]
                for name in step.inputs if wanted else ():
                    first, last = step.reads(_hull(wanted), axis)
                    needed[name] = _hull([(first, last), *([needed[name]] if name in needed else [])])
            place = int(sample // scale)
            first, last = needed.get(source, (place, place))
            farthest = max(farthest, place - first, last - place)
    return farthest


def _hull(spans: list[Span]) -> Span:
    return min(first for first, _ in spans), max(last for _, last in spans)


def _apply(
    op: str, inputs: list[_Tensor], operands: list[tuple[tuple[int, ...], Any]], attributes: dict[str, Any]
) -> tuple[_Tensor, Reads] | None:
    """The tensor that an operator makes, and what it reads for it; None where that is not known.

    operands: shape, if it is a weight, and value, if it is a list that is known, of each of its inputs.
    """
    first = inputs[0]
    shape = operands[1][0] if len(operands) > 1 else ()
    if op == "Conv" and len(shape) == 4:
        return _windows(first, shape[0], shape[2:], attributes)
    if op == "MaxPool":
        return _windows(first, first.channels, attributes["kernel_shape"], attributes)
    if op == "ConvTranspose" and len(shape) == 4:
        stride = max(attributes.get("strides", [1]))
        reach = ceil(Fraction(max(shape[2:]), stride))
        channels = shape[1] * attributes.get("group", 1)
        return _Tensor(first.density * stride, channels), _enlarging(stride, reach)
    if op == "DepthToSpace":
        block = attributes["blocksize"]
        return _Tensor(first.density * block, first.channels // block**2), _enlarging(block, 0)
    if op == "Resize":
        return _resize(first, operands[2][1] if len(operands) > 2 else None, attributes)
    if op == "Pad" and attributes.get("mode") == b"edge":
        return _pad(first, operands[1][1] if len(operands) > 1 else None)
    if op == "Split" and attributes.get("axis", 0) == 1:
        return first, _same
    if op == "Slice" and _cuts_the_end(operands):
        return first, _same
    if op in POINTWISE:
        channels = sum(t.channels for t in inputs) if op == "Concat" else max(t.channels for t in inputs)
        return _Tensor(max(t.density for t in inputs), channels), _same
    return None


def _cuts_the_end(operands: list[tuple[tuple[int, ...], Any]]) -> bool:
    """Whether a slice leaves every sample at its place: it begins at the first and skips none."""
    starts, steps = (operands[n][1] if len(operands) > n else None for n in (1, 4))
    return set(starts or [1]) == {0} and (len(operands) < 5 or set(steps or [0]) == {1})


def _same(span: Span, _axis: int) -> Span:
    return span


def _enlarging(factor: int, reach: int) -> Reads:
    """What is read for samples that each lie in one of the input's, and as many on either side as `reach` says."""
    return lambda span, _axis: (span[0] // factor - reach, span[1] // factor + reach)


def _windows(
    first: _Tensor, channels: int, kernel: tuple[int, ...], attributes: dict[str, Any]
) -> tuple[_Tensor, Reads] | None:
    """A convolution or pooling: a window for each sample; the density falls by the stride."""
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    if len(kernel) != 2 or strides[0] != strides[1]:
        return None
    lengths = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    padding = attributes.get("auto_pad", b"NOTSET")
    same = padding in (b"SAME_UPPER", b"SAME_LOWER")
    if same and strides[0] != 1:
        return None  # how much is padded depends on the picture's size
    before = attributes.get("pads", [0, 0, 0, 0])[:2]
    if same:
        before = [-(-n // 2) if padding == b"SAME_LOWER" else n // 2 for n in lengths]

    def reads(span: Span, axis: int) -> Span:
        start, end = (place * strides[0] - before[axis] for place in span)
        return start, end + lengths[axis]

    return _Tensor(first.density / strides[0], channels), reads


def _pad(first: _Tensor, pads: Any) -> tuple[_Tensor, Reads] | None:
    """Repeating the edges: what lies beside the picture is read no farther away than it lies there."""
    if not isinstance(pads, list) or len(pads) != 8 or any(pads[:2]) or any(pads[4:6]):
        return None
    before = pads[2:4]
    return first, lambda span, axis: (span[0] - before[axis], span[1] - before[axis])


def _resize(first: _Tensor, scales: Any, attributes: dict[str, Any]) -> tuple[_Tensor, Reads] | None:
    """Enlarging by one whole factor; whatever the interpolation, it reads at most two samples away."""
    whole = isinstance(scales, list) and len(scales) == 4 and scales[:2] == [1, 1] and scales[2] == scales[3]
    if not whole or scales[2] != int(scales[2]) or attributes.get("coordinate_transformation_mode") == b"align_corners":
        return None
    factor, reach = int(scales[2]), 1 if attributes.get("mode", b"nearest") == b"nearest" else 2
    return _Tensor(first.density * factor, first.channels), _enlarging(factor, reach)
