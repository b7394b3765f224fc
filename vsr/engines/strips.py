"""Pictures too large to be computed at once are computed in horizontal strips, with the same result."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from vsr.engines.engine import DoneTicket, Engine, Ticket, check_planes
from vsr.engines.tiles import Tile, TileGrid
from vsr.frame import Planes


class StripEngine:
    """An engine that computes each picture strip by strip through another one.

    Args:
        inner: compiled for `grid.tile_graph`.
        grid: of one column.
    """

    def __init__(self, inner: Engine, grid: TileGrid) -> None:
        self._inner = inner
        self._grid = grid
        self.description = f"{inner.description}, in {len(grid)} strips"

    @property
    def depth(self) -> int:
        """One picture at a time: its strips keep the engine busy."""
        return 1

    def submit(self, planes: Planes) -> DoneTicket:
        """Compute a picture."""
        check_planes(planes, self._grid.graph)
        picture = self._grid.empty()
        for tile, result in self._results(planes):
            self._grid.paste(tile, result, picture)
        return DoneTicket(picture)

    def close(self) -> None:
        """Release the engine."""
        self._inner.close()

    def _results(self, planes: Planes) -> Iterator[tuple[Tile, Planes]]:
        waiting: deque[tuple[Tile, Ticket]] = deque()
        try:
            for tile in self._grid.tiles:
                if len(waiting) == self._inner.depth:
                    done, ticket = waiting.popleft()
                    yield done, ticket.result()
                waiting.append((tile, self._inner.submit(self._grid.cut(planes, tile))))
            while waiting:
                done, ticket = waiting.popleft()
                yield done, ticket.result()
        finally:
            for _, ticket in waiting:
                ticket.cancel()
