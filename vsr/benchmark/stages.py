"""Each stage of a job alone, the job whole, and how near the whole comes to what the stages alone allow.

The stages share the processor's cores, so the least wall time is the sum of their CPU seconds over the cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from vsr.enlarged import enlarged_info, frame_bytes, wanted_size
from vsr.frame import Frame
from vsr.job import upscale
from vsr.options import UpscaleOptions
from vsr.pipeline import Pipeline
from vsr.processor import usable_cores
from vsr.sink import Sink
from vsr.siting import arithmetic_color
from vsr.source import Source
from vsr.writing.containers import container_of
from vsr.writing.encoders import plan_encoder

KEPT_BYTES: Final = 256 << 20  # of pictures held ready for the stage that is measured
DEPTH: Final = 4
NULL: Final = "null"
"""The name of the encoder that is none: frames are dropped when they are enlarged."""


@dataclass(frozen=True)
class StageFigure:
    """A stage alone, or all of them together.

    Attributes:
        name: decode, upscale, encode, read back or job.
        frames: that it handled.
        wall_s: seconds it took.
        cpu_s: seconds of the processor, all threads together.
    """

    name: str
    frames: int
    wall_s: float
    cpu_s: float

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.frames / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of the processor a frame."""
        return self.cpu_s / self.frames * 1000


def limit_fps(stages: list[StageFigure]) -> float:
    """Frames a second if all cores did nothing but the stages' own work."""
    return usable_cores() * 1000 / sum(stage.cpu_ms for stage in stages)


def measure_stages(clip: Path, out: Path, options: UpscaleOptions, frames: int) -> list[StageFigure]:
    """Decode, enlarge, encode and read back alone, one after the other, on what memory holds; not the last two if the
    encoder is `null`.

    Args:
        clip: a video.
        out: where the encoder may write; its suffix names the container.
        options: of the job.
        frames: how many each stage handles.

    Raises:
        VsrError: as a job.
    """
    with closing(Source(clip)) as source:
        info = source.info
        pictures: list[Frame] = []
        size = wanted_size(options.size_request(), info)
        room = max(1, KEPT_BYTES // frame_bytes(replace(info, width=size.width, height=size.height)))

        def decode() -> Iterator[Frame]:
            for frame in islice(source.frames(), frames):
                if len(pictures) < room:
                    pictures.append(frame)
                yield frame

        decoded = _timed("decode", decode)
    color = arithmetic_color(info)
    with options.upscaler(reuse=options.reuse) as upscaler:
        upscaler.prepare(info.format, color, info.width, info.height)
        large: list[Frame] = []

        def enlarge() -> Iterator[Frame]:
            for frame in upscaler.stream(_again(pictures, frames), color):
                if len(large) < len(pictures):
                    large.append(frame)
                yield frame

        enlarged = _timed("upscale", enlarge)
    if options.encoder == NULL:
        return [decoded, enlarged]
    container = container_of(out)
    plan = plan_encoder(container, info.format, size.width, size.height, options.encoder_request())
    sink = Sink(out, container, enlarged_info(info, size, plan, container), plan, None, threads=options.threads)
    try:
        encoded = _timed("encode", lambda: sink.consume(_again(large, frames)))
        cpu, wall = time.process_time(), time.perf_counter()
        sink.publish()
        read = StageFigure("read back", frames, time.perf_counter() - wall, time.process_time() - cpu)
    finally:
        sink.discard()
    out.unlink()
    return [decoded, enlarged, encoded, read]


def measure_job(clip: Path, out: Path, options: UpscaleOptions, frames: int) -> StageFigure:
    """The whole job in this process, start-up of the engine included; without an encoder: decode and enlarge only."""
    cpu, wall = time.process_time(), time.perf_counter()
    if options.encoder == NULL:
        done = _without_encoder(clip, options, frames)
    else:
        done = upscale(clip, out, options.scale, **_others(options)).frames_out
        out.unlink()
    return StageFigure("job", done, time.perf_counter() - wall, time.process_time() - cpu)


def _others(options: UpscaleOptions) -> dict[str, Any]:
    return {name: value for name, value in vars(replace(options, overwrite=True)).items() if name != "scale"}


def _without_encoder(clip: Path, options: UpscaleOptions, frames: int) -> int:
    with closing(Source(clip)) as source, options.upscaler(reuse=options.reuse) as upscaler:
        info, color = source.info, arithmetic_color(source.info)
        upscaler.prepare(info.format, color, info.width, info.height)

        def decode(_: Iterator[Any]) -> Iterator[Any]:
            yield from islice(source.frames(), frames)

        def enlarge(pictures: Iterator[Any]) -> Iterator[Any]:
            return upscaler.stream(pictures, color)

        return sum(1 for _ in Pipeline([("decode", decode), ("upscale", enlarge)], DEPTH).run())


def _again(pictures: list[Frame], count: int) -> Iterator[Frame]:
    """`count` frames out of fewer pictures, at times that go on; to and fro, so that neighbours stay alike."""
    step = pictures[1].pts - pictures[0].pts if len(pictures) > 1 else 1
    turn = max(1, 2 * len(pictures) - 2)
    for number in range(count):
        place = number % turn
        frame = pictures[min(place, turn - place)]
        yield replace(frame, pts=pictures[0].pts + number * step)


def _timed(name: str, work: Callable[[], Iterator[Any]]) -> StageFigure:
    cpu, wall = time.process_time(), time.perf_counter()
    count = sum(1 for _ in work())
    return StageFigure(name, count, time.perf_counter() - wall, time.process_time() - cpu)
