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
#: What white is in a teacher's answers: 16 bits, so that rounding adds no noise where contrast is raised.
WHITE: Final = 65535
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
        self.held: NDArray[np.bool_] = held
        measured = np.flatnonzero(held)
        measured = measured[:: -(-len(measured) // MOST_VALIDATION) or 1]
        self.validation: Sequence[tuple[Luma, Luma]] = [self.pair(int(i)) for i in measured]
        self.training: Sequence[int] = np.flatnonzero(~held & (small.min(axis=1) >= patch)).tolist()
        if not self.training:
            raise InputError(f"every picture in {path} is smaller than a patch of {patch * scale} pixels")
        self._answers: NDArray[np.uint16] | None = None
        self._answers_of = ""
        area = small[self.training].prod(axis=1).astype(np.float64)
        self._chance: NDArray[np.float64] = np.cumsum(area / area.sum())

    def __len__(self) -> int:
        return len(self._shapes)

    @property
    def pixels(self) -> int:
        """High-resolution pixels of all pictures."""
        return int(self._shapes.prod(axis=1).sum())

    @property
    def identity(self) -> str:
        """What the patches are drawn from: the hash of the sources, before it that of a teacher's answers."""
        return self._answers_of + self.sha256

    def take_answers(self, path: Path, identity: str) -> None:
        """Read a teacher's answers from `path` (see `vsr.training.teacher`), for `batch` to give.

        Raises `InputError` if they are not those to this database's pictures.
        """
        try:
            answers = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as exc:
            raise InputError(f"{path} holds no teacher's answers: {exc}", "delete it; it is made anew") from exc
        if answers.shape != (self.pixels,) or answers.dtype != np.uint16:
            raise InputError(f"{path} holds answers to other pictures", "delete it; it is made anew")
        self._answers, self._answers_of = answers, f"{identity} "

    def pair(self, index: int) -> tuple[Luma, Luma]:
        """Picture `index` of the database: low and high resolution, [H, W] each."""
        last = int(self._small[index, 0])
        return self._low_rows(index, 0, last), self._high_rows(self._hr, index, 0, last)

    def _low_rows(self, index: int, first: int, last: int) -> Luma:
        """Low-resolution rows `first` to `last` of a picture."""
        return _rows(self._lr, self._small_starts[index], self._small[index, 1], first, last)

    def _high_rows(self, data: Any, index: int, first: int, last: int) -> NDArray[Any]:
        """What stands in `data` (originals or answers) over the low-resolution rows `first` to `last` of a picture."""
        return _rows(data, self._starts[index], self._shapes[index, 1], first * self.scale, last * self.scale)

    def batch(
        self, seed: int, step: int, size: int, contrast: float = 1.0, *, taught: bool = False
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """`size` pairs of patches: float32 [size, 1, p, p] and [size, 1, p·scale, p·scale], values 0 to 1.

        contrast: the largest factor by which a pair's contrast is raised (see `raise_contrast`). taught: give the
        teacher's answers in place of originals, if there are any (`take_answers`).
        """
        rng = np.random.default_rng((seed, step))
        p, s = self.patch, self.scale
        wanted, white = (self._answers, WHITE) if taught and self._answers is not None else (self._hr, 255)
        low = np.empty((size, 1, p, p), np.float32)
        high = np.empty((size, 1, p * s, p * s), np.float32)
        for k in range(size):
            for attempt in range(4):
                which = self.training[min(int(np.searchsorted(self._chance, rng.random())), len(self.training) - 1)]
                height, width = self._small[which]
                y = int(rng.integers(height - p + 1))
                x = int(rng.integers(width - p + 1))
                a = self._low_rows(which, y, y + p)[:, x : x + p]
                # sky teaches nothing: draw again, but a few flat patches stay
                if attempt == 3 or np.abs(np.diff(a[::2].astype(np.int16))).mean() > 2.0:
                    break
            b = self._high_rows(wanted, which, y, y + p)[:, x * s : (x + p) * s]
            turn, flip = int(rng.integers(4)), bool(rng.integers(2))
            for into, patch, unit in ((low, a, 1.0 / 255.0), (high, b, 1.0 / white)):
                turned = np.rot90(patch, turn) * np.float32(unit)
                into[k, 0] = turned[:, ::-1] if flip else turned
        if contrast > 1.0:
            for pair in zip(low, high, strict=True):
                raise_contrast(*pair, contrast, rng)
        return low, high


def _rows(data: Any, start: int, width: int, first: int, last: int) -> NDArray[Any]:
    """Rows `first` to `last` of the picture that begins at `start` of an array in memory, or of a dataset on disk."""
    rows: NDArray[Any] = data[int(start + first * width) : int(start + last * width)].reshape(-1, int(width))
    return rows


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
