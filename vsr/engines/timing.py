"""How long an engine takes for a picture when it is kept full, as a job keeps it."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vsr.engines.engine import Engine, Ticket
from vsr.frame import Planes


@dataclass(frozen=True)
class PictureTime:
    """What one picture costs, on average.

    Attributes:
        ms: wall milliseconds.
        cpu_ms: of the processor, all threads of this process together.
    """

    ms: float
    cpu_ms: float


@dataclass(frozen=True)
class Parts:
    """Milliseconds of a picture's parts by the device's own clock, one picture at a time.

    Attributes:
        upload_ms: to the device.
        compute_ms: on it.
        download_ms: back.
    """

    upload_ms: float
    compute_ms: float
    download_ms: float


@runtime_checkable
class PartedEngine(Protocol):
    """An engine that can say where a picture's time goes."""

    def parts(self, planes: Planes, pictures: int) -> Parts:
        """Means over `pictures` runs; nothing else may be in flight.

        Raises:
            BackendError: the runtime failed.
        """


def time_engine(engine: Engine, planes: Planes, *, seconds: float = 0.0, pictures: int = 1) -> PictureTime:
    """Enlarge `planes` again and again, with as many tickets outstanding as the engine takes.

    Args:
        engine: compiled for such pictures; the caller warms it up.
        planes: one picture.
        seconds: for at least as long.
        pictures: at least as many; never fewer than the engine takes at once.

    Raises:
        BackendError: the runtime failed.
    """
    waiting: deque[Ticket] = deque()
    count, least = 0, max(pictures, engine.depth)
    wall, cpu = time.perf_counter(), time.process_time()
    while count < least or time.perf_counter() - wall < seconds:
        if len(waiting) == engine.depth:
            waiting.popleft().result()
        waiting.append(engine.submit(planes))
        count += 1
    while waiting:
        waiting.popleft().result()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return PictureTime(wall / count * 1000, cpu / count * 1000)
