"""The training data: one HDF5 file of clean luma pictures, built once, and random patches drawn from it.

Sources are photographs (`train/stills/permissive`) and frames of video clips (`train/video`). Both are lossy,
so they are shrunk at least 2x, which leaves no compression traces, before they serve as high-resolution
pictures. Low- resolution pictures are made from whole pictures by MATLAB's bicubic and rounded to 8 bits, as
in the papers' protocol.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsr.errors import InputError, OptionError, TrainingError
from vsr.metrics import rgb_to_luma_bt601
from vsr.resample import imresize

Luma = NDArray[np.uint8]

SCALES = (2, 3, 4)
#: Pictures are cropped to a multiple of this, so that every scale divides them.
MULTIPLE = 12
LONG_SIDE = 2040
#: Every source serves at these sizes (of the shrunk picture): detail at several distances.
SIZES = (1.0, 0.75, 0.55)
FRAMES_PER_CLIP = 8
#: Every n-th still is held out for validation (and so never trained on).
HOLD_OUT_EVERY = 12
VALIDATION_CROP = 480
STILL_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".webm", ".avi", ".ts", ".y4m"})
_FORMAT = 1


@dataclass(frozen=True)
class Sources:
    """The files to train on, in a fixed order: stills and clips."""

    stills: tuple[Path, ...]
    clips: tuple[Path, ...]

    def __iter__(self) -> Iterator[Path]:
        yield from self.stills
        yield from self.clips


def find_sources(folder: Path) -> Sources:
    """Stills and clips under `folder`.

    Where `folder` (or its `train/`) holds `stills/permissive` and `video`, exactly these two are taken; any
    other folder is searched whole. Raises `InputError` when there is nothing to train on.
    """
    if not folder.is_dir():
        raise InputError(f"training data folder {folder} does not exist", "give a folder with pictures or clips")
    root = folder / "train" if (folder / "train").is_dir() else folder
    still_root = root / "stills" / "permissive"
    video_root = root / "video"
    roots = [r for r in (still_root, video_root) if r.is_dir()] if still_root.is_dir() else [root]
    files = sorted({p for r in roots for p in r.rglob("*") if p.is_file()}, key=lambda p: p.name)
    stills = tuple(p for p in files if p.suffix.lower() in STILL_SUFFIXES)
    clips = tuple(p for p in files if p.suffix.lower() in VIDEO_SUFFIXES)
    if not stills and not clips:
        raise InputError(
            f"{folder} holds no pictures or clips",
            f"known suffixes: {' '.join(sorted(STILL_SUFFIXES | VIDEO_SUFFIXES))}",
        )
    return Sources(stills, clips)


def sources_sha256(sources: Sources) -> str:
    """One hash over the names and contents of all sources and over how they are prepared."""
    total = hashlib.sha256(f"{_FORMAT} {MULTIPLE} {LONG_SIDE} {SIZES} {FRAMES_PER_CLIP}".encode())
    for path in sources:
        with path.open("rb") as file:
            total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _shrink(image: Image.Image, factor: float) -> Image.Image | None:
    base = min(0.5, LONG_SIDE / max(image.size)) * factor
    size = (round(image.width * base), round(image.height * base))
    if min(size) < 4 * MULTIPLE:
        return None
    return image.resize(size, Image.Resampling.LANCZOS if factor == 1.0 else Image.Resampling.BICUBIC)


def _crop_to_multiple(luma: Luma) -> Luma:
    height, width = (n // MULTIPLE * MULTIPLE for n in luma.shape)
    return luma[:height, :width]


def still_pictures(path: Path) -> Iterator[Luma]:
    """The luma pictures that one photograph gives: shrunk, at each of `SIZES`."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as exc:
        raise InputError(f"cannot read the picture {path}: {exc}") from exc
    for factor in SIZES:
        small = _shrink(image, factor)
        if small is not None:
            yield _crop_to_multiple(rgb_to_luma_bt601(np.asarray(small)))


