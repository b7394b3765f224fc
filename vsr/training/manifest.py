"""The manifest of the shipped models, `zoo.json` beside this file: how each was made, and what it reached.

For each its stages (options of the training loop, where the stage started from, minutes, result), the hash of the
data, its figures, and, where they are not the usual ones, the options of its int8 form.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vsr.training.loop import TrainOptions
from vsr.training.quantise import QuantiseOptions

MANIFEST: Final = Path(__file__).with_name("zoo.json")


@dataclass(frozen=True)
class Stage:
    """One training, and how its data are made: see `shrink` and `dead_leaves` of `vsr.training.prepare`."""

    options: TrainOptions
    shrink: str
    dead_leaves: float


def manifest() -> dict[str, Any]:
    """The manifest: {"espcn_x3": {"stages": […], …}, …}."""
    entries: dict[str, Any] = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    return entries


def manifest_stages(network: str, scale: int, entry: dict[str, Any]) -> list[Stage]:
    """The stages of a manifest's entry.

    One of another layout than the network's, an earlier one or one whose kernels are tied, names it.
    """
    return [
        Stage(
            TrainOptions(**{"network": network, "scale": scale, **stage["options"]}),
            stage["shrink"],
            stage.get("dead_leaves", 0.0),
        )
        for stage in entry["stages"]
    ]


def manifest_int8(entry: dict[str, Any]) -> QuantiseOptions:
    """How the int8 form of a manifest's entry is made; of an empty entry, as usual."""
    return QuantiseOptions(**entry.get("int8", {}))
