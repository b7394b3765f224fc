"""Models: ONNX files that enlarge luma or RGB by a whole factor, with what is known about them inside the file.

Shipped models lie in `vsr/weights/` and are called by network name; a user's own is called by its path. What a foreign
file does not say (scale, channels) is found out by running it once on a tiny picture.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from vsr.errors import ModelError, first_line
from vsr.graphs.ends import with_any_size, with_float_ends
from vsr.graphs.opset import OPSET, PRESENT_OPSET, convert_opset, opset_of

if TYPE_CHECKING:
    import onnx

BICUBIC: Final = "bicubic"
"""The name of the baseline, which has no weights: luma goes the way of chroma."""

PREFERENCE: Final = ("fast", "fsrcnn", "espcn")
"""Default model: the first of these that is shipped for the scale. docs/models.md says why."""

COMPRESSED: Final = "fast-compressed"
"""The default model of video that has lost detail to a codec."""

BEST: Final = "best"
"""The default model of an archive."""

BEST_COMPRESSED: Final = "best-compressed"
"""That of an archive of video that has lost detail to a codec."""

INT8_ENDING: Final = ".int8.onnx"
HELD_OUT_LOSS: Final = "vsr.int8_loss_db"  # name in the metadata
SCALES: Final = (2, 3, 4)
DEFAULT_SCALE: Final = 3
CHANNELS: Final = (1, 3)  # luma, RGB
MAX_FILE_BYTES: Final = 1 << 31
MULTIPLES: Final = (2, 4, 8, 16, 32)
"""Of which a foreign model may want its sizes to be."""

NCHW_HINT: Final = "export it as channels first (tf2onnx: --inputs-as-nchw and --outputs-as-nchw)"
INVALID_HINT: Final = "copy the whole file, or export it again"


@dataclass(frozen=True, eq=False)
class Model:
    """A super-resolution model, loaded and checked, or the bicubic baseline.

    Attributes:
        name: network name of a shipped model, file name of a user's own, or `bicubic`.
        scale: whole enlargement factor.
        onnx_bytes: the serialised ONNX model with dynamic picture size; empty for bicubic.
        channels: of its input and output: 1 for luma, 3 for RGB.
        metadata: the `vsr.*` entries of the file.
        parts: the models that this one applies one after the other; empty for one that was not joined.
    """

    name: str
    scale: int
    onnx_bytes: bytes = b""
    channels: int = 1
    metadata: dict[str, str] = field(default_factory=dict)
    parts: tuple[Model, ...] = ()

    @property
    def is_bicubic(self) -> bool:
        """Whether this is the baseline without a network."""
        return not self.onnx_bytes

    @property
    def sha256(self) -> str:
        """Hash of the ONNX file as it is run."""
        return hashlib.sha256(self.onnx_bytes).hexdigest()

    @property
    def psnr(self) -> dict[str, Any]:
        """Measured PSNR of the file's own metadata, or an empty dict."""
        try:
            table = json.loads(self.metadata.get("vsr.psnr", "{}"))
        except ValueError:
            return {}
        return table if isinstance(table, dict) else {}

    @property
    def held_out_loss(self) -> float | None:
        """dB that an int8 form lost on the validation pictures when it was made; None where the file does not tell."""
        try:
            loss = float(self.metadata.get(HELD_OUT_LOSS, "nan"))
        except ValueError:
            return None
        return loss if math.isfinite(loss) else None


def shipped_models(quantised: bool = False) -> list[tuple[str, int]]:
    """Name and scale of every model inside the package, sorted; of the int8 ones if `quantised`."""
    ending = INT8_ENDING if quantised else ".onnx"
    found = []
    for entry in resources.files("vsr").joinpath("weights").iterdir():
        name, _, scale = entry.name.removesuffix(ending).rpartition("_x")
        if entry.name.endswith(ending) and scale.isdigit():
            found.append((name, int(scale)))
    return sorted(found)


def default_model_name(scale: int) -> str:
    """The name of the model used at `scale` when none is asked for."""
    shipped = shipped_models()
    return next((name for name in PREFERENCE if (name, scale) in shipped), BICUBIC)


def usual_model_name(*, archive: bool, compressed: bool) -> str | None:
    """The name of the model that is taken when none is asked for; None for the default of the scale.

    archive: whether the best result is wanted, whatever it costs; compressed: whether the video has lost detail to a
    codec.
    """
    if archive:
        return BEST_COMPRESSED if compressed else BEST
    return COMPRESSED if compressed else None


