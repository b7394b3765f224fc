"""Conditional replenishment: what a frame shares with the one before it is not computed again.

The picture is cut into tiles. A tile whose samples, halo included, equal those of the frame before gives the same
result to the last bit, so it is taken from there; a frame that equals the one before costs nothing. Tiles that changed
are computed in rectangles, for each alone would compute its halo, which is as large as itself. Screen recordings,
slides, cartoons and fixed cameras gain; where everything moves, one look at every eighth row shows it, after a while
of every fourth picture only.

A rectangle needs an engine of its size, whose compilation takes as long as several pictures. It is compiled when the
pictures that it would have spared add up to its price, which never costs more than twice what knowing the film in
advance would have (R. M. Karp, "On-Line Algorithms Versus Off-Line Algorithms", 1992: to rent or to buy skis).

(The name is that of the interframe coder of F. W. Mounts, "A Video Encoding System With Conditional Picture-Element
Replenishment", Bell System Technical Journal 48, 1969.)
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vsr.engines.engine import Engine, Ticket, check_planes
from vsr.engines.rectangles import Mask, Rectangle, around, cover
from vsr.engines.tiles import Tile, TileGrid, plan_spans
from vsr.errors import BackendError
from vsr.frame import Plane, Planes
from vsr.graphs.frame_graph import FrameGraphSpec

# Of a picture's width and height; small tiles follow a change closely, and their borders are searched for longer.
TILES_ACROSS: Final = 15
TILES_DOWN: Final = 9
TILE_SIDE: Final = (24, 64)
FEWEST_TILES: Final = 8
PROBED_ROWS: Final = 8  # every n-th row is looked at first
RECTANGLE_OVERHEAD: Final = 1.1  # what a sample costs in a rectangle beside what it costs in the whole picture
RECTANGLE_COST: Final = 0.03  # of the whole picture, for cutting, starting and pasting
WORTH_WHILE: Final = 0.9  # share of the whole picture's cost below which rectangles are computed instead
PRICE: Final = 6.0  # of another engine, in whole pictures
NEARLY: Final = 0.05  # so much more of the whole picture than the best that could be is good enough
MOST_ENGINES: Final = 6
PATIENCE: Final = 16  # pictures in a row that are all motion, until only every n-th is compared with the one before:
GLANCE_EVERY: Final = 4  # that must be kept in memory for it
SIDES: Final = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64)  # of rectangles that get engines, in tiles

Shape = tuple[int, int]
"""Rows and columns of a rectangle, in tiles."""
Fitting = tuple[Rectangle, Shape | None]
"""A rectangle to compute, and the cheapest engine there is that holds it."""


def plan_grid(graph: FrameGraphSpec, halo: int, unit: int = 1) -> TileGrid | None:
    """Tiles for pictures of `graph`, each with `halo` samples around; None if the pictures are too small for tiles.

    unit: of the model, see `vsr.graphs.footprint`.
    """
    unit_w, unit_h = math.lcm(1 << graph.format.log2_w, unit), math.lcm(1 << graph.format.log2_h, unit)
    width = min(max(graph.width // TILES_ACROSS, TILE_SIDE[0]), TILE_SIDE[1])
    height = min(max(graph.height // TILES_DOWN, TILE_SIDE[0]), TILE_SIDE[1])
    around = 2 * (halo + max(unit_w, unit_h))
    grid = TileGrid(
        graph,
        plan_spans(graph.height, height + around, halo, unit_h),
        plan_spans(graph.width, width + around, halo, unit_w),
    )
    return grid if len(grid) >= FEWEST_TILES else None


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
    """An engine that computes what has changed since the frame before, through others.

    Args:
        whole: compiled for the whole picture.
        grid: of the same pictures.
        open_engine: compiles an engine for the graph of a part of the picture.
    """

    def __init__(self, whole: Engine, grid: TileGrid, open_engine: Callable[[FrameGraphSpec], Engine]) -> None:
        self._whole = whole
        self._grid = grid
        self._open_engine = open_engine
        self._costs = self._shape_costs()
        self._least = self._least_costs()
        self._queues: dict[Shape, _PartQueue] = {}
        self._missed: dict[Shape, float] = {}  # whole pictures that an engine of this shape would have spared
        self._removed = 0  # engines that had to make room
        self._exact = True
        self._detector = ChangeDetector(grid)
        self._last: tuple[Planes, _KeptTicket | _PartTicket] | None = None
        self._moving = 0  # pictures in a row of which nothing was found to be as before
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
        """Start a frame: nothing, some of it or all of it, by what changed since the frame submitted before."""
        check_planes(planes, self._grid.graph)
        if self._last is not None and self._last[1].given_up:
            self._last = None
        ticket, cost = self._start(planes)
        self.frames += 1
        self.computed += cost
        look = self._moving < PATIENCE or self._moving % GLANCE_EVERY == 0
        self._last = (planes, ticket) if look else None
        return ticket

    def close(self) -> None:
        """Release the engines."""
        self._last = None
        for queue in self._queues.values():
            queue.close()
        self._whole.close()

    def _start(self, planes: Planes) -> tuple[_KeptTicket | _PartTicket, float]:
        """A ticket, and what share of a whole picture's computation it takes."""
        mask = self._changed(planes)
        if mask is None or self._last is None:
            return _KeptTicket(self._whole.submit(planes)), 1.0
        plans = [cover(mask, self._cost)]
        smallest = around(mask)
        if smallest is not None and len(plans[0]) > 1:
            plans.append([smallest])  # dearer, but one engine will do
        fitting = [[(r, _smallest(r, self._queues, self._costs)) for r in plan] for plan in plans]
        plan, cost = self._cheapest(fitting)
        ideal = sum(self._cost(r.rows, r.columns) for r in plans[0])
        missing = self._worth_buying(fitting, cost) if cost - ideal > NEARLY else None
        if missing is not None:
            return self._buy(missing, planes, plans), 1.0
        if plan is None:
            return _KeptTicket(self._whole.submit(planes)), 1.0
        parts = [self._queues[shape].submit(planes, rectangle) for rectangle, shape in plan]
        return _PartTicket(self._last[1], parts, self._grid), cost

    def _changed(self, planes: Planes) -> Mask | None:
        """The tiles that differ from the frame before; None where all do, or are not to be compared."""
        if self._last is not None and self._exact:
            mask = self._detector.changed(self._last[0], planes, int(WORTH_WHILE * len(self._grid)))
            if not mask.all():
                self._moving = 0
                return mask
        self._moving += 1
        return None

    def _shape_costs(self) -> dict[Shape, float]:
        """What a rectangle of each shape that may get an engine costs, as a share of the whole picture."""
        graph, sides = self._grid.graph, []
        for count in (len(self._grid.rows), len(self._grid.columns)):
            sides.append([*(n for n in SIDES if n < count), count])
        area = graph.width * graph.height
        heights = {n: self._grid.joined(n, 1).height for n in sides[0]}
        widths = {n: self._grid.joined(1, n).width for n in sides[1]}
        return {
            (rows, columns): heights[rows] * widths[columns] * RECTANGLE_OVERHEAD / area + RECTANGLE_COST
            for rows in heights
            for columns in widths
        }

    def _cost(self, rows: int, columns: int) -> float:
        """Of a rectangle, if every shape had its engine."""
        return self._least[rows][columns]

    def _least_costs(self) -> list[list[float]]:
        """For each number of rows and columns what the cheapest shape costs that holds them."""
        rows, columns = len(self._grid.rows), len(self._grid.columns)
        least = np.full((rows + 1, columns + 1), math.inf)
        for (r, c), cost in self._costs.items():
            np.minimum(least[: r + 1, : c + 1], cost, out=least[: r + 1, : c + 1])
        found: list[list[float]] = least.tolist()
        return found

    def _cheapest(self, plans: list[list[Fitting]]) -> tuple[list[tuple[Rectangle, Shape]] | None, float]:
        """The plan that is carried out, with the engine for each rectangle; None and 1 for the whole picture."""
        best, least = None, WORTH_WHILE
        for plan in plans:
            pairs = [(rectangle, shape) for rectangle, shape in plan if shape is not None]
            cost = sum(self._costs[shape] for _, shape in pairs)
            if len(pairs) == len(plan) and cost < least:
                best, least = pairs, cost
        return best, 1.0 if best is None else least

    def _worth_buying(self, plans: list[list[Fitting]], cost: float) -> Shape | None:
        """The shape of the engine that has been missed for as much as it costs by now, if there is one."""
        now = [[(r, math.inf if shape is None else self._costs[shape]) for r, shape in plan] for plan in plans]
        for shape, own in self._costs.items():
            if own >= cost or shape in self._queues:
                continue
            with_it = min(sum(min(price, own) if _holds(shape, r) else price for r, price in plan) for plan in now)
            if with_it < min(cost, WORTH_WHILE):
                self._missed[shape] = self._missed.get(shape, 0.0) + cost - with_it
        best = max(self._missed, key=lambda shape: self._missed[shape], default=None)
        if best is None or self._missed[best] < self._price:
            return None
        if not any(_holds(best, r) for plan in plans for r, _ in plan):
            return None
        return best

    @property
    def _price(self) -> float:
        """Of another engine: more each time that one has had to make room, or two might take turns for ever."""
        return PRICE * (1 + self._removed)

    def _buy(self, shape: Shape, planes: Planes, plans: list[list[Rectangle]]) -> _KeptTicket:
        """Compile an engine; compute the whole picture once more, and never again a part if a bit differs.

        Runtimes choose their kernels by size, and on a processor that was never tried two kernels could add in another
        order.
        """
        self._missed.clear()  # what the others would have spared is another sum now
        if len(self._queues) == MOST_ENGINES:
            oldest = min(self._queues.values(), key=lambda q: q.used)
            self._queues.pop(oldest.shape).close()
            self._removed += 1
        grid = self._grid.joined(*shape)
        queue = self._queues[shape] = _PartQueue(self._open_engine(grid.tile_graph), grid, shape)
        whole = _KeptTicket(self._whole.submit(planes))
        rectangle = next(r for plan in plans for r in plan if _holds(shape, r))
        proof = _PartTicket(whole, [queue.submit(planes, rectangle)], self._grid)
        pairs = zip(whole.result().arrays, proof.result().arrays, strict=True)
        self._exact = all(np.array_equal(a, b) for a, b in pairs)
        return whole


