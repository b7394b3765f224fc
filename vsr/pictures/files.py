"""Picture files: what they hold, their samples as arrays of 8 or 16 bits, and arrays as files.

Pillow reads and writes them; `deep` does what its images cannot hold. R'G'B' stays R'G'B' here.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from vsr.errors import InputError, MissingInputError, NotMediaError, OptionError, OutputError, UnsupportedInputError
from vsr.pictures.attached import Attached, read_attached
from vsr.pictures.deep import (
    is_deep_color,
    metadata_chunks,
    raw_mode,
    read_deep,
    write_deep_png,
    write_deep_ppm,
)
from vsr.pictures.tiff import write_tiff
from vsr.processor import SHARE_OF_MEMORY, memory_size
from vsr.reading.demux import check_input_path

Quality = int | Literal["lossless"]
Note = Callable[[str], None]
Samples = npt.NDArray[Any]

STILL_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm")
ALPHA_SUFFIXES: Final = (".png", ".tif", ".tiff", ".webp")
DEEP_SUFFIXES: Final = (".png", ".tif", ".tiff", ".ppm", ".pgm")
LOSSY_SUFFIXES: Final = (".jpg", ".jpeg", ".webp")
LARGEST: Final = {".webp": 16383, ".jpg": 65535, ".jpeg": 65535}
UNREAD_SUFFIXES: Final = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF"),
    ".jxl": "JPEG XL",
    **dict.fromkeys((".jp2", ".j2k", ".jpx"), "JPEG 2000"),
    ".psd": "Photoshop",
    ".exr": "OpenEXR",
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"), "camera raw"),
}
DEFAULT_QUALITY: Final = 95
CHANNEL_NAMES: Final = {1: "grey", 3: "RGB", 4: "RGBA"}
WORKING_COPIES: Final = 3  # of a picture that are in memory at the same time: planes, an array, and Pillow's own

_limit_lock = threading.RLock()


@dataclass(frozen=True)
class PictureKind:
    """What the header of a picture file says.

    Attributes:
        width: as displayed, in samples.
        height: likewise.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        bits: 8 or 16 a channel.
        format: Pillow's name of the file format.
        pictures: how many the file holds.
    """

    width: int
    height: int
    channels: int
    bits: int
    format: str = ""
    pictures: int = 1

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {CHANNEL_NAMES[self.channels]} of {self.bits} bits"


@dataclass(frozen=True, eq=False)
class Picture:
    """A still picture in memory.

    Attributes:
        samples: [H, W] grey, [H, W, 3] RGB or [H, W, 4] RGBA, uint8 or uint16, full range, as stored in the file.
        attached: what is saved along with it.
    """

    samples: Samples
    attached: Attached

    def upright(self) -> Picture:
        """The picture with its samples turned as it is displayed."""
        return Picture(turned(self.samples, self.attached.orientation()), self.attached.upright())


def is_still(path: Path) -> bool:
    """Whether `path` is called like a still picture that is read and written here."""
    return path.suffix.lower() in STILL_SUFFIXES


def shows_as_video(path: Path, output: Path) -> bool:
    """Whether the still `path` is an animation that is wanted as a video, by the name of the `output`.

    Raises:
        UnsupportedInputError: it is one that FFmpeg does not read.
        InputError: it cannot be opened.
    """
    if output.suffix.lower() in STILL_SUFFIXES and "%" not in output.name:
        return False
    kind = read_kind(path)
    if kind.pictures > 1 and kind.format == "WEBP":
        raise UnsupportedInputError(
            f"{path} is an animated WebP, which is not read as a video", "make it a GIF or APNG"
        )
    return kind.pictures > 1 and kind.format == "PNG"


def refuse_unread(path: Path) -> None:
    """Raise if `path` is called like a still picture of a kind that is not read.

    Raises:
        UnsupportedInputError
    """
    kind = UNREAD_SUFFIXES.get(path.suffix.lower())
    if kind is not None:
        raise UnsupportedInputError(
            f"{path} is a picture of the kind {kind}, which is not read", "convert it to .png or .tif first"
        )


def check_quality(quality: int | None, path: Path, *, lossless: bool = False) -> None:
    """See that `quality` and `lossless` mean something for a picture of this name.

    Raises:
        OptionError: they do not.
    """
    suffix = path.suffix.lower()
    if lossless and suffix in (".jpg", ".jpeg"):
        raise OptionError("JPEG is never lossless; .png, .tif and .webp can be")
    if quality is not None and lossless:
        raise OptionError(f"quality {quality} and lossless contradict each other")
    if quality is not None and suffix not in LOSSY_SUFFIXES:
        raise OptionError(f"quality {quality} is for .jpg and .webp, and {path.name} loses nothing")


def read_kind(path: Path) -> PictureKind:
    """What the header of `path` says; no sample is decoded.

    Raises:
        InputError: as `read_picture`.
    """
    with _unlimited(), open_picture(path) as image:
        width, height = image.size
        if image.format != "TIFF" and read_attached(image).orientation() >= 5:  # Pillow gives a TIFF's as displayed
            width, height = height, width
        deep = image.mode.startswith("I") or is_deep_color(image)
        channels = 4 if _has_alpha(image) else 1 if image.mode in ("L", "1") or image.mode.startswith("I") else 3
        pictures = getattr(image, "n_frames", 1)
        return PictureKind(width, height, channels, 16 if deep else 8, image.format or "", pictures)


def read_picture(path: Path, note: Note = lambda _: None) -> Picture:
    """Read a picture.

    Args:
        path: of the file.
        note: called with one line for each thing that becomes another: ink colours, 16 bits of ink, further pictures.

    Raises:
        MissingInputError, NotMediaError: the file is not there, or broken.
        UnsupportedInputError: of a kind that is not handled.
    """
    with _unlimited(), open_picture(path) as image:
        try:
            deep = is_deep_color(image)
            if image.mode == "CMYK" and ";16" in raw_mode(image):
                note(f"{path.name} has 16 bits of each ink; 8 of them are read")
            image.load()  # before the tags are read: Pillow turns a TIFF upright while loading, and drops its tag
            attached = read_attached(image)
            count = getattr(image, "n_frames", 1)
            if count > 1:
                note(f"{path.name} holds {count} pictures; the first is taken")
            if deep:
                return Picture(read_deep(path, open_picture), attached)
            if image.mode == "CMYK":
                return _from_inks(image, path, attached, note)
            return Picture(_samples(image, path), attached)
        except (OSError, ValueError, SyntaxError, EOFError) as exc:  # what Pillow's decoders raise on broken files
            raise NotMediaError(f"{path} cannot be decoded: {exc}") from exc


def fit_format(samples: Samples, name: str, suffix: str, note: Note = lambda _: None) -> Samples:
    """The picture as far as files with `suffix` can hold it: fewer bits, no alpha; `note` is told so.

    Args:
        samples: as in `Picture`.
        name: what to call the picture.
        suffix: of the file to come.
        note: called with one line for each thing that is lost.

    Raises:
        OutputError: the files hold grey only, and the picture has colour.
    """
    suffix = suffix.lower()
    if samples.dtype == np.uint16 and suffix not in DEEP_SUFFIXES:
        note(f"{suffix[1:]} holds 8 bits; the 16 of {name} are reduced")
        samples = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if samples.ndim == 3 and samples.shape[2] == 4 and suffix not in ALPHA_SUFFIXES:
        note(f"{suffix[1:]} holds no alpha channel; that of {name} is left out")
        samples = samples[:, :, :3]
    if samples.ndim == 3 and suffix == ".pgm":
        raise OutputError(f"pgm holds grey pictures, and {name} has colour", "write .ppm")
    return samples


def write_picture(
    samples: Samples,
    path: Path,
    suffix: str,
    attached: Attached,
    quality: Quality | None = None,
    note: Note | None = None,
) -> None:
    """Write a picture that fits the format (see `fit_format`).

    Args:
        samples: as in `Picture`.
        path: of the file.
        suffix: names the format.
        attached: what is saved along.
        quality: 1 to 100 or `lossless`; None for 95. JPEG's colour is not subsampled.
        note: called with one line if the format has no place for something.

    Raises:
        OSError, ValueError: the system or Pillow refuses.
    """
    from PIL import Image

    suffix = suffix.lower()
    arguments, lost = attached.save_arguments(suffix)
    if lost and note is not None:
        note(f"{suffix[1:]} has no place for {', '.join(lost)}; left out")
    samples = np.ascontiguousarray(samples)
    if suffix in (".tif", ".tiff"):
        write_tiff(samples, path, *attached.tiff_tags())
        return
    if samples.dtype == np.uint16 and suffix == ".png":
        write_deep_png(samples, path, metadata_chunks(**arguments))
        return
    if samples.dtype == np.uint16 and samples.ndim == 3:
        write_deep_ppm(samples, path)
        return
    if suffix in LOSSY_SUFFIXES:
        lossless = quality == "lossless"
        arguments["quality"] = 100 if lossless else quality or DEFAULT_QUALITY
        if suffix == ".webp":
            arguments.update(method=4, lossless=lossless, exact=lossless)
        else:
            arguments["subsampling"] = 0
    Image.fromarray(samples).save(path, **arguments)


def check_largest(width: int, height: int, path: Path) -> None:
    """See that the format of `path` holds pictures of this size.

    Raises:
        OutputError: it does not.
    """
    largest = LARGEST.get(path.suffix.lower())
    if largest is not None and max(width, height) > largest:
        raise OutputError(
            f"{path.name} would be {width}x{height}, and {path.suffix[1:].lower()} holds at most {largest} a side",
            "write .png or .tif",
        )


def check_memory(kind: PictureKind, scale: float, path: Path) -> None:
    """See that the picture and its enlargement fit into the memory of this machine, before anything is decoded.

    This takes the place of Pillow's limit of 179 million pixels, which large scans exceed: what matters is whether the
    machine can hold the result. The computation itself goes strip by strip.

    Raises:
        InputError: they do not.
    """
    samples = kind.width * kind.height * kind.channels * (kind.bits // 8)
    there = memory_size()
    need = round(samples * (1 + scale * scale) * WORKING_COPIES) + there // SHARE_OF_MEMORY
    if need > there:
        raise InputError(
            f"{path} is {kind}; enlarged {scale:g} times it needs {need / (1 << 30):.1f} GiB of memory, and this "
            f"machine has {there / (1 << 30):.1f}",
            "cut it into parts, or use a smaller scale",
        )


def turned(samples: Samples, orientation: int) -> Samples:
    """A stored picture as it is displayed, by its EXIF orientation (EXIF 2.32, tag 274)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


