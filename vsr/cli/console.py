"""Standard streams as they may be: closed, full, left by their reader, or narrow."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import click

FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
STANDARD_OUTPUT: Final = 1
STANDARD_ERROR: Final = 2
LEAST_WIDTH: Final = 20  # of what is laid out; a narrower terminal breaks lines itself


def open_missing_streams() -> None:
    """Put the null device where a standard stream is closed.

    Else the next file to be opened takes its number, and libraries would write their messages into the output.
    `sys.stdout` stays None then, by which it can be told that there is no standard output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  (it lives as long as the process)


@contextmanager
def unless_deaf() -> Iterator[None]:
    """Write to standard error in here; that nobody reads it any more, or its disk is full, is no reason to stop."""
    try:
        yield
    except OSError:
        silence(STANDARD_ERROR)


def say(text: str) -> None:
    """One line on standard error."""
    with unless_deaf():
        click.echo(text, err=True)


def width() -> int | None:
    """Characters in a line of standard output: the variable COLUMNS, or the terminal's; None if it is no terminal."""
    if not os.environ.get("COLUMNS", "").isdigit() and not (sys.stdout is not None and sys.stdout.isatty()):
        return None
    return max(LEAST_WIDTH, shutil.get_terminal_size().columns)


def silence(number: int) -> None:
    """Let what is written to this file descriptor vanish, what is buffered for it included."""
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)


def is_of_standard_output(error: OSError) -> bool:
    """Whether this came of writing to standard output: all files have names, and their errors are translated."""
    return error.filename is None and error.errno in (*FULL_ERRNOS, errno.EPIPE, errno.EIO)
