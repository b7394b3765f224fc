"""Whether enlarged pictures still show what the small ones show, each in its own place.

An output could have every frame at its time and yet the wrong picture in it: one of another frame, or a grey one.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from vsr.frame import Planes

LEAST_DB = 15.0  # unrelated pictures are below it, and the coarsest encoding is above
NOISE = 1e-4  # mean square error (40 dB) that an encoder may add to one picture and not to the next


class Likeness:
    """Compares the first plane (luma, or green) of each picture, shrunk by averaging, with the original.

    Attributes:
        worst_db: PSNR of the least similar picture.
        misplaced: pictures that are more like the original before their own.
    """

    def __init__(self) -> None:
        self.worst_db = math.inf
        self.misplaced = 0
        self._previous: npt.NDArray[np.float32] | None = None

    @property
    def ok(self) -> bool:
        """Whether every picture is like its original."""
        return self.worst_db >= LEAST_DB and not self.misplaced

    def add(self, before: Planes, after: Planes) -> None:
        """Compare one picture; those of another colour family are left out."""
        if (before.format.family == "rgb") != (after.format.family == "rgb"):
            return
        original = _unit(before)
        shrunk = _averaged(_averaged(_unit(after), before.height).T, before.width).T
        own = float(np.mean((shrunk - original) ** 2))
        self.worst_db = min(self.worst_db, -10 * math.log10(own) if own else math.inf)
        if self._previous is not None and own > 2 * float(np.mean((shrunk - self._previous) ** 2)) + NOISE:
            self.misplaced += 1
        self._previous = original


def _averaged(rows: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """`count` rows, each the mean of as many as it covers, parts of rows by their share."""
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=np.float64)])
    edges = np.linspace(0, len(rows), count + 1)
    whole = np.minimum(edges.astype(np.intp), len(rows) - 1)
    at_edges = sums[whole] + (edges - whole)[:, None] * rows[whole]
    means: npt.NDArray[np.float32] = (np.diff(at_edges, axis=0) * (count / len(rows))).astype(np.float32)
    return means


def _unit(planes: Planes) -> npt.NDArray[np.float32]:
    """The first plane with its codes from 0 to 1."""
    return planes.arrays[0].astype(np.float32) / np.float32((1 << planes.format.bits) - 1)
