"""Pictures too large to be computed at once are computed in horizontal strips, with the same result to the last bit.

Each strip is read with a halo of rows that its result depends on, and only the rows that do not depend on its cut edges
are kept. All strips have one size, so that one engine serves them all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vsr.engine import Engine, Ticket, check_planes
from vsr.frame import Plane, Planes
from vsr.graph import FrameGraphSpec


@dataclass(frozen=True)
class Strip:
    """Rows of one strip, in luma samples of the input.

    Attributes:
        start: first row read.
        keep_start: first row whose result is kept.
        keep_stop: the row after the last.
    """

    start: int
    keep_start: int
    keep_stop: int


def plan_strips(height: int, rows: int, halo: int, unit: int) -> tuple[int, list[Strip]]:
    """Cut `height` rows into strips of one size.

    Args:
        height: of the picture.
        rows: that a strip may have at most, halo included.
        halo: rows on each side that a result depends on.
        unit: what strip borders must be multiples of, for subsampled chroma.

    Returns:
        The rows of each strip, and the strips, whose kept rows cover the picture once.

    Raises:
        ValueError: `rows` leaves nothing beside the halo.
    """
    halo = -(-halo // unit) * unit
    if height <= rows:
        return height, [Strip(0, 0, height)]
    core = (rows - 2 * halo) // unit * unit - unit
    if core < unit:
        raise ValueError(f"{rows} rows with a halo of {halo}")
    size = core + 2 * halo
    size += (height - size) % unit  # so that the last strip begins at a multiple of the unit too
    strips = []
    for keep_start in range(0, height, core):
        keep_stop = min(height, keep_start + core)
        start = min(max(0, keep_start - halo), height - size)
        strips.append(Strip(start, keep_start, keep_stop))
    return size, strips


class StripEngine:
    """An engine that computes each picture strip by strip through another one."""

    def __init__(self, inner: Engine, graph: FrameGraphSpec, size: int, strips: list[Strip]) -> None:
        self._inner = inner
        self._graph = graph
        self._size = size
        self._strips = strips
        self.description = f"{inner.description}, in {len(strips)} strips"

    @property
    def depth(self) -> int:
        """One picture at a time: its strips keep the engine busy."""
        return 1

    def submit(self, planes: Planes) -> DoneTicket:
        """Compute a picture."""
        graph = self._graph
        check_planes(planes, graph)
        width, height = graph.width * graph.scale, graph.height * graph.scale
        output: list[Plane] = []
        for name in graph.format.plane_names:
            plane_width, plane_height = graph.format.plane_size(name, width, height)
            output.append(np.empty((plane_height, plane_width), dtype=graph.format.dtype))
        for strip, result in self._results(planes):
            self._keep(strip, result, output)
        return DoneTicket(Planes(tuple(output), graph.format, width, height))

    def close(self) -> None:
        """Release the engine."""
        self._inner.close()

    def _results(self, planes: Planes) -> Iterator[tuple[Strip, Planes]]:
        waiting: deque[tuple[Strip, Ticket]] = deque()
        try:
            for strip in self._strips:
                if len(waiting) == self._inner.depth:
                    done, ticket = waiting.popleft()
                    yield done, ticket.result()
                waiting.append((strip, self._inner.submit(self._cut(planes, strip))))
            while waiting:
                done, ticket = waiting.popleft()
                yield done, ticket.result()
        finally:
            for _, ticket in waiting:
                ticket.cancel()

    def _cut(self, planes: Planes, strip: Strip) -> Planes:
        fmt, arrays = planes.format, []
        for name, array in zip(fmt.plane_names, planes.arrays, strict=True):
            rows = fmt.plane_size(name, planes.width, self._size)[1]
            start = strip.start >> fmt.log2_h if name in ("u", "v") else strip.start
            arrays.append(array[start : start + rows])
        return Planes(tuple(arrays), fmt, planes.width, self._size)

    def _keep(self, strip: Strip, result: Planes, output: list[Plane]) -> None:
        fmt, scale = self._graph.format, self._graph.scale
        for name, array, target in zip(fmt.plane_names, result.arrays, output, strict=True):
            shift = fmt.log2_h if name in ("u", "v") else 0
            first = scale * (strip.keep_start >> shift)
            last_strip = strip.keep_stop == self._graph.height
            stop = target.shape[0] if last_strip else scale * (strip.keep_stop >> shift)
            offset = scale * (strip.start >> shift)
            target[first:stop] = array[first - offset : stop - offset]


class DoneTicket:
    """A picture that is ready."""

    def __init__(self, planes: Planes) -> None:
        self._planes = planes

    def result(self) -> Planes:
        """The picture."""
        return self._planes

    def cancel(self) -> None:
        """Nothing is in flight."""
