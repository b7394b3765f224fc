"""Random patches drawn from a prepared database (`vsr.training.prepare`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from vsr.errors import InputError, OptionError
from vsr.training.prepare import SCALES
from vsr.training.sources import Luma

#: Databases up to this many bytes, for the scale in question, are held in memory.
MEMORY_LIMIT: Final = 2 << 30
#: More pictures than these are not measured on while training.
MOST_VALIDATION: Final = 48
#: How far `raise_contrast` moves the brightness, of 1.
BRIGHTNESS: Final = 0.2
_CACHE: Final = 64 << 20
Samples = NDArray[np.float32]


def database_facts(path: Path) -> tuple[str, str]:
    """The hash of what a database was made from, and its degradation. Raises `InputError` if it is none."""
    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs["sources_sha256"]), str(file.attrs.get("degradation", "clean"))
    except (OSError, KeyError) as exc:
        raise InputError(f"{path} is not a prepared patch database: {exc}", "vsr prepare-data makes one") from exc


class PatchData:
    """Random patches of one scale, drawn from a prepared database.

    The patches of a step depend on seed and step alone, so that a resumed training sees what an uninterrupted
    one would. `patch` is the side of a low-resolution patch in pixels. A database of more than `memory_limit` bytes
    stays on disk, and each patch is read from there.

    Raises `OptionError` for a scale or patch that cannot be, `InputError` for a file that is no database, or one whose
    pictures are all smaller than a patch.
    """

    def __init__(self, path: Path, scale: int, patch: int, memory_limit: int = MEMORY_LIMIT) -> None:
        if scale not in SCALES:
            raise OptionError(f"got scale {scale}; the data is prepared for {', '.join(map(str, SCALES))}")
        if patch < 4:
            raise OptionError(f"got patch {patch}; it must be at least 4 pixels")
        try:
            file = h5py.File(path, "r", rdcc_nbytes=_CACHE)
            self._hr, self._lr = file["hr"], file[f"lr{scale}"]
            shapes, held = file["shapes"][:], file["validation"][:]
            self.sha256 = str(file.attrs["sources_sha256"])
            if self._hr.size + self._lr.size <= memory_limit:
                self._hr, self._lr = self._hr[:], self._lr[:]
                file.close()
        except (OSError, KeyError) as exc:
            raise InputError(f"{path} is not a prepared patch database: {exc}", "vsr prepare-data makes one") from exc
        self.path, self.scale, self.patch = path, scale, patch
        small = shapes // scale
        # where each picture begins
        self._starts = np.cumsum(np.append(0, shapes.prod(axis=1)))[:-1]
        self._small_starts = np.cumsum(np.append(0, small.prod(axis=1)))[:-1]
        self._shapes, self._small = shapes, small
        measured = np.flatnonzero(held)
        measured = measured[:: -(-len(measured) // MOST_VALIDATION) or 1]
        self.validation: Sequence[tuple[Luma, Luma]] = [self.pair(int(i)) for i in measured]
        self.training: Sequence[int] = np.flatnonzero(~held & (small.min(axis=1) >= patch)).tolist()
        if not self.training:
            raise InputError(f"every picture in {path} is smaller than a patch of {patch * scale} pixels")
        area = small[self.training].prod(axis=1).astype(np.float64)
        self._chance: NDArray[np.float64] = np.cumsum(area / area.sum())

    def pair(self, index: int) -> tuple[Luma, Luma]:
        """Picture `index` of the database: low and high resolution, [H, W] each."""
        return self._rows(index, 0, int(self._small[index, 0]))

    def _rows(self, index: int, first: int, last: int) -> tuple[Luma, Luma]:
        """Low-resolution rows `first` to `last` of a picture, and the high-resolution rows there."""
        found = []
        for data, starts, shapes, times in (
            (self._lr, self._small_starts, self._small, 1),
            (self._hr, self._starts, self._shapes, self.scale),
        ):
            width = int(shapes[index, 1])
            begin = int(starts[index]) + first * times * width
            # a slice of an array in memory or of a dataset on disk, as the case may be
            found.append(data[begin : begin + (last - first) * times * width].reshape(-1, width))
        return found[0], found[1]

    def batch(self, seed: int, step: int, size: int, contrast: float = 1.0) -> tuple[NDArray[Any], NDArray[Any]]:
        """`size` pairs of patches: float32 [size, 1, p, p] and [size, 1, p·scale, p·scale], values 0 to 1.

        contrast: the largest factor by which a pair's contrast is raised (see `raise_contrast`).
        """
        rng = np.random.default_rng((seed, step))
        p, s = self.patch, self.scale
        low = np.empty((size, 1, p, p), np.uint8)
        high = np.empty((size, 1, p * s, p * s), np.uint8)
        for k in range(size):
            for attempt in range(4):
                which = self.training[min(int(np.searchsorted(self._chance, rng.random())), len(self.training) - 1)]
                height, width = self._small[which]
                y = int(rng.integers(height - p + 1))
                x = int(rng.integers(width - p + 1))
                a, b = self._rows(which, y, y + p)
                a = a[:, x : x + p]
                # sky teaches nothing: draw again, but a few flat patches stay
                if attempt == 3 or np.abs(np.diff(a[::2].astype(np.int16))).mean() > 2.0:
                    break
            b = b[:, x * s : (x + p) * s]
            turn, flip = int(rng.integers(4)), bool(rng.integers(2))
            a, b = np.rot90(a, turn), np.rot90(b, turn)
            low[k, 0], high[k, 0] = (a[:, ::-1], b[:, ::-1]) if flip else (a, b)
        unit = np.float32(1.0 / 255.0)
        pair = low * unit, high * unit
        if contrast > 1.0:
            for a, b in zip(*pair, strict=True):
                raise_contrast(a, b, contrast, rng)
        return pair


def raise_contrast(low: Samples, high: Samples, most: float, rng: np.random.Generator) -> None:
    """Raise the contrast of a pair of patches, in place: both by the same factor, and not beyond what 0 to 1 holds.

    Shrinking is linear, so the pair still belongs together. Photographs are mostly low in contrast, and a network of
    ReLUs does not carry over to an edge of 200 code values what it has learnt of one of 50. The factor is drawn
    between 1 and the largest possible one, at most `most`, evenly on a logarithmic scale; then the brightness moves
    by up to `BRIGHTNESS`, as far as there is room.
    """
    least, span = float(high.min()), float(np.ptp(high))
    largest = min(most, 1.0 / max(span, 1e-3))
    if largest <= 1.0:
        return
    factor = float(np.exp(rng.uniform(0.0, np.log(largest))))
    room = 1.0 - span * factor
    middle = least + span / 2 + rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    offset = min(max(middle - span * factor / 2, 0.0), room) - least * factor
    for patch in (low, high):
        patch *= np.float32(factor)
        patch += np.float32(offset)
