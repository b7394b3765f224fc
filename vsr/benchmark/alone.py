"""Networks alone: this project's engine beside other runtimes, and what a megapixel costs at each size.

The other runtimes get float luma and return float luma, all cores theirs, and nothing else to do. The engine gets the
planes of 4:2:0 pictures and returns such planes, chroma and rounding included. A runtime is a process of its own, for
its idle threads may spin: `python -m vsr.benchmark.alone RUNTIME MODEL WIDTH HEIGHT SECONDS` prints milliseconds.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from vsr.benchmark.engines import measure_engine
from vsr.benchmark.loops import NETWORKS, PACKAGES
from vsr.errors import VsrError
from vsr.model import load_model

TITLES: Final = {"onnxruntime": "ONNX Runtime", "opencv": "OpenCV dnn"}


@dataclass(frozen=True)
class AloneFigure:
    """One network in one runtime.

    Attributes:
        name: runtime, model and precision.
        ms: wall milliseconds a picture, median of the turns.
        ratio: what the engine takes for the same model in int8 beside it, median of the turns; 1 for itself.
    """

    name: str
    ms: float
    ratio: float


@dataclass(frozen=True)
class SizeFigure:
    """The engine at one size.

    Attributes:
        width, height: of the input.
        ms: wall milliseconds a picture, median of the turns.
    """

    width: int
    height: int
    ms: float

    @property
    def ms_per_megapixel(self) -> float:
        """Of the input's pixels."""
        return self.ms / (self.width * self.height / 1e6)


def measure_beside(
    pairs: Sequence[tuple[str, str]],
    scale: int,
    size: tuple[int, int],
    rounds: int,
    seconds: float,
    say: Callable[[str], None] = lambda _: None,
) -> list[AloneFigure]:
    """The engine in int8 and each (runtime, model) of `pairs` in fp32, by turns; runtimes not installed are left out.

    Raises:
        VsrError: a runtime failed.
    """
    found = [(runtime, model) for runtime, model in pairs if importlib.util.find_spec(PACKAGES[runtime]) is not None]
    times: dict[str, list[float]] = {}
    beside: dict[str, str] = {}
    with TemporaryDirectory(prefix="vsr-bench-") as folder:
        for turn in range(rounds):
            for model in dict.fromkeys(model for _, model in pairs):
                say(f"networks alone, round {turn + 1} of {rounds}: {model}")
                own = f"vsr {model} int8"
                times.setdefault(own, []).append(measure_engine(model, scale, "int8", size, seconds=seconds).ms)
                beside[own] = own
                for runtime in (r for r, m in found if m == model):
                    file = Path(folder) / f"{model}.onnx"
                    file.write_bytes(load_model(model, scale).onnx_bytes)
                    name = f"{TITLES[runtime]} {model} fp32"
                    times.setdefault(name, []).append(_in_a_process(runtime, file, size, seconds))
                    beside[name] = own
    return [
        AloneFigure(
            name,
            statistics.median(own),
            statistics.median(ours / ms for ours, ms in zip(times[beside[name]], own, strict=True)),
        )
        for name, own in times.items()
    ]


def measure_sizes(
    model: str, scale: int, precision: str, sizes: Sequence[tuple[int, int]], rounds: int, seconds: float
) -> list[SizeFigure]:
    """The engine at each of the `sizes` (width, height), by turns."""
    times: dict[tuple[int, int], list[float]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size, own in times.items():
            own.append(measure_engine(model, scale, precision, size, seconds=seconds).ms)
    return [SizeFigure(*size, statistics.median(own)) for size, own in times.items()]


def time_network(runtime: str, model: Path, width: int, height: int, seconds: float) -> float:
    """Milliseconds a picture of the network in `model`, over about `seconds`."""
    network = NETWORKS[runtime](model)
    luma = np.random.default_rng(0).random((1, 1, height, width), np.float32)
    network(luma)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        network(luma)
        count += 1
    return (time.perf_counter() - start) / count * 1000


def _in_a_process(runtime: str, model: Path, size: tuple[int, int], seconds: float) -> float:
    command = [sys.executable, "-m", "vsr.benchmark.alone", runtime, str(model), *map(str, size), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise VsrError(f"{TITLES[runtime]} ended with exit code {done.returncode}: {last}")
    return float(done.stdout)


def main() -> None:
    """Time one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runtime", choices=sorted(NETWORKS))
    parser.add_argument("model", type=Path)
    parser.add_argument("width", type=int)
    parser.add_argument("height", type=int)
    parser.add_argument("seconds", type=float)
    given = parser.parse_args()
    print(time_network(given.runtime, given.model, given.width, given.height, given.seconds))


if __name__ == "__main__":
    main()
