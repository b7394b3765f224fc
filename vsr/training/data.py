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
from vsr.training.tones import MARGIN, Degradation, Samples, draw_curve, raise_contrast, stretch

#: Databases up to this many bytes, for the scale in question, are held in memory.
MEMORY_LIMIT: Final = 2 << 30
#: More pictures than these are not measured on while training.
MOST_VALIDATION: Final = 48
#: What white is in a teacher's answers: 16 bits, so that rounding adds no noise where contrast is raised.
WHITE: Final = 65535
#: Mean difference of neighbouring rows, in code values, up to which a patch counts as flat.
FLAT: Final = 2.0
#: How often a place is drawn before a flat one is taken.
ATTEMPTS: Final = 4
_CACHE: Final = 64 << 20


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

    fresh: low-resolution patches are not the database's, but made from the high-resolution ones after these have got
    their tones, so that they are rounded to 8 bits as a picture of these tones would be. For clean databases.

    Raises `OptionError` for a scale or patch that cannot be, or `fresh` with another database, `InputError` for a file
    that is no database, or one whose pictures are all smaller than a patch.
    """

    def __init__(
        self, path: Path, scale: int, patch: int, memory_limit: int = MEMORY_LIMIT, *, fresh: bool = False
    ) -> None:
        if scale not in SCALES:
            raise OptionError(f"got scale {scale}; the data is prepared for {', '.join(map(str, SCALES))}")
        if patch < 4:
            raise OptionError(f"got patch {patch}; it must be at least 4 pixels")
        try:
            file = h5py.File(path, "r", rdcc_nbytes=_CACHE)
            self._hr, self._lr = file["hr"], file[f"lr{scale}"]
            shapes, held = file["shapes"][:], file["validation"][:]
            self.sha256 = str(file.attrs["sources_sha256"])
            degradation = str(file.attrs.get("degradation", "clean"))
            if self._hr.size + self._lr.size <= memory_limit:
                self._hr, self._lr = self._hr[:], self._lr[:]
                file.close()
        except (OSError, KeyError) as exc:
            raise InputError(f"{path} is not a prepared patch database: {exc}", "vsr prepare-data makes one") from exc
        if fresh and degradation != "clean":
            raise OptionError(f"{path} holds {degradation} data; fresh patches need clean ones", "leave out --fresh")
        self.path, self.scale, self.patch = path, scale, patch
        self._degradation = Degradation(scale, patch) if fresh else None
        side = patch + 2 * MARGIN if fresh else patch
        small = shapes // scale
        # where each picture begins
        self._starts = np.cumsum(np.append(0, shapes.prod(axis=1)))[:-1]
        self._small_starts = np.cumsum(np.append(0, small.prod(axis=1)))[:-1]
        self._shapes, self._small = shapes, small
        self.held: NDArray[np.bool_] = held
        measured = np.flatnonzero(held)
        measured = measured[:: -(-len(measured) // MOST_VALIDATION) or 1]
        self.validation: Sequence[tuple[Luma, Luma]] = [self.pair(int(i)) for i in measured]
        self.training: Sequence[int] = np.flatnonzero(~held & (small.min(axis=1) >= side)).tolist()
        if not self.training:
            raise InputError(f"every picture in {path} is smaller than a patch of {side * scale} pixels")
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
        self, seed: int, step: int, size: int, contrast: float = 1.0, *, curves: float = 0.0, taught: bool = False
    ) -> tuple[Samples, Samples]:
        """`size` pairs of patches: float32 [size, 1, p, p] and [size, 1, p·scale, p·scale], values 0 to 1.

        contrast: the largest factor by which a pair's contrast is raised (see `vsr.training.tones`). curves: the share
        of pairs that a random curve gives its tones instead, where patches are fresh. taught: give the teacher's
        answers in place of originals, if there are any (`take_answers`); under a curve there are none.
        """
        rng = np.random.default_rng((seed, step))
        answers = self._answers if taught else None
        if self._degradation is not None:
            return self._fresh_batch(rng, size, contrast, curves, self._degradation, answers)
        p, s = self.patch, self.scale
        wanted, white = (self._hr, 255) if answers is None else (answers, WHITE)
        low = np.empty((size, 1, p, p), np.float32)
        high = np.empty((size, 1, p * s, p * s), np.float32)
        for k in range(size):
            which, y, x, a = self._place(rng, p)
            turn, flip = int(rng.integers(4)), bool(rng.integers(2))
            b = self._high_square(wanted, which, y, x, p)
            low[k, 0] = _turned(a, turn, flip, 1.0 / 255.0)
            high[k, 0] = _turned(b, turn, flip, 1.0 / white)
        if contrast > 1.0:
            for pair in zip(low, high, strict=True):
                raise_contrast(*pair, contrast, rng)
        return low, high

    def _fresh_batch(
        self,
        rng: np.random.Generator,
        size: int,
        contrast: float,
        curves: float,
        degradation: Degradation,
        answers: NDArray[np.uint16] | None,
    ) -> tuple[Samples, Samples]:
        """As `batch`, with low-resolution patches made here."""
        s, side = self.scale, self.patch + 2 * MARGIN
        patches = np.empty((size, side * s, side * s), np.float32)
        taught: dict[int, Samples] = {}
        for k in range(size):
            which, y, x, _ = self._place(rng, side)
            turn, flip = int(rng.integers(4)), bool(rng.integers(2))
            patch = _turned(self._high_square(self._hr, which, y, x, side), turn, flip, 1.0 / 255.0)
            if rng.random() < curves:
                patches[k] = draw_curve(degradation.inner(patch), rng)(patch)
                continue
            factor, offset = map(np.float32, stretch(degradation.inner(patch), contrast, rng))
            patches[k] = patch * factor + offset
            if answers is not None:
                answer = _turned(self._high_square(answers, which, y, x, side), turn, flip, 1.0 / WHITE)
                taught[k] = degradation.inner(answer) * factor + offset
        low, high = degradation(patches)
        for k, answer in taught.items():
            high[k, 0] = answer
        return low, high

    def _place(self, rng: np.random.Generator, side: int) -> tuple[int, int, int, Luma]:
        """A picture, row and column where a square of `side` low-resolution pixels begins in it, and the square."""
        for _ in range(ATTEMPTS):
            which = self.training[min(int(np.searchsorted(self._chance, rng.random())), len(self.training) - 1)]
            height, width = self._small[which]
            y = int(rng.integers(height - side + 1))
            x = int(rng.integers(width - side + 1))
            seen = self._low_rows(which, y, y + side)[:, x : x + side]
            # sky teaches nothing: draw again, but a few flat patches stay
            if np.abs(np.diff(seen[::2].astype(np.int16))).mean() > FLAT:
                break
        return which, y, x, seen

    def _high_square(self, data: Any, index: int, y: int, x: int, side: int) -> NDArray[Any]:
        """What stands in `data` over the square of `side` low-resolution pixels that begins at (y, x) of a picture."""
        return self._high_rows(data, index, y, y + side)[:, x * self.scale : (x + side) * self.scale]


def _turned(patch: NDArray[Any], turn: int, flip: bool, unit: float) -> Samples:
    """A patch turned by `turn` right angles, then mirrored if `flip`; code values of `unit` become float32."""
    turned: Samples = np.rot90(patch, turn) * np.float32(unit)
    return turned[:, ::-1] if flip else turned


def _rows(data: Any, start: int, width: int, first: int, last: int) -> NDArray[Any]:
    """Rows `first` to `last` of the picture that begins at `start` of an array in memory, or of a dataset on disk."""
    rows: NDArray[Any] = data[int(start + first * width) : int(start + last * width)].reshape(-1, int(width))
    return rows
