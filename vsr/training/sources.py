"""What is trained on: photographs and clips in folders, and the luma pictures that they give.

Both are lossy, so they are shrunk at least 2x, which leaves no compression traces, before they serve as high-
resolution pictures. By which kernel matters: the triangle (`soft`) leaves about the spectrum that cameras' pictures
have at their own size, Lanczos and the cubic (`sharp`) leave more at the highest frequencies, and networks trained on
that do worse on pictures that were not shrunk (docs/benchmarks.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import av.container
import av.error
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsr.errors import InputError
from vsr.metrics import rgb_to_luma_bt601
from vsr.pixel_formats import samples_of

Luma = NDArray[np.uint8]

#: Pictures are cropped to a multiple of this, so that every scale divides them, and evenly.
MULTIPLE: Final = 12
LONG_SIDE: Final = 2040
#: A shrunk picture with a side below this is of no use.
LEAST_SIDE: Final = 4 * MULTIPLE
#: Every still serves at these sizes (of the shrunk picture): detail at several distances.
SIZES: Final = (1.0, 0.75, 0.55)
#: Kernels of the shrinking: at the first of `SIZES`, and at the others.
SHRINKS: Final = {
    "soft": (Image.Resampling.BILINEAR, Image.Resampling.BILINEAR),
    "sharp": (Image.Resampling.LANCZOS, Image.Resampling.BICUBIC),
}
FRAMES_PER_CLIP: Final = 8
#: Clips with more frames than this are not decoded whole; frames are sought out.
LONG_CLIP: Final = 3000
STILL_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VIDEO_SUFFIXES: Final = frozenset({".mp4", ".mkv", ".mov", ".webm", ".avi", ".ts", ".y4m"})


@dataclass(frozen=True)
class Sources:
    """The files to train on, in a fixed order: stills and clips."""

    stills: tuple[Path, ...]
    clips: tuple[Path, ...]

    def __iter__(self) -> Iterator[Path]:
        yield from self.stills
        yield from self.clips


def find_sources(*folders: Path) -> Sources:
    """Stills and clips under `folders`.

    Where a folder (or its `train/`) holds `stills/permissive` and `video`, exactly these two are taken; any
    other is searched whole. Raises `InputError` when there is nothing to train on.
    """
    files: dict[Path, None] = {}  # in order, each once
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"training data folder {folder} does not exist", "give a folder with pictures or clips")
        root = folder / "train" if (folder / "train").is_dir() else folder
        still_root = root / "stills" / "permissive"
        video_root = root / "video"
        roots = [r for r in (still_root, video_root) if r.is_dir()] if still_root.is_dir() else [root]
        files |= dict.fromkeys(sorted({p for r in roots for p in r.rglob("*") if p.is_file()}, key=lambda p: p.name))
    stills = tuple(p for p in files if p.suffix.lower() in STILL_SUFFIXES)
    clips = tuple(p for p in files if p.suffix.lower() in VIDEO_SUFFIXES)
    if not stills and not clips:
        raise InputError(
            f"{', '.join(map(str, folders))} holds no pictures or clips",
            f"known suffixes: {' '.join(sorted(STILL_SUFFIXES | VIDEO_SUFFIXES))}",
        )
    return Sources(stills, clips)


def sources_sha256(sources: Sources, preparation: str) -> str:
    """One hash over the names and contents of all sources and over how they are prepared.

    Raises `InputError` if one cannot be read.
    """
    total = hashlib.sha256(preparation.encode())
    for path in sources:
        try:
            with path.open("rb") as file:
                total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except OSError as exc:
            raise InputError(f"cannot read {path}: {exc.strerror or exc}") from exc
    return total.hexdigest()


def still_pictures(path: Path, shrink: str) -> Iterator[Luma]:
    """The luma pictures that one photograph gives: shrunk (by which of `SHRINKS`), at each of `SIZES`.

    Raises `InputError` if it cannot be read.
    """
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise InputError(f"cannot read the picture {path}: {exc}", "mend it or take it away") from exc
    for factor in SIZES:
        small = _shrink(image, factor, shrink)
        if small is not None:
            yield crop_to_multiple(rgb_to_luma_bt601(np.asarray(small)))


def clip_pictures(path: Path, shrink: str, count: int = FRAMES_PER_CLIP) -> Iterator[Luma]:
    """The luma pictures that one clip gives: `count` frames spread over its length, shrunk.

    Raises `InputError` if it cannot be read.
    """
    for run in clip_runs(path, shrink, 1, count):
        yield run[0]


def clip_runs(path: Path, shrink: str, length: int, most: int) -> Iterator[list[Luma]]:
    """Runs of `length` frames that follow each other, at most `most` of them, spread over the clip; shrunk luma.

    Raises `InputError` if the clip cannot be read.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            frames = stream.frames or round(float(stream.average_rate or 25) * (container.duration or 0) / 1e6)
            find = _sought_runs if frames > LONG_CLIP else _decoded_runs
            for run in find(container, frames, length, most):
                pictures = [small for frame in run if (small := _shrink(Image.fromarray(_luma(frame)), 1.0, shrink))]
                if len(pictures) == length:
                    yield [crop_to_multiple(np.asarray(small)) for small in pictures]
    except (av.error.FFmpegError, IndexError, OSError) as exc:
        raise InputError(f"cannot read the clip {path}: {exc}", "mend it or take it away") from exc


