"""Standard streams that are closed or full: daemons, cron jobs and full disks give such ones."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clips import frame_count, listing
from tests.end_to_end.command import VSR, assert_one_line, vsr

Clip = Callable[..., Path]
QUICK = ("-s", "2", "-m", "bicubic")


def redirected(redirection: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command under a shell's `redirection` of its standard streams."""
    script = f'exec "$@" {redirection}'
    command = ["sh", "-c", script, "sh", *VSR, *map(os.fspath, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("redirection", ["<&- >&- 2>&-", "2>/dev/full"])
def test_a_job_does_not_need_to_be_heard(redirection: str, clip: Clip, tmp_path: Path) -> None:
    done = redirected(redirection, "upscale", clip("a.mp4", frames=3), *QUICK, "-o", tmp_path / "out.mp4", "-v")
    assert done.returncode == 0, done.stderr
    assert frame_count(tmp_path / "out.mp4") == 3


def test_a_closed_standard_output_is_told(clip: Clip) -> None:
    done = redirected(">&-", "upscale", clip("a.mp4", frames=3), *QUICK, "-o", "-")
    assert done.returncode == 1
    assert done.stderr.startswith("vsr: error: standard output is closed;"), done.stderr


def test_a_full_standard_output_is_told_in_one_line() -> None:
    done = redirected(">/dev/full", "--help")
    assert done.returncode == 1
    assert done.stderr == "vsr: error: standard output cannot be written: No space left on device\n"


def test_standard_input_is_no_input(tmp_path: Path) -> None:
    assert_one_line(vsr("upscale", "-", *QUICK, "-o", tmp_path / "out.mp4"), "standard input", "give a file")
    assert not listing(tmp_path)
