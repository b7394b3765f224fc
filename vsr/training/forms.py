"""`vsr export` and `scripts/quantise`: a trained network as a model file in fp32, fp16 or int8.

Every form is run in OpenVINO and compared with the network in torch before it is written. An int8 form that loses more
than `LARGEST_LOSS_DB` on the validation pictures is not written at all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from vsr.errors import ModelError, OptionError, TrainingError, VsrError
from vsr.metrics import psnr
from vsr.model import HELD_OUT_LOSS, INT8_ENDING, load_model, shipped_models
from vsr.networks import create
from vsr.networks.base import LumaNetwork, PlainNetwork
from vsr.training.checkpoint import checkpoint_network, load_checkpoint
from vsr.training.data import PatchData
from vsr.training.evaluate import Enlarge, from_module, mean, picture_psnr, standard_psnr
from vsr.training.export import build_model, check_model, describe, read_plain, run_model, to_half, write_model
from vsr.training.manifest import manifest, manifest_int8
from vsr.training.quantise import PATCH, QuantisedNetwork, QuantiseOptions, quantise

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: Final = ("fp32", "fp16", "int8")
LARGEST_LOSS_DB: Final = 0.10
#: PSNR in dB between a form in the runtime and what it was made from, in torch; a smaller one refuses it. Values that
#: fall between two codes are rounded up by one and down by the other, so int8 is not equal to the last bit.
LEAST_LIKENESS_DB: Final = {"fp16": 60.0, "int8": 45.0}
WEIGHTS: Final = Path(__file__).parents[1] / "weights"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """A network with what is known of it.

    Attributes:
        network: on the CPU.
        properties: the metadata of its fp32 model.
        sha256: hash of that model's file.
    """

    network: LumaNetwork
    properties: dict[str, str]
    sha256: str

    @property
    def name(self) -> str:
        """NETWORK_xSCALE."""
        return f"{self.network.name}_x{self.network.scale}"


def read_trained(source: str, scale: int | None = None) -> Trained:
    """Find a trained network.

    Args:
        source: a checkpoint of `vsr train` (.pt, or its folder), a model that this project exported (.onnx), or the
            name of a shipped model.
        scale: of the shipped model; elsewhere it must be that of the file, if it is given.

    Raises:
        ModelError, TrainingError: there is none, or it is something else.
        OptionError: `scale` is missing, or another than the file's.
    """
    path = Path(source)
    if path.is_dir() and (path / "checkpoint.pt").is_file():
        path = path / "checkpoint.pt"
    if path.suffix == ".pt":
        trained = _from_checkpoint(path)
    elif path.suffix == ".onnx":
        trained = _from_model(path)
    elif scale is None:
        raise OptionError(f"{source!r} is not a file", "give a .pt or .onnx, or the scale of a shipped model")
    else:
        name = load_model(source, scale).name
        trained = _from_model(WEIGHTS / f"{name}_x{scale}.onnx")
    if scale not in (None, trained.network.scale):
        raise OptionError(f"{source} is of scale {trained.network.scale}, and scale {scale} was asked for")
    return trained


def _from_checkpoint(path: Path) -> Trained:
    network = checkpoint_network(path)
    properties = describe(network, str(load_checkpoint(path)["options"].get("data", "")), {})
    digest = hashlib.sha256(build_model(network, {}).SerializeToString()).hexdigest()
    return Trained(network, properties, digest)


def _from_model(path: Path) -> Trained:
    layers = read_plain(path)
    properties = {p.key: p.value for p in onnx.load(str(path)).metadata_props}
    try:
        network = create(properties["vsr.network"], int(properties["vsr.scale"]))
    except (KeyError, ValueError) as exc:
        raise ModelError(f"{path} does not say which network it is", "it was not exported by this project") from exc
    if not network.start_from(layers):
        raise ModelError(f"{path} holds weights of another scale than it says")
    return Trained(network, properties, hashlib.sha256(path.read_bytes()).hexdigest())


def export(
    trained: Trained,
    output: Path,
    precision: Precision,
    *,
    database: Path | None = None,
    test_folder: Path | None = None,
    options: QuantiseOptions | None = None,
    threads: int = 0,
    say: Say = lambda _: None,
) -> dict[str, float]:
    """Write a network as a model file.

    Args:
        trained: from `read_trained`.
        output: the model file, replaced if it is there.
        precision: `fp32`; `fp16`, with float32 at both ends; or `int8`, as QuantizeLinear and DequantizeLinear.
        database: prepared patches, for int8.
        test_folder: with Set5 and Set14, whose PSNR goes into the metadata; never looked at for a decision.
        options: of int8.
        threads: of torch; 0 leaves them as they are.
        say: called with each line that the user should see.

    Returns:
        PSNR on the test sets found, in dB.

    Raises:
        OptionError: int8 without a database.
        TrainingError: the model computes something else than the network, int8 loses too much, or the file cannot
            be written.
    """
    if threads:
        torch.set_num_threads(threads)
    properties = dict(trained.properties)
    if precision == "int8":
        if database is None:
            raise OptionError("int8 needs pictures to calibrate with", "give --data, a file of vsr prepare-data")
        model = _int8(trained, PatchData(database, trained.network.scale, PATCH), options or QuantiseOptions(), say)
        properties |= {p.key: p.value for p in model.metadata_props}
    else:
        model = build_model(trained.network, properties)
        check_model(model, trained.network)
        if precision == "fp16":
            model = to_half(model)
            properties["vsr.precision"] = "fp16"
            _check_likeness(model, PlainNetwork(trained.network), precision)
    figures = json.loads(properties["vsr.psnr"])
    if test_folder is not None:
        found = standard_psnr(test_folder, trained.network.scale, enlarge_by(model))
        figures |= {k: round(v, 3) for k, v in found.items()}
    elif precision == "int8":
        figures = {"protocol": figures["protocol"]}  # those of fp32 are not its own
    properties["vsr.psnr"] = json.dumps(figures)
    onnx.helper.set_model_props(model, properties)
    write_model(model, output)
    return {k: v for k, v in figures.items() if k != "protocol"}


def _int8(trained: Trained, data: PatchData, options: QuantiseOptions, say: Say) -> onnx.ModelProto:
    network = trained.network
    full = _validation(data, from_module(PlainNetwork(network)))
    quantised = quantise(network, data, options, say)
    properties = {
        "vsr.precision": "int8",
        "vsr.fp32_sha256": trained.sha256,
        "vsr.quantisation": json.dumps(
            {**asdict(options), "skip_added": quantised.skip_added, "data_sha256": data.sha256}
        ),
    }
    model = build_model(quantised.shape, properties, quantised.operations())
    _check_likeness(model, quantised, "int8")
    loss = full - _validation(data, enlarge_by(model))
    say(f"{trained.name}: int8 loses {loss:.3f} dB on the validation pictures")
    if loss > LARGEST_LOSS_DB:
        raise TrainingError(
            f"{trained.name} loses {loss:.3f} dB in int8, and {LARGEST_LOSS_DB} is allowed",
            f"fine-tune for more than {options.steps} steps",
        )
    onnx.helper.set_model_props(model, {**properties, HELD_OUT_LOSS: f"{loss:.3f}"})
    return model


def _check_likeness(model: onnx.ModelProto, module: torch.nn.Module | QuantisedNetwork, precision: str) -> None:
    """A smooth picture with edges through both; raises `TrainingError` when they differ by more than rounding."""
    y, x = np.mgrid[:45, :62]
    codes = np.rint(120 + 70 * np.sin(x / 5.0) * np.cos(y / 7.0) + 30 * ((x // 11 + y // 9) % 2))
    low = (codes / 255.0).astype(np.float32)
    likeness = psnr(from_module(module)(low), enlarge_by(model)(low), peak=1.0)
    if likeness < LEAST_LIKENESS_DB[precision]:
        raise TrainingError(
            f"the {precision} model is only {likeness:.1f} dB near the network (least: {LEAST_LIKENESS_DB[precision]})"
        )


def _validation(data: PatchData, enlarge: Enlarge) -> float:
    return mean(picture_psnr(high, data.scale, enlarge) for _, high in data.validation)


def enlarge_by(model: onnx.ModelProto) -> Enlarge:
    """Enlarging by a model in OpenVINO."""

    def enlarge(low: NDArray[np.float32]) -> NDArray[Any]:
        result: NDArray[Any] = run_model(model, low[None, None])[0, 0]
        return result

    return enlarge


def outdated() -> list[tuple[str, int]]:
    """Name and scale of the shipped models that have no int8 form, or one made from other weights."""
    have = shipped_models(quantised=True)
    return [
        (name, scale)
        for name, scale in shipped_models()
        if (name, scale) not in have
        or load_model(name, scale, "int8").metadata.get("vsr.fp32_sha256") != load_model(name, scale).sha256
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """`scripts/quantise`: the int8 forms of shipped models; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="quantise",
        description="Make the int8 forms of shipped models, beside them: without names, of all that have none or one "
        "that was made from other weights. Fine-tuned as the manifest says, but for the options given here.",
    )
    parser.add_argument("models", nargs="*", metavar="NAME_xSCALE")
    parser.add_argument("--all", action="store_true", help="all shipped models")
    parser.add_argument("--database", type=Path, required=True, help="prepared patches, from vsr prepare-data")
    parser.add_argument("--test-data", type=Path, help="folder with Set5 and Set14 (default: $VSR_TEST_DATA)")
    parser.add_argument("--steps", type=int, help="of fine-tuning")
    parser.add_argument("--lr", type=float)
    parser.add_argument(
        "--signed", action=argparse.BooleanOptionalAction, help="fine-tune TensorRT's form with signed codes too"
    )
    parser.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's own choice)")
    args = parser.parse_args(argv)
    test = args.test_data or os.environ.get("VSR_TEST_DATA")
    named = [(name.rpartition("_x")[0], name.rpartition("_x")[2]) for name in args.models]
    failed = 0
    try:
        entries = manifest()
        given = {key: getattr(args, key) for key in ("steps", "lr", "signed") if getattr(args, key) is not None}
        QuantiseOptions(**given)  # refuses what cannot be before any work
        wanted = [(name, int(scale)) for name, scale in named if scale.isdigit()] if named else outdated()
        if len(wanted) < len(named):
            raise OptionError(f"got {' '.join(args.models)}; models are called NAME_xSCALE, as fast_x3")
        for name, scale in shipped_models() if args.all else wanted:
            output = WEIGHTS / f"{name}_x{scale}{INT8_ENDING}"
            try:
                trained = read_trained(name, scale)
                figures = export(
                    trained,
                    output,
                    "int8",
                    database=args.database,
                    test_folder=Path(test) if test else None,
                    options=replace(manifest_int8(entries.get(trained.name, {})), **given),
                    threads=args.threads,
                    say=lambda text: print(text, flush=True),
                )
                print(f"{output}: {figures}", flush=True)
            except TrainingError as error:
                print(f"quantise: error: {error}", file=sys.stderr, flush=True)
                failed += 1
    except VsrError as error:
        print(f"quantise: error: {error}", file=sys.stderr)
        return error.exit_code
    return 1 if failed else 0
