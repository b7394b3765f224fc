"""Checkpoints and the log of a training: written so that the last good ones survive whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from vsr.errors import TrainingError
from vsr.networks import create
from vsr.networks.base import LumaNetwork


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint: under a temporary name, made durable, then renamed. Raises `TrainingError`."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as exc:  # torch reports a full disk as a RuntimeError
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise TrainingError(
            f"cannot save the checkpoint {path}: {exc}",
            "the last good checkpoint is untouched: make room, --resume",
        ) from exc


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint file. Raises `TrainingError` when it is not one."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch raises a dozen kinds for a file that is not its own
        raise TrainingError(
            f"cannot read the checkpoint {path}: {str(exc) or type(exc).__name__}".splitlines()[0]
        ) from exc
    if not isinstance(state, dict) or "averaged" not in state or "options" not in state:
        raise TrainingError(f"{path} is not a checkpoint of this project")
    return state


def checkpoint_network(path: Path) -> LumaNetwork:
    """The network of a checkpoint with its averaged weights, which are the ones to measure and ship.

    Raises `TrainingError` when it is none, or its network has other layers now.
    """
    state = load_checkpoint(path)
    network = create(state["options"]["network"], state["options"]["scale"])
    check_layers(path, state, network)
    network.load_state_dict(state["averaged"])
    return network


def layers(network: LumaNetwork) -> list[str]:
    """What a checkpoint holds of a network's layout: weights fit whatever the activations are."""
    return [f"{plan.inputs}-{plan.outputs}-{plan.kernel}-{plan.activation}" for plan in network.plans]


def check_layers(path: Path, state: dict[str, Any], network: LumaNetwork) -> None:
    """See that a checkpoint is of the layers that its network has now. Raises `TrainingError`."""
    if state.get("layers") != layers(network):
        raise TrainingError(
            f"{path} is of a network {network.name} with other layers than it has in this version",
            "train it anew, or start from the model that was exported of it",
        )


def read_log(path: Path, last_step: int | None = None) -> list[dict[str, Any]]:
    """The entries of a log up to `last_step`; a line cut short by a kill is left out."""
    entries = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            if last_step is None or entry["step"] <= last_step:
                entries.append(entry)
    return entries


def cut_log(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop what the log says of steps after `step`, which are about to be made again; returns what is left."""
    entries = read_log(path, step)
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    return entries


def append_log(path: Path, entry: dict[str, Any]) -> None:
    """Add an entry. Raises `TrainingError` when it cannot be written."""
    try:
        with path.open("a") as log:
            log.write(json.dumps(entry) + "\n")
    except OSError as exc:
        raise TrainingError(
            f"cannot write the log {path}: {exc.strerror or exc}",
            "the last checkpoint is untouched: make room, --resume",
        ) from exc