def _decoded_runs(
    container: av.container.InputContainer, frames: int, length: int, most: int
) -> Iterator[list[av.VideoFrame]]:
    """Each from the middle of an equal part of the clip, which is decoded whole."""
    step = max(length, frames // most)
    first = (step - length + 1) // 2
    run: list[av.VideoFrame] = []
    for number, frame in enumerate(container.decode(container.streams.video[0])):
        if number >= step * most:
            return
        if first <= number % step < first + length:
            run.append(frame)
            if number % step == first + length - 1:
                yield run
                run = []


def _sought_runs(
    container: av.container.InputContainer, frames: int, length: int, most: int
) -> Iterator[list[av.VideoFrame]]:
    """Each from the key frame before the middle of an equal part of the clip."""
    stream = container.streams.video[0]
    rate = float(stream.average_rate or 25)
    seen: set[int | None] = set()
    for part in range(most):
        time = (part + 0.5) / most * frames / rate + (container.start_time or 0) / 1e6
        container.seek(int(time * 1e6))
        run: list[av.VideoFrame] = []
        for frame in container.decode(stream):
            run.append(frame)
            if len(run) == length:
                break
        if run and run[0].pts not in seen:  # key frames may be farther apart than the parts
            seen.add(run[0].pts)
            yield run


def _luma(frame: av.VideoFrame) -> Luma:
    """The luma plane in 8 bits and studio range, [H, W]."""
    full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
    # planes[0]: a conversion to grey would silently expand the range
    luma: Luma = samples_of(frame.reformat(format="yuvj420p" if full else "yuv420p").planes[0])
    if full:
        luma = np.rint(16.0 + luma * (219.0 / 255.0)).astype(np.uint8)
    return np.ascontiguousarray(luma)


def _shrink(image: Image.Image, factor: float, shrink: str) -> Image.Image | None:
    """The picture at half its size or less; None when that is too small to be of use."""
    base = min(0.5, LONG_SIDE / max(image.size)) * factor
    size = (round(image.width * base), round(image.height * base))
    if min(size) < LEAST_SIDE:
        return None
    return image.resize(size, SHRINKS[shrink][factor != 1.0])


def crop_to_multiple(luma: Luma, multiple: int = MULTIPLE) -> Luma:
    """The picture without the rows and columns at its end that are too many."""
    height, width = (n // multiple * multiple for n in luma.shape)
    return luma[:height, :width]


def middle(luma: Luma, size: int, multiple: int = MULTIPLE) -> Luma:
    """The middle of a picture, at most `size` pixels wide and high."""
    height, width = (min(n, size) // multiple * multiple for n in luma.shape)
    # the offset is a multiple too, so that the crop degrades as the whole did
    top, left = ((n - m) // 2 // multiple * multiple for n, m in zip(luma.shape, (height, width), strict=True))
    return luma[top : top + height, left : left + width]
