"""VMAF and VMAF-NEG, by the ffmpeg command where it has libvmaf (PyAV's FFmpeg has not).

One stream goes to ffmpeg through a pipe: each picture with its original beneath it, which the filter graph cuts apart
again. With two pipes one side could wait for the other forever; with files a long video would fill the disk.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from vsr.errors import BackendError
from vsr.frame import Plane

MODELS: Final = {"vmaf": "vmaf_v0.6.1", "vmaf_neg": "vmaf_v0.6.1neg"}
MISSING: Final = "no VMAF: the ffmpeg command on PATH is missing or has no libvmaf (Debian's has none)"


@dataclass(frozen=True)
class Vmaf:
    """Means over the frames; higher is better, 100 is transparent.

    `neg` (no enhancement gain) does not count sharpening and contrast as quality, which plain VMAF does.
    """

    vmaf: float
    neg: float


@cache
def ffmpeg_with_vmaf() -> str | None:
    """The ffmpeg command of PATH if its build has the filter libvmaf, else None."""
    command = shutil.which("ffmpeg")
    if command is None:
        return None
    try:
        done = subprocess.run([command, "-hide_banner", "-filters"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return command if " libvmaf " in done.stdout else None


class VmafMeter:
    """Measures pictures given one after the other.

    Args:
        command: of an ffmpeg with libvmaf.
        bits: of a sample.
    """

    def __init__(self, command: str, bits: int = 8) -> None:
        self._command = command
        self._bits = bits
        self._size: tuple[int, int] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="vsr-vmaf-")

    def add(self, truth: Plane, picture: Plane) -> None:
        """Measure one picture; both [H, W], of one shape and type. An odd last row or column is left out.

        Raises:
            BackendError: ffmpeg has ended.
        """
        height, width = (n & ~1 for n in truth.shape)
        if self._process is None:
            self._size = (width, height)
            self._process = self._start(width, height)
        both = np.concatenate([picture[:height, :width], truth[:height, :width]])
        grey = np.full((height, width), 1 << (self._bits - 1), both.dtype)  # both chroma planes: VMAF looks at luma
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(both).tobytes() + grey.tobytes())
        except OSError as exc:
            raise BackendError(f"ffmpeg ended while measuring VMAF: {self._errors()}") from exc

    def result(self) -> Vmaf:
        """End the measurement.

        Raises:
            BackendError: ffmpeg failed, or nothing was added.
        """
        process = self._process
        if process is None:
            raise BackendError("VMAF of no pictures")
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        if process.wait() != 0:
            raise BackendError(f"ffmpeg cannot measure VMAF: {self._errors()}")
        pooled = json.loads((Path(self._folder.name) / "log.json").read_text())["pooled_metrics"]
        return Vmaf(*(float(pooled[name]["mean"]) for name in MODELS))

    def close(self) -> None:
        """Stop ffmpeg if it still runs, and delete what it wrote."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.wait()
        self._folder.cleanup()

    def _start(self, width: int, height: int) -> subprocess.Popen[bytes]:
        pixels = "yuv420p" if self._bits == 8 else f"yuv420p{self._bits}le"
        models = "|".join(rf"version={version}\\:name={name}" for name, version in MODELS.items())
        cut = f"crop=iw:{height}:0"
        halves = f"split[a][b];[a]{cut}:0[d];[b]{cut}:{height}[r]"
        graph = f"{halves};[d][r]libvmaf=log_fmt=json:log_path=log.json:model={models}"
        arguments = ["-f", "rawvideo", "-pix_fmt", pixels, "-s", f"{width}x{2 * height}", "-r", "25", "-i", "pipe:0"]
        with (Path(self._folder.name) / "errors").open("wb") as errors:
            return subprocess.Popen(
                [self._command, "-hide_banner", "-v", "error", *arguments, "-lavfi", graph, "-f", "null", "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=self._folder.name,  # so that no path needs escaping in the filter graph
            )

    def _errors(self) -> str:
        lines = (Path(self._folder.name) / "errors").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it says nothing"
