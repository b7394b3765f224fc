"""What a whole process does: its memory, its sockets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clips import ffmpeg
from tests.end_to_end.command import VSR

Clip = Callable[..., Path]

AUDITED = """
import runpy, sys

def report(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "subprocess.", "os.posix_spawn", "os.system")):
        print("AUDIT", event, arguments, file=sys.stderr)

sys.addaudithook(report)
sys.argv = ["vsr", *sys.argv[1:]]
runpy.run_module("vsr", run_name="__main__")
"""


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_nothing_is_sent_anywhere(backend: str, clip: Clip, tmp_path: Path) -> None:
    """No socket is opened, no name looked up and no process started, by us or by a runtime's telemetry."""
    arguments = ("upscale", clip("a.mp4", frames=3), "-s", "2", "-m", "espcn", "--backend", backend)
    home = tmp_path / "home"
    home.mkdir()
    continuous = {"CI", "TF_BUILD", "JENKINS_URL", "GITHUB_ACTIONS"}  # where telemetry would hold its tongue
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, *map(str, arguments), "-o", str(tmp_path / "out.mp4")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**{k: v for k, v in os.environ.items() if k not in continuous}, "HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    assert "AUDIT" not in done.stderr
    assert not (home / "intel").exists()  # where openvino-telemetry keeps its counters


TWO_UPSCALERS = """
import os, signal
import numpy as np
import vsr

picture = np.zeros((8, 8), np.uint8)
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
first = vsr.Upscaler(scale=2, model="espcn")
first.upscale(picture)
second = vsr.Upscaler(scale=2, model="espcn")
second.upscale(picture)
del first
del second
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_survived_after_engines_that_lived_side_by_side() -> None:
    """OpenVINO gives the thread a signal stack of its own, and takes it away when the first of its cores dies."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_UPSCALERS], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def peak_memory(source: Path, result: Path) -> int:
    """Most resident memory of one run, in bytes."""
    command = [*VSR, "upscale", str(source), "-s", "2", "-m", "bicubic", "-q", "-o", str(result)]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    peaks = {}
    for seconds in (6, 60):
        source = tmp_path / f"{seconds}.mkv"
        ffmpeg(
            *("-f", "lavfi", "-i", f"testsrc2=s=160x90:r=25:d={seconds}"),
            *("-f", "lavfi", "-i", f"sine=d={seconds}", "-c:v", "libx264", "-preset", "ultrafast"),
            *("-c:a", "libmp3lame", source),
        )
        peaks[seconds] = peak_memory(source, tmp_path / f"out{seconds}.mkv")
    assert peaks[60] <= 1.1 * peaks[6], {k: v // 2**20 for k, v in peaks.items()}
