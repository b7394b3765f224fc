"""Display matrices: the side data by which a player turns and mirrors pictures (AV_FRAME_DATA_DISPLAYMATRIX).

Nine integers a b u c d v x y w in rows: 16.16 fixed point but for u, v, w in 2.30. A sample at (p, q) is shown at
(a·p + c·q + x, b·p + d·q + y).
"""

from __future__ import annotations

from typing import Final

from vsr.frame import VideoInfo

A, B, C, D, X, Y = 0, 1, 3, 4, 6, 7
LARGEST: Final = (1 << 31) - 1


def is_turned(matrix: tuple[int, ...] | None) -> bool:
    """Whether width and height change places on the screen."""
    return matrix is not None and abs(matrix[A]) + abs(matrix[D]) < abs(matrix[B]) + abs(matrix[C])


def scaled_matrix(info: VideoInfo, width: int, height: int) -> tuple[int, ...] | None:
    """The display matrix of `info` for pictures of width x height: what it turns stays, what it moves grows along."""
    matrix = info.display_matrix
    if matrix is None or not (matrix[X] or matrix[Y]):
        return matrix
    across, down = width / info.width, height / info.height
    if is_turned(matrix):
        across, down = down, across
    moved = list(matrix)
    for place, gain in ((X, across), (Y, down)):
        moved[place] = max(-LARGEST, min(LARGEST, round(matrix[place] * gain)))
    return tuple(moved)
