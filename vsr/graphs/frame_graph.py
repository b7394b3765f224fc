"""The frame graph: one ONNX graph that takes decoded integer planes and returns upscaled integer planes.

Cast, scale to [0, 1], network, pixel shuffle, clip, round and cast are all inside, and chroma too, so that every
backend has one small job (run this graph), gives the same numbers, and copies 8-bit samples only.

Bicubic enlargement by a whole factor is a convolution: output sample j = s·q + r reads the input around
x = (j + p)/s − p, where the phase p depends on the siting, so each r has fixed weights. It is written as two separable
convolutions to s channels followed by a pixel shuffle, which every runtime has and none interprets in its own way (ONNX
`Resize` cannot express a siting). Edges replicate.

A model of one channel enlarges luma, and chroma goes the bicubic way. A model of three channels enlarges R'G'B': chroma
is brought to luma's size first (cubic, with its siting), the stream's own matrix and range lead to RGB in [0, 1] and
back, and chroma is brought back to its size and siting by the antialiased cubic. Values outside [0, 1], which studio
range can hold, go through the model unclipped.

Where the output is no whole multiple of the input, the model makes its picture larger than is asked, which Lanczos'
kernel then shrinks; chroma and the luma of `bicubic` go there in one step (`GraphNodes.resampled`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from vsr.errors import ModelError, OptionError
from vsr.frame import ColorSpec, PixelFormat, Siting
from vsr.graphs.low_precision import HALF_QDQ_OPSET, half, half_fits, quantised_type, symmetric_int8
from vsr.graphs.nodes import GraphNodes, embeddable
from vsr.graphs.opset import convert_opset, opset_of
from vsr.model import Model
from vsr.resample import MARGIN, TAPS, polyphase_kernel

if TYPE_CHECKING:
    import onnx


Phase = tuple[float, float]  # horizontal, vertical
CENTRED: Final = (0.5, 0.5)  # of samples that sit where luma does


@dataclass(frozen=True)
class Target:
    """What output planes have that does not follow from the input planes and the scale.

    Attributes:
        size: width and height of the output in luma samples; None for `scale` times those of the input.
        siting: where the chroma samples of the output sit; None keeps them where they are.
    """

    size: tuple[int, int] | None = None
    siting: Siting | None = None


SAME: Final = Target()


@dataclass(frozen=True)
class FrameGraphSpec:
    """What a frame graph depends on besides its model.

    Attributes:
        format: of the input planes, and of the output planes.
        color: matrix, range and siting; what is unspecified is resolved as frame.ColorSpec says.
        scale: whole enlargement factor of the model.
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

    @property
    def output_size(self) -> tuple[int, int]:
        """Width and height of the output picture in luma samples."""
        return self.target.size or (self.width * self.scale, self.height * self.scale)

    @property
    def is_whole(self) -> bool:
        """Whether the output is the input times the model's scale."""
        return self.output_size == (self.width * self.scale, self.height * self.scale)

    @property
    def ratios(self) -> tuple[Fraction, Fraction]:
        """By how much the output is wider and higher than the input."""
        width, height = self.output_size
        return Fraction(width, self.width), Fraction(height, self.height)


@dataclass(frozen=True)
class GraphForm:
    """How a frame graph meets its runtime: what differs between runtimes without changing what is computed.

    Attributes:
        half: the model, and the chroma of 8-bit pictures, are computed in fp16 (a quantised model's rest likewise, and
            its steps become symmetric int8: see `vsr.graphs.low_precision`). Conversions and rounding stay in fp32.
        batch: pictures at once.
        interleaved: Cb and Cr of 4:2:0 come and go as one plane `uv` [batch, h, w, 2], as in NV12 and P010.
        byte_pairs: samples of more than 8 bits come and go as pairs of bytes, little-endian, in a last axis of size 2,
            because TensorRT has no uint16.
        shift: bits that such samples are shifted up by; 6 in P010.
        dynamic: batch, height and width are free; sizes must be multiples of the chroma subsampling then, and the
            output a whole multiple of the input.
        products: bicubic enlargement by products of matrices, in fp32, in place of convolutions and a pixel shuffle.
    """

    half: bool = False
    batch: int = 1
    interleaved: bool = False
    byte_pairs: bool = False
    shift: int = 0
    dynamic: bool = False
    products: bool = False


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


