"""One training from its options to the finished model: what `vsr train` and `scripts/train_zoo` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from vsr.errors import OptionError, TrainingError
from vsr.networks import COMPRESSED_ENDING, check_name, create
from vsr.networks.blocks import PlainLayer
from vsr.training.checkpoint import checkpoint_network, load_checkpoint
from vsr.training.data import PatchData, database_facts
from vsr.training.export import export_network, read_plain
from vsr.training.forms import Trained, read_trained
from vsr.training.loop import TrainOptions, TrainResult, check_same, train
from vsr.training.prepare import SCALES, prepare
from vsr.training.teacher import take_answers

WEIGHTS: Final = Path(__file__).parents[1] / "weights"
DEVICES: Final = ("auto", "cpu", "cuda")


def check_network(network: str, scale: str) -> tuple[int, bool]:
    """The scale, and whether all are trained at once, of a network's name and `2`, `3`, `4` or `all`.

    Raises `OptionError` for what there is not.
    """
    check_name(network)
    if scale == "all":
        return SCALES[0], True
    if scale not in map(str, SCALES):
        raise OptionError(f"network {network} got scale {scale}; it has {', '.join(map(str, SCALES))}, or all in one")
    return int(scale), False


def degradation_of(network: str) -> str:
    """How the data for a network of this name is degraded when nothing is said: `clean`, or `codec`."""
    return "codec" if network.endswith(COMPRESSED_ENDING) else "clean"


def default_database(folder: Path, degradation: str, shrink: str = "soft", dead_leaves: float = 0.0) -> Path:
    """The database in `folder` for data prepared like this."""
    name = "data" if degradation == "clean" else "data-compressed"
    if shrink != "soft":
        name += f"-{shrink}"
    if dead_leaves:
        name += f"-leaves-{dead_leaves:g}"
    return folder / f"{name}.h5"


def prepared(
    folders: Sequence[Path],
    database: Path,
    degradation: str,
    say: Callable[[str], None],
    shrink: str = "soft",
    dead_leaves: float = 0.0,
) -> Path:
    """The database to train on, made from `folders` if it is not there or of others; as it is if none are given.

    Raises `OptionError` when there is neither.
    """
    if folders:
        prepare(*folders, out=database, degradation=degradation, shrink=shrink, dead_leaves=dead_leaves, say=say)
    elif not database.exists():
        raise OptionError("no training data", "give --data or set VSR_TRAIN_DATA")
    return database


def start_layers(init: str, out: Path) -> list[PlainLayer]:
    """The deployed layers that a training starts from.

    init: a checkpoint (.pt), a model of this project (.onnx), the name of a shipped model (`fast_x2`), or the
    name of a training whose folder lies beside `out` (`fast_x2.1`). Raises `TrainingError` if there is no such thing.
    """
    beside = out.parent / init / "checkpoint.pt"
    path = next((p for p in (Path(init), beside, WEIGHTS / f"{init}.onnx") if p.is_file()), None)
    if path is None:
        raise TrainingError(
            f"there is no checkpoint or model {init!r} to start from",
            "a stage of another network's training (NAME_xSCALE.STAGE) must have been run into the same folder",
        )
    return read_plain(path) if path.suffix == ".onnx" else checkpoint_network(path).plain()


def find_teacher(teacher: str, scale: int, out: Path) -> Trained:
    """The network whose answers are learnt.

    teacher: as `vsr.training.forms.read_trained` takes it (a checkpoint, a model of this project, the name of a shipped
    one), or the name of a training whose folder lies beside `out`. Raises as `read_trained` does.
    """
    beside = out.parent / teacher / "checkpoint.pt"
    return read_trained(str(beside) if beside.is_file() else teacher, scale)


def check_start(options: TrainOptions, out: Path, resume: bool, degradation: str | None = None) -> None:
    """See that the training can begin, before data are prepared for it.

    degradation: of the data; None: as the network's name says. Raises `OptionError` if the network cannot be trained so
    or the patches cannot be fresh, `ModelError` if what it is to start from is another network's or the teacher is no
    model, `TrainingError` if either is missing or the checkpoint in `out`, to be resumed, is of another training.
    """
    network = create(options.network, options.scale)
    if options.all_scales and not network.any_scale:
        raise OptionError(f"network {options.network} has other weights for each scale; it cannot train on all")
    if options.fresh and (degradation or degradation_of(options.network)) == "codec":
        raise OptionError("fresh patches are for clean data alone", "leave out --fresh, or --degradation codec")
    if options.init:
        network.start_from(start_layers(options.init, out))
    if options.teacher:
        for scale in SCALES if options.all_scales else (options.scale,):
            find_teacher(options.teacher, scale, out)
    if resume and (out / "checkpoint.pt").exists():
        check_same(out / "checkpoint.pt", load_checkpoint(out / "checkpoint.pt"), options)


def open_patches(database: Path, options: TrainOptions) -> list[PatchData]:
    """The patches of the options' scale, or of each: those of the others cover the area that those of x2 do."""
    patches = {options.scale: options.patch}
    if options.all_scales:
        patches = {scale: max(4, options.patch * SCALES[0] // scale) for scale in SCALES}
    return [PatchData(database, scale, patch, fresh=options.fresh) for scale, patch in patches.items()]


def set_threads(count: int) -> None:
    """Let torch use `count` threads; results on one thread do not depend on the machine's number of cores."""
    torch.set_num_threads(count)


def run_training(
    options: TrainOptions,
    database: Path,
    out: Path,
    *,
    device: str = "auto",
    save_every: int | None = None,
    **settings: Any,
) -> TrainResult:
    """Train by `options` on a database; `settings` go to `vsr.training.loop.train`.

    device: `auto` takes a GPU where torch finds one. save_every: None saves every 2,000 steps, or in a short training
    six times. Raises `OptionError` for a network NAME-compressed on a clean database.
    """
    if options.network.endswith(COMPRESSED_ENDING) and database_facts(database)[1] != "codec":
        raise OptionError(
            f"network {options.network} is for compressed footage, and {database} holds clean pictures",
            "prepare them with --degradation codec",
        )
    save_every = save_every or min(2000, max(1, options.steps // 6))
    start = start_layers(options.init, out) if options.init else None
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise OptionError("torch finds no GPU here", "use --device cpu")
    patches = open_patches(database, options)
    if options.teacher:
        for data in patches:
            teacher = find_teacher(options.teacher, data.scale, out)
            take_answers(data, teacher, settings.get("say", print), negatives=options.teacher_negatives)
    return train(options, patches, out, start=start, device=device, save_every=save_every, **settings)


def export_paths(path: Path, options: TrainOptions) -> dict[int, Path]:
    """Where the model of each scale goes: `path`, or with all scales in one NAME_x2.onnx, NAME_x3.onnx, NAME_x4.onnx.

    Raises `OptionError` if several would have one name.
    """
    if path.suffix != ".onnx":
        raise OptionError(f"got {path} to export to; a model's name ends in .onnx")
    if not options.all_scales:
        return {options.scale: path}
    stem = path.stem.removesuffix(f"_x{options.scale}")
    return {scale: path.with_name(f"{stem}_x{scale}.onnx") for scale in SCALES}


def export_result(
    result: TrainResult, options: TrainOptions, data_sha256: str, path: Path, test_folder: Path | None
) -> dict[Path, dict[str, float]]:
    """Write the models of a finished training; returns their PSNR on the test sets found, in dB, by file."""
    figures = {}
    for scale, target in export_paths(path, options).items():
        result.network.scale = scale
        figures[target] = export_network(result.network, target, data_sha256, test_folder)
    result.network.scale = options.scale
    return figures
