"""`scripts/train_zoo`: trains a network at one scale; by default as the manifest says that the shipped weights were."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from vsr.errors import OptionError, VsrError
from vsr.networks import ALL_NAMES
from vsr.training.data import database_facts
from vsr.training.loop import LOSSES, OPTIMIZERS, PRECISIONS, TrainOptions, TrainResult
from vsr.training.manifest import Stage, manifest, manifest_stages
from vsr.training.session import (
    DEVICES,
    check_network,
    check_start,
    default_database,
    degradation_of,
    export_paths,
    export_result,
    prepared,
    run_training,
)
from vsr.training.sources import SHRINKS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_zoo",
        description="Train a network at one scale. Without --steps: all stages of the manifest, which repeat "
        "the shipped weights. With --steps: one stage of that many steps.",
    )
    parser.add_argument("--network", required=True, metavar="NAME", help=", ".join(ALL_NAMES))
    parser.add_argument("--scale", required=True, help="2, 3, 4, or all: one set of weights for the three")
    parser.add_argument("--steps", type=int, help="train this many steps instead of the manifest's stages")
    parser.add_argument("--data", type=Path, help="training data folder (default: $VSR_TRAIN_DATA)")
    parser.add_argument(
        "--test-data", type=Path, help="folder with Set5 and Set14, for figures (default: $VSR_TEST_DATA)"
    )
    parser.add_argument(
        "--database",
        type=Path,
        help="prepared patches, made when missing (default: OUT/../data.h5, data-compressed.h5 for NAME-compressed)",
    )
    parser.add_argument("--shrink", choices=tuple(SHRINKS), default="soft", help="kernel that shrinks the sources")
    parser.add_argument(
        "--dead-leaves", type=float, default=0.0, help="share of pictures of random shapes among the data (default: 0)"
    )
    parser.add_argument("--out", type=Path, help="folder for checkpoint and log (default: runs/NETWORK_xSCALE)")
    parser.add_argument("--init", help="checkpoint, .onnx, or name of a shipped model to start from")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in OUT")
    parser.add_argument("--export", type=Path, help="write the finished model here (.onnx)")
    parser.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's own choice)")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=32, help="side of a low-resolution patch")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--loss", choices=tuple(LOSSES), default="l1")
    parser.add_argument("--mse-share", type=float, default=0.1, help="last part of the steps, with the last loss")
    parser.add_argument("--last-loss", choices=tuple(LOSSES), default="l2")
    parser.add_argument("--contrast", type=float, default=6.0, help="largest factor that raises a patch's contrast")
    parser.add_argument("--fresh", action="store_true", help="make low resolution of each patch after its contrast")
    parser.add_argument("--curves", type=float, default=0.0, help="share of patches whose tones a curve gives")
    parser.add_argument("--precision", choices=PRECISIONS, help="of convolutions (default: bf16 on a GPU, else fp32)")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="muon")
    parser.add_argument("--teacher", help="larger network to learn from: shipped (best), checkpoint or .onnx")
    parser.add_argument("--teacher-negatives", action="store_true", help="count its answers to negatives too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=int, help="steps between checkpoints (default: 2000, fewer if few steps)")
    return parser


def stages(args: argparse.Namespace) -> list[Stage]:
    """The stages that the arguments ask for: one of --steps, or those of the manifest.

    Raises `OptionError` if the manifest has none for the network.
    """
    scale, all_scales = check_network(args.network, args.scale)
    if args.steps is not None:
        options = TrainOptions(
            args.network,
            scale,
            args.steps,
            batch=args.batch,
            patch=args.patch,
            lr=args.lr,
            seed=args.seed,
            mse_share=args.mse_share,
            contrast=args.contrast,
            optimizer=args.optimizer,
            teacher=args.teacher,
            precision=args.precision,
            fresh=args.fresh,
            curves=args.curves,
            teacher_negatives=args.teacher_negatives,
            init=args.init,
            loss=args.loss,
            last_loss=args.last_loss,
            all_scales=all_scales,
        )
        return [Stage(options, args.shrink, args.dead_leaves)]
    name = f"{args.network}_x{scale}"
    entry = manifest().get(name)
    if entry is None:
        raise OptionError(f"{name} is not in the manifest of shipped models", "give --steps to train it")
    return manifest_stages(args.network, scale, entry)


def run(args: argparse.Namespace) -> TrainResult:
    """Do what the arguments ask for. Raises `VsrError` as training and export do."""
    todo = stages(args)
    if args.save_every is not None and args.save_every < 1:
        raise OptionError(f"got --save-every {args.save_every}; it must be at least 1")
    if args.export:
        export_paths(args.export, todo[-1].options)
    if args.steps is not None:  # the manifest's stages start from each other
        check_start(todo[0].options, args.out or Path("runs") / f"{args.network}_x{args.scale}", args.resume)
    if args.threads:
        torch.set_num_threads(args.threads)
    data_folder = args.data or os.environ.get("VSR_TRAIN_DATA")
    out: Path = args.out or Path("runs") / f"{args.network}_x{args.scale}"
    degradation = degradation_of(args.network)
    result = None
    for number, stage in enumerate(todo, 1):
        options = stage.options
        database = prepared(
            [Path(data_folder)] if data_folder else [],
            args.database or default_database(out.parent, degradation, stage.shrink, stage.dead_leaves),
            degradation,
            say=print,
            shrink=stage.shrink,
            dead_leaves=stage.dead_leaves,
        )
        # the manifest's stages are called NETWORK_xSCALE.1, .2, …, and start from each other by these names
        folder = out if args.steps is not None else out.with_name(f"{out.name}.{number}")
        print(f"stage {number}/{len(todo)}: {options}", flush=True)
        result = run_training(
            options,
            database,
            folder,
            device=args.device,
            # a finished stage is not trained again: its checkpoint is at its last step
            resume=args.resume or number < len(todo),
            say=lambda text: print(text, flush=True),
            save_every=args.save_every,
        )
        if not result.finished:
            print(f"stopped at step {result.step}; --resume goes on from there", flush=True)
            return result
    assert result is not None
    result.network.name = args.network  # the last stage may have named a layout
    if args.export:
        test = args.test_data or os.environ.get("VSR_TEST_DATA")
        data = database_facts(database)[0]
        figures = export_result(result, todo[-1].options, data, args.export, Path(test) if test else None)
        for path, figure in figures.items():
            print(f"{path}: {figure}", flush=True)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = _parser().parse_args(argv)
    try:
        result = run(args)
    except VsrError as exc:
        print(f"train_zoo: {exc}", file=sys.stderr)
        return exc.exit_code
    return 0 if result.signal is None else 128 + result.signal
