"""The source for image sequences: picture files as frames, one a tick."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final

from vsr.errors import CorruptInputError, InputError, OptionError, UnsupportedInputError
from vsr.frame import UNSPECIFIED, ColorSpec, Frame, Range, VideoInfo
from vsr.hdr import StaticHdr
from vsr.pictures.attached import Attached, read_attached
from vsr.pictures.files import Picture, PictureKind, open_picture, read_kind, read_picture
from vsr.pictures.rgb import picture_format, planes_of_picture
from vsr.pictures.sequence import DEFAULT_RATE, Sequence, find_sequence
from vsr.reading.decode_report import DecodeReport, ErrorBudget
from vsr.trim import Trim, Window

RGB: Final = 0  # of the matrix coefficients


class SequenceSource:
    """The pictures that one pattern stands for; as `vsr.source.Source` for what the stages after it need.

    A picture's pts is its number, counted from the first: a number that is missing leaves a gap in time. One that
    cannot be decoded is replaced by a repeat of the one before, up to the budget, as in a video.

    Args:
        path: a pattern, as in `vsr.pictures.sequence`.
        rate: pictures a second; None for 25.
        gaps: whether numbers may be missing.
        budget: of pictures that cannot be decoded.
        trim: the wanted part of them.
        upright: whether pictures are turned as they are displayed, for an output that cannot say so.
        note: called with one line for each thing the user should know.

    Raises:
        MissingInputError, ContainerError, TruncatedInputError: as `vsr.pictures.sequence.find_sequence`.
        NotMediaError: a picture has no readable header, or the first cannot be decoded.
        UnsupportedInputError: one differs from the first in size or kind.
        OptionError: no picture lies within `trim`.
    """

    def __init__(
        self,
        path: Path,
        *,
        rate: Fraction | None = None,
        gaps: bool = False,
        budget: ErrorBudget | None = None,
        trim: Trim | None = None,
        upright: bool = True,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.report = DecodeReport()
        self.hdr: StaticHdr | None = None
        self.stream_index = 0
        self.window = Window()  # what is not wanted is not there, and times count from the first that is
        tick = 1 / (rate or DEFAULT_RATE)
        self.sequence = _wanted(find_sequence(path, gaps=gaps), trim or Trim(), tick)
        self._paths = dict(zip(self.sequence.numbers, self.sequence.paths, strict=True))
        self._budget = budget or ErrorBudget()
        self._note = note
        self._upright = upright
        numbers = self.sequence.numbers
        if self.sequence.missing_count:
            self.report.missing_s = float(self.sequence.missing_count * tick)
            missing = ", ".join(map(str, self.sequence.missing()))
            note(f"{path} lacks {self.sequence.missing_count} pictures (first {missing}); the ones before last longer")
        self.kind = self._check_kinds()
        self._first: Picture | None = self._read(self.sequence.paths[0])
        height, width = self._first.samples.shape[:2]
        fmt = picture_format(self.kind.channels, self.kind.bits)
        matrix = RGB if fmt.family == "rgb" else UNSPECIFIED
        self.info = VideoInfo(
            width=width,
            height=height,
            format=fmt,
            pix_fmt_from_header=fmt.name,
            color=ColorSpec(matrix, range=Range.FULL),
            time_base=tick,
            rate=1 / tick,
            start_from_header=Fraction(0),
            duration_from_header=(numbers[-1] - numbers[0] + 1) * tick,
            num_frames_from_header=len(numbers),
            codec=self.kind.format.lower(),
        )

    def close(self) -> None:
        """Nothing stays open between two pictures."""

    def attached(self, number: int) -> Attached:
        """What comes along with the picture of this number; nothing where there is none."""
        path = self._paths.get(number)
        if path is None:
            return Attached()
        with open_picture(path) as image:
            attached = read_attached(image)
            # Pillow turns the samples of a TIFF, and of no other format, when it reads them
            return attached.upright() if image.format == "TIFF" else attached

    def frames(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Frame]:
        """Yield every picture as a frame. Call it once.

        Args:
            stop: looked at before each; when it says yes, the frames end there.

        Raises:
            CorruptInputError: more pictures cannot be decoded than the budget allows.
        """
        last: Frame | None = None
        sequence = self.sequence
        ends = [*sequence.numbers[1:], sequence.numbers[-1] + 1]
        for number, end, path in zip(sequence.numbers, ends, sequence.paths, strict=True):
            if stop():
                return
            self.report.packets += 1
            pts, duration = number - sequence.numbers[0], end - number
            try:
                picture, self._first = self._first or self._read(path), None
                last = Frame(planes_of_picture(picture.samples), pts, duration)
            except InputError as error:
                self._count(error)
                assert last is not None  # the first has been read before
                last = replace(last, pts=pts, duration=duration, repeated=True)
                self.report.repeated += 1
            self.report.frames += 1
            yield last

    def _count(self, error: InputError) -> None:
        self.report.errors += 1
        self._note(f"{error.message}; the picture before stands in for it")
        if not self._budget.allows(self.report.errors, len(self.sequence.paths)):
            raise CorruptInputError(
                f"{self.report.errors} of the first {self.report.packets} pictures of {self.sequence.name} cannot be "
                f"decoded, and the budget is {self._budget}",
                "raise it with --max-decode-errors",
            ) from error

    def _read(self, path: Path) -> Picture:
        picture = read_picture(path, self._note)
        if self._upright:
            picture = picture.upright()
        channels = 1 if picture.samples.ndim == 2 else picture.samples.shape[2]
        if (channels, picture.samples.itemsize * 8) != (self.kind.channels, self.kind.bits):
            raise UnsupportedInputError(f"{path} is not {self.kind}, as its header says")
        return picture

    def _check_kinds(self) -> PictureKind:
        """See that all pictures are of one kind, by their headers: better now than after hours."""
        first = read_kind(self.sequence.paths[0])
        for path in self.sequence.paths[1:]:
            try:
                kind = read_kind(path)
            except InputError:
                continue  # a broken one: the budget decides when its turn has come
            if (kind.width, kind.height, kind.channels, kind.bits) != (
                first.width,
                first.height,
                first.channels,
                first.bits,
            ):
                raise UnsupportedInputError(
                    f"{path} is {kind}, and {self.sequence.paths[0].name} is {first}; a sequence has one size and kind",
                    "give those of one kind, or convert the others",
                )
        return first


def _wanted(sequence: Sequence, trim: Trim, tick: Fraction) -> Sequence:
    """The pictures of `sequence` that lie within `trim`, the first of all being at zero seconds."""
    times = {number: (number - sequence.numbers[0]) * tick for number in sequence.numbers}
    kept = [n for n, t in times.items() if t >= (trim.start or 0) and (trim.stop is None or t < trim.stop)]
    kept = kept[: trim.frames]
    if not kept:
        end = times[sequence.numbers[-1]] + tick
        raise OptionError(f"none of the pictures is wanted: {sequence.name} lasts {float(end):g} s")
    paths = dict(zip(sequence.numbers, sequence.paths, strict=True))
    return Sequence(sequence.name, tuple(kept), tuple(paths[n] for n in kept))
