"""Pictures cut into tiles of one size, and put together again, with the same result.

It is the same to the last bit for whole factors. Where pictures are resampled to another size, sums of floats may be
taken in another order, and a sample that lies within 1e-5 of the middle between two codes may be rounded the other way.

Each tile is read with a halo of samples that its result depends on, and only what does not depend on its cut edges is
kept. All tiles have one size, so that one engine serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from vsr.frame import Plane, Planes
from vsr.graphs.frame_graph import FrameGraphSpec


@dataclass(frozen=True)
class Span:
    """The rows (or columns) of a tile, in luma samples of the input.

    Attributes:
        start: the first that is read.
        keep_start: the first whose result is kept.
        keep_stop: the one after the last.
    """

    start: int
    keep_start: int
    keep_stop: int


def plan_spans(length: int, longest: int, halo: int, unit: int) -> tuple[int, list[Span]]:
    """Cut `length` rows (or columns) into spans of one size.

    Args:
        length: of the picture.
        longest: that a span may be, halo included.
        halo: samples on each side that a result depends on.
        unit: what the borders of spans must be multiples of, for subsampled chroma, for models that pool, and for
            resampling, whose weights repeat after as many samples as the ratio's denominator.

    Returns:
        The size of every span, and the spans, whose kept parts cover the picture once.

    Raises:
        ValueError: `longest` leaves nothing beside the halo.
    """
    halo = -(-halo // unit) * unit
    if length <= longest:
        return length, [Span(0, 0, length)]
    core = (longest - 2 * halo) // unit * unit - unit
    if core < unit:
        raise ValueError(f"{longest} samples with a halo of {halo}")
    size = core + 2 * halo
    size += (length - size) % unit  # so that the last span begins at a multiple of the unit too
    spans = []
    for keep_start in range(0, length, core):
        keep_stop = min(length, keep_start + core)
        start = min(max(0, keep_start - halo), length - size)
        spans.append(Span(start, keep_start, keep_stop))
    return size, spans


@dataclass(frozen=True)
class Tile:
    """A part of a picture: which rows and which columns."""

    rows: Span
    columns: Span


class TileGrid:
    """The tiles of the pictures of one frame graph.

    Args:
        graph: of the whole picture.
        rows: height of every tile, and the tiles' rows, from `plan_spans`.
        columns: width of every tile, and the tiles' columns.
    """

    def __init__(
        self, graph: FrameGraphSpec, rows: tuple[int, Sequence[Span]], columns: tuple[int, Sequence[Span]]
    ) -> None:
        self.graph = graph
        self.height, self.rows = rows
        self.width, self.columns = columns
        self.tiles = tuple(Tile(r, c) for r in self.rows for c in self.columns)

    def __len__(self) -> int:
        return len(self.tiles)

    @property
    def tile_graph(self) -> FrameGraphSpec:
        """The frame graph of one tile."""
        graph, target = self.graph, self.graph.target
        if target.size is not None:
            across, down = graph.ratios
            target = replace(target, size=(int(across * self.width), int(down * self.height)))
        return replace(graph, width=self.width, height=self.height, target=target)

    def joined(self, rows: int, columns: int) -> TileGrid:
        """The grid whose tiles are `rows` by `columns` neighbouring tiles of this one: a tile for each place.

        Its tiles overlap; tile (i, j) of `rows` and `columns` keeps what tiles (i … i + rows − 1, j … ) keep here.
        """
        return TileGrid(
            self.graph,
            _joined(self.rows, self.height, rows, self.graph.height),
            _joined(self.columns, self.width, columns, self.graph.width),
        )

    def cut(self, planes: Planes, tile: Tile) -> Planes:
        """The samples that `tile` reads, as views."""
        fmt, arrays = planes.format, []
        for name, array in zip(fmt.plane_names, planes.arrays, strict=True):
            width, height = fmt.plane_size(name, self.width, self.height)
            shift_w, shift_h = self._shifts(name)
            top, left = tile.rows.start >> shift_h, tile.columns.start >> shift_w
            arrays.append(array[top : top + height, left : left + width])
        return Planes(tuple(arrays), fmt, self.width, self.height)

    def empty(self) -> Planes:
        """Memory for an enlarged picture."""
        graph = self.graph
        width, height = graph.output_size
        arrays: list[Plane] = []
        for name in graph.format.plane_names:
            plane_width, plane_height = graph.format.plane_size(name, width, height)
            arrays.append(np.empty((plane_height, plane_width), dtype=graph.format.dtype))
        return Planes(tuple(arrays), graph.format, width, height)

    def paste(self, tile: Tile, result: Planes, picture: Planes) -> None:
        """Put what is kept of a tile's `result` into the enlarged `picture`."""
        graph = self.graph
        across, down = graph.ratios
        for name, array, target in zip(graph.format.plane_names, result.arrays, picture.arrays, strict=True):
            shift_w, shift_h = self._shifts(name)
            rows, top = _kept(tile.rows, down, shift_h, graph.height, target.shape[0])
            columns, left = _kept(tile.columns, across, shift_w, graph.width, target.shape[1])
            target[rows, columns] = array[
                rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
            ]

    def _shifts(self, name: str) -> tuple[int, int]:
        fmt = self.graph.format
        return (fmt.log2_w, fmt.log2_h) if name in ("u", "v") else (0, 0)


def _joined(spans: Sequence[Span], size: int, count: int, length: int) -> tuple[int, list[Span]]:
    """Size of a span over `count` neighbours of the `spans` of `size`, and those spans."""
    core = spans[1].keep_start - spans[0].keep_start if len(spans) > 1 else 0
    size = min(length, size + (count - 1) * core)
    pairs = zip(spans, spans[count - 1 :], strict=False)
    return size, [Span(min(a.start, length - size), a.keep_start, b.keep_stop) for a, b in pairs]


def _kept(span: Span, ratio: Fraction, shift: int, length: int, end: int) -> tuple[slice, int]:
    """Where a span's kept samples go in a plane of the output, `end` long, and where its first sample would.

    The borders are multiples of what makes these numbers whole.
    """
    stop = end if span.keep_stop == length else int(ratio * (span.keep_stop >> shift))
    return slice(int(ratio * (span.keep_start >> shift)), stop), int(ratio * (span.start >> shift))
