"""The ONNX operators that the torch backend executes: those of frame graphs and of common super-resolution networks.

Semantics follow the ONNX operator specification (opsets 13 to 21). `OPERATORS` is the whole set; what is not in it is
refused by name before the first frame.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F

Tensor = torch.Tensor
Inputs = Sequence[Tensor | None]
Attributes = dict[str, Any]
Operator = Callable[[Inputs, Attributes], Tensor | tuple[Tensor, ...]]

# onnx.TensorProto.DataType → torch
DTYPES: Final = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}


def _ints(x: Tensor | None) -> list[int]:
    return [] if x is None else [int(v) for v in x.reshape(-1).tolist()]


def _required(inputs: Inputs, index: int = 0) -> Tensor:
    value = inputs[index]
    if value is None:
        raise ValueError(f"input {index} left out")
    return value


def _optional(inputs: Inputs, index: int) -> Tensor | None:
    return inputs[index] if len(inputs) > index else None


def _spatial_pads(attributes: Attributes, x: Tensor, kernel: Sequence[int]) -> list[int]:
    """Begin and end padding of each spatial axis, resolving auto_pad."""
    auto = attributes.get("auto_pad", b"NOTSET")
    if auto in (b"NOTSET", b"VALID", ""):
        return list(attributes.get("pads", [0] * 2 * len(kernel)))
    strides = attributes.get("strides", [1] * len(kernel))
    dilations = attributes.get("dilations", [1] * len(kernel))
    begins, ends = [], []
    for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        small, large = total // 2, total - total // 2
        begins.append(small if auto == b"SAME_UPPER" else large)
        ends.append(large if auto == b"SAME_UPPER" else small)
    return begins + ends


def _conv(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, weight = _required(inputs), _required(inputs, 1)
    bias = _optional(inputs, 2)
    pads = _spatial_pads(attributes, x, weight.shape[2:])
    half = len(pads) // 2
    padding: Any = pads[:half]
    if pads[:half] != pads[half:]:
        x = F.pad(x, [p for axis in range(half - 1, -1, -1) for p in (pads[axis], pads[half + axis])])
        padding = 0
    return F.conv2d(
        x,
        weight,
        bias,
        attributes.get("strides", 1),
        padding,
        attributes.get("dilations", 1),
        attributes.get("group", 1),
    )


def _conv_transpose(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, weight = _required(inputs), _required(inputs, 1)
    if "output_shape" in attributes or attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ValueError("ConvTranspose with output_shape or auto_pad")
    pads = attributes.get("pads", [0, 0, 0, 0])
    strides = attributes.get("strides", [1, 1])
    full = F.conv_transpose2d(
        x,
        weight,
        _optional(inputs, 2),
        strides,
        0,
        attributes.get("output_padding", 0),
        attributes.get("group", 1),
        attributes.get("dilations", 1),
    )
    top, left, bottom, right = pads
    return full[..., top : full.shape[-2] - bottom, left : full.shape[-1] - right]


def _pad(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = _required(inputs)
    pads = _ints(inputs[1])
    axes = _ints(inputs[3]) if _optional(inputs, 3) is not None else list(range(x.dim()))
    half = len(axes)
    begin, end = [0] * x.dim(), [0] * x.dim()
    for i, axis in enumerate(axes):
        begin[axis], end[axis] = pads[i], pads[half + i]
    mode = attributes.get("mode", b"constant")
    if mode == b"constant":
        value = float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0
        return F.pad(x, [p for a in range(x.dim() - 1, -1, -1) for p in (begin[a], end[a])], value=value)
    # By index, because torch's own edge and reflect modes refuse pads larger than the tensor and other ranks.
    for axis in range(x.dim()):
        if begin[axis] or end[axis]:
            size = x.shape[axis]
            index = torch.arange(-begin[axis], size + end[axis], device=x.device)
            if mode == b"edge":
                index = index.clamp(0, size - 1)
            elif mode == b"reflect":
                index = (index % (2 * size - 2)) if size > 1 else index * 0
                index = torch.where(index >= size, 2 * size - 2 - index, index)
            else:
                raise ValueError(f"Pad mode {mode.decode()}")
            x = x.index_select(axis, index)
    return x


def _max_pool(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, kernel = _required(inputs), attributes["kernel_shape"]
    pads = _spatial_pads(attributes, x, kernel)
    half = len(pads) // 2
    if pads[:half] != pads[half:] or attributes.get("storage_order"):
        raise ValueError("MaxPool with lopsided pads or storage_order")
    return F.max_pool2d(
        x,
        kernel,
        attributes.get("strides", [1] * half),
        pads[:half],
        attributes.get("dilations", 1),
        ceil_mode=bool(attributes.get("ceil_mode")),
    )


def _depth_to_space(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = _required(inputs)
    s = attributes["blocksize"]
    n, c, h, w = x.shape
    if attributes.get("mode", b"DCR") == b"CRD":
        return F.pixel_shuffle(x, s)
    return x.reshape(n, s, s, c // (s * s), h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // (s * s), h * s, w * s)


def _slice(inputs: Inputs, _: Attributes) -> Tensor:
    x = _required(inputs)
    starts, ends = _ints(inputs[1]), _ints(inputs[2])
    axes = _ints(inputs[3]) if _optional(inputs, 3) is not None else list(range(len(starts)))
    steps = _ints(inputs[4]) if _optional(inputs, 4) is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise ValueError("Slice with a negative step")
        size = x.shape[axis]
        first = max(0, start + size if start < 0 else min(start, size))
        last = max(first, end + size if end < 0 else min(end, size))
        x = x.narrow(axis, first, last - first)
        if step > 1:
            x = x.index_select(axis, torch.arange(0, last - first, step, device=x.device))
    return x


def _reshape(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = _required(inputs)
    shape = [x.shape[i] if v == 0 and not attributes.get("allowzero") else v for i, v in enumerate(_ints(inputs[1]))]
    return x.reshape(shape)


def _nearest(size: int, new_size: int, transform: bytes, attributes: Attributes) -> Tensor:
    """Which input sample each output sample takes, by the formulas of the specification."""
    j = torch.arange(new_size, dtype=torch.float64)
    ratio = new_size / size
    if transform == b"asymmetric":
        position = j / ratio
    elif transform == b"half_pixel" or (transform == b"pytorch_half_pixel" and new_size > 1):
        position = (j + 0.5) / ratio - 0.5
    elif transform == b"align_corners":
        position = j * (size - 1) / max(1, new_size - 1)
    else:
        raise ValueError(f"Resize with {transform.decode()}")
    rounding = attributes.get("nearest_mode", b"round_prefer_floor")
    index = {
        b"round_prefer_floor": torch.ceil(position - 0.5),
        b"round_prefer_ceil": torch.floor(position + 0.5),
        b"floor": torch.floor(position),
        b"ceil": torch.ceil(position),
    }[rounding]
    return index.clamp(0, size - 1).to(torch.int64)


def _resize(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = _required(inputs)
    sizes = _ints(inputs[3]) if _optional(inputs, 3) is not None else []
    if sizes:
        size = sizes[2:]
    else:
        scales = _required(inputs, 2)
        size = [int(n * f) for n, f in zip(x.shape[2:], scales.tolist()[2:], strict=True)]
    mode = attributes.get("mode", b"nearest")
    transform = attributes.get("coordinate_transformation_mode", b"half_pixel")
    if mode == b"nearest":
        for axis, n in zip((2, 3), size, strict=True):
            x = x.index_select(axis, _nearest(x.shape[axis], n, transform, attributes).to(x.device))
        return x
    if mode == b"linear" and transform in (b"half_pixel", b"pytorch_half_pixel"):
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    if (
        mode == b"cubic"
        and transform in (b"half_pixel", b"pytorch_half_pixel")
        and (abs(attributes.get("cubic_coeff_a", -0.75) + 0.75) < 1e-6)
    ):
        return F.interpolate(x, size=size, mode="bicubic", align_corners=False)
    raise ValueError(f"Resize with mode {mode.decode()}, {transform.decode()}")


def _clip(inputs: Inputs, _: Attributes) -> Tensor:
    x = _required(inputs)
    low = _optional(inputs, 1)
    high = _optional(inputs, 2)
    if low is None and high is None:
        return x
    return torch.clamp(x, None if low is None else float(low), None if high is None else float(high))


def _split(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x = _required(inputs)
    axis = attributes.get("axis", 0)
    if len(inputs) > 1 and inputs[1] is not None:
        return torch.split(x, _ints(inputs[1]), axis)
    return torch.chunk(x, attributes["num_outputs"], axis)


def _prelu(inputs: Inputs, _: Attributes) -> Tensor:
    x, slope = _required(inputs), _required(inputs, 1)
    return torch.where(x < 0, x * slope, x)


def _space_to_depth(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, s = _required(inputs), attributes["blocksize"]
    n, c, h, w = x.shape
    return x.reshape(n, c, h // s, s, w // s, s).permute(0, 3, 5, 1, 2, 4).reshape(n, c * s * s, h // s, w // s)


def _divide(inputs: Inputs, _: Attributes) -> Tensor:
    """Whole numbers are divided as in C."""
    x, y = _required(inputs), _required(inputs, 1)
    return torch.div(x, y, rounding_mode=None if x.is_floating_point() else "trunc")


def _reduce_mean(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = _required(inputs)
    axes = _ints(_optional(inputs, 1)) or list(attributes.get("axes", []))
    if not axes:
        if attributes.get("noop_with_empty_axes"):
            return x
        axes = list(range(x.dim()))
    return x.mean(axes, keepdim=bool(attributes.get("keepdims", 1)))


def _softmax(inputs: Inputs, attributes: Attributes) -> Tensor:
    return torch.softmax(_required(inputs), attributes.get("axis", -1))


def _instance_normalization(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, scale, bias = (_required(inputs, i) for i in range(3))
    return F.instance_norm(x, weight=scale, bias=bias, eps=attributes.get("epsilon", 1e-5))


def _layer_normalization(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, scale, bias = _required(inputs), _required(inputs, 1), _optional(inputs, 2)
    shape = x.shape[attributes.get("axis", -1) :]
    return F.layer_norm(x, shape, scale.reshape(shape), bias, attributes.get("epsilon", 1e-5))


def _first(function: Callable[..., Tensor]) -> Operator:
    return lambda inputs, _: function(inputs[0])


def _pair(function: Callable[..., Tensor]) -> Operator:
    return lambda inputs, _: function(inputs[0], inputs[1])


def _constant(_: Inputs, attributes: Attributes) -> Tensor:
    value: Tensor = attributes["value"]
    return value


def _cast(inputs: Inputs, attributes: Attributes) -> Tensor:
    if attributes["to"] not in DTYPES:
        raise ValueError(f"Cast to type {attributes['to']}")
    return _required(inputs).to(DTYPES[attributes["to"]])


def _gather(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, index, axis = _required(inputs), _required(inputs, 1), attributes.get("axis", 0)
    axis %= x.dim()
    flat = torch.index_select(x, axis, index.reshape(-1) % x.shape[axis])
    return flat.reshape((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


def _shape(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = _required(inputs)
    return torch.tensor(list(x.shape)[attributes.get("start", 0) : attributes.get("end")], device=x.device)


def _leaky_relu(inputs: Inputs, attributes: Attributes) -> Tensor:
    return F.leaky_relu(_required(inputs), attributes.get("alpha", 0.01))


def _transpose(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = _required(inputs)
    return x.permute(attributes.get("perm", list(range(x.dim()))[::-1]))


def _squeeze(inputs: Inputs, _: Attributes) -> Tensor:
    x = _required(inputs)
    axes = _ints(_optional(inputs, 1)) or [i for i, size in enumerate(x.shape) if size == 1]
    return x.squeeze(tuple(axes))


def _unsqueeze(inputs: Inputs, _: Attributes) -> Tensor:
    x = _required(inputs)
    for axis in sorted(_ints(inputs[1])):
        x = x.unsqueeze(axis)
    return x


def _along(parameter: Tensor, x: Tensor, attributes: Attributes) -> Tensor:
    """A scale or zero point, shaped to broadcast along its axis."""
    if parameter.dim() == 0 or parameter.numel() == 1:
        return parameter.reshape(())
    shape = [1] * x.dim()
    shape[attributes.get("axis", 1)] = -1
    return parameter.reshape(shape)


def _quantize(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, scale, zero = _required(inputs), _required(inputs, 1), _required(inputs, 2)
    limits = torch.iinfo(zero.dtype)
    codes = torch.round(x / _along(scale, x, attributes)) + _along(zero, x, attributes).to(x.dtype)
    return codes.clamp(limits.min, limits.max).to(zero.dtype)


def _dequantize(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, scale = _required(inputs), _required(inputs, 1)
    zero = _optional(inputs, 2)
    centred = x.to(scale.dtype)
    if zero is not None:
        centred = centred - _along(zero, x, attributes).to(scale.dtype)
    return centred * _along(scale, x, attributes)


OPERATORS: Final[dict[str, Operator]] = {
    "Add": _pair(torch.add),
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda i, a: torch.cat([t for t in i if t is not None], a["axis"]),
    "Constant": _constant,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "DequantizeLinear": _dequantize,
    "Div": _divide,
    "Erf": _first(torch.erf),
    "Exp": _first(torch.exp),
    "Floor": _first(torch.floor),
    "Gather": _gather,
    "GlobalAveragePool": _first(lambda x: x.mean((2, 3), keepdim=True)),
    "HardSigmoid": lambda i, a: torch.clamp(_required(i) * a.get("alpha", 0.2) + a.get("beta", 0.5), 0, 1),
    "HardSwish": _first(F.hardswish),
    "Identity": _first(lambda x: x),
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": _leaky_relu,
    "MatMul": lambda i, _: torch.matmul(_required(i), _required(i, 1)),
    "Max": lambda i, _: functools.reduce(torch.maximum, [t for t in i if t is not None]),
    "MaxPool": _max_pool,
    "Min": lambda i, _: functools.reduce(torch.minimum, [t for t in i if t is not None]),
    "Mul": _pair(torch.mul),
    "PRelu": _prelu,
    "QuantizeLinear": _quantize,
    "Pad": _pad,
    "Pow": _pair(torch.pow),
    "ReduceMean": _reduce_mean,
    "Relu": _first(torch.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Round": _first(torch.round),
    "Shape": _shape,
    "Sigmoid": _first(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _first(F.softplus),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Sqrt": _first(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _pair(torch.sub),
    "Tanh": _first(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
