"""Still images, one to another: the frame graph for RGB enlarges them.

R'G'B' becomes Y'CbCr in float inside the graph, so no still goes through 8-bit YUV, and 16 bits stay 16. What comes
along with the picture (orientation, ICC profile, EXIF data, XMP, captions) is carried over as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vsr.errors import ContainerError, OptionError, OutputExistsError
from vsr.options import UpscaleOptions
from vsr.pictures.attached import Attached, read_attached
from vsr.pictures.files import (
    CHANNEL_NAMES,
    STILL_SUFFIXES,
    Quality,
    Samples,
    check_largest,
    check_memory,
    check_quality,
    fit_format,
    open_picture,
    read_kind,
    read_picture,
    write_picture,
)
from vsr.report import JobReport
from vsr.size import output_size
from vsr.store import AtomicFile, check_output_path, remove_abandoned, same_file, translate_write_error
from vsr.trim import Trim
from vsr.upscaler import Upscaler


def describe_still(path: Path) -> dict[str, Any]:
    """Facts of a still image, as plain values.

    Raises:
        MissingInputError, NotMediaError.
    """
    kind = read_kind(path)
    with open_picture(path) as image:
        attached = read_attached(image)
        return {
            "format": image.format,
            "size": f"{kind.width}x{kind.height}",
            "mode": image.mode,
            "channels": CHANNEL_NAMES[kind.channels],
            "bits": kind.bits,
            "pictures": kind.pictures,
            "icc_profile": bool(attached.icc),
            "exif": bool(attached.exif),
            "xmp": bool(attached.xmp),
            "orientation": attached.orientation(),
            "dpi": None if attached.dpi is None else f"{attached.dpi[0]:g}x{attached.dpi[1]:g}",
            "size_bytes": path.stat().st_size,
            "streams": [],
        }


def upscale_still(
    input: Path,
    output: Path,
    options: UpscaleOptions,
    *,
    on_note: Callable[[str], None] | None = None,
    on_build: Callable[[float], bool] = lambda _: True,
    upscaler: Upscaler | None = None,
) -> JobReport:
    """Upscale one still image to another.

    Args:
        input: path of the image.
        output: path of the result; its extension names the format.
        options: of which scale, size, fit, model, backend, precision, threads, device, quality, lossless and
            overwrite count.
        on_note: called with each line that the user should see.
        on_build: as for `vsr.job.upscale`.
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
    if not options.trim().is_everything:
        raise OptionError(f"a part is asked for, and {input} is one picture", "leave out start, end, duration, frames")
    suffix = output.suffix.lower()
    if suffix not in STILL_SUFFIXES:
        raise ContainerError(
            f"{input.name} is a still image, and {output.name} is none; allowed are {', '.join(STILL_SUFFIXES)}"
        )
    if replace(options.trim(), frames=None) != Trim():
        raise OptionError(f"{input.name} is a still image, and has no start or end", "leave these options out")
    check_quality(options.quality, output, lossless=options.lossless)
    check_output_path(output, overwrite=options.overwrite)
    remove_abandoned(output, note)
    kind = read_kind(input)
    size = output_size(options.size_request(), kind.width, kind.height)  # as displayed
    check_largest(size.width, size.height, output)
    check_memory(kind, size.plain_factor, input)
    picture = read_picture(input, note)
    samples = fit_format(picture.samples, input.name, suffix, note)
    own = upscaler is None
    engine = upscaler or options.upscaler(on_note=note, on_build=on_build)
    try:
        file = AtomicFile(output, overwrite=options.overwrite)
        try:
            result = engine.upscale(samples, turned=picture.attached.is_turned())
            _publish(file, result, picture.attached, options, note)
        finally:
            file.discard()
    finally:
        if own:
            engine.close()
    report.ok, report.frames_in, report.frames_out = True, 1, 1
    report.scale, report.model = size.plain_factor, engine.model.name
    report.backend, report.backend_reason = engine.backend, engine.backend_reason
    report.precision_reason = engine.precision_reason
    report.engine, report.encoder = engine.description, suffix[1:]
    report.height, report.width = result.shape[:2]
    report.wall_s = time.monotonic() - started
    report.fps = 1 / report.wall_s
    return report


def _publish(
    file: AtomicFile, result: Samples, attached: Attached, options: UpscaleOptions, note: Callable[[str], None]
) -> None:
    try:
        quality: Quality | None = "lossless" if options.lossless else options.quality
        write_picture(result, file.temporary, file.target.suffix, attached, quality, note)
    except (OSError, ValueError) as exc:
        raise translate_write_error(exc, file.target) from exc
    file.publish()