def open_picture(path: Path) -> Any:
    """Open a picture with Pillow, its samples not yet read.

    Raises:
        MissingInputError, NotMediaError, UnsupportedInputError.
    """
    from PIL import Image, UnidentifiedImageError

    refuse_unread(path)
    check_input_path(path)
    try:
        return Image.open(path)
    except UnidentifiedImageError as exc:
        raise NotMediaError(f"{path} is not an image that can be read") from exc
    except Image.DecompressionBombError as exc:
        raise NotMediaError(f"{path} is larger than is safe to open: {exc}") from exc
    except (OSError, ValueError, SyntaxError) as exc:
        raise MissingInputError(f"{path} cannot be read: {exc}") from exc


@contextlib.contextmanager
def _unlimited() -> Iterator[None]:
    """Without Pillow's limit on the number of pixels; `check_memory` judges instead."""
    from PIL import Image

    with _limit_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _has_alpha(image: Any) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _samples(image: Any, path: Path) -> Samples:
    mode = image.mode
    if mode == "F":
        raise UnsupportedInputError(f"{path} has floating-point samples, which are not handled", "save it with 16 bits")
    if mode.startswith("I"):
        wide = np.asarray(image, dtype=np.int32 if mode == "I" else np.uint16)
        if wide.size and (wide.min() < 0 or wide.max() > 65535):
            raise UnsupportedInputError(
                f"{path} has samples from {wide.min()} to {wide.max()}; 0 to 65535 are handled", "save it with 16 bits"
            )
        deep: npt.NDArray[np.uint16] = wide.astype(np.uint16)
        transparent = image.info.get("transparency")
        if not isinstance(transparent, int):
            return deep
        alpha = np.where(deep == transparent, 0, 65535).astype(np.uint16)
        return np.stack([deep, deep, deep, alpha], axis=2)
    if _has_alpha(image):
        return np.array(image.convert("RGBA"))
    return np.array(image.convert("L" if mode in ("L", "1") else "RGB"))


def _from_inks(image: Any, path: Path, attached: Attached, note: Note) -> Picture:
    """A CMYK picture as sRGB, by its own profile where it has one that can be used."""
    from PIL import ImageCms

    if attached.icc:
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            import io

            inks = ImageCms.ImageCmsProfile(io.BytesIO(attached.icc))
            srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
            converted = ImageCms.profileToProfile(image, inks, srgb, outputMode="RGB")
            if converted is not None:
                note(f"{path.name} is CMYK and becomes sRGB by its own profile")
                return Picture(np.array(converted), replace(attached, icc=srgb.tobytes()))
    note(f"{path.name} is CMYK and becomes RGB, without a profile to go by")
    return Picture(np.array(image.convert("RGB")), replace(attached, icc=b""))