def shipped_for_every_scale(name: str) -> bool:
    """Whether the model of this name is inside the package at x2, x3 and x4."""
    shipped = shipped_models()
    return all((name, scale) in shipped for scale in SCALES)


def load_model(name_or_path: str | Path | None, scale: int | None, precision: str = "auto") -> Model:
    """Load a shipped model by name, or a user's ONNX file by path.

    Args:
        name_or_path: `bicubic`, a shipped network's name, a path to an ONNX file, or None for the default.
        scale: the enlargement the model must make; None for what a file of one's own makes, and 3 of the shipped ones.
        precision: `int8` takes the quantised form of a shipped model; a file of one's own is taken as it is.

    Raises:
        ModelError: there is no such model, it does not fit `scale`, it is not shipped in int8, or it is not a
            super-resolution model.
    """
    name = str(name_or_path) if name_or_path is not None else default_model_name(scale or DEFAULT_SCALE)
    shipped = shipped_models()
    if name == BICUBIC:
        return Model(BICUBIC, scale or DEFAULT_SCALE)
    if scale is None and name in {n for n, _ in shipped}:
        scale = DEFAULT_SCALE
    if scale is not None and (name, scale) in shipped:
        if precision == "int8" and (name, scale) not in shipped_models(quantised=True):
            have = ", ".join(f"{n} x{s}" for n, s in shipped_models(quantised=True)) or "none"
            raise ModelError(f"model {name} x{scale} is not shipped in int8; there are {have}", "use --precision fp32")
        ending = INT8_ENDING if precision == "int8" else ".onnx"
        data = resources.files("vsr").joinpath("weights", f"{name}_x{scale}{ending}").read_bytes()
        proto = _parse(data, name)
        return Model(name, scale, onnx_bytes=data, metadata=_metadata(proto))
    scales = [s for n, s in shipped if n == name]
    if scales:
        raise ModelError(
            f"model {name} is not shipped for scale {scale}, only for {_listed(scales)}",
            f"use -s {scales[0]}, --model bicubic, or a model of your own",
        )
    path = Path(name)
    if path.suffix.lower() != ".onnx" and not path.is_file():
        names = sorted({n for n, _ in shipped})
        raise ModelError(
            f"no model is called {name!r}; shipped are {', '.join([*names, BICUBIC])}",
            "name one of them, or give the path of an ONNX file",
        )
    return _load_foreign(path, scale)


def _load_foreign(path: Path, scale: int | None) -> Model:
    model = examine(_read(path), str(path))
    if scale not in (None, model.scale):
        raise ModelError(
            f"{path} enlarges {model.scale} times, and scale {scale} was asked for", f"use -s {model.scale}"
        )
    return replace(model, name=path.name)


def examine(proto: onnx.ModelProto, name: str) -> Model:
    """A foreign ONNX model, checked by running it, as one that takes float32 pictures of any size.

    Ends in float16 are cast. Where the model takes multiples of 2, 4, 8, 16 or 32 only, its input is padded.

    Raises:
        ModelError: it is no super-resolution model.
    """
    foreign = sorted({f"{n.op_type} ({n.domain})" for n in proto.graph.node if n.domain not in ("", "ai.onnx")})
    if foreign:
        raise ModelError(f"{name} uses operators outside standard ONNX: {', '.join(foreign)}", "export it without them")
    proto, channels = _with_dynamic_size(proto, name)
    scale, channels, multiple = probe(proto, name, channels)
    if multiple > 1:
        if opset_of(proto) < PRESENT_OPSET:
            proto = convert_opset(proto, OPSET, name)
        proto = with_any_size(proto, multiple, multiple, scale)
    return Model(name, scale, proto.SerializeToString(), channels, _metadata(proto))


