"""The options that say what part of the input is taken, for the command that takes it and the one that checks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

PART_OPTIONS: Final[tuple[tuple[str, dict[str, Any], str], ...]] = (
    ("--start", {"metavar": "T"}, "Begin there: seconds, or [HH:]MM:SS[.fff].  [default: the beginning]"),
    ("--end", {"metavar": "T"}, "Stop there; what begins at T or later is left out.  [default: the end]"),
    ("--duration", {"metavar": "T"}, "How much to take, instead of --end."),
    ("--frames", {"type": int, "metavar": "N"}, "How many frames to take at most.  [default: all]"),
    ("--map", {"metavar": "SPEC", "multiple": True}, "Streams to keep: a:0, s:m:language:eng, -s (all but), …"),
    ("--video-stream", {"type": int, "metavar": "N"}, "Video to upscale, from 0.  [default: default, or largest]"),
)


def part_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the options --start, --end, --duration, --frames, --map and --video-stream."""
    for name, kind, text in reversed(PART_OPTIONS):
        command = click.option(name, **kind, help=text)(command)
    return command


def part_options_of_output(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a command that is told how OUTPUT was made."""
    for name, kind, _ in reversed(PART_OPTIONS):
        command = click.option(name, **kind, help=f"OUTPUT was made with this {name}.")(command)
    return command
