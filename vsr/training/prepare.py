"""Building the patch database: one HDF5 file of luma pictures in high and low resolution, so that decoding and
degrading are done once.

Low-resolution pictures are made from whole pictures, by MATLAB's bicubic and rounded to 8 bits, as in the papers'
protocol; or, with the codec degradation, partly so and partly by `vsr.training.codec`. Memory is that of one source.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from vsr.errors import InputError, OptionError, TrainingError
from vsr.resample import imresize
from vsr.training import codec
from vsr.training.dead_leaves import SIDE, pictures
from vsr.training.sources import (
    FRAMES_PER_CLIP,
    LEAST_SIDE,
    LONG_SIDE,
    MULTIPLE,
    SHRINKS,
    SIZES,
    Luma,
    Sources,
    clip_pictures,
    clip_runs,
    crop_to_multiple,
    find_sources,
    middle,
    sources_sha256,
    still_pictures,
)

SCALES: Final = (2, 3, 4)
DEGRADATIONS: Final = ("clean", "codec")
#: Every n-th source is held out for validation (and so never trained on).
HOLD_OUT_EVERY: Final = 12
VALIDATION_CROP: Final = 480
FORMAT: Final = 1
# of the codec degradation
RUN_LENGTH: Final = 12  # frames encoded together
RUNS_PER_CLIP: Final = 24
PANS_PER_STILL: Final = 8
PAN_SIZE: Final = (384, 480)
KEPT_PER_RUN: Final = 3
CODEC_MULTIPLE: Final = 24  # so that low-resolution pictures have even sides
_CHUNK: Final = 1 << 18
_RESERVE: Final = 1 << 22  # bytes, and as many again for what HDF5 keeps besides the data

#: A picture and its low-resolution forms.
Entry = tuple[Luma, dict[int, Luma]]


class DatabaseWriter:
    """An HDF5 file that grows by a picture at a time, under a temporary name until `publish`.

    Its space is reserved ahead, so that a full disk shows here as an `OSError`: inside of HDF5 it would be a crash.
    """

    def __init__(self, target: Path) -> None:
        self.target, self.temporary = target, target.with_name(target.name + ".tmp")
        target.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(self.temporary, "w")
        names = ["hr", *(f"lr{scale}" for scale in SCALES)]
        self._data = {n: self._file.create_dataset(n, (0,), "u1", maxshape=(None,), chunks=(_CHUNK,)) for n in names}
        self._shapes: list[tuple[int, ...]] = []
        self._held: list[bool] = []
        self._reserved = 0

    def __len__(self) -> int:
        return len(self._shapes)

    @property
    def pixels(self) -> int:
        """High-resolution pixels so far."""
        return int(self._data["hr"].shape[0])

    def add(self, entry: Entry, held: bool) -> None:
        """Append a picture, for training or `held` out."""
        high, low = entry
        self._reserve(high.size + sum(luma.size for luma in low.values()))
        for name, luma in (("hr", high), *((f"lr{scale}", low[scale]) for scale in SCALES)):
            data = self._data[name]
            size = data.shape[0]
            data.resize((size + luma.size,))
            data[size:] = luma.ravel()
        self._shapes.append(high.shape)
        self._held.append(held)

    def publish(self, **attributes: Any) -> None:
        """Complete the file and give it its name."""
        if not any(self._held):  # few sources: hold out one picture (and train on it too when it is the only one)
            self._held[0] = len(self._held) > 1
        self._reserve(64 * len(self._shapes) + len(attributes["sources"]))
        self._file["shapes"] = np.array(self._shapes, dtype=np.int64)
        self._file["validation"] = np.array(self._held)
        # as data: HDF5 has room for 64 KiB of attributes
        self._file["sources"] = np.frombuffer(attributes.pop("sources").encode(), np.uint8)
        self._file.attrs.update(attributes)
        self._file.flush()
        size = self._file.id.get_filesize()
        self._file.close()
        os.truncate(self.temporary, size)
        self.temporary.replace(self.target)

    def _reserve(self, more: int) -> None:
        """See that there is space for `more` bytes of data."""
        needed = sum(data.shape[0] for data in self._data.values()) + more + len(self._data) * _CHUNK
        if needed > self._reserved:
            with self.temporary.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, needed + 2 * _RESERVE)
            self._reserved = needed + _RESERVE

    def discard(self) -> None:
        """Delete what was written, unless it has been published."""
        with contextlib.suppress(OSError, RuntimeError):
            self._file.close()
        with contextlib.suppress(OSError):
            self.temporary.unlink()


def prepare(
    *folders: Path,
    out: Path,
    degradation: str = "clean",
    shrink: str = "soft",
    frames_per_clip: int = FRAMES_PER_CLIP,
    dead_leaves: float = 0.0,
    seed: int = 1,
    say: Callable[[str], None] = print,
) -> str:
    """Build the patch database `out` (HDF5) from the sources under `folders`; returns the data hash.

    degradation: `clean`, or `codec` for compressed footage, whose random choices `seed` decides. shrink: `soft` or
    `sharp` (see `vsr.training.sources`). frames_per_clip: how many frames of a clip serve, spread over its length, in a
    clean database. dead_leaves: the share of a clean database's pixels that are of pictures of random shapes (see
    `vsr.training.dead_leaves`), below 1.

    A database that is already there and was made from the same sources is kept. Datasets: `hr`, `lr2`, `lr3`,
    `lr4` (uint8, all pictures one after the other), `shapes` (int64 [N, 2], high-resolution heights and
    widths), `validation` (bool [N]), `sources` (JSON list of file names in UTF-8). It is written under a temporary name
    and renamed when complete. Raises `InputError` for sources that cannot be used, `TrainingError` when writing fails.
    """
    if degradation not in DEGRADATIONS:
        raise OptionError(f"got degradation {degradation!r}; there are {', '.join(DEGRADATIONS)}")
    if shrink not in SHRINKS:
        raise OptionError(f"got shrink {shrink!r}; there are {', '.join(SHRINKS)}")
    if frames_per_clip < 1:
        raise OptionError(f"got {frames_per_clip} frames per clip; it must be at least 1")
    if not 0.0 <= dead_leaves < 1.0:
        raise OptionError(f"got a share of {dead_leaves} for dead leaves; it must be at least 0 and below 1")
    if dead_leaves and degradation == "codec":
        raise OptionError("dead leaves are for clean data alone", "leave out --dead-leaves, or --degradation codec")
    sources = find_sources(*folders)
    how = f"{FORMAT} {MULTIPLE} {LONG_SIDE} {SIZES} {frames_per_clip}"
    if shrink != "sharp":  # which was the only one when the first models were trained
        how += f" {shrink}"
    if dead_leaves:
        how += f" dead leaves {dead_leaves} {seed}"
    if degradation == "codec":
        drawn = (
            codec.CODECS,
            sorted(codec.KERNELS),
            codec.CLEAN_SHARE,
            codec.BLUR_SHARE,
            codec.LARGEST_BLUR,
            codec.SMALLEST,
        )
        how += f" codec {seed} {drawn} {RUN_LENGTH} {RUNS_PER_CLIP} {PANS_PER_STILL} {PAN_SIZE} {KEPT_PER_RUN}"
    digest = sources_sha256(sources, how)
    if _is_of(out, digest, say):
        return digest
    try:
        writer = DatabaseWriter(out)
        try:
            entries = (
                _codec_entries(sources, shrink, seed)
                if degradation == "codec"
                else _clean_entries(sources, shrink, frames_per_clip)
            )
            total = len(sources.stills) + len(sources.clips)
            done = -1
            for index, path, entry, held in entries:
                writer.add(entry, held)
                if index != done:
                    say(f"{index + 1}/{total} {path.name}")
                    done = index
            if not len(writer):
                raise InputError(
                    f"every picture under {', '.join(map(str, folders))} is too small to train on",
                    f"both sides must have at least {2 * LEAST_SIDE} pixels, as they are halved first",
                )
            count = round(dead_leaves / (1.0 - dead_leaves) * writer.pixels / SIDE**2)
            for luma in islice(pictures(seed), count):
                writer.add(_clean_entry(luma), False)
            if count:
                say(f"and {count} pictures of dead leaves")
            names = json.dumps([p.name for p in sources])
            writer.publish(sources_sha256=digest, degradation=degradation, sources=names)
        finally:
            writer.discard()
    except (OSError, RuntimeError) as exc:  # h5py reports a full disk as either
        raise TrainingError(f"cannot write the patch database {out}: {exc}") from exc
    return digest


def degrade(luma: Luma, scale: int) -> Luma:
    """The low-resolution picture of the papers' protocol: MATLAB bicubic by 1/scale, rounded to 8 bits."""
    return np.rint(np.clip(imresize(luma, 1.0 / scale), 0.0, 255.0)).astype(np.uint8)


