"""Networks that others trained (.pth, .ckpt, .safetensors) as model files of this project.

spandrel tells the architecture from the names and shapes of the weights. Every model is run in OpenVINO and compared
with torch, at odd sizes too, before it is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from vsr.errors import ModelError, OptionError, first_line
from vsr.graphs.ends import folded, with_any_size
from vsr.metrics import psnr
from vsr.model import CHANNELS, MAX_FILE_BYTES, probe
from vsr.training.export import IR_VERSION, OPSET, runner, to_half, write_model
from vsr.training.foreign_weights import import_spandrel, quiet, read_weights

INPUTS: Final = {1: "y", 3: "rgb"}
LARGEST_DIFFERENCE: Final = 5e-4
"""Between the model file and torch, where white is 1, or as a share of the largest value: an eighth of an 8-bit
code."""
LEAST_HALF_DB: Final = 55.0
TRACED: Final = 16  # height that is exported with, where the architecture has no wish
TINY: Final = (1, 2)


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Weights that somebody else trained, in the network they belong to.

    Attributes:
        network: on the CPU, from [N, C, H, W] in [0, 1] to [N, C, scale·H, scale·W].
        architecture: as spandrel names it.
        scale: whole enlargement factor, 2 or more.
        channels: 1 for luma, 3 for RGB.
        multiple: that the network's input sizes must be of.
        minimum: of its input sizes.
        sha256: of the file.
    """

    network: torch.nn.Module
    architecture: str
    scale: int
    channels: int
    multiple: int
    minimum: int
    sha256: str

    @property
    def properties(self) -> dict[str, str]:
        """The metadata of its model file."""
        return {
            "vsr.schema": "1",
            "vsr.network": self.architecture,
            "vsr.scale": str(self.scale),
            "vsr.input": INPUTS[self.channels],
            "vsr.parameters": str(sum(p.numel() for p in self.network.parameters())),
            "vsr.licence": "unknown: that of the weights",
            "vsr.weights_sha256": self.sha256,
        }

    def enlarge(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run it in torch; sizes that it does not take are made up by repeating the right and the lower edge."""
        height, width = x.shape[2:]
        want = [-(-max(n, self.minimum) // self.multiple) * self.multiple for n in (height, width)]
        padded = np.pad(x, [(0, 0), (0, 0), (0, want[0] - height), (0, want[1] - width)], mode="edge")
        with torch.no_grad():
            result: NDArray[np.float32] = self.network(torch.from_numpy(padded)).numpy()
        return result[..., : height * self.scale, : width * self.scale]


class _FirstResult(torch.nn.Module):
    """A network of which only the first of several results is the picture."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = self.network(x.clone())  # some scale their input in place
        picture: torch.Tensor = result[0] if isinstance(result, tuple | list) else result
        return picture


def read_pretrained(path: Path, scale: int | None = None) -> Pretrained:
    """Read weights and find the network that they belong to.

    Args:
        path: a .pth, .ckpt or .safetensors.
        scale: that the network must have; None for any.

    Raises:
        OptionError: spandrel is not installed, or the network has another scale.
        ModelError: the file holds no weights or more than weights, or they are not of a super-resolution network.
    """
    spandrel = import_spandrel()
    weights = read_weights(path)
    with quiet():
        try:
            found = spandrel.ModelLoader().load_from_state_dict(weights)
        except spandrel.UnsupportedModelError as exc:
            raise ModelError(
                f"{path} has weights of no architecture that spandrel {spandrel.__version__} knows",
                "export it to ONNX with the program that it was trained in",
            ) from exc
        except Exception as exc:  # what a constructor raises that was given shapes which do not fit together
            raise ModelError(f"{path} has weights that do not fit together: {first_line(exc)}") from exc
        name = found.architecture.name
        _check_purpose(path, found)
        if scale not in (None, found.scale):
            raise OptionError(f"{path} is of scale {found.scale}, and scale {scale} was asked for")
        needs = found.size_requirements
        network = _FirstResult(found.model.eval().requires_grad_(False))
        pretrained = Pretrained(
            network,
            name,
            found.scale,
            found.input_channels,
            needs.multiple_of,
            needs.minimum,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        _check_alone(path, pretrained, found)
    return pretrained


def convert(
    path: Path,
    output: Path,
    *,
    scale: int | None = None,
    precision: Literal["fp32", "fp16"] = "fp32",
    threads: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Pretrained:
    """Weights that others trained as a model file; arguments and errors are those of the two steps below.

    threads: of torch; 0 leaves them as they are.
    """
    if threads:
        torch.set_num_threads(threads)
    pretrained = read_pretrained(path, scale)
    export_pretrained(pretrained, output, precision, say)
    return pretrained


def export_pretrained(
    pretrained: Pretrained,
    output: Path,
    precision: Literal["fp32", "fp16"] = "fp32",
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Write a network as a model file that takes any size.

    Args:
        pretrained: from `read_pretrained`.
        output: the model file, replaced if it is there.
        precision: of the computation; both ends are float32.
        say: called with each line that the user should see.

    Raises:
        ModelError: torch cannot write the network as ONNX, or the model computes something else than the network.
        TrainingError: the file cannot be written.
    """
    traced = _traced(pretrained)
    sized = with_any_size(traced, pretrained.multiple, pretrained.minimum, pretrained.scale)
    model = sized
    if pretrained.multiple == 1:
        try:  # what takes any size as it is can be cut into strips
            _check(traced, pretrained)
            model = traced
        except ModelError:
            model = sized
    if model is sized:
        _check(sized, pretrained)
    properties = pretrained.properties
    if precision == "fp16":
        model, likeness = _halved(model, pretrained)
        properties["vsr.precision"] = "fp16"
        say(f"fp16 is {likeness:.1f} dB near fp32")
    onnx.helper.set_model_props(model, properties)
    if model.ByteSize() > MAX_FILE_BYTES:
        raise ModelError(f"{output} would have {model.ByteSize()} bytes; an ONNX model has at most {MAX_FILE_BYTES}")
    say(
        f"{pretrained.architecture} x{pretrained.scale}, {INPUTS[pretrained.channels]}, "
        f"{properties['vsr.parameters']} parameters"
    )
    write_model(model, output)


def _check_purpose(path: Path, found: Any) -> None:
    """See that a network enlarges pictures, and nothing else.

    Raises:
        ModelError: it does something else.
    """
    name, purpose, needs = found.architecture.name, found.purpose, found.size_requirements
    others = {"FaceSR": "restores faces", "Inpainting": "fills holes in pictures"}
    if purpose in others:
        raise ModelError(f"{path} ({name}) {others[purpose]}; it is no super-resolution network")
    if found.scale < 2:
        raise ModelError(f"{path} ({name}) does not enlarge: its scale is {found.scale}; 2 or more is needed")
    if found.input_channels not in CHANNELS or found.output_channels != found.input_channels:
        raise ModelError(
            f"{path} ({name}) turns {found.input_channels} channels into {found.output_channels}; "
            "a luma network has 1 of each, an RGB network 3"
        )
    if needs.square:
        raise ModelError(f"{path} ({name}) takes square pictures only")


def _check_alone(path: Path, pretrained: Pretrained, found: Any) -> None:
    """See that the network is used as it is, and not inside a function of spandrel's.

    Raises:
        ModelError: it is not, or it cannot be run.
    """
    picture = _picture(pretrained, *_traced_size(pretrained))
    try:
        wanted = found(torch.from_numpy(picture.copy())).numpy()
        got = np.clip(pretrained.enlarge(picture), 0, 1)
    except Exception as exc:  # torch's, or whatever a network's own code raises
        raise ModelError(f"{path} ({pretrained.architecture}) cannot be run: {first_line(exc)}") from exc
    if got.shape != wanted.shape or not np.abs(got - wanted).max() < LARGEST_DIFFERENCE:
        raise ModelError(f"{path} ({pretrained.architecture}) is more than its network, and cannot be exported")


def _traced_size(pretrained: Pretrained) -> tuple[int, int]:
    unit = pretrained.multiple
    side = -(-max(TRACED, pretrained.minimum) // unit) * unit
    return side, side + unit


def _picture(pretrained: Pretrained, height: int, width: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(height)
    return rng.random((1, pretrained.channels, height, width), dtype=np.float32)


def _traced(pretrained: Pretrained) -> onnx.ModelProto:
    """The network as ONNX, for the sizes that it takes."""
    source = INPUTS[pretrained.channels]
    output = f"{source}_upscaled"
    file = io.BytesIO()
    with quiet(), _without_output():
        try:
            torch.onnx.export(
                pretrained.network,
                (torch.from_numpy(_picture(pretrained, *_traced_size(pretrained))),),
                file,  # type: ignore[arg-type]  # a path only with dynamo
                dynamo=False,  # the other one needs another package, and fixes sizes that it finds compared
                opset_version=OPSET,
                input_names=[source],
                output_names=[output],
                dynamic_axes={source: {0: "N", 2: "H", 3: "W"}, output: {0: "N", 2: "sH", 3: "sW"}},
            )
        except Exception as exc:  # torch.onnx has many, without a common base
            raise ModelError(
                f"torch {torch.__version__} cannot write {pretrained.architecture} as ONNX: {first_line(exc)}"
            ) from exc
    model: onnx.ModelProto = folded(onnx.load_model_from_string(file.getvalue()))
    model.ir_version = IR_VERSION
    model.producer_name = "vsr"
    del model.metadata_props[:]
    return model


def _check(model: onnx.ModelProto, pretrained: Pretrained) -> None:
    """See that a model file computes what the network does, and takes pictures of any size.

    ONNX's own evaluator looks at it first: OpenVINO can crash on shapes that do not fit together.

    Raises:
        ModelError: not so.
    """
    name = f"{pretrained.architecture} as ONNX"
    height, width = _traced_size(pretrained)
    try:
        onnx.checker.check_model(model, full_check=True)
        _check_any_size(model, pretrained, name)
        run = runner(model)
        for size in ((height + 3, width + 10), (2 * height + 1, width)):
            picture = _picture(pretrained, *size)
            got, wanted = run(picture), pretrained.enlarge(picture)
            if got.shape != wanted.shape:
                raise ModelError(f"{name} turns {picture.shape} into {got.shape}; torch makes {wanted.shape}")
            difference = float(np.abs(got - wanted).max()) / max(1.0, float(np.abs(wanted).max()))
            if not difference < LARGEST_DIFFERENCE:
                raise ModelError(
                    f"{name} differs from torch by {difference:.2g} on a picture of {size[1]}x{size[0]} "
                    f"(allowed: {LARGEST_DIFFERENCE})"
                )
    except ModelError as error:
        raise ModelError(error.message, "export it to ONNX with the program that it was trained in") from error
    except Exception as exc:  # ONNX's checker and evaluator, torch and OpenVINO raise kinds of their own
        raise ModelError(f"{name} cannot be run: {first_line(exc)}") from exc


def _check_any_size(model: onnx.ModelProto, pretrained: Pretrained, name: str) -> None:
    scale, _, multiple = probe(model, name, pretrained.channels)
    tiny = _evaluated(model, pretrained, _picture(pretrained, *TINY))
    if (scale, multiple) != (pretrained.scale, 1) or tiny.shape[2:] != tuple(n * scale for n in TINY):
        raise ModelError(f"{name} does not take pictures of every size")


def _evaluated(model: onnx.ModelProto, pretrained: Pretrained, picture: NDArray[np.float32]) -> NDArray[Any]:
    from onnx.reference import ReferenceEvaluator

    outputs: Any = ReferenceEvaluator(model).run(None, {INPUTS[pretrained.channels]: picture})
    return np.asarray(outputs[0])


def _halved(model: onnx.ModelProto, pretrained: Pretrained) -> tuple[onnx.ModelProto, float]:
    """The model in fp16, and how near it is to the network, in dB.

    Computed by ONNX's reference in fp16; OpenVINO would take fp32 for it on most processors.
    """
    name = pretrained.architecture
    picture = _picture(pretrained, *_traced_size(pretrained))
    try:
        halved = to_half(model)
        got = _evaluated(halved, pretrained, picture)
    except Exception as exc:  # the checker's and the evaluator's own kinds
        raise ModelError(f"{name} cannot be computed in fp16: {first_line(exc)}", "use --precision fp32") from exc
    wanted = pretrained.enlarge(picture)
    peak = max(1.0, float(np.abs(wanted).max()))
    likeness = psnr(*(np.moveaxis(x[0], 0, 2) for x in (wanted, got)), peak=peak)
    if not likeness >= LEAST_HALF_DB:
        raise ModelError(
            f"{name} in fp16 is only {likeness:.1f} dB near fp32 (least: {LEAST_HALF_DB})", "use --precision fp32"
        )
    return halved, likeness


@contextlib.contextmanager
def _without_output() -> Iterator[None]:
    """With file descriptor 1 closed to torch, whose exporter prints a whole graph there before it fails."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
