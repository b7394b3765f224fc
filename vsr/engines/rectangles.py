"""Rectangles that cover the changed tiles of a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


class Rectangle(NamedTuple):
    """Neighbouring tiles: the first row and column, and how many of each."""

    top: int
    left: int
    rows: int
    columns: int


def cover(mask: Mask, cost: Callable[[int, int], float]) -> list[Rectangle]:
    """Rectangles that together hold every tile that is set in `mask` [rows, columns], and are cheap.

    The smallest rectangle around all is cut in two, along a whole row or column, where that makes it cheaper, and so
    are its parts; each part shrinks to what it holds. No cover of rectangles made in this way is searched for beyond
    the best next cut, so it need not be the cheapest.

    Args:
        mask: which tiles must be covered.
        cost: of a rectangle of so many rows and columns.
    """
    smallest = around(mask)
    return [] if smallest is None else _divided(mask, smallest, cost)


def _divided(mask: Mask, whole: Rectangle, cost: Callable[[int, int], float]) -> list[Rectangle]:
    top, left, rows, columns = whole
    inside = mask[top : top + rows, left : left + columns]
    if inside.all():
        return [whole]
    best, halves = cost(rows, columns), None
    for vertical, part in ((False, inside), (True, inside.T)):
        first, last = part.argmax(axis=1).tolist(), (part.shape[1] - part[:, ::-1].argmax(axis=1)).tolist()
        some: list[bool] = np.logical_or.reduce(part, axis=1).tolist()
        before, after = _prefixes(first, last, some), _prefixes(first[::-1], last[::-1], some[::-1])[::-1]
        for cut in range(1, len(some)):
            one, other = before[cut - 1], after[cut]
            # Both halves hold something: the first and the last row of the smallest rectangle do.
            sizes = [(one[0], one[2] - one[1]), (other[0], other[2] - other[1])]
            price = sum(cost(*size[::-1]) if vertical else cost(*size) for size in sizes)
            if price < best:
                best, halves = price, (vertical, cut)
    if halves is None:
        return [whole]
    vertical, cut = halves
    parts = (inside[:, :cut], inside[:, cut:]) if vertical else (inside[:cut], inside[cut:])
    found = []
    for part, (down, right) in zip(parts, ((0, 0), (0, cut) if vertical else (cut, 0)), strict=True):
        smallest = around(part)
        assert smallest is not None
        moved = smallest._replace(top=top + down + smallest.top, left=left + right + smallest.left)
        found += _divided(mask, moved, cost)
    return found


def _prefixes(first: list[int], last: list[int], some: list[bool]) -> list[tuple[int, int, int]]:
    """For the lines up to each one: how many from the first to the last that hold something, and their extent."""
    found, rows, low, high = [], 0, 1 << 30, 0
    for number, (a, b, is_set) in enumerate(zip(first, last, some, strict=True)):
        if is_set:
            rows, low, high = number + 1, min(low, a), max(high, b)
        found.append((rows, low, high))
    return found


def around(mask: Mask) -> Rectangle | None:
    """The smallest rectangle that holds all that is set."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    top, left = int(rows[0]), int(columns[0])
    return Rectangle(top, left, int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left)
