"""The options that say what size the output has, for the commands that make it and that check it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

DEFAULT_SCALE: Final = 3.0


def size_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the options -s, --size, --fit and --square-pixels."""
    for option in reversed(
        (
            click.option(
                "-s",
                "--scale",
                type=float,
                help="Enlargement: 2, 3, 4, 6, 8, 9, 12, 16, or any other number up to 16.  "
                "[default: 3, or what a model of one's own does]",
            ),
            click.option("--size", help="Instead of -s: 1920x1080, 1920x-2, -2x2160, 720p, 4k … 8k, as displayed."),
            click.option(
                "--fit",
                type=click.Choice(["exact", "inside", "stretch"]),
                default="exact",
                help="If WIDTHxHEIGHT is of another shape than the picture: refuse, take what fits inside, or distort.",
            ),
            click.option("--square-pixels", is_flag=True, help="Make samples square that are not (DVD)."),
        )
    ):
        command = option(command)
    return command


def chosen_scale(scale: float | None, size: str | None, model: str | None = None) -> float:
    """The scale asked for, or the default: what a model of the user's own does, else 3.

    Raises:
        click.UsageError: there is a size beside it.
        ModelError: the model is none.
    """
    if scale is not None and size is not None:
        raise click.UsageError("-s and --size contradict each other")
    if scale is None and size is None and model is not None and Path(model).suffix.lower() == ".onnx":
        from vsr.graphs.chain import scales_of

        return float(scales_of(model)[0])
    return DEFAULT_SCALE if scale is None else scale