def _clean_entry(luma: Luma) -> Entry:
    return luma, {scale: degrade(luma, scale) for scale in SCALES}


def _is_of(path: Path, digest: str, say: Callable[[str], None]) -> bool:
    """Whether there is a database made from the sources with this hash."""
    if not path.exists():
        return False
    try:
        with h5py.File(path, "r") as old:
            return bool(old.attrs.get("sources_sha256") == digest)
    except OSError:
        say(f"{path} is not readable: building it again")
        return False


def _held_out(index: int, of: int) -> bool:
    return of >= HOLD_OUT_EVERY and index % HOLD_OUT_EVERY == HOLD_OUT_EVERY // 2


def _clean_entries(sources: Sources, shrink: str, frames_per_clip: int) -> Iterator[tuple[int, Path, Entry, bool]]:
    """Number of the source, its path, a picture of it, and whether that is held out."""
    for index, path in enumerate(sources.stills):
        held = _held_out(index, len(sources.stills))
        for number, luma in enumerate(still_pictures(path, shrink)):
            if held and number:
                break  # a validation still serves at one size, by its middle
            yield index, path, _clean_entry(middle(luma, VALIDATION_CROP) if held else luma), held
    frames = 0
    for index, path in enumerate(sources.clips, len(sources.stills)):
        for luma in clip_pictures(path, shrink, frames_per_clip):
            held = len(sources.stills) < HOLD_OUT_EVERY and frames % HOLD_OUT_EVERY == HOLD_OUT_EVERY - 1
            frames += 1
            yield index, path, _clean_entry(middle(luma, VALIDATION_CROP) if held else luma), held