def build_frame_graph(model: Model, spec: FrameGraphSpec, form: GraphForm | None = None) -> onnx.ModelProto:
    """Build the frame graph of `spec` around `model`.

    Inputs are named as the planes (`y`, `u`, `v`, `a` or `g`, `b`, `r`, `a`), each [1, 1, h, w] of uint8 or uint16;
    outputs are named `y_out` and so on. `form` changes batch and layout of these, and the precision inside.

    Raises:
        ModelError: the model's scale differs from the spec's, or its graph cannot be wrapped.
        OptionError: the format has no such form.
    """
    if model.scale != spec.scale:
        raise ModelError(f"model {model.name} enlarges {model.scale} times, and the job {spec.scale} times")
    builder = _Builder(model, spec, form or GraphForm())
    if model.channels == 3:
        builder.through_rgb()
    elif spec.format.family == "rgb":
        builder.rgb()
    else:
        builder.luma_plane()
        if spec.format.family == "yuv":
            builder.put_chroma([builder.bicubic("u", x, *builder.chroma_phases()) for x in builder.chroma()])
    if spec.format.alpha:
        builder.put("a", builder.bicubic("a", builder.plane("a")))
    return builder.finish()


def plane_shapes(spec: FrameGraphSpec, form: GraphForm) -> dict[str, tuple[int, ...]]:
    """Shape of each input of a frame graph, in order; those of the outputs are these for the enlarged size."""
    fmt, tail = spec.format, (2,) if form.byte_pairs and spec.format.bits > 8 else ()
    shapes: dict[str, tuple[int, ...]] = {}
    for name in fmt.plane_names:
        width, height = fmt.plane_size(name, spec.width, spec.height)
        if form.interleaved and name in ("u", "v"):
            shapes["uv"] = (form.batch, height, width, 2, *tail)
        else:
            shapes[name] = (form.batch, 1, height, width, *tail)
    return shapes


