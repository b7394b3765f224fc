"""Rectangles that cover changed tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vsr.engines.rectangles import Rectangle, cover


def with_halo(rows: int, columns: int) -> float:
    return (rows + 1) * (columns + 1)


@given(mask=arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 9))))
def test_every_tile_that_is_set_is_covered_for_no_more_than_one_rectangle_costs(mask: np.ndarray) -> None:
    found = cover(mask, with_halo)
    covered = np.zeros_like(mask, dtype=int)
    for top, left, rows, columns in found:
        assert top + rows <= mask.shape[0]
        assert left + columns <= mask.shape[1]
        covered[top : top + rows, left : left + columns] += 1
        inside = mask[top : top + rows, left : left + columns]
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert edge.any(), "smaller would do"
    assert covered.max() <= 1
    assert (covered[mask] == 1).all()
    if mask.any():
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        assert sum(with_halo(r.rows, r.columns) for r in found) <= with_halo(np.ptp(rows) + 1, np.ptp(columns) + 1)


@pytest.mark.parametrize(
    ("picture", "want"),
    [
        ("......", []),
        ("....../..##../..##..", [(1, 2, 2, 2)]),
        ("#...../....../......#", [(0, 0, 1, 1), (2, 6, 1, 1)]),
        ("##....../##....../....#.../.....###/.....###", [(0, 0, 2, 2), (2, 4, 1, 1), (3, 5, 2, 3)]),
        ("#.#/.#.", [(0, 0, 2, 3)]),
    ],
)
def test_what_lies_apart_is_parted_and_what_lies_together_is_not(picture: str, want: list[tuple[int, ...]]) -> None:
    lines = picture.split("/")
    width = max(map(len, lines))
    mask = np.array([[c == "#" for c in line.ljust(width, ".")] for line in lines])
    assert cover(mask, with_halo) == [Rectangle(*w) for w in want]
