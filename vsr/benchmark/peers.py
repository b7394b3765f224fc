"""Whole processes beside each other: this one, and what people use instead, on the same clip with the same encoder.

The commands take turns (A B C A B C …), so that a machine whose speed drifts treats them alike; quote the ratios.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vsr.errors import VsrError

# The encoders that ffmpeg has too: its name of them, and how it is told the preset and the quality.
IN_FFMPEG: Final = {
    "x264": ("libx264", "-preset", "-crf"),
    "x265": ("libx265", "-preset", "-crf"),
    "svtav1": ("libsvtav1", "-preset", "-crf"),
}
POLL_S: Final = 0.005
BASELINE: Final = "ffmpeg lanczos"


@dataclass(frozen=True)
class ProcessFigure:
    """Medians of a command's runs, start-up included.

    Attributes:
        name: what was run.
        frames: that it wrote.
        wall_s: seconds.
        cpu_s: seconds of the processor, all threads together.
        rss_mib: largest resident set.
        beside_baseline: its wall time over that of the first command, median over the rounds.
    """

    name: str
    frames: int
    wall_s: float
    cpu_s: float
    rss_mib: float
    beside_baseline: float

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.frames / self.wall_s


def ffmpeg_command(clip: Path, out: Path, scale: int, encoder: str, preset: str, crf: float) -> list[str] | None:
    """What `ffmpeg` is asked for the same job with a Lanczos filter; None where it is not installed or cannot."""
    program = shutil.which("ffmpeg")
    if program is None or encoder not in IN_FFMPEG:
        return None
    codec, preset_option, crf_option = IN_FFMPEG[encoder]
    encoders = subprocess.run([program, "-v", "error", "-encoders"], capture_output=True, text=True, check=False).stdout
    if codec not in encoders:
        return None
    scaler = f"scale=iw*{scale}:ih*{scale}:flags=lanczos"
    encode = ["-c:v", codec, preset_option, preset, crf_option, f"{crf:g}"]
    return [program, "-y", "-v", "error", "-i", str(clip), "-vf", scaler, *encode, str(out)]


def vsr_command(clip: Path, out: Path, scale: int, options: Sequence[str]) -> list[str]:
    """This program as a process of its own."""
    return [sys.executable, "-m", "vsr", "upscale", str(clip), "-s", str(scale), "-o", str(out), "-y", "-q", *options]


def race(
    commands: dict[str, list[str]], frames: int, rounds: int, say: Callable[[str], None] = lambda _: None
) -> list[ProcessFigure]:
    """Run `commands` by turns, `rounds` times after one turn that warms the caches.

    Raises:
        VsrError: one of them failed.
    """
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            say(f"round {turn} of {rounds}: {name}" if turn else f"warming up: {name}")
            used = _run(name, command)
            if turn:
                runs[name].append(used)
    first = next(iter(runs.values()))
    figures = []
    for name, own in runs.items():
        wall, cpu, rss = (statistics.median(run[i] for run in own) for i in range(3))
        beside = statistics.median(run[0] / base[0] for run, base in zip(own, first, strict=True))
        figures.append(ProcessFigure(name, frames, wall, cpu, rss, beside))
    return figures


def _run(name: str, command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and largest resident set in MiB."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as errors, subprocess.Popen(command, stdout=errors, stderr=errors) as process:
        largest, ended = 0.0, 0
        while not ended:
            largest = max(largest, _high_water_mib(process.pid))
            time.sleep(POLL_S)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    if process.returncode:
        last = (text.strip().splitlines() or ["it said nothing"])[-1]
        raise VsrError(f"{name} ended with exit code {process.returncode}: {last}")
    return wall, usage.ru_utime + usage.ru_stime, largest


def _high_water_mib(pid: int) -> float:
    """The largest resident set so far; the usage that the system gives in the end counts this process's own too."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    return int(found.group(1)) / 1024 if found else 0.0
