"""Still images: Pillow reads and writes them, and the frame graph for RGB enlarges them.

R'G'B' becomes Y'CbCr in float inside the graph, so no still goes through 8-bit YUV. EXIF data (orientation with it) and
the ICC profile are carried over as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from vsr.demux import check_input_path
from vsr.errors import ContainerError, MissingInputError, NotMediaError, OutputError, OutputExistsError
from vsr.job import JobReport, UpscaleOptions
from vsr.store import AtomicFile, same_file, translate_write_error
from vsr.upscaler import Upscaler

STILL_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm")
ALPHA_SUFFIXES: Final = (".png", ".tif", ".tiff", ".webp")
DEEP_SUFFIXES: Final = (".png", ".tif", ".tiff", ".pgm")
WEBP_LARGEST: Final = 16383
JPEG_LARGEST: Final = 65535
# Description, make, model, orientation, software, date, artist, copyright, EXIF and GPS
TIFF_CONTENT_TAGS: Final = frozenset((270, 271, 272, 274, 305, 306, 315, 33432, 34665, 34853))
SAVE_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"quality": 95, "method": 4},
    ".tif": {"compression": "tiff_adobe_deflate"},
    ".tiff": {"compression": "tiff_adobe_deflate"},
}


def is_still(path: Path) -> bool:
    """Whether `path` is called like a still image."""
    return path.suffix.lower() in STILL_SUFFIXES


def describe_still(path: Path) -> dict[str, Any]:
    """Facts of a still image, as plain values.

    Raises:
        MissingInputError, NotMediaError.
    """
    with _open(path) as image:
        return {
            "format": image.format,
            "size": f"{image.width}x{image.height}",
            "mode": image.mode,
            "icc_profile": "icc_profile" in image.info,
            "exif": bool(image.getexif()),
            "size_bytes": path.stat().st_size,
            "streams": [],
        }


def upscale_still(
    input: Path,
    output: Path,
    options: UpscaleOptions,
    *,
    on_note: Callable[[str], None] | None = None,
    upscaler: Upscaler | None = None,
) -> JobReport:
    """Upscale one still image to another.

    Args:
        input: path of the image.
        output: path of the result; its extension names the format.
        options: of which scale, model, backend, precision, threads and overwrite count.
        on_note: called with each line that the user should see.
        upscaler: one to use again for many stills; default: made from `options`.

    Raises:
        VsrError: as for a video.
    """
    started = time.monotonic()
    report = JobReport(str(input), str(output))

    def note(text: str) -> None:
        report.notes.append(text)
        if on_note is not None:
            on_note(text)

    if same_file(input, output):
        raise OutputExistsError(f"input and output are the same file, {output}", "write to another name")
    suffix = output.suffix.lower()
    if suffix not in STILL_SUFFIXES:
        raise ContainerError(
            f"{input.name} is a still image, and {output.name} is none; allowed are {', '.join(STILL_SUFFIXES)}"
        )
    array, extras = _read(input, suffix, note)
    own = upscaler is None
    engine = upscaler or Upscaler(
        options.scale,
        options.model,
        backend=options.backend,
        precision=options.precision,
        threads=options.threads,
    )
    largest = {".webp": WEBP_LARGEST, ".jpg": JPEG_LARGEST, ".jpeg": JPEG_LARGEST}.get(suffix)
    if largest is not None and max(array.shape[:2]) * engine.scale > largest:
        raise OutputError(
            f"{output.name} would be {array.shape[1] * engine.scale}x{array.shape[0] * engine.scale}, and {suffix[1:]} "
            f"holds at most {largest} a side",
            "write .png or .tif",
        )
    file = AtomicFile(output, overwrite=options.overwrite)
    try:
        result = engine.upscale(array)
        _write(result, file.temporary, suffix, extras)
        file.publish()
    except (OSError, ValueError) as exc:
        raise translate_write_error(exc, output) from exc
    finally:
        file.discard()
        if own:
            engine.close()
    report.ok, report.frames_in, report.frames_out = True, 1, 1
    report.scale, report.model = engine.scale, engine.model.name
    report.backend, report.backend_reason = engine.backend, engine.backend_reason
    report.engine, report.encoder = engine.description, suffix[1:]
    report.height, report.width = result.shape[:2]
    report.wall_s = time.monotonic() - started
    report.fps = 1 / report.wall_s
    return report


def _open(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    check_input_path(path)
    try:
        return Image.open(path)
    except UnidentifiedImageError as exc:
        raise NotMediaError(f"{path} is not an image that can be read") from exc
    except Image.DecompressionBombError as exc:
        raise NotMediaError(f"{path} is larger than is safe to open: {exc}") from exc
    except (OSError, ValueError, SyntaxError) as exc:
        raise MissingInputError(f"{path} cannot be read: {exc}") from exc


def _read(path: Path, suffix: str, note: Callable[[str], None]) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """The picture as [H, W], [H, W, 3] or [H, W, 4], and what is saved along with it."""
    with _open(path) as image:
        try:
            image.load()  # before the tags are read: Pillow turns a TIFF upright while loading, and drops its tag
            extras = _extras(image)
            if getattr(image, "n_frames", 1) > 1:
                note(f"{path.name} holds {image.n_frames} pictures; the first is upscaled")
            return _samples(image, path.name, suffix, note), extras
        except (OSError, ValueError, SyntaxError) as exc:  # what Pillow's decoders raise on broken files
            raise NotMediaError(f"{path} cannot be decoded: {exc}") from exc


def _extras(image: Any) -> dict[str, Any]:
    """What is saved along with the picture: ICC profile, resolution, EXIF data."""
    extras = {k: v for k, v in (("icc_profile", image.info.get("icc_profile")), ("dpi", image.info.get("dpi"))) if v}
    exif = image.getexif()
    if image.format == "TIFF":  # there, EXIF data and the description of the file's own layout are one list
        for tag in set(exif) - TIFF_CONTENT_TAGS:
            del exif[tag]
    if exif:
        extras["exif"] = exif.tobytes()
    if image.mode == "CMYK":
        extras.pop("icc_profile", None)  # a profile of the inks, which the RGB picture no longer has
    return extras


def _samples(image: Any, name: str, suffix: str, note: Callable[[str], None]) -> np.ndarray[Any, Any]:
    mode = image.mode
    if mode.startswith("I"):
        deep: np.ndarray[Any, Any] = np.clip(np.asarray(image, dtype=np.int32 if mode == "I" else np.uint16), 0, 65535)
        if suffix in DEEP_SUFFIXES:
            return deep.astype(np.uint16)
        note(f"{suffix[1:]} holds 8 bits; the 16 of {name} are reduced")
        reduced: np.ndarray[Any, Any] = (deep / 257).round().astype(np.uint8)
        return reduced
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        target = "RGBA"
    elif mode in ("L", "1"):
        target = "L"
    else:
        target = "RGB"
    if mode == "CMYK":
        note(f"{name} is CMYK and becomes RGB")
    if target == "RGBA" and suffix not in ALPHA_SUFFIXES:
        note(f"{suffix[1:]} holds no alpha channel; that of {name} is left out")
        target = "RGB"
    return np.array(image.convert(target))


def _write(array: np.ndarray[Any, Any], path: Path, suffix: str, extras: dict[str, Any]) -> None:
    from PIL import Image

    keep = extras if suffix not in (".bmp", ".ppm", ".pgm") else {}
    Image.fromarray(array).save(path, **SAVE_OPTIONS.get(suffix, {}), **keep)
