"""Whole processes beside each other: this one, and what people use instead, on the same clip with the same encoder.

The commands take turns (A B C A B C …), so that a machine whose speed drifts treats them alike; quote the ratios.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vsr.benchmark.loops import PACKAGES
from vsr.errors import VsrError

# The encoders that peers are run with, as libavcodec calls them; all take a preset and a crf.
IN_FFMPEG: Final = {"x264": "libx264", "x265": "libx265", "svtav1": "libsvtav1"}
WARMING_FRAMES: Final = 8
SLOW_PIXELS: Final = 400_000  # of the input, for a command that takes 20 seconds for a million
NO_BYTECODE: Final = "PYTHONDONTWRITEBYTECODE"
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
        beside_baseline: its wall time a frame over that of the first command, median over the rounds.
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


@dataclass(frozen=True)
class Command:
    """A process that does the whole job.

    Attributes:
        words: of its command line, but for the last.
        limit: options that go before the last word, to have it do a few frames only.
        last: word of the command line.
        only: frames that the words limit it to, and it runs once then; 0 for a command that does them all.
    """

    words: tuple[str, ...]
    limit: tuple[str, ...]
    last: str
    only: int = 0

    def line(self, *, few: bool = False) -> list[str]:
        """The whole command line; with `few`, for `WARMING_FRAMES` frames."""
        return [*self.words, *(self.limit if few else ()), self.last]


@dataclass(frozen=True)
class Encoding:
    """How the result is encoded, by everyone alike.

    Attributes:
        encoder: a name in `IN_FFMPEG`.
        preset: as libavcodec takes it.
        crf: likewise.
    """

    encoder: str
    preset: str
    crf: float

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """For libavcodec."""
        return ("preset", self.preset), ("crf", f"{self.crf:g}")


def ffmpeg_command(clip: Path, out: Path, scale: int, encoding: Encoding) -> Command | None:
    """`ffmpeg` with a Lanczos filter; None where it is not installed or lacks the encoder."""
    program, codec = shutil.which("ffmpeg"), IN_FFMPEG[encoding.encoder]
    if program is None or codec not in _said(program, "-encoders"):
        return None
    scaler = f"scale=iw*{scale}:ih*{scale}:flags=lanczos"
    encode = [word for name, value in encoding.options for word in (f"-{name}", value)]
    words = (program, "-y", "-v", "error", "-i", str(clip), "-vf", scaler, "-c:v", codec, *encode)
    return Command(words, ("-frames:v", str(WARMING_FRAMES)), str(out))


def sr_command(model: Path, clip: Path, out: Path, size: tuple[int, int], encoding: Encoding) -> Command | None:
    """`ffmpeg` with its filter `sr`, a network in FFmpeg's own code; None where that is not there.

    Args:
        model: as `native_model.native_model` writes it.
        clip, out: input and output.
        size: of the input's pictures, of which `SLOW_PIXELS` are enlarged, one picture at least.
        encoding: of the output.
    """
    program, codec = shutil.which("ffmpeg"), IN_FFMPEG[encoding.encoder]
    if program is None or codec not in _said(program, "-encoders"):
        return None
    if re.search(r"\bnative\b", _said(program, "-h", "filter=sr")) is None:
        return None
    encode = [word for name, value in encoding.options for word in (f"-{name}", value)]
    frames = max(1, SLOW_PIXELS // (size[0] * size[1]))
    network = ("-vf", f"sr=dnn_backend=native:model={model}", "-frames:v", str(frames))
    words = (program, "-y", "-v", "error", "-i", str(clip), *network, "-c:v", codec, *encode)
    return Command(words, (), str(out), frames)


def loop_command(runtime: str, model: Path, clip: Path, out: Path, scale: int, encoding: Encoding) -> Command | None:
    """A loop of `vsr.benchmark.loops` around an ONNX file; None where its runtime is not installed."""
    if importlib.util.find_spec(PACKAGES[runtime]) is None:
        return None
    options = [word for name, value in encoding.options for word in ("--option", f"{name}={value}")]
    settings = ("--scale", str(scale), "--codec", IN_FFMPEG[encoding.encoder], *options)
    words = (sys.executable, "-m", "vsr.benchmark.loops", *settings, runtime, str(model), str(clip))
    return Command(words, ("--frames", str(WARMING_FRAMES)), str(out))


def vsr_command(clip: Path, out: Path, scale: int, options: Sequence[str]) -> Command:
    """This program as a process of its own."""
    words = (sys.executable, "-m", "vsr", "upscale", str(clip), "-s", str(scale), "-y", "-q", *options)
    return Command(words, ("--frames", str(WARMING_FRAMES)), f"--output={out}")


def _said(program: str, *options: str) -> str:
    return subprocess.run([program, "-v", "error", *options], capture_output=True, text=True, check=False).stdout


def race(
    commands: Mapping[str, Command], frames: int, rounds: int, say: Callable[[str], None] = lambda _: None
) -> list[ProcessFigure]:
    """Run `commands` by turns, `rounds` times after one turn of a few frames that warms the caches.

    Raises:
        VsrError: one of them failed.
    """
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            if command.only and turn != 1:
                continue
            say(f"round {turn} of {rounds}: {name}" if turn else f"warming up: {name}")
            used = _run(name, command.line(few=not turn))
            if turn:
                runs[name].append(used)
    first = next(iter(runs.values()))
    figures = []
    for name, own in runs.items():
        wall, cpu, rss = (statistics.median(run[i] for run in own) for i in range(3))
        count = commands[name].only or frames
        beside = statistics.median(run[0] / base[0] for run, base in zip(own, first, strict=False)) * frames / count
        figures.append(ProcessFigure(name, count, wall, cpu, rss, beside))
    return figures


def _run(name: str, command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and largest resident set in MiB."""
    # Installed programs have their bytecode; a checkout gets it in the first turn, even where it is not wanted else.
    environment = {name: value for name, value in os.environ.items() if name != NO_BYTECODE}
    start = time.perf_counter()
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=errors, stderr=errors, env=environment) as process,
    ):
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