def clip_pictures(path: Path) -> Iterator[Luma]:
    """The luma pictures that one clip gives: `FRAMES_PER_CLIP` frames spread over its length, shrunk."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            count = stream.frames or round(float(stream.average_rate or 25) * (container.duration or 0) / 1e6)
            step = max(1, count // FRAMES_PER_CLIP)
            for number, frame in enumerate(container.decode(stream)):
                if number >= step * FRAMES_PER_CLIP:
                    break
                if number % step != step // 2:
                    continue
                full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
                # planes[0]: a conversion to grey would silently expand the range
                plane = frame.reformat(format="yuvj420p" if full else "yuv420p").planes[0]
                rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
                luma = rows[:, : plane.width]
                if full:
                    luma = np.rint(16.0 + luma * (219.0 / 255.0)).astype(np.uint8)
                small = _shrink(Image.fromarray(np.ascontiguousarray(luma)), 1.0)
                if small is not None:
                    yield _crop_to_multiple(np.asarray(small))
    except (av.error.FFmpegError, IndexError, OSError) as exc:
        raise InputError(f"cannot read the clip {path}: {exc}") from exc


def prepare(folder: Path, out: Path, say: Callable[[str], None] = print) -> str:
    """Build the patch database `out` (HDF5) from the sources under `folder`; returns the data hash.

    A database that is already there and was made from the same sources is kept. Datasets: `hr`, `lr2`, `lr3`,
    `lr4` (uint8, all pictures one after the other), `shapes` (int64 [N, 2], high-resolution heights and
    widths), `validation` (bool [N]). It is written under a temporary name and renamed when complete.
    """
    sources = find_sources(folder)
    digest = sources_sha256(sources)
    if out.exists():
        try:
            with h5py.File(out, "r") as old:
                if old.attrs.get("sources_sha256") == digest:
                    return digest
        except OSError:
            say(f"{out} is not readable: building it again")
    pictures: list[Luma] = []
    validation: list[bool] = []
    for index, path in enumerate(sources.stills):
        held = len(sources.stills) >= HOLD_OUT_EVERY and index % HOLD_OUT_EVERY == HOLD_OUT_EVERY // 2
        for number, luma in enumerate(still_pictures(path)):
            if held and number:
                break  # a validation still serves at one size, by its middle
            pictures.append(_middle(luma, VALIDATION_CROP) if held else luma)
            validation.append(held)
        say(f"still {index + 1}/{len(sources.stills)} {path.name}")
    for index, path in enumerate(sources.clips):
        for luma in clip_pictures(path):
            pictures.append(luma)
            validation.append(False)
        say(f"clip {index + 1}/{len(sources.clips)} {path.name}")
    if not pictures:
        raise InputError(f"every picture under {folder} is too small to train on")
    if not any(validation):  # few sources: hold out one picture (and train on it too when it is the only one)
        validation[0] = len(pictures) > 1
    temporary = out.with_name(out.name + ".tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(temporary, "w") as file:
            file["hr"] = np.concatenate([p.ravel() for p in pictures])
            for scale in SCALES:
                file[f"lr{scale}"] = np.concatenate([degrade(p, scale).ravel() for p in pictures])
                say(f"x{scale} low-resolution pictures made")
            file["shapes"] = np.array([p.shape for p in pictures], dtype=np.int64)
            file["validation"] = np.array(validation)
            file.attrs["sources_sha256"] = digest
            file.attrs["sources"] = json.dumps([p.name for p in sources])
        temporary.replace(out)
    except OSError as exc:
        with contextlib.suppress(OSError):  # the folder itself may be what is missing
            temporary.unlink()
        raise TrainingError(f"cannot write the patch database {out}: {exc}") from exc
    return digest


def degrade(luma: Luma, scale: int) -> Luma:
    """The low-resolution picture of the papers' protocol: MATLAB bicubic by 1/scale, rounded to 8 bits."""
    return np.rint(np.clip(imresize(luma, 1.0 / scale), 0.0, 255.0)).astype(np.uint8)


def _middle(luma: Luma, size: int) -> Luma:
    height, width = (min(n, size // MULTIPLE * MULTIPLE) for n in luma.shape)
    # the offset is a multiple of MULTIPLE too, so that the crop degrades as the whole did
    top, left = ((n - m) // 2 // MULTIPLE * MULTIPLE for n, m in zip(luma.shape, (height, width), strict=True))
    return luma[top : top + height, left : left + width]


class PatchData:
    """Random patches of one scale, drawn from a prepared database held in memory.

    The patches of a step depend on seed and step alone, so that a resumed training sees what an uninterrupted
    one would. `patch` is the side of a low-resolution patch in pixels.
    """

    def __init__(self, path: Path, scale: int, patch: int) -> None:
        if scale not in SCALES:
            raise OptionError(f"got scale {scale}; the data is prepared for {SCALES}")
        if patch < 4:
            raise OptionError(f"got patch {patch}; it must be at least 4 pixels")
        try:
            with h5py.File(path, "r") as file:
                hr, lr = file["hr"][:], file[f"lr{scale}"][:]
                shapes, held = file["shapes"][:], file["validation"][:]
                self.sha256 = str(file.attrs["sources_sha256"])
        except (OSError, KeyError) as exc:
            raise InputError(f"{path} is not a prepared patch database: {exc}") from exc
        self.scale, self.patch = scale, patch
        self._train: list[tuple[Luma, Luma]] = []
        self.validation: list[tuple[Luma, Luma]] = []
        start = small = 0
        for (height, width), is_held in zip(shapes, held, strict=True):
            lr_height, lr_width = height // scale, width // scale
            pair = (
                lr[small : small + lr_height * lr_width].reshape(lr_height, lr_width),
                hr[start : start + height * width].reshape(height, width),
            )
            start, small = start + height * width, small + lr_height * lr_width
            if is_held:
                self.validation.append(pair)
            elif min(lr_height, lr_width) >= patch:
                self._train.append(pair)
        if not self._train:
            raise InputError(f"every picture in {path} is smaller than a patch of {patch * scale} pixels")
        area = np.array([pair[0].size for pair in self._train], dtype=np.float64)
        self._chance: NDArray[np.float64] = np.cumsum(area / area.sum())

    def batch(self, seed: int, step: int, size: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """`size` pairs of patches: float32 [size, 1, p, p] and [size, 1, p·scale, p·scale], values 0 to 1."""
        rng = np.random.default_rng((seed, step))
        p, s = self.patch, self.scale
        low = np.empty((size, 1, p, p), np.uint8)
        high = np.empty((size, 1, p * s, p * s), np.uint8)
        for k in range(size):
            for attempt in range(4):
                which = min(int(np.searchsorted(self._chance, rng.random())), len(self._train) - 1)
                lr, hr = self._train[which]
                y = int(rng.integers(lr.shape[0] - p + 1))
                x = int(rng.integers(lr.shape[1] - p + 1))
                a = lr[y : y + p, x : x + p]
                # sky teaches nothing: draw again, but a few flat patches stay
                if attempt == 3 or np.abs(np.diff(a[::2].astype(np.int16))).mean() > 2.0:
                    break
            b = hr[y * s : (y + p) * s, x * s : (x + p) * s]
            turn, flip = int(rng.integers(4)), bool(rng.integers(2))
            a, b = np.rot90(a, turn), np.rot90(b, turn)
            low[k, 0], high[k, 0] = (a[:, ::-1], b[:, ::-1]) if flip else (a, b)
        unit = np.float32(1.0 / 255.0)
        return low * unit, high * unit
