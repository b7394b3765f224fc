"""`scripts/train_zoo`: trains a network at one scale; by default as the shipped weights were made.

`zoo.json` beside this file is the manifest: for each shipped model its stages (options of the training loop,
where the stage started from, minutes, result), the hash of the data, and the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vsr.errors import OptionError, TrainingError, VsrError
from vsr.networks import NAMES
from vsr.networks.blocks import PlainLayer
from vsr.training.data import PatchData, prepare
from vsr.training.export import export_network, read_plain
from vsr.training.loop import TrainOptions, TrainResult, checkpoint_network, train

MANIFEST = Path(__file__).with_name("zoo.json")
WEIGHTS = Path(__file__).parents[1] / "weights"


def manifest() -> dict[str, Any]:
    """The manifest: {"espcn_x3": {"stages": […], …}, …}."""
    entries: dict[str, Any] = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    return entries


def start_layers(init: str, out: Path) -> list[PlainLayer]:
    """The deployed layers that a training starts from.

    init: a checkpoint (.pt), a model of this project (.onnx), the name of a shipped model (`fast_x2`), or the
    name of a training whose folder lies beside `out` (`fast_x2.1`).
    """
    beside = out.parent / init / "checkpoint.pt"
    path = next((p for p in (Path(init), beside, WEIGHTS / f"{init}.onnx") if p.is_file()), None)
    if path is None:
        raise TrainingError(
            f"there is no checkpoint or model {init!r} to start from",
            "a stage of another network's training (NAME_xSCALE.STAGE) must have been run into the same folder",
        )
    return read_plain(path) if path.suffix == ".onnx" else checkpoint_network(path).plain()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_zoo",
        description="Train a network at one scale. Without --steps: all stages of the manifest, which repeat "
        "the shipped weights. With --steps: one stage of that many steps.",
    )
    parser.add_argument("--network", required=True, choices=NAMES)
    parser.add_argument("--scale", required=True, type=int, choices=(2, 3, 4))
    parser.add_argument("--steps", type=int, help="train this many steps instead of the manifest's stages")
    parser.add_argument("--data", type=Path, help="training data folder (default: $VSR_TRAIN_DATA)")
    parser.add_argument(
        "--test-data", type=Path, help="folder with Set5 and Set14, for figures (default: $VSR_TEST_DATA)"
    )
    parser.add_argument("--database", type=Path, help="prepared patches, made when missing (default: OUT/../data.h5)")
    parser.add_argument("--out", type=Path, help="folder for checkpoint and log (default: runs/NETWORK_xSCALE)")
    parser.add_argument("--init", help="checkpoint, .onnx, or name of a shipped model to start from")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in OUT")
    parser.add_argument("--export", type=Path, help="write the finished model here (.onnx)")
    parser.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's own choice)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=32, help="side of a low-resolution patch")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--mse-share", type=float, default=0.1, help="last part of the steps that minimises MSE")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=2000, help="steps between checkpoints")
    return parser


def stages(args: argparse.Namespace) -> list[TrainOptions]:
    """The stages that the arguments ask for: one of --steps, or those of the manifest."""
    if args.steps is not None:
        return [
            TrainOptions(
                args.network,
                args.scale,
                args.steps,
                batch=args.batch,
                patch=args.patch,
                lr=args.lr,
                seed=args.seed,
                mse_share=args.mse_share,
                init=args.init,
            )
        ]
    name = f"{args.network}_x{args.scale}"
    entry = manifest().get(name)
    if entry is None:
        raise OptionError(f"{name} is not in the manifest of shipped models", "give --steps to train it")
    return [TrainOptions(network=args.network, scale=args.scale, **stage["options"]) for stage in entry["stages"]]


def run(args: argparse.Namespace) -> TrainResult:
    """Do what the arguments ask for."""
    if args.threads:
        torch.set_num_threads(args.threads)
    data_folder = args.data or os.environ.get("VSR_TRAIN_DATA")
    out: Path = args.out or Path("runs") / f"{args.network}_x{args.scale}"
    database: Path = args.database or out.parent / "data.h5"
    if data_folder:
        prepare(Path(data_folder), database)
    elif not database.exists():
        raise OptionError("no training data", "give --data or set VSR_TRAIN_DATA")
    todo = stages(args)
    result = None
    data = PatchData(database, args.scale, todo[0].patch)
    for number, options in enumerate(todo, 1):
        # the manifest's stages are called NETWORK_xSCALE.1, .2, …, and start from each other by these names
        folder = out if args.steps is not None else out.with_name(f"{out.name}.{number}")
        start = start_layers(options.init, folder) if options.init else None
        if data.patch != options.patch:
            data = PatchData(database, args.scale, options.patch)
        print(f"stage {number}/{len(todo)}: {options}", flush=True)
        # a finished stage is not trained again: its checkpoint is at its last step
        again = args.resume or number < len(todo)
        result = train(
            options,
            data,
            folder,
            start=start,
            resume=again,
            say=lambda text: print(text, flush=True),
            save_every=max(1, args.save_every),
        )
        if not result.finished:
            print(f"stopped at step {result.step}; --resume goes on from there", flush=True)
            return result
    assert result is not None
    if args.export:
        test = args.test_data or os.environ.get("VSR_TEST_DATA")
        figures = export_network(result.network, args.export, data.sha256, Path(test) if test else None)
        print(f"{args.export}: {figures}", flush=True)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = _parser().parse_args(argv)
    try:
        result = run(args)
    except VsrError as exc:
        print(f"train_zoo: {exc}", file=sys.stderr)
        return exc.exit_code
    return 0 if result.finished else 143