def _read(path: Path) -> onnx.ModelProto:
    """Read a file with the weights that it keeps in others beside it."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(
                f"{path} has {size} bytes; an ONNX model has at most {MAX_FILE_BYTES}", "use a smaller one"
            )
        data = path.read_bytes()
    except OSError as exc:
        raise ModelError(f"model {path} cannot be read: {exc.strerror or exc}") from exc
    import onnx

    if not data:
        raise ModelError(f"{path} is empty; an ONNX model was expected", INVALID_HINT)
    try:
        proto = onnx.load_model_from_string(data)
    except Exception as exc:  # protobuf's own exception type
        raise ModelError(f"{path} is not a valid ONNX model: {first_line(exc)}", INVALID_HINT) from exc
    for value in (*proto.graph.input, *proto.graph.output):
        if not value.type.tensor_type.HasField("shape"):
            raise ModelError(
                f"{path} does not say the shape of {value.name!r}; a super-resolution model has rank 4: [N, C, H, W]",
                "export it with its shapes",
            )
    constants = (a.t for node in proto.graph.node for a in node.attribute if a.HasField("t"))
    outside = [t for t in (*proto.graph.initializer, *constants) if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        _check_external(outside, path, size)
        try:
            onnx.external_data_helper.load_external_data_for_model(proto, str(path.parent))
        except Exception as exc:  # ValueError, OSError and the checker's own
            raise ModelError(f"{path} has weights that cannot be read: {first_line(exc)}", INVALID_HINT) from exc
    return _checked(proto, str(path))


def _check_external(tensors: list[Any], path: Path, size: int) -> None:
    """See that weights in other files lie in the model's own folder, are there, and are not too large.

    Raises:
        ModelError: they do not, or are not.
    """
    total = size
    for location in sorted({next((e.value for e in t.external_data if e.key == "location"), "") for t in tensors}):
        file = path.parent / location
        if not location or not file.resolve().is_relative_to(path.parent.resolve()):
            raise ModelError(
                f"{path} keeps weights in {location!r}, which is not in its own folder; that is not read",
                "put them into a file beside it, or export the model as one file",
            )
        if not file.is_file():
            raise ModelError(
                f"{path} keeps weights in {location}, which is not there",
                f"put {location} beside it, or export the model as one file",
            )
        total += file.stat().st_size
    if total > MAX_FILE_BYTES:
        raise ModelError(
            f"{path} and its weights have {total} bytes; an ONNX model has at most {MAX_FILE_BYTES}",
            "use a smaller one",
        )


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    import onnx

    try:
        proto = onnx.load_model_from_string(data)
    except Exception as exc:  # protobuf's own exception type
        raise ModelError(f"{name} is not a valid ONNX model: {first_line(exc)}") from exc
    return _checked(proto, name)


def _checked(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    import onnx

    try:
        onnx.checker.check_model(proto)
    except Exception as exc:  # the checker's own exception type has no public base
        raise ModelError(f"{name} is not a valid ONNX model: {first_line(exc)}", INVALID_HINT) from exc
    return proto


def _metadata(proto: onnx.ModelProto) -> dict[str, str]:
    return {p.key: p.value for p in proto.metadata_props if p.key.startswith("vsr.")}


def _with_dynamic_size(proto: onnx.ModelProto, name: str) -> tuple[onnx.ModelProto, int]:
    """Check the interface and make height and width symbolic, which many exports fix to the training size.

    Returns:
        The model, which takes and returns float32, and how many channels it takes by its own account: 1, 3, or 0 if it
        does not say.
    """
    import onnx

    weights = {w.name for w in proto.graph.initializer}
    inputs = [i for i in proto.graph.input if i.name not in weights]
    if len(inputs) != 1 or len(proto.graph.output) != 1:
        raise ModelError(
            f"{name} has {len(inputs)} inputs and {len(proto.graph.output)} outputs; "
            "a super-resolution model has one of each"
        )
    tensor = inputs[0].type.tensor_type
    dims = tensor.shape.dim
    rank = len(dims) if tensor.HasField("shape") else 4
    if rank != 4:
        raise ModelError(f"{name} takes input of rank {rank}; a super-resolution model takes rank 4: [N, C, H, W]")
    kinds = [v.type.tensor_type.elem_type for v in (inputs[0], proto.graph.output[0])]
    if any(k not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16) for k in kinds):
        words = " and returns ".join(onnx.TensorProto.DataType.Name(k) for k in kinds)
        raise ModelError(f"{name} takes input of type {words}; both must be FLOAT or FLOAT16", "export it in fp32")
    channels = dims[1].dim_value if dims else 0
    if channels not in (0, *CHANNELS):
        if dims[3].dim_value in CHANNELS:
            raise ModelError(f"{name} takes [N, H, W, C]; a super-resolution model takes [N, C, H, W]", NCHW_HINT)
        raise ModelError(f"{name} takes {channels} input channels; a luma model takes 1, an RGB model 3")
    if dims and not channels and dims[3].dim_value in CHANNELS:
        raise ModelError(f"{name} takes [N, H, W, C]; a super-resolution model takes [N, C, H, W]", NCHW_HINT)
    dynamic = with_float_ends(proto)
    for value in (next(i for i in dynamic.graph.input if i.name == inputs[0].name), dynamic.graph.output[0]):
        shape = value.type.tensor_type.shape
        if len(shape.dim) == 4:
            for axis, symbol in ((0, "N"), (2, f"{value.name}_h"), (3, f"{value.name}_w")):
                shape.dim[axis].dim_param = symbol
    return dynamic, channels


class _SizeError(ModelError):
    """A model does not take a picture of some size; it may take others."""


def probe(proto: onnx.ModelProto, name: str, channels: int = 0) -> tuple[int, int, int]:
    """Run a foreign model on tiny pictures, in ONNX's own evaluator.

    Args:
        proto: takes and returns float32 and says nothing of height and width.
        name: for messages.
        channels: 1, 3, or 0 where that is to be found out.

    Returns:
        Its scale, its channels, and what height and width must be multiples of.

    Raises:
        ModelError: it is no super-resolution model.
    """
    if channels == 0:
        try:
            return probe(proto, name, 1)
        except ModelError as luma_error:
            try:
                return probe(proto, name, 3)
            except ModelError:
                raise luma_error from None
    from onnx.reference import ReferenceEvaluator

    weights = {w.name for w in proto.graph.initializer}
    source = next(i.name for i in proto.graph.input if i.name not in weights)
    try:
        evaluator = ReferenceEvaluator(_for_evaluator(proto))
    except Exception as exc:  # whatever it raises on an operator that it does not know
        why = first_line(exc).partition(", schema")[0]  # which goes on about onnx's own insides
        raise ModelError(f"{name} cannot be run: {why}", "export it without that") from exc

    def run(picture: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        outputs: Any = evaluator.run(None, {source: picture})
        return np.asarray(outputs[0])

    first: _SizeError | None = None
    for multiple in (1, *MULTIPLES):
        try:
            scales = {_enlargement(run, name, channels, *size) for size in _probe_sizes(multiple)}
        except _SizeError as error:
            first = first or error
            continue
        if len(scales) != 1:
            raise ModelError(f"{name} enlarges by a factor that depends on the picture's size: {_listed(scales)}")
        return scales.pop(), channels, multiple
    raise first or AssertionError


def _probe_sizes(multiple: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of two pictures: multiples of this, and not of twice as much."""
    if multiple == 1:
        return (12, 10), (9, 13)
    short, long = (3, 5) if multiple < 8 else (1, 3)
    return (short * multiple, long * multiple), (long * multiple, short * multiple)


