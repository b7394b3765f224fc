"""How far the building of an engine has come: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

LINE_SECONDS = 10.0  # between two lines where there is no terminal


class BuildBar:
    """Told of shares from 0 to 1, it shows them on standard error; the bar goes when the engine is there.

    Args:
        plain: whether there is no terminal to draw on.
    """

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain
        self._bar: Any = None
        self._last_line = time.monotonic()

    def show(self, share: float) -> None:
        """Show that `share` of the engine is built."""
        if self._plain:
            now = time.monotonic()
            if now - self._last_line >= LINE_SECONDS:
                self._last_line = now
                click.echo(f"vsr: {share:.0%} of the engine is built", err=True)
            return
        if self._bar is None:
            from tqdm import tqdm

            form = "building the engine {percentage:3.0f}%|{bar}| {elapsed}"
            self._bar = tqdm(total=1.0, leave=False, dynamic_ncols=True, file=sys.stderr, bar_format=form)
        self._bar.update(share - self._bar.n)
        if share >= 1:
            self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
