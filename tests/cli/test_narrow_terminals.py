"""Commands in a terminal of forty columns, and what goes into a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command import VSR
from vsr import doctor
from vsr.doctor import Finding

Clip = Callable[..., Path]
Run = Callable[..., Any]


def too_wide(text: str, width: int) -> list[str]:
    """Lines that stick out, though they could have been broken."""
    return [line for line in text.splitlines() if len(line) > width and len(line.split()) > 1]


@pytest.fixture
def forty(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", "40")
    return 40


def test_findings_hang_below_their_names(run: Run, forty: int, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [Finding("gpu", "NVIDIA", False, "no driver found; a GPU is optional, the CPU does all")]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    fits = "gpu:\n  missing NVIDIA: no driver found; a GPU\n          is optional, the CPU does all\n"
    assert run("doctor").out == fits
    monkeypatch.delenv("COLUMNS")
    assert run("doctor").out == f"gpu:\n  missing NVIDIA: {findings[0].detail}\n", "whole lines go into a pipe"


def test_every_model_keeps_its_figures_in_forty_columns(run: Run, forty: int, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = run("models").out
    assert too_wide(narrow, forty) == []
    text = " ".join(narrow.split())
    monkeypatch.delenv("COLUMNS")
    *table, first, second = run("models").out.splitlines()
    heads, *rows = (re.split("  +", line) for line in table)
    assert len(rows) > 1
    for name, *cells in rows:  # as a list: the same cells, each after its column's head
        facts = ", ".join(
            f"{head} {cell}".strip() for head, cell in zip_longest(heads[1:], cells, fillvalue="") if cell
        )
        assert f"{name} {facts}" in text
    assert text.endswith(f"{first} {second}")


def test_facts_and_proofs_fit_into_forty_columns(run: Run, clip: Clip, forty: int) -> None:
    path = clip("v.mkv", audio="aac", chapters=True, metadata={"title": "A film whose title is longer than a line is"})
    done = run("info", path)
    assert done.code == 0
    assert too_wide(done.out, forty) == []
    assert "A film whose title is longer" in " ".join(done.out.split())
    done = run("verify", path, clip("w.mkv", frames=5))
    assert done.code == 1
    assert "DIFFERS" in done.out
    assert too_wide(done.out, forty) == []


def test_a_benchmark_fits_into_forty_columns(run: Run, forty: int) -> None:
    done = run(
        *("bench", "--size", "32x32", "-s", 2, "-m", "bicubic", "--only", "engines", "--seconds", 0.01, "--rounds", 1),
        "-q",
    )
    assert done.code == 0
    assert too_wide(done.out, forty) == []
    assert "bicubic fp32" in done.out


def test_the_terminal_itself_says_how_wide_it_is_and_no_colour_goes_there() -> None:
    leader, follower = pty.openpty()
    try:
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")} | {"NO_COLOR": "1"}
        subprocess.run([*VSR, "models"], stdout=follower, stdin=follower, check=True, env=environment)
        os.set_blocking(leader, False)
        text = os.read(leader, 1 << 16).decode()
    finally:
        os.close(leader)
        os.close(follower)
    assert "fast" in text
    assert "\x1b" not in text
    assert too_wide(text, 40) == []
