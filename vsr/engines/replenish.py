"""Conditional replenishment: what a frame shares with the one before it is not computed again.

The picture is cut into tiles. A tile whose samples, halo included, equal those of the frame before gives the same
result to the last bit, so it is taken from there; a frame that equals the one before costs nothing. Screen recordings,
slides, cartoons and fixed cameras gain; where everything moves, one look at every eighth row shows it.

(The name is that of the interframe coder of F. W. Mounts, "A Video Encoding System With Conditional Picture-Element
Replenishment", Bell System Technical Journal 48, 1969.)
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vsr.engines.engine import Engine, Ticket, check_planes
from vsr.engines.tiles import Tile, TileGrid, plan_spans
from vsr.errors import BackendError
from vsr.frame import Plane, Planes
from vsr.graphs.frame_graph import FrameGraphSpec

Mask = npt.NDArray[np.bool_]

# Of a picture's width and height; small tiles follow a change closely, large ones waste less on their halo.
TILES_ACROSS: Final = 8
TILES_DOWN: Final = 6
TILE_WIDTH: Final = (64, 128)
TILE_HEIGHT: Final = (48, 96)
PROBED_ROWS: Final = 8  # every n-th row is looked at first
TILE_OVERHEAD: Final = 1.15  # what a sample costs in a tile beside what it costs in the whole picture
WORTH_WHILE: Final = 0.9  # share of the whole picture's cost below which tiles are computed instead


def plan_grid(graph: FrameGraphSpec, halo: int) -> TileGrid | None:
    """Tiles for pictures of `graph`, each with `halo` samples around; None if the pictures are too small for tiles."""
    unit_w, unit_h = 1 << graph.format.log2_w, 1 << graph.format.log2_h
    width = min(max(graph.width // TILES_ACROSS, TILE_WIDTH[0]), TILE_WIDTH[1])
    height = min(max(graph.height // TILES_DOWN, TILE_HEIGHT[0]), TILE_HEIGHT[1])
    around = 2 * (halo + max(unit_w, unit_h))
    grid = TileGrid(
        graph,
        plan_spans(graph.height, height + around, halo, unit_h),
        plan_spans(graph.width, width + around, halo, unit_w),
    )
    return grid if len(grid) > 1 else None


class ChangeDetector:
    """Finds the tiles whose samples differ between two pictures."""

    def __init__(self, grid: TileGrid) -> None:
        self._grid = grid
        self._planes = [_PlaneGrid(grid, name) for name in grid.graph.format.plane_names]

    def changed(self, one: Planes, other: Planes, limit: int) -> Mask:
        """Which tiles differ, [rows, columns]; all of them as soon as a look at a few rows finds more than `limit`."""
        everything = np.ones((len(self._grid.rows), len(self._grid.columns)), dtype=np.bool_)
        pairs = list(zip(self._planes, one.arrays, other.arrays, strict=True))
        plane, a, b = pairs[0]  # luma or green: where there is motion, there it shows
        if np.count_nonzero(plane.probe(a, b)) > limit:
            return everything
        found = ~everything
        for plane, a, b in pairs:
            found |= plane.changed(a, b)
        return found


class _PlaneGrid:
    """The grid in the samples of one plane."""

    def __init__(self, grid: TileGrid, name: str) -> None:
        fmt, graph = grid.graph.format, grid.graph
        width, height = fmt.plane_size(name, graph.width, graph.height)
        tile_width, tile_height = fmt.plane_size(name, grid.width, grid.height)
        shift_w, shift_h = (fmt.log2_w, fmt.log2_h) if name in ("u", "v") else (0, 0)
        tops = [span.start >> shift_h for span in grid.rows]
        lefts = [span.start >> shift_w for span in grid.columns]
        # Between two neighbouring borders all samples belong to the same tiles; spans overlap by their halos.
        self._breaks_y, self._cover_y = _segments(tops, tile_height, height)
        self._breaks_x, self._cover_x = _segments(lefts, tile_width, width)
        bytes_per_row = width * fmt.dtype.itemsize
        # Rows are padded to whole 64-bit words, which are compared eight bytes at a time; the padding stays zero.
        self._words = np.zeros((height, -(-bytes_per_row // 8)), dtype=np.uint64)
        self._difference: Plane = self._words.view(fmt.dtype)
        self._width = width
        self._probed: Any = np.zeros((-(-height // PROBED_ROWS), width), dtype=np.bool_)
        self._probe_rows = [min(-(-top // PROBED_ROWS), len(self._probed) - 1) for top in tops]

    def probe(self, a: Plane, b: Plane) -> Mask:
        """Tiles that differ in one of the rows 0, PROBED_ROWS, …; each row counts for the tile that begins above it."""
        np.not_equal(a[::PROBED_ROWS], b[::PROBED_ROWS], out=self._probed)
        columns = np.logical_or.reduceat(self._probed, self._breaks_x, axis=1)
        rows = np.logical_or.reduceat(columns, self._probe_rows, axis=0)
        return (rows.astype(np.float32) @ self._cover_x.T) > 0

    def changed(self, a: Plane, b: Plane) -> Mask:
        """Tiles that differ anywhere."""
        np.bitwise_xor(a, b, out=self._difference[:, : self._width])
        bands = np.bitwise_or.reduceat(self._words, self._breaks_y, axis=0).view(self._difference.dtype)
        parts = np.logical_or.reduceat(bands[:, : self._width] != 0, self._breaks_x, axis=1)
        return (self._cover_y @ parts.astype(np.float32) @ self._cover_x.T) > 0


def _segments(starts: list[int], size: int, length: int) -> tuple[list[int], npt.NDArray[np.float32]]:
    """The borders that cut `length` into segments, and which segments each of the spans covers: [spans, segments]."""
    breaks = sorted({0, *starts, *(s + size for s in starts if s + size < length)})
    cover = [[start <= b < start + size for b in breaks] for start in starts]
    return breaks, np.array(cover, dtype=np.float32)


class ReplenishingEngine:
    """An engine that computes what has changed since the frame before, through another one.

    Args:
        whole: compiled for the whole picture.
        grid: of the same pictures.
        open_tiles: compiles an engine for `grid.tile_graph`; called once, when tiles are first worth while.
    """

    def __init__(self, whole: Engine, grid: TileGrid, open_tiles: Callable[[], Engine]) -> None:
        self._whole = whole
        self._grid: TileGrid = grid
        self._open_tiles = open_tiles
        self._tiles: _TileQueue | None = None
        self._exact = True
        self._detector = ChangeDetector(grid)
        self._last: tuple[Planes, _KeptTicket | _PartTicket] | None = None
        graph = grid.graph
        self._tile_cost = grid.width * grid.height * TILE_OVERHEAD / (graph.width * graph.height)
        self.frames = 0
        self.computed = 0.0

    @property
    def description(self) -> str:
        """As of the engine for whole pictures."""
        return self._whole.description

    @property
    def depth(self) -> int:
        """How many tickets may be outstanding at once."""
        return self._whole.depth

    @property
    def reused(self) -> float:
        """Share of the computation that was spared so far, 0 to 1."""
        return 1.0 - self.computed / self.frames if self.frames else 0.0

    def submit(self, planes: Planes) -> Ticket:
        """Start a frame: nothing, some tiles or all of it, by what changed since the frame submitted before."""
        check_planes(planes, self._grid.graph)
        if self._last is not None and self._last[1].given_up:
            self._last = None
        changed = self._changed(planes)
        cost = len(changed) * self._tile_cost
        ticket: _KeptTicket | _PartTicket
        if self._last is not None and self._exact and cost < WORTH_WHILE:
            if changed and self._tiles is None:
                ticket = self._prove(planes, changed, self._last[1])
                cost = 1.0
            else:
                parts = [(tile, self._start(planes, tile)) for tile in changed]
                ticket = _PartTicket(self._grid, self._last[1], parts)
        else:
            ticket, cost = _KeptTicket(self._whole.submit(planes)), 1.0
        self.frames += 1
        self.computed += cost
        self._last = planes, ticket
        return ticket

    def close(self) -> None:
        """Release the engines."""
        self._last = None
        if self._tiles is not None:
            self._tiles.close()
        self._whole.close()

    def _changed(self, planes: Planes) -> tuple[Tile, ...]:
        tiles = self._grid.tiles
        if self._last is None or not self._exact:
            return tiles
        limit = int(WORTH_WHILE / self._tile_cost)
        mask = self._detector.changed(self._last[0], planes, limit)
        return tuple(tile for tile, is_changed in zip(tiles, mask.ravel(), strict=True) if is_changed)

    def _start(self, planes: Planes, tile: Tile) -> _KeptTicket:
        assert self._tiles is not None
        return self._tiles.submit(self._grid.cut(planes, tile))

    def _prove(
        self, planes: Planes, changed: tuple[Tile, ...], last: _KeptTicket | _PartTicket
    ) -> _KeptTicket | _PartTicket:
        """The first time: compute the whole as well, and stop using tiles for good if a bit differs.

        Runtimes choose their kernels by size, and on a processor that was never tried two kernels could add in another
        order.
        """
        self._tiles = _TileQueue(self._open_tiles())
        whole = _KeptTicket(self._whole.submit(planes))
        parts = _PartTicket(self._grid, last, [(tile, self._start(planes, tile)) for tile in changed])
        pairs = zip(whole.result().arrays, parts.result().arrays, strict=True)
        self._exact = all(np.array_equal(a, b) for a, b in pairs)
        return whole


class _KeptTicket:
    """A picture or a tile in flight, whose result is asked for more than once: by the caller and by the next frame."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket: Ticket | None = ticket
        self._planes: Planes | None = None

    @property
    def given_up(self) -> bool:
        """Whether there is no result and never will be."""
        return self._ticket is None and self._planes is None

    def result(self) -> Planes:
        """Wait for it; the engine is free for another then."""
        if self._planes is None:
            if self._ticket is None:
                raise BackendError("the frame was given up")
            ticket, self._ticket = self._ticket, None
            self._planes = ticket.result()
        return self._planes

    def cancel(self) -> None:
        """Give it up."""
        if self._ticket is not None:
            ticket, self._ticket = self._ticket, None
            ticket.cancel()


