"""The frame graph: one ONNX graph that takes decoded integer planes and returns upscaled integer planes.

Cast, scale to [0, 1], network, pixel shuffle, clip, round and cast are all inside, and chroma too, so that every
backend has one small job (run this graph), gives the same numbers, and copies 8-bit samples only.

Bicubic enlargement by a whole factor is a convolution: output sample j = s·q + r reads the input around
x = (j + p)/s − p, where the phase p depends on the siting, so each r has fixed weights. It is written as two separable
convolutions to s channels followed by a pixel shuffle, which every runtime has and none interprets in its own way (ONNX
`Resize` cannot express a siting). Edges replicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from vsr.errors import ModelError
from vsr.frame import ColorSpec, PixelFormat, Siting
from vsr.model import Model
from vsr.resample import cubic

if TYPE_CHECKING:
    import onnx

OPSET: Final = 17
TAPS: Final = 5  # samples q-2 … q+2 hold the four cubic taps of every phase
MARGIN: Final = TAPS // 2

Phase = tuple[float, float]  # horizontal, vertical
CENTRED: Final = (0.5, 0.5)  # of samples that sit where luma does


@dataclass(frozen=True)
class Target:
    """What output planes have that does not follow from the input planes and the scale.

    Attributes:
        siting: where their chroma samples sit; None keeps them where they are.
    """

    siting: Siting | None = None


SAME: Final = Target()


@dataclass(frozen=True)
class FrameGraphSpec:
    """What a frame graph depends on besides its model.

    Attributes:
        format: of the input planes, and of the output planes.
        color: matrix, range and siting; what is unspecified is resolved as frame.ColorSpec says.
        scale: whole enlargement factor.
        width: of the input picture in luma samples.
        height: likewise.
        target: what is asked of the output planes besides.
    """

    format: PixelFormat
    color: ColorSpec
    scale: int
    width: int
    height: int
    target: Target = SAME


def chroma_phase(siting: Siting, log2_w: int, log2_h: int) -> tuple[float, float]:
    """Phase p (horizontal, vertical) with which output chroma sample j reads x = (j + p)/s − p.

    Chroma sample i sits at luma position (i << log2) + d, with d = 0 for co-sited samples and (2^log2 − 1)/2 for
    centred ones; mapping luma centres (J + ½)/s − ½ gives p = (d + ½)/2^log2. Unspecified means left, as in video.
    Between two sitings, with phases p and p', it is x = (j + p')/s − p.
    """
    centred_w, centred_h = ((1 << log2_w) - 1) / 2, ((1 << log2_h) - 1) / 2
    left = siting in (Siting.UNSPECIFIED, Siting.LEFT, Siting.TOPLEFT, Siting.BOTTOMLEFT)
    d_w = 0.0 if left else centred_w
    if siting in (Siting.TOPLEFT, Siting.TOP):
        d_h = 0.0
    elif siting in (Siting.BOTTOMLEFT, Siting.BOTTOM):
        d_h = 2 * centred_h
    else:
        d_h = centred_h
    return (d_w + 0.5) / (1 << log2_w), (d_h + 0.5) / (1 << log2_h)


def polyphase_kernel(scale: int, phase: float, new_phase: float | None = None) -> npt.NDArray[np.float32]:
    """Weights [scale, TAPS] of the cubic (a = −0.5) for output samples s·q + r from input samples q−2 … q+2.

    `phase` is that of the input, `new_phase` that of the output if it is another.
    """
    r = np.arange(scale)[:, None]
    x = (r + (phase if new_phase is None else new_phase)) / scale - phase
    weights = cubic(x - (np.arange(TAPS) - MARGIN)[None, :])
    normalised: npt.NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def build_frame_graph(model: Model, spec: FrameGraphSpec) -> onnx.ModelProto:
    """Build the frame graph of `spec` around `model`.

    Inputs are named as the planes (`y`, `u`, `v`, `a` or `g`, `b`, `r`, `a`), each [1, 1, h, w] of uint8 or uint16;
    outputs are named `y_out` and so on.

    Raises:
        ModelError: the model's scale differs from the spec's, or its graph cannot be wrapped.
    """
    if model.scale != spec.scale:
        raise ModelError(f"model {model.name} enlarges {model.scale} times, and the job {spec.scale} times")
    builder = _Builder(model, spec)
    if spec.format.family == "rgb":
        builder.rgb()
    else:
        builder.luma_plane()
        if spec.format.family == "yuv":
            for name in ("u", "v"):
                builder.chroma_plane(name)
    if spec.format.alpha:
        builder.sampled_plane("a")
    return builder.finish()


class _Builder:
    """Collects the nodes of one frame graph."""

    def __init__(self, model: Model, spec: FrameGraphSpec) -> None:
        import onnx

        self.onnx = onnx
        self.model = model
        self.spec = spec
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.code_max = float((1 << spec.format.bits) - 1)
        # Luma as the networks see it: code / (255 · 2^(bits − 8)), so that equal light is equal at every depth.
        self.code_unit = float(255 << (spec.format.bits - 8))
        self.opset = OPSET
        self.proto: Any = None
        if not model.is_bicubic:
            self._load_model()

    # -- the three kinds of planes ------------------------------------------------------------------------------------

    def luma_plane(self) -> None:
        full = self.spec.color.is_full_range()
        x = self.cast_in("y")
        if full:  # networks see studio-range luma: 0…max → 16/255…235/255
            x = self.affine(x, 219 / 255 / self.code_max, 16 / 255)
            x = self.affine(self.network(x), self.code_max * 255 / 219, -self.code_max * 16 / 219)
        else:
            x = self.affine(x, 1 / self.code_unit)
            x = self.affine(self.network(x), self.code_unit)
        self.cast_out("y", x)

    def chroma_plane(self, name: str) -> None:
        spec = self.spec
        new_siting = spec.color.siting if spec.target.siting is None else spec.target.siting
        old, new = (chroma_phase(s, spec.format.log2_w, spec.format.log2_h) for s in (spec.color.siting, new_siting))
        self.sampled_plane(name, old, new)

    def sampled_plane(self, name: str, phase: Phase = CENTRED, new_phase: Phase = CENTRED) -> None:
        self.cast_out(name, self.bicubic(self.cast_in(name), phase, new_phase))

    def rgb(self) -> None:
        """R'G'B' → Y'CbCr in float, luma through the network, chroma bicubic, and back."""
        kr, kb = self.spec.color.luma_weights()
        kg = 1 - kr - kb
        to_ycc = np.array(
            [  # rows Y, Cb, Cr; columns G, B, R, as the planes come
                [kg, kb, kr],
                [-kg / (2 * (1 - kb)), 0.5, -kr / (2 * (1 - kb))],
                [-kg / (2 * (1 - kr)), -kb / (2 * (1 - kr)), 0.5],
            ]
        )
        to_rgb = np.linalg.inv(to_ycc)
        planes = self.node("Concat", [self.cast_in(n) for n in ("g", "b", "r")], axis=1)
        ycc = self.matrix(planes, to_ycc / self.code_max)
        y = self.affine(self.channels(ycc, 0, 1), 219 / 255, 16 / 255)
        y = self.affine(self.network(y), 255 / 219, -16 / 219)
        chroma = [self.bicubic(self.channels(ycc, i, i + 1)) for i in (1, 2)]
        rgb = self.matrix(self.node("Concat", [y, *chroma], axis=1), to_rgb * self.code_max)
        for i, name in enumerate(("g", "b", "r")):
            self.cast_out(name, self.channels(rgb, i, i + 1))

    # -- pieces -------------------------------------------------------------------------------------------------------

    def bicubic(self, x: str, phase: Phase = CENTRED, new_phase: Phase = CENTRED) -> str:
        s = self.spec.scale
        pads = self.constant(np.array([0, 0, MARGIN, MARGIN] * 2, dtype=np.int64))
        x = self.node("Pad", [x, pads], mode="edge")
        rows = polyphase_kernel(s, phase[1], new_phase[1])  # vertical: 1 → s channels, one for each output row r
        columns = polyphase_kernel(s, phase[0], new_phase[0])
        x = self.node("Conv", [x, self.constant(rows.reshape(s, 1, TAPS, 1))])
        across = np.tile(columns.reshape(1, s, 1, 1, TAPS), (s, 1, 1, 1, 1)).reshape(s * s, 1, 1, TAPS)
        x = self.node("Conv", [x, self.constant(across.astype(np.float32))], group=s)
        return self.node("DepthToSpace", [x], blocksize=s, mode="CRD")

    def network(self, x: str) -> str:
        if self.model.is_bicubic:
            return self.bicubic(x)
        graph = self.proto.graph
        mapping = {self.model_input: x}
        for weight in graph.initializer:
            copy = self.onnx.TensorProto()
            copy.CopyFrom(weight)
            copy.name = mapping.setdefault(weight.name, f"net/{weight.name}")
            self.weights.append(copy)
        for node in graph.node:
            copy = self.onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"net/{node.name}"
            copy.input[:] = [n and mapping.get(n, f"net/{n}") for n in node.input]
            copy.output[:] = [n and f"net/{n}" for n in node.output]
            if any(a.type in (self.onnx.AttributeProto.GRAPH, self.onnx.AttributeProto.GRAPHS) for a in node.attribute):
                raise ModelError(f"model {self.model.name} has control flow ({node.op_type}), which is not supported")
            self.nodes.append(copy)
        return f"net/{graph.output[0].name}"

    def affine(self, x: str, gain: float, offset: float = 0.0) -> str:
        x = self.node("Mul", [x, self.constant(np.float32(gain))])
        return self.node("Add", [x, self.constant(np.float32(offset))]) if offset else x

    def matrix(self, x: str, m: npt.NDArray[np.float64]) -> str:
        return self.node("Conv", [x, self.constant(m.astype(np.float32).reshape(*m.shape, 1, 1))])

    def channels(self, x: str, start: int, stop: int) -> str:
        return self.slice(x, [(1, start, stop)])

    def slice(self, x: str, ranges: Sequence[tuple[int, int, int]]) -> str:
        starts, stops, axes = (np.array([r[i] for r in ranges], dtype=np.int64) for i in (1, 2, 0))
        return self.node("Slice", [x, self.constant(starts), self.constant(stops), self.constant(axes)])

    def cast_in(self, name: str) -> str:
        width, height = self.spec.format.plane_size(name, self.spec.width, self.spec.height)
        self.inputs.append(self.onnx.helper.make_tensor_value_info(name, self._integer_type(), [1, 1, height, width]))
        return self.node("Cast", [name], to=self.onnx.TensorProto.FLOAT)

    def cast_out(self, name: str, x: str) -> None:
        scale, fmt = self.spec.scale, self.spec.format
        made = tuple(n * scale for n in fmt.plane_size(name, self.spec.width, self.spec.height))
        width, height = fmt.plane_size(name, self.spec.width * scale, self.spec.height * scale)
        if made != (width, height):  # chroma of an odd size: ceil(s·W/2) of the s·ceil(W/2) samples
            x = self.slice(x, [(2, 0, height), (3, 0, width)])
        x = self.node("Clip", [x, self.constant(np.float32(0)), self.constant(np.float32(self.code_max))])
        x = self.node("Round", [x])  # half to even
        self.nodes.append(
            self.onnx.helper.make_node("Cast", [x], [f"{name}_out"], name=f"{name}_out", to=self._integer_type())
        )
        self.outputs.append(
            self.onnx.helper.make_tensor_value_info(f"{name}_out", self._integer_type(), [1, 1, height, width])
        )

    # -- plumbing -----------------------------------------------------------------------------------------------------

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"frame/{op}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: npt.NDArray[Any] | np.generic) -> str:
        name = f"frame/const_{len(self.weights)}"
        self.weights.append(self.onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def finish(self) -> onnx.ModelProto:
        helper = self.onnx.helper
        order = {f"{n}{suffix}": i for i, n in enumerate(self.spec.format.plane_names) for suffix in ("", "_out")}
        graph = helper.make_graph(
            self.nodes,
            "frame",
            sorted(self.inputs, key=lambda v: order[v.name]),
            sorted(self.outputs, key=lambda v: order[v.name]),
            self.weights,
        )
        imports = [helper.make_opsetid("", self.opset)]
        proto: onnx.ModelProto = helper.make_model(graph, opset_imports=imports, producer_name="vsr", ir_version=10)
        try:
            self.onnx.checker.check_model(proto)
        except Exception as exc:  # the checker's exception class has no public base
            raise ModelError(f"model {self.model.name} cannot be wrapped in a frame graph: {exc}") from exc
        return proto

    def _integer_type(self) -> int:
        kind = self.onnx.TensorProto.UINT8 if self.spec.format.bits == 8 else self.onnx.TensorProto.UINT16
        return int(kind)

    def _load_model(self) -> None:
        proto = self.onnx.load_model_from_string(self.model.onnx_bytes)
        foreign = [o.domain for o in proto.opset_import if o.domain not in ("", "ai.onnx")]
        if foreign or proto.functions:
            raise ModelError(
                f"model {self.model.name} uses operators outside standard ONNX ({', '.join(foreign) or 'functions'})"
            )
        version = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
        if version < 13:  # the wrapper's own operators have had their present form since opset 13
            try:
                proto = self.onnx.version_converter.convert_version(proto, OPSET)
            except Exception as exc:  # the converter raises bare RuntimeErrors
                raise ModelError(
                    f"model {self.model.name} has opset {version} and cannot be converted to {OPSET}: {exc}",
                    "export it again with opset 17",
                ) from exc
            version = OPSET
        self.opset = version
        weights = {w.name for w in proto.graph.initializer}
        self.model_input = next(i.name for i in proto.graph.input if i.name not in weights)
        self.proto = proto
