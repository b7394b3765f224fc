"""How long models take for a picture, by turns, so that a machine whose speed drifts treats them alike."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import numpy as np

from vsr.engines.timing import time_engine
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes
from vsr.upscaler import Upscaler


def picture_times(
    upscalers: Mapping[str, Upscaler], size: tuple[int, int], rounds: int, pictures: int
) -> dict[str, float]:
    """Milliseconds for one grey picture of `size` (width, height), medians of `rounds`; the upscalers are closed."""
    fmt = PIXEL_FORMATS["gray"]
    noise = np.random.default_rng(0).integers(16, 236, size[::-1], np.uint8)
    planes = Planes((noise,), fmt, *size)
    taken: dict[str, list[float]] = {name: [] for name in upscalers}
    try:
        for number in range(rounds + 1):
            for name, upscaler in upscalers.items():
                engine = upscaler.prepare(fmt, ColorSpec(), *size)
                ms = time_engine(engine, planes, pictures=pictures).ms
                if number:  # the first round warms the caches
                    taken[name].append(ms)
    finally:
        for upscaler in upscalers.values():
            upscaler.close()
    return {name: round(statistics.median(values), 2) for name, values in taken.items()}