def _codec_entries(sources: Sources, shrink: str, seed: int) -> Iterator[tuple[int, Path, Entry, bool]]:
    """As `_clean_entries`, of some frames of each run of a clip or window over a still."""
    for index, path in enumerate(sources.stills):
        rng = np.random.default_rng((seed, index))
        held = _held_out(index, len(sources.stills))
        for picture in list(still_pictures(path, shrink))[: 1 if held else 2]:
            for run in codec.pans(picture, RUN_LENGTH, 2 if held else PANS_PER_STILL // 2, PAN_SIZE, rng):
                for entry in _degraded(run, rng):
                    yield index, path, entry, held
    runs = 0
    for index, path in enumerate(sources.clips, len(sources.stills)):
        rng = np.random.default_rng((seed, index))
        for run in clip_runs(path, shrink, RUN_LENGTH, RUNS_PER_CLIP):
            held = len(sources.stills) < HOLD_OUT_EVERY and runs % HOLD_OUT_EVERY == HOLD_OUT_EVERY - 1
            runs += 1
            for entry in _degraded([middle(p, VALIDATION_CROP) for p in run] if held else run, rng):
                yield index, path, entry, held


def _degraded(run: list[Luma], rng: np.random.Generator) -> Iterator[Entry]:
    """Some pictures of a run, with their low-resolution forms: at each scale either all clean or all encoded."""
    run = [crop_to_multiple(picture, CODEC_MULTIPLE) for picture in run]
    kept = sorted(rng.choice(len(run), min(KEPT_PER_RUN, len(run)), replace=False).tolist())
    low: dict[int, list[Luma]] = {}
    for scale in SCALES:
        clean = rng.random() < codec.CLEAN_SHARE
        drawn = codec.Degradation.draw(rng, min(run[0].shape) // scale)
        if clean:
            low[scale] = [degrade(run[number], scale) for number in kept]
        else:
            decoded = drawn.apply(run, scale)
            low[scale] = [decoded[number] for number in kept]
    for place, number in enumerate(kept):
        yield run[number], {scale: low[scale][place] for scale in SCALES}
