"""The sink for image sequences: each frame a picture file, which appears under its name when it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from vsr.errors import ContainerError, InputError, OutputError, OutputExistsError, VerificationError
from vsr.frame import Frame, PixelFormat, VideoInfo
from vsr.pictures.attached import Attached
from vsr.pictures.files import (
    ALPHA_SUFFIXES,
    DEEP_SUFFIXES,
    STILL_SUFFIXES,
    Quality,
    check_largest,
    check_quality,
    fit_format,
    read_kind,
    turned,
    write_picture,
)
from vsr.pictures.rgb import picture_format, picture_of_planes
from vsr.pictures.sequence import FIRST_NUMBER, Pattern
from vsr.sink import Progress
from vsr.store import AtomicFile, translate_write_error
from vsr.writing.containers import CONTAINERS, Container
from vsr.writing.encoder_table import Encoder
from vsr.writing.encoders import EncoderPlan

HDR_TRANSFERS: Final = (16, 18)  # PQ and HLG, which mean nothing to a reader that is not told
FULL_RANGE: Final = 1
# EXIF orientations by the signs of the display matrix [a b; c d] in row order, as players apply it
ORIENTATIONS: Final = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}


def picture_container(pattern: Pattern) -> Container:
    """What takes the place of a container where pictures are written.

    Raises:
        ContainerError: pictures of this kind are not written.
    """
    if pattern.suffix not in STILL_SUFFIXES:
        name = pattern.path(FIRST_NUMBER).name
        raise ContainerError(
            f"% in the name of an output stands for the numbers of pictures, and none are written called {name}; "
            f"allowed are {', '.join(STILL_SUFFIXES)}",
            f"a video is called {', '.join(CONTAINERS)}",
        )
    title = pattern.suffix[1:].upper()
    return Container("image2", f"a sequence of {title} pictures", (title.lower(),), alpha=True)


def plan_pictures(pattern: Pattern, source: PixelFormat, *, quality: int | None, lossless: bool) -> EncoderPlan:
    """The form in which pictures are written.

    Args:
        pattern: of the names.
        source: format of the upscaled pictures.
        quality: of JPEG and WebP.
        lossless: WebP without loss.

    Raises:
        OptionError: quality or lossless mean nothing here.
        OutputError: the format holds no colour.
    """
    suffix = pattern.suffix
    check_quality(quality, pattern.path(FIRST_NUMBER), lossless=lossless)
    if suffix == ".pgm" and source.family != "gray":
        raise OutputError("pgm holds grey pictures, and these have colour", "write .ppm")
    bits = 16 if source.bits > 8 and suffix in DEEP_SUFFIXES else 8
    alpha = source.alpha and suffix in ALPHA_SUFFIXES
    notes = []
    if source.bits > bits:
        notes.append(f"{suffix[1:]} holds 8 bits; the {source.bits} of the input are reduced; .png and .tif hold 16")
    if source.alpha and not alpha:
        notes.append(f"{suffix[1:]} holds no alpha channel; it is left out")
    fmt = picture_format(4 if alpha else 1 if source.family == "gray" and not source.alpha else 3, bits)
    return EncoderPlan(Encoder(suffix[1:], suffix[1:], suffix[1:]), fmt.name, {}, tuple(notes))


class SequenceSink:
    """One sequence of pictures; as `vsr.sink.Sink` for what the job needs of it.

    Args:
        pattern: of the names.
        info: of the upscaled pictures.
        plan: from `plan_pictures`.
        quality: of JPEG and WebP; None for the default.
        overwrite: whether pictures that exist may be replaced.
        first_number: of the first picture; each further one adds its pts, if `by_pts`, or one.
        by_pts: whether numbers follow the times, as where the input is numbered too.
        attached: gives what is saved along with the picture of a number; None for nothing.
        note: called with one line for each thing the user should know.

    Raises:
        OutputExistsError: pictures of these names exist and `overwrite` is off.
        OutputError: the format does not hold pictures of this size.
    """

    def __init__(
        self,
        pattern: Pattern,
        info: VideoInfo,
        plan: EncoderPlan,
        *,
        quality: Quality | None = None,
        overwrite: bool = False,
        first_number: int = FIRST_NUMBER,
        by_pts: bool = False,
        attached: Callable[[int], Attached] | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.frames_written = 0
        self._pattern = pattern
        self._info = info
        self._bits = 16 if plan.pix_fmt.endswith("16le") else 8
        self._quality = quality
        self._overwrite = overwrite
        self._first_number = first_number
        self._by_pts = by_pts
        self._attached = attached
        self._note = note
        self._orientation = display_orientation(info.display_matrix)
        self._first: Path | None = None
        self._last: Path | None = None
        self._end = Fraction(0)
        self._published = False
        check_largest(info.width, info.height, pattern.path(first_number))
        existing = pattern.files()
        if existing and not overwrite:
            raise OutputExistsError(
                f"{len(existing)} pictures called like {next(iter(existing.values())).name} exist already in "
                f"{pattern.folder}",
                "use -y to overwrite them, or another name",
            )
        if self._orientation != 1:
            note("the video is shown turned; the pictures are turned so")
        if info.sample_aspect_ratio not in (None, 1):
            note(f"samples are {info.sample_aspect_ratio} as wide as high, which pictures do not say")

    @property
    def packets_written(self) -> int:
        """Pictures that are complete."""
        return self.frames_written

    @property
    def seconds_written(self) -> float:
        """Seconds that the complete pictures last."""
        return float(self._end)

    def consume(self, frames: Iterator[Frame], stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Write each of `frames`, yielding the progress after it.

        Raises:
            OutputError, DiskFullError, OutputExistsError.
        """
        first_pts: int | None = None
        for frame in frames:
            if stop():
                return
            first_pts = frame.pts if first_pts is None else first_pts
            number = self._first_number + (frame.pts if self._by_pts else self.frames_written)
            self._write(frame, number)
            self.frames_written += 1
            time = (frame.pts - first_pts) * self._info.time_base
            self._end = time + frame.duration * self._info.time_base
            yield Progress(self.frames_written, float(time))

    def publish(self) -> None:
        """See that the first and the last picture can be read, and are what was to be written.

        Raises:
            VerificationError: they are not.
        """
        sides = sorted((self._info.width, self._info.height))  # whichever way it is turned
        for path in dict.fromkeys((self._first, self._last)):
            if path is None:
                continue
            try:
                kind = read_kind(path)
            except InputError as exc:
                raise VerificationError(f"{path} was written, but cannot be read back: {exc.message}") from exc
            if (sorted((kind.width, kind.height)), kind.bits) != (sides, self._bits):
                raise VerificationError(
                    f"{path} is {kind}, and should be {self._info.width}x{self._info.height} of {self._bits} bits"
                )
        self._published = True
        if self._overwrite and self._last is not None:
            files = list(self._pattern.files().values())  # in the order of their numbers
            older = files[files.index(self._last) + 1 :]
            if older:
                self._note(f"{len(older)} older pictures of such names follow the last one ({older[0].name} …)")

    def publish_partial(self) -> Path | None:
        """What an interrupted job has finished stays: the name of it, or None if there is nothing."""
        self._published = True
        if self._first is None or self._last is None:
            return None
        return self._first if self._first == self._last else Path(f"{self._first} … {self._last.name}")

    def discard(self) -> None:
        """Say which complete pictures stay, if the job has failed."""
        if not self._published and self._first is not None and self._last is not None:
            self._note(f"{self.frames_written} complete pictures stay, {self._first} … {self._last.name}")
        self._published = True

    def _write(self, frame: Frame, number: int) -> None:
        path = self._pattern.path(number)
        samples = picture_of_planes(frame.planes, self._info.shown_color, self._bits)
        samples = np.ascontiguousarray(turned(samples, self._orientation))
        samples = fit_format(samples, path.name, path.suffix)
        attached = self._described(self._attached(number) if self._attached is not None else Attached())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = AtomicFile(path, overwrite=self._overwrite)
            try:
                write_picture(samples, file.temporary, path.suffix, attached, self._quality, self._note)
                file.publish()
            finally:
                file.discard()
        except (OSError, ValueError) as exc:
            raise translate_write_error(exc, path) from exc
        self._first, self._last = self._first or path, path

    def _described(self, attached: Attached) -> Attached:
        """With the colours of HDR video named, where PNG has a chunk for that (PNG, third edition, 11.3.2.6)."""
        color = self._info.color
        if color.transfer not in HDR_TRANSFERS:
            return attached
        if self._pattern.suffix != ".png":
            self._note(f"{self._pattern.suffix[1:]} pictures do not say that they are HDR; .png does")
            return attached
        return replace(
            attached, chunks=(*attached.chunks, (b"cICP", bytes((color.primaries, color.transfer, 0, FULL_RANGE))))
        )


def display_orientation(matrix: tuple[int, ...] | None) -> int:
    """The EXIF orientation that shows a picture as `matrix` does; 1 if it does something else than turn and mirror."""
    if matrix is None:
        return 1
    a, b, c, d = ((v > 0) - (v < 0) for v in (matrix[0], matrix[1], matrix[3], matrix[4]))
    return ORIENTATIONS.get((a, b, c, d), 1)