class _Builder(GraphNodes):
    """Collects the nodes of one frame graph."""

    def __init__(self, model: Model, spec: FrameGraphSpec, form: GraphForm) -> None:
        super().__init__()
        fmt = spec.format
        if form.interleaved and (fmt.family != "yuv" or (fmt.log2_w, fmt.log2_h) != (1, 1) or fmt.alpha):
            raise OptionError(f"pixel format {fmt.name} has no interleaved form; yuv420p and its deeper kin have one")
        if form.shift and not (form.byte_pairs and fmt.bits + form.shift <= 16):
            raise OptionError(f"a shift of {form.shift} for samples of {fmt.bits} bits, byte pairs {form.byte_pairs}")
        if form.dynamic and not spec.is_whole:
            raise OptionError(f"a graph of free size for an output of {spec.output_size}, no whole multiple")
        self.model = model
        self.spec = spec
        self.form = form
        self.code_max = float((1 << fmt.bits) - 1)
        # Luma as the networks see it: code / (255 · 2^(bits − 8)), so that equal light is equal at every depth.
        self.code_unit = float(255 << (fmt.bits - 8))
        self.half_chroma = form.half and fmt.bits == 8  # deeper samples would lose their lowest bits
        self.proto: Any = None
        self.half_network = False
        if not model.is_bicubic:
            self._load_model()
        self.shapes = plane_shapes(spec, form)

    # -- the kinds of pictures ----------------------------------------------------------------------------------------

    def luma_plane(self) -> None:
        full = self.spec.color.is_full_range()
        x = self.plane("y")
        if full:  # networks see studio-range luma: 0…max → 16/255…235/255
            x = self.affine(x, 219 / 255 / self.code_max, 16 / 255)
            x = self.affine(self.network(x), self.code_max * 255 / 219, -self.code_max * 16 / 219)
        else:
            x = self.affine(x, 1 / self.code_unit)
            x = self.affine(self.network(x), self.code_unit)
        self.put("y", x)

    def rgb(self) -> None:
        """R'G'B' → Y'CbCr in float, luma through the network, chroma bicubic, and back."""
        to_ycc = self.spec.color.rgb_to_ycc()[:, (1, 2, 0)]  # the planes come as G, B, R
        planes = self.node("Concat", [self.plane(n) for n in ("g", "b", "r")], axis=1)
        ycc = self.matrix(planes, to_ycc / self.code_max)
        y = self.affine(self.channels(ycc, 0, 1), 219 / 255, 16 / 255)
        y = self.affine(self.network(y), 255 / 219, -16 / 219)
        chroma = [self.bicubic("g", self.channels(ycc, i, i + 1)) for i in (1, 2)]
        rgb = self.matrix(self.node("Concat", [y, *chroma], axis=1), np.linalg.inv(to_ycc) * self.code_max)
        for i, name in enumerate(("g", "b", "r")):
            self.put(name, self.channels(rgb, i, i + 1))

    def through_rgb(self) -> None:
        """Any family through a model of three channels, which sees R'G'B' in [0, 1]."""
        family = self.spec.format.family
        if family == "rgb":
            planes = self.node("Concat", [self.plane(n) for n in ("r", "g", "b")], axis=1)
            rgb = self.affine(self.network(self.affine(planes, 1 / self.code_max)), self.code_max)
            for i, name in enumerate(("r", "g", "b")):
                self.put(name, self.channels(rgb, i, i + 1))
            return
        gains, offsets = self._unit_range()
        to_ycc = self.spec.color.rgb_to_ycc()
        if family == "gray":
            y = self.affine(self.plane("y"), gains[0], offsets[0])
            rgb = self.network(self.node("Concat", [y, y, y], axis=1))
            back = to_ycc[:1] / gains[0]
            self.put("y", self.matrix(rgb, back, -offsets[:1] / gains[:1]))
            return
        factors = (1 << self.spec.format.log2_h, 1 << self.spec.format.log2_w)
        phase, new_phase = self.chroma_phases()
        wide = [self._fit_luma(self.enlarge(x, factors, phase, CENTRED)) for x in self.chroma()]
        ycc = self.node("Concat", [self.plane("y"), *wide], axis=1)
        to_rgb = np.linalg.inv(to_ycc)
        rgb = self.network(self.matrix(ycc, to_rgb * gains[None, :], to_rgb @ offsets))
        ycc = self.matrix(rgb, to_ycc / gains[:, None], -offsets / gains)
        self.put("y", self.channels(ycc, 0, 1))
        size = None if self.form.dynamic else self.spec.output_size
        self.put_chroma([self.decimated(self.channels(ycc, i, i + 1), size, factors, new_phase) for i in (1, 2)])

    def chroma_phases(self) -> tuple[Phase, Phase]:
        """Of the chroma samples that come in, and of those that go out."""
        spec = self.spec
        new_siting = spec.color.siting if spec.target.siting is None else spec.target.siting
        old, new = (chroma_phase(s, spec.format.log2_w, spec.format.log2_h) for s in (spec.color.siting, new_siting))
        return old, new

    def _unit_range(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Gain and offset from code values of Y, Cb, Cr to [0, 1] and [−½, ½] (H.273, 8.3)."""
        if self.spec.color.is_full_range():
            middle = (self.code_max + 1) / 2
            return np.full(3, 1 / self.code_max), np.array([0, -middle, -middle]) / self.code_max
        step = float(1 << (self.spec.format.bits - 8))
        return 1 / (np.array([219, 224, 224]) * step), -np.array([16, 128, 128]) / np.array([219, 224, 224])

    def _fit_luma(self, x: str) -> str:
        """Chroma of an odd size is rounded up; enlarged to luma's size it reaches one sample too far."""
        fmt, spec = self.spec.format, self.spec
        if self.form.dynamic or (spec.width % (1 << fmt.log2_w) == 0 and spec.height % (1 << fmt.log2_h) == 0):
            return x
        return self.slice(x, [(2, 0, spec.height), (3, 0, spec.width)])

    # -- resampling ---------------------------------------------------------------------------------------------------

    def bicubic(self, plane: str, x: str, phase: Phase = CENTRED, new_phase: Phase = CENTRED) -> str:
        """`x`, of the size of the input plane called `plane`, at that of the output's."""
        spec = self.spec
        size = spec.format.plane_size(plane, spec.width, spec.height)
        if not spec.is_whole:
            new_size = spec.format.plane_size(plane, *spec.output_size)
            return self.resampled(x, size, new_size, spec.ratios, phase, new_phase)
        if self.form.products and not self.form.dynamic:
            return self.multiplied(x, size, spec.scale, phase, new_phase)
        if not self.half_chroma:
            return self.enlarge(x, (self.spec.scale, self.spec.scale), phase, new_phase)
        x = self.cast(x, "FLOAT16")
        x = self.enlarge(x, (self.spec.scale, self.spec.scale), phase, new_phase, np.float16)
        return self.cast(x, "FLOAT")

    def enlarge(
        self,
        x: str,
        factors: tuple[int, int],
        phase: Phase,
        new_phase: Phase,
        dtype: type[np.floating[Any]] = np.float32,
    ) -> str:
        """By whole factors (vertical, horizontal), between phases as in `polyphase_kernel`."""
        down, across = factors
        if factors == (1, 1):  # moves nothing: both phases are ½
            return x
        rows = polyphase_kernel(down, phase[1], new_phase[1]).astype(dtype)
        columns = polyphase_kernel(across, phase[0], new_phase[0]).astype(dtype)
        pads = np.array([0, 0, MARGIN, MARGIN] * 2, dtype=np.int64)
        if down == across:
            x = self.node("Pad", [x, self.constant(pads)], mode="edge")
            x = self.node("Conv", [x, self.constant(rows.reshape(down, 1, TAPS, 1))])  # 1 → s channels, one a row r
            each = np.tile(columns.reshape(1, across, 1, 1, TAPS), (down, 1, 1, 1, 1)).reshape(-1, 1, 1, TAPS)
            x = self.node("Conv", [x, self.constant(each)], group=down)
            return x if down == 1 else self.node("DepthToSpace", [x], blocksize=down, mode="CRD")
        for factor, kernel, vertical in ((down, rows, True), (across, columns, False)):
            if factor == 1:
                continue
            edge = pads * np.array([0, 0, vertical, not vertical] * 2)
            shape = (factor, 1, TAPS, 1) if vertical else (factor, 1, 1, TAPS)
            x = self.node("Pad", [x, self.constant(edge)], mode="edge")
            x = self.node("Conv", [x, self.constant(kernel.reshape(shape))])
            # [n, s, h, w] → the s samples beside each other on the axis that grows
            x = self.node("Transpose", [x], perm=(0, 3, 2, 1) if vertical else (0, 2, 3, 1))
            x = self.node("Reshape", [x, self.constant(np.array([0, 0, -1], np.int64))])
            x = self.node("Transpose", [x], perm=(0, 2, 1)) if vertical else x
            x = self.unsqueeze(x, 1)
        return x

    # -- the network --------------------------------------------------------------------------------------------------

    def network(self, x: str) -> str:
        """Luma or R'G'B' in [0, 1], enlarged by the model and brought to the size of the output."""
        spec, s = self.spec, self.spec.scale
        if self.model.is_bicubic:
            return self.bicubic("y", x)
        if self.half_network:
            x = self.cast(self.embed(self.proto, self.cast(x, "FLOAT16"), self.model.name), "FLOAT")
        else:
            x = self.embed(self.proto, x, self.model.name)
        across, down = spec.ratios
        return self.resampled(x, (spec.width * s, spec.height * s), spec.output_size, (across / s, down / s))

    def _load_model(self) -> None:
        proto = embeddable(self.model)
        if self.form.half:
            kind = quantised_type(proto)
            if kind == "int8":
                proto = symmetric_int8(proto, self.model.name)
            if half_fits(proto):
                if kind is not None and opset_of(proto) < HALF_QDQ_OPSET:
                    proto = convert_opset(proto, HALF_QDQ_OPSET, self.model.name)
                proto, self.half_network = half(proto), True
        self.opset = opset_of(proto)
        self.proto = proto

    # -- planes in and out --------------------------------------------------------------------------------------------

    def plane(self, name: str) -> str:
        """A plane that comes in, as fp32 [n, 1, h, w] (`uv`: [n, 2, h, w]) in code values."""
        self.inputs.append(self._value(name, self.shapes[name]))
        x = self.cast(name, "FLOAT")
        if self._in_pairs:
            last = len(self.shapes[name]) - 1
            low, high = (self.slice(x, [(last, i, i + 1)]) for i in (0, 1))
            down = float(1 << self.form.shift)
            x = self.squeeze(self.node("Add", [self.affine(low, 1 / down), self.affine(high, 256 / down)]), last)
        return self.node("Transpose", [x], perm=(0, 3, 1, 2)) if name == "uv" else x

    def chroma(self) -> list[str]:
        """Cb and Cr as they come in, each [n, 1, h, w]."""
        if self.form.interleaved:
            uv = self.plane("uv")
            return [self.channels(uv, i, i + 1) for i in (0, 1)]
        return [self.plane(n) for n in ("u", "v")]

    def put_chroma(self, planes: list[str]) -> None:
        """Cb and Cr go out."""
        if self.form.interleaved:
            self.put("uv", self.node("Concat", planes, axis=1))
        else:
            for name, x in zip(("u", "v"), planes, strict=True):
                self.put(name, x)

    def put(self, name: str, x: str) -> None:
        """A plane goes out: cut to size, clipped, rounded, as integers."""
        scale, fmt, spec = self.spec.scale, self.spec.format, self.spec
        letter = "u" if name == "uv" else name
        made = tuple(n * scale for n in fmt.plane_size(letter, spec.width, spec.height))
        width, height = fmt.plane_size(letter, *spec.output_size)
        if (
            spec.is_whole and made != (width, height) and not self.form.dynamic
        ):  # chroma of odd size: ceil(s·W/2) of s·ceil(W/2) samples
            x = self.slice(x, [(2, 0, height), (3, 0, width)])
        x = self.node("Clip", [x, self.constant(np.float32(0)), self.constant(np.float32(self.code_max))])
        x = self.node("Round", [x])  # half to even
        x = self.node("Transpose", [x], perm=(0, 2, 3, 1)) if name == "uv" else x
        large = FrameGraphSpec(fmt, spec.color, scale, *spec.output_size)
        shape = plane_shapes(large, self.form)[name]
        if self._in_pairs:
            up = float(1 << self.form.shift)
            high = self.node("Floor", [self.affine(x, up / 256)])
            low = self.node("Sub", [self.affine(x, up), self.affine(high, 256)])
            last = len(shape) - 1
            x = self.node("Concat", [self.unsqueeze(n, last) for n in (low, high)], axis=last)
        out = f"{name}_out"
        self.nodes.append(self.onnx.helper.make_node("Cast", [x], [out], name=out, to=self._integer_type()))
        self.outputs.append(self._value(out, shape))

    @property
    def _in_pairs(self) -> bool:
        return self.form.byte_pairs and self.spec.format.bits > 8

    def _value(self, name: str, shape: tuple[int, ...]) -> Any:
        dims: list[int | str] = list(shape)
        if self.form.dynamic:
            rows = 1 if name.startswith("uv") else 2
            dims[0], dims[rows], dims[rows + 1] = "batch", f"{name}_h", f"{name}_w"
        return self.onnx.helper.make_tensor_value_info(name, self._integer_type(), dims)

    def _integer_type(self) -> int:
        bytes_only = self.spec.format.bits == 8 or self._in_pairs
        kind = self.onnx.TensorProto.UINT8 if bytes_only else self.onnx.TensorProto.UINT16
        return int(kind)

    def finish(self) -> onnx.ModelProto:
        order = {f"{n}{suffix}": i for i, n in enumerate(self.shapes) for suffix in ("", "_out")}
        proto: onnx.ModelProto = self.build(order, self.model.name)
        return proto