def _holds(shape: Shape, rectangle: Rectangle) -> bool:
    return shape[0] >= rectangle.rows and shape[1] >= rectangle.columns


def _smallest(rectangle: Rectangle, shapes: Iterable[Shape], costs: Mapping[Shape, float]) -> Shape | None:
    """The cheapest of the `shapes` that holds `rectangle`."""
    return min((shape for shape in shapes if _holds(shape, rectangle)), key=lambda shape: costs[shape], default=None)


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

    def __init__(self, before: _KeptTicket | _PartTicket, parts: list[_Part], grid: TileGrid) -> None:
        self._grid = grid
        self._before: _KeptTicket | _PartTicket | None = before
        self._parts = parts
        self._planes: Planes | None = None

    @property
    def given_up(self) -> bool:
        """Whether there is no result and never will be."""
        return self._before is None and self._planes is None

    def result(self) -> Planes:
        """Wait for the frame before and for the parts."""
        if self._planes is None:
            if self._before is None:
                raise BackendError("the frame was given up")
            before, self._before = self._before, None  # or every frame since the beginning would stay alive
            picture = before.result()
            if self._parts:
                old, picture = picture, self._grid.empty()
                for source, target in zip(old.arrays, picture.arrays, strict=True):
                    np.copyto(target, source)
                for part in self._parts:
                    part.grid.paste(part.tile, part.pending.result(), picture)
                self._parts = []
            self._planes = picture
        return self._planes

    def cancel(self) -> None:
        """Give the frame up."""
        self._before = None
        for part in self._parts:
            part.pending.cancel()