def _enlargement(
    run: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]], name: str, channels: int, height: int, width: int
) -> int:
    """By how much a model enlarges a picture.

    Raises:
        _SizeError: it does not take pictures of this size.
        ModelError: it does something else.
    """
    picture = np.linspace(0.2, 0.8, channels * height * width, dtype=np.float32)
    try:
        result = run(picture.reshape(1, channels, height, width))
    except Exception as exc:  # whatever an operator raises on a shape or type that it cannot take
        raise _SizeError(
            f"{name} cannot be run on a {width}x{height} picture: {first_line(exc)}",
            "export it with dynamic height and width",
        ) from exc
    if result.ndim != 4 or result.shape[:2] != (1, channels):
        raise ModelError(
            f"{name} turns [1, {channels}, {height}, {width}] into {list(result.shape)}; "
            f"a super-resolution model returns as many channels: [1, {channels}, scale x {height}, scale x {width}]"
        )
    ratio = (result.shape[2] / height, result.shape[3] / width)
    if ratio[0] != ratio[1] or ratio[0] != int(ratio[0]) or ratio[0] < 2:
        kind = ModelError if ratio in ((1, 1), (0, 0)) else _SizeError
        raise kind(
            f"{name} turns {width}x{height} into {result.shape[3]}x{result.shape[2]}; "
            "a super-resolution model enlarges both by the same whole factor of 2 or more"
        )
    if not np.isfinite(result).all():
        raise ModelError(f"{name} returns values that are not finite")
    return int(ratio[0])


def _for_evaluator(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model as onnx's evaluator takes it, which knows DequantizeLinear from opset 19 on; the sense is the same."""
    if opset_of(proto) >= 19 or all(node.op_type != "DequantizeLinear" for node in proto.graph.node):
        return proto
    try:
        converted: onnx.ModelProto = convert_opset(proto, 19, "")
    except ModelError:
        return proto  # the evaluator will say what it lacks
    return converted


def _listed(values: Any) -> str:
    return ", ".join(str(v) for v in sorted(values))
