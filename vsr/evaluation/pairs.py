"""What models are measured on: pristine luma and its low-resolution form, from stills and from videos.

The protocol of the super-resolution papers: luma (BT.601, studio range, 8 bits; a grey picture's and a video's values
as they are) is cropped to a multiple of the scale, shrunk by MATLAB's bicubic, and rounded to whole code values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vsr.errors import InputError, MissingInputError, UnsupportedInputError
from vsr.frame import ColorSpec, Plane, VideoInfo
from vsr.metrics import rgb_to_luma_bt601
from vsr.resample import imresize
from vsr.source import Source

PROTOCOL: Final = "Y BT.601 8-bit, MATLAB bicubic, border = scale"
STILL_SUFFIXES: Final = (".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg", ".ppm", ".pgm")
SSIM_WINDOW: Final = 11
UNTAGGED: Final = ColorSpec()
Note = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Pair:
    """One picture to enlarge and what should come out.

    Attributes:
        low: luma code values [h, w], uint8, or uint16 above 8 bits.
        truth: luma code values [scale·h, scale·w] of the same type.
        bits: significant bits of a sample.
        color: tags of the video; of a still, unspecified.
    """

    low: Plane
    truth: Plane
    bits: int = 8
    color: ColorSpec = UNTAGGED


@dataclass(frozen=True)
class Item:
    """A file to measure on.

    Attributes:
        name: of the file.
        bits: of its samples.
        pairs: opens it anew and yields its pictures: one of a still, one for each frame of a video.
    """

    name: str
    bits: int
    pairs: Callable[[], Iterator[Pair]]


@dataclass(frozen=True)
class TestSet:
    """Files that share a mean."""

    name: str
    items: tuple[Item, ...]

    __test__ = False  # not a test of pytest's


def find_sets(
    data: Path, scale: int, *, against: Path | None = None, frames: int | None = None, note: Note = lambda _: None
) -> list[TestSet]:
    """The sets of pictures that `data` holds, each file looked at.

    Args:
        data: a still, a video, a folder of stills, or a folder of such folders (perhaps in its `test/`).
        scale: by which the pristine pictures are shrunk.
        against: a video at 1/scale of the size of the video `data`, to be enlarged in place of what bicubic shrinks.
        frames: measure only so many frames of a video; None for all.
        note: called with one line for each thing that the user should know.

    Raises:
        MissingInputError: there is nothing at `data`.
        InputError: it holds no pictures, or one that cannot be read or is too small, or `against` does not fit.
    """
    if not data.exists():
        raise MissingInputError(f"{data} does not exist", "give a folder of stills, a still or a video")
    if data.is_dir():
        if against is not None:
            raise InputError(f"{data} is a folder, and {against} can only be compared with one video")
        return [_stills(name, files, scale) for name, files in _folders(data)]
    if data.suffix.lower() in STILL_SUFFIXES:
        if against is not None:
            raise InputError(f"{data} is a still, and {against} can only be compared with a video")
        return [_stills(data.name, [data], scale)]
    return [TestSet(data.name, (_video(data, scale, against, frames, note),))]


def read_luma(path: Path) -> npt.NDArray[np.uint8]:
    """The luma of a picture file as the papers take it: uint8 [H, W].

    Raises:
        InputError: it cannot be read, or has more than 8 bits a sample.
    """
    from PIL import Image

    try:
        with Image.open(path) as file:
            if file.mode[0] in "IF":
                raise InputError(f"{path} has more than 8 bits a sample ({file.mode}); the protocol is for 8")
            return np.asarray(file) if file.mode == "L" else rgb_to_luma_bt601(np.asarray(file.convert("RGB")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise InputError(f"cannot read the picture {path}: {exc}") from exc


def shrink(luma: Plane, scale: int, bits: int = 8) -> tuple[Plane, Plane]:
    """The low-resolution form of `luma`, and `luma` cropped to a multiple of `scale`, both in code values."""
    height, width = (n // scale * scale for n in luma.shape)
    truth = luma[:height, :width]
    low = np.rint(np.clip(imresize(truth, 1.0 / scale), 0.0, (1 << bits) - 1))
    return (low.astype(np.uint8) if bits == 8 else low.astype(np.uint16)), truth


def _folders(data: Path) -> Iterator[tuple[str, list[Path]]]:
    root = data / "test" if (data / "test").is_dir() else data
    own = _stills_in(root)
    folders = (
        {root.resolve().name: own} if own else {f.name: _stills_in(f) for f in sorted(root.iterdir()) if f.is_dir()}
    )
    found = {name: files for name, files in folders.items() if files}
    if not found:
        raise InputError(
            f"{data} holds no still images, nor does a folder in it", f"known are {', '.join(STILL_SUFFIXES)}"
        )
    yield from found.items()


def _stills_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in STILL_SUFFIXES and not p.name.startswith("."))


def _stills(name: str, files: list[Path], scale: int) -> TestSet:
    from PIL import Image

    items = []
    for path in files:
        try:
            with Image.open(path) as file:  # reads the header only: a bad file is named before any work is done
                width, height = file.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
            raise InputError(f"cannot read the picture {path}: {exc}") from exc
        check_size(path, width, height, scale)
        items.append(Item(path.name, 8, partial(_still_pairs, path, scale)))
    return TestSet(name, tuple(items))


def check_size(path: Path, width: int, height: int, scale: int) -> None:
    """See that a picture is large enough to be measured on.

    Raises:
        InputError: less than a window of SSIM is left of it without the border.
    """
    least = scale * -(-(SSIM_WINDOW + 2 * scale) // scale)
    if min(width, height) < least:
        raise InputError(
            f"{path} is {width}x{height}, too small to measure x{scale} on", f"it must be at least {least}x{least}"
        )


def _still_pairs(path: Path, scale: int) -> Iterator[Pair]:
    yield Pair(*shrink(read_luma(path), scale))


def _video(path: Path, scale: int, against: Path | None, frames: int | None, note: Note) -> Item:
    info = _video_info(path)
    check_size(path, info.width, info.height, scale)
    if against is None:
        return Item(path.name, info.format.bits, partial(_shrunk_frames, path, scale, frames, note))
    _check_against(against, _video_info(against), path, info, scale)
    return Item(path.name, info.format.bits, partial(_given_frames, path, against, scale, frames, note))


def _video_info(path: Path) -> VideoInfo:
    source = Source(path)
    source.close()
    if source.info.format.family == "rgb":
        raise UnsupportedInputError(
            f"{path} is RGB video ({source.info.pix_fmt_from_header}), and luma is what is measured",
            "convert it to YCbCr, or its frames to stills",
        )
    return source.info


def _check_against(low_path: Path, low: VideoInfo, path: Path, info: VideoInfo, scale: int) -> None:
    if (low.width, low.height) != (info.width // scale, info.height // scale):
        fits = [s for s in (2, 3, 4) if (low.width, low.height) == (info.width // s, info.height // s)]
        raise InputError(
            f"{low_path} is {low.width}x{low.height}, and 1/{scale} of {path} would be "
            f"{info.width // scale}x{info.height // scale}",
            f"use -s {fits[0]}" if fits else "give the same clip, downscaled by a whole factor",
        )
    for what, ours, theirs in (
        ("bits a sample", low.format.bits, info.format.bits),
        ("range", low.color.range.name.lower(), info.color.range.name.lower()),
    ):
        if ours != theirs and "unspecified" not in (ours, theirs):
            raise InputError(f"{low_path} and {path} differ in {what}: {ours} and {theirs}", "they cannot be compared")


def _shrunk_frames(path: Path, scale: int, frames: int | None, note: Note) -> Iterator[Pair]:
    for luma, info in _luma(path, frames, note):
        yield Pair(*shrink(luma, scale, info.format.bits), info.format.bits, info.color)


def _given_frames(path: Path, against: Path, scale: int, frames: int | None, note: Note) -> Iterator[Pair]:
    lows = _luma(against, frames, note)
    count = 0
    for count, (luma, info) in enumerate(_luma(path, frames, note), 1):
        given = next(lows, None)
        if given is None:
            raise InputError(f"{against} has {count - 1} frames, and {path} has more", "they cannot be compared")
        low, low_info = given
        height, width = (n // scale * scale for n in luma.shape)
        yield Pair(low, luma[:height, :width], info.format.bits, low_info.color)
    if next(lows, None) is not None:
        raise InputError(f"{against} has more frames than the {count} of {path}", "they cannot be compared")


def _luma(path: Path, frames: int | None, note: Note) -> Iterator[tuple[Any, VideoInfo]]:
    source = Source(path, note=note)
    try:
        for frame in islice(source.frames(), frames):
            yield frame.planes.arrays[0], source.info
    finally:
        source.close()
