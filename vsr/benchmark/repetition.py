"""What conditional replenishment saves, and whether its bits differ: content that repeats itself, with and without."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vsr.benchmark.clip import CONTENTS, make_clip
from vsr.errors import BackendError
from vsr.frame import ColorSpec, Frame
from vsr.siting import arithmetic_color
from vsr.source import Source
from vsr.upscaler import Upscaler


@dataclass(frozen=True)
class RepetitionFigure:
    """One content through the engine, decoded before and not encoded afterwards.

    Attributes:
        content: as `vsr.benchmark.clip.make_clip` calls it.
        frames: in it.
        whole_ms: wall milliseconds a frame when every frame is computed whole.
        reused_ms: when what has not changed is taken from the frame before.
        ratio: of the second to the first, median of the turns.
        cpu_ratio: of the processor's time, likewise.
        reused: share of the computation that was spared, 0 to 1.
    """

    content: str
    frames: int
    whole_ms: float
    reused_ms: float
    ratio: float
    cpu_ratio: float
    reused: float


def measure_repetition(
    model: str,
    scale: int,
    precision: str,
    size: tuple[int, int],
    frames: int,
    rounds: int,
    say: Callable[[str], None] = lambda _: None,
) -> list[RepetitionFigure]:
    """Each of `CONTENTS`, `frames` long, by turns without and with reuse.

    Raises:
        BackendError: a sample differs between the two.
        VsrError: as `Upscaler`.
    """
    figures = []
    with TemporaryDirectory(prefix="vsr-bench-") as folder:
        for content in CONTENTS:
            say(f"content that repeats itself: {content}")
            clip = Path(folder) / f"{content}.mp4"
            make_clip(clip, *size, frames, content)
            with closing(Source(clip)) as source:
                color = arithmetic_color(source.info)
                pictures = list(islice(source.frames(), frames))
            figures.append(_measure(content, pictures, color, rounds, model, scale, precision))
    return figures


def _measure(
    content: str, pictures: list[Frame], color: ColorSpec, rounds: int, model: str, scale: int, precision: str
) -> RepetitionFigure:
    def upscaler(*, reuse: bool) -> Upscaler:
        return Upscaler(scale, model, precision=precision, reuse=reuse)

    with upscaler(reuse=False) as whole, upscaler(reuse=True) as reusing:
        _compare(content, whole.stream(pictures, color), reusing.stream(pictures, color))
        turns = [(_timed(whole, pictures, color), _timed(reusing, pictures, color)) for _ in range(rounds)]
        reused = reusing.reused
    count = len(pictures)
    return RepetitionFigure(
        content,
        count,
        statistics.median(one[0] for one, _ in turns) / count * 1000,
        statistics.median(other[0] for _, other in turns) / count * 1000,
        statistics.median(other[0] / one[0] for one, other in turns),
        statistics.median(other[1] / one[1] for one, other in turns),
        reused,
    )


def _compare(content: str, one: Iterator[Frame], other: Iterator[Frame]) -> None:
    for number, (a, b) in enumerate(zip(one, other, strict=True)):
        if not all(np.array_equal(x, y) for x, y in zip(a.planes.arrays, b.planes.arrays, strict=True)):
            raise BackendError(f"frame {number} of the content {content} differs when parts of it are reused")


def _timed(upscaler: Upscaler, pictures: list[Frame], color: ColorSpec) -> tuple[float, float]:
    """Seconds of wall and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in upscaler.stream(pictures, color):
        pass
    return time.perf_counter() - wall, time.process_time() - cpu