class _Part(NamedTuple):
    """A part of a picture in flight, and where it belongs."""

    grid: TileGrid
    tile: Tile
    pending: _KeptTicket


class _PartQueue:
    """Parts of any number of frames, all of one shape, through an engine that takes `depth` at once."""

    def __init__(self, engine: Engine, grid: TileGrid, shape: Shape) -> None:
        self._engine = engine
        self._grid = grid
        self._in_flight: deque[_KeptTicket] = deque()
        self.shape = shape
        self.used = 0.0

    def submit(self, planes: Planes, rectangle: Rectangle) -> _Part:
        """Start the part of `planes` that holds `rectangle`, after waiting for the oldest if the engine is full."""
        self.used = time.monotonic()
        while len(self._in_flight) >= self._engine.depth:
            self._settle()
        rows, columns = self._grid.rows, self._grid.columns
        tile = Tile(rows[min(rectangle.top, len(rows) - 1)], columns[min(rectangle.left, len(columns) - 1)])
        pending = _KeptTicket(self._engine.submit(self._grid.cut(planes, tile)))
        self._in_flight.append(pending)
        return _Part(self._grid, tile, pending)

    def close(self) -> None:
        """Wait for what is in flight, which frames may still ask for, and release the engine."""
        with contextlib.suppress(BackendError):
            while self._in_flight:
                self._settle()
        self._engine.close()

    def _settle(self) -> None:
        oldest = self._in_flight.popleft()
        if not oldest.given_up:
            oldest.result()