class _PartTicket:
    """A frame that takes what has not changed from the one before."""

    def __init__(
        self, grid: TileGrid, before: _KeptTicket | _PartTicket, parts: list[tuple[Tile, _KeptTicket]]
    ) -> None:
        self._grid = grid
        self._before: _KeptTicket | _PartTicket | None = before
        self._parts = parts
        self._planes: Planes | None = None

    @property
    def given_up(self) -> bool:
        """Whether there is no result and never will be."""
        return self._before is None and self._planes is None

    def result(self) -> Planes:
        """Wait for the frame before and for the tiles."""
        if self._planes is None:
            if self._before is None:
                raise BackendError("the frame was given up")
            before, self._before = self._before, None  # or every frame since the beginning would stay alive
            picture = before.result()
            if self._parts:
                old, picture = picture, self._grid.empty()
                for source, target in zip(old.arrays, picture.arrays, strict=True):
                    np.copyto(target, source)
                for tile, pending in self._parts:
                    self._grid.paste(tile, pending.result(), picture)
                self._parts = []
            self._planes = picture
        return self._planes

    def cancel(self) -> None:
        """Give the frame up."""
        self._before = None
        for _, pending in self._parts:
            pending.cancel()


class _TileQueue:
    """Tiles of any number of frames through an engine that takes `depth` at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._in_flight: deque[_KeptTicket] = deque()

    def submit(self, planes: Planes) -> _KeptTicket:
        """Start a tile, after waiting for the oldest if the engine is full."""
        while len(self._in_flight) >= self._engine.depth:
            oldest = self._in_flight.popleft()
            if not oldest.given_up:
                oldest.result()
        pending = _KeptTicket(self._engine.submit(planes))
        self._in_flight.append(pending)
        return pending

    def close(self) -> None:
        for pending in self._in_flight:
            with contextlib.suppress(BackendError):
                pending.cancel()
        self._engine.close()
