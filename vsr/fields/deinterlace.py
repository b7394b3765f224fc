"""The deinterlacer: of each picture that holds two fields one full picture, or two; other pictures pass untouched.

The filters are FFmpeg's: bwdif (the w3fdif kernel of BBC R&D with the motion logic of yadif) and yadif. Both work plane
by plane. In interlaced 4:2:0 the chroma lines of both fields lie where those of a progressive picture do (ISO/IEC
13818-2, figures 6-1 and 6-2: each field's are a quarter of a field line off, one up, one down), so chroma siting stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, Literal, get_args

import av
import av.error
import av.filter

from vsr.errors import OptionError, UnsupportedInputError
from vsr.fields.detect import detect_fields
from vsr.fields.order import FieldWriter, chain, pull_all
from vsr.fields.times import field_span
from vsr.frame import FieldOrder, Frame, PixelFormat, Planes, Range, VideoInfo
from vsr.pixel_formats import frame_from, planes_of
from vsr.source import Note, Source

Deinterlace = Literal["auto", "detect", "off", "bwdif", "yadif"]
FieldOrderOption = Literal["auto", "tff", "bff"]

ORDERS: Final = {"tff": FieldOrder.TOP_FIRST, "bff": FieldOrder.BOTTOM_FIRST}
FIELDS_APART: Final = ("hevc", "vvc")  # whose interlaced streams hold each field as a picture of its own, half as high
FALLBACK_RATE: Final = Fraction(25)


@dataclass(frozen=True)
class FieldOptions:
    """How interlaced pictures are treated.

    Attributes:
        deinterlace: `auto`: pictures marked as interlaced, by bwdif; `detect`: look at samples of the file, and treat
            all of it as interlaced if a tenth of them is, whatever the marks say; `bwdif` or `yadif`: every picture,
            marked or not, by that filter; `off`.
        field_order: `auto`: as marked (top field first where nothing is); `tff` or `bff`: every picture is interlaced,
            with that field first, whatever the marks say.
        field_rate: two pictures of each interlaced one, one for each field at its own time, instead of one.

    Raises:
        OptionError: a value is not allowed, or two contradict each other.
    """

    deinterlace: Deinterlace = "auto"
    field_order: FieldOrderOption = "auto"
    field_rate: bool = False

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("deinterlace", self.deinterlace, get_args(Deinterlace)),
            ("field order", self.field_order, get_args(FieldOrderOption)),
        ):
            if value not in allowed:
                raise OptionError(f"{name} {value!r}; allowed are {', '.join(allowed)}")
        if self.deinterlace == "off" and (self.field_rate or self.field_order != "auto"):
            raise OptionError("deinterlacing is off; field rate and field order are for deinterlacing")
        if self.deinterlace == "detect" and self.field_order != "auto":
            raise OptionError(f"field order {self.field_order} is given and to be detected; leave one of the two out")

    @property
    def method(self) -> str:
        """The filter."""
        return self.deinterlace if self.deinterlace in ("bwdif", "yadif") else "bwdif"


@dataclass
class _Waiting:
    """A picture on its way, with the times of what it becomes and what is there of it."""

    frame: Frame
    slots: list[tuple[int, int]]  # pts and duration
    pictures: list[Planes] = field(default_factory=list)
    repeats: bool = False  # it becomes what the picture before it became last


class Deinterlacer:
    """Deinterlaces a stream of frames.

    At single rate each frame keeps its time. At field rate the second field of a frame is shown halfway to the next
    frame, in a time base of half the ticks, so that this is exact; a progressive frame remains one.

    Args:
        info: of the stream.
        options: what to do.
        order: of every picture, whatever its marks say; None to go by the marks.

    Attributes:
        info: of what `stream` yields.
        frames_interlaced: how many of the frames that have come were interlaced, as far as is known.
        frames_deinterlaced: of them, how many were deinterlaced.
        frames_added: how many more frames have gone than have come.

    Raises:
        UnsupportedInputError: the filter does not take pictures of this size or format.
    """

    def __init__(self, info: VideoInfo, options: FieldOptions, order: FieldOrder | None = None) -> None:
        self._options = options
        self._source_info = info
        named = options.deinterlace in ("bwdif", "yadif")
        self._order = order
        self._unmarked = FieldOrder.TOP_FIRST if named else FieldOrder.PROGRESSIVE
        by_marks = order is None and not named
        self._off = options.deinterlace == "off" or (by_marks and info.codec in FIELDS_APART)
        self._ticks = 2 if options.field_rate and not self._off else 1
        self._step = max(1, round(1 / ((info.rate or FALLBACK_RATE) * info.time_base)))
        self.frames_interlaced = 0
        self.frames_deinterlaced = 0
        self.frames_added = 0
        self.info = info
        if self.works_from_start:
            self._open_filter()  # which refuses now what it would refuse later
            if self._ticks == 2:
                count = info.num_frames_from_header
                rate = None if info.rate is None else 2 * info.rate
                self.info = replace(info, rate=rate, num_frames_from_header=None if count is None else 2 * count)
        self.info = replace(self.info, time_base=info.time_base / self._ticks, field_order=self._left(info.field_order))
        self._filter: _Filter | None = None
        self._previous: Frame | None = None
        self._shown: Planes  # the last picture that has gone

    @classmethod
    def for_source(cls, source: Source, options: FieldOptions, note: Note) -> Deinterlacer:
        """The deinterlacer of a source, which is looked at first if the options say so.

        Args:
            source: whose frames will come.
            options: what to do.
            note: called with one line for each thing the user should know.

        Raises:
            UnsupportedInputError: the filter does not take pictures of this size or format.
            InputError: the file cannot be read again, for detection.
        """
        order = ORDERS.get(options.field_order)
        if options.deinterlace == "detect":
            order = _detected(source, note)
        deinterlacer = cls(source.info, options, order)
        if (opening := deinterlacer.opening_note()) is not None:
            note(opening)
        return deinterlacer

    def opening_note(self) -> str | None:
        """What there is to say before the first frame; None if nothing is."""
        options, marked = self._options, self._source_info.field_order
        if self.works_from_start:
            rate = "two pictures of each, one for each field" if options.field_rate else "one picture of each"
            which = "the video" if self._order is None and options.deinterlace == "auto" else "every picture"
            return f"{which} is deinterlaced by {options.method} ({self._order_of(marked).value}), {rate}"
        if marked is not FieldOrder.PROGRESSIVE and self._order is None:
            why = "" if options.deinterlace == "off" else f": {self._source_info.codec} holds each field as a picture"
            return f"the video is interlaced ({marked.value}) and is upscaled as if it were progressive{why}"
        return None

    def concluding_note(self) -> str | None:
        """What there is to say when all frames have gone, beyond what was said before; None if nothing is."""
        if self._options.field_rate and not self.frames_added:
            return "no frame was marked as interlaced, so none became two; --deinterlace detect looks at the pictures"
        if not self.frames_interlaced or self.works_from_start:
            return None
        if not self._off:
            return f"{self.frames_deinterlaced} frames were marked as interlaced, and were deinterlaced"
        if self._source_info.field_order is FieldOrder.PROGRESSIVE:
            return f"{self.frames_interlaced} frames are interlaced, and were upscaled as if they were progressive"
        return None

    @property
    def works_from_start(self) -> bool:
        """Whether the first picture is deinterlaced already."""
        return not self._off and self._order_of(self._source_info.field_order) is not FieldOrder.PROGRESSIVE

    def expected(self, frames: int | None) -> int | None:
        """How many frames to expect of so many, or None."""
        return frames if frames is None or not self.works_from_start else frames * self._ticks

    def stream(self, frames: Iterable[Frame], stop: Callable[[], bool] = lambda: False) -> Iterator[Frame]:
        """Deinterlace `frames`, which are all of one format and size. Call it once.

        Memory: three pictures of each kind are held.

        Args:
            stop: looked at before each frame; when it says yes, the frames end there.

        Raises:
            UnsupportedInputError: the filter does not take pictures of this size or format.
        """
        waiting: deque[_Waiting] = deque()
        for frame, following in _with_next(frames):
            if stop():
                return
            waiting.append(self._take(frame, following))
            yield from self._ready(waiting)
        if self._filter is not None:
            self._filter.end()
            yield from self._ready(waiting)

    def _take(self, frame: Frame, following: Frame | None) -> _Waiting:
        order = self._order_of(frame.field_order)
        if self._off:
            self.frames_interlaced += frame.field_order is not FieldOrder.PROGRESSIVE
            return _Waiting(frame, [(frame.pts, frame.duration)], [frame.planes])
        interlaced = order is not FieldOrder.PROGRESSIVE
        item = _Waiting(frame, self._slots(frame, following, interlaced))
        self.frames_interlaced += interlaced
        self.frames_deinterlaced += interlaced
        self.frames_added += len(item.slots) - 1
        if frame.repeated and self._previous is not None:
            # Not for the filter, which would find no movement in two equal pictures and show both fields at once.
            item.repeats = True
            return item
        previous, self._previous = self._previous, frame
        if interlaced:
            if self._filter is None:
                self._filter = self._open_filter()
                if previous is not None:
                    # bwdif takes the first picture that it deinterlaces for one without a past. It is this one.
                    self._filter.add(previous.planes, order)
            self._unmarked = order if self._unmarked is not FieldOrder.PROGRESSIVE else self._unmarked
            self._filter.add(frame.planes, order, item.pictures)
            return item
        item.pictures.append(frame.planes)
        if self._filter is not None:
            self._filter.add(frame.planes, order)
            if self._filter.idle:
                self._filter = None
        return item

    def _ready(self, waiting: deque[_Waiting]) -> Iterator[Frame]:
        while waiting:
            item = waiting[0]
            if item.repeats:
                item.pictures = [self._shown] * len(item.slots)
            if len(item.pictures) < len(item.slots):
                return
            waiting.popleft()
            for (pts, duration), planes in zip(item.slots, item.pictures, strict=False):  # the last may be cut to one
                yield replace(
                    item.frame,
                    planes=planes,
                    pts=pts,
                    duration=duration,
                    field_order=self._left(item.frame.field_order),
                )
                self._shown = planes

    def _order_of(self, marked: FieldOrder) -> FieldOrder:
        if self._order is not None:
            return self._order
        return self._unmarked if marked is FieldOrder.PROGRESSIVE else marked

    def _left(self, marked: FieldOrder) -> FieldOrder:
        """What a picture that was marked so is afterwards."""
        return marked if self._off else FieldOrder.PROGRESSIVE

    def _slots(self, frame: Frame, following: Frame | None, interlaced: bool) -> list[tuple[int, int]]:
        pts, duration = frame.pts * self._ticks, frame.duration * self._ticks
        if self._ticks == 1 or not interlaced:
            return [(pts, duration)]
        # Of both fields together, in ticks of the stream: the same number of half ticks is the time of one.
        whole = frame.duration if frame.uncut is None else frame.uncut
        span = field_span(frame.pts, whole, None if following is None else following.pts, self._step)
        if frame.uncut is not None and duration <= span:  # the wanted part has ended before the second field
            return [(pts, duration)]
        return [(pts, span), (pts + span, max(0, duration - span))]

    def _open_filter(self) -> _Filter:
        info, options = self._source_info, self._options
        return _Filter(options.method, options.field_rate, info.format, info.width, info.height)


def _detected(source: Source, note: Note) -> FieldOrder | None:
    seen = detect_fields(source.path, source.stream_index)
    if seen.order is None:
        note("nothing moves in the pictures that were looked at, so marks decide which are interlaced")
        return None
    found = f"of {seen.pictures} pictures looked at, {seen.top_first + seen.bottom_first} are interlaced"
    if seen.order is FieldOrder.PROGRESSIVE:
        note(f"{found}: the video is taken to be progressive")
        return seen.order
    note(f"{found}: the video is taken to be interlaced, {seen.order.value}")
    if seen.mixed:
        note(f"in some of them the other field comes first ({min(seen.top_first, seen.bottom_first)} pictures)")
    if seen.telecined:
        note(
            "it looks like film telecined to the rate of video, whose frames inverse telecine restores better than any "
            "deinterlacer: ffmpeg -i IN -vf fieldmatch,decimate -c:v ffv1 OUT.mkv makes a progressive video first"
        )
    return seen.order


class _Filter:
    """One run of the filter over neighbouring pictures."""

    def __init__(self, method: str, field_rate: bool, fmt: PixelFormat, width: int, height: int) -> None:
        self._format = fmt
        self._writer = FieldWriter()
        self._results: dict[int, list[Planes] | None] = {}
        self._count = 0
        self._progressive = 0  # pictures since the last interlaced one
        sample = av.VideoFrame(width, height, fmt.name)
        settings = method, f"mode={'send_field' if field_rate else 'send_frame'}:parity=auto:deint=interlaced"
        try:
            self._graph = chain(sample, settings)
            taken = _format_after(chain(sample, settings), sample)
        except (av.error.FFmpegError, ValueError) as exc:
            raise UnsupportedInputError(
                f"{method} does not take pictures of {width}x{height}", "use --deinterlace off"
            ) from exc
        if taken != fmt.name:
            others = "" if method == "bwdif" else "--deinterlace bwdif or "
            raise UnsupportedInputError(
                f"{method} does not take pictures of {fmt.name}", f"use {others}--deinterlace off"
            )

    @property
    def idle(self) -> bool:
        """Whether nothing that comes could make a difference to a picture that has been added."""
        return self._progressive >= 2

    def add(self, planes: Planes, order: FieldOrder, results: list[Planes] | None = None) -> None:
        """Give the filter a picture. What becomes of it is appended to `results` when the next one is there."""
        frame = self._writer.mark(frame_from(planes, Range.UNSPECIFIED), order)
        frame.pts = self._count
        self._results[self._count] = results
        self._count += 1
        self._progressive = self._progressive + 1 if order is FieldOrder.PROGRESSIVE else 0
        self._graph.vpush(frame)
        self._pull()

    def end(self) -> None:
        """No more pictures: let the last one out."""
        self._graph.vpush(None)
        self._pull()

    def _pull(self) -> None:
        for picture in pull_all(self._graph):
            assert picture.pts is not None
            number = picture.pts // 2  # the filters count in half ticks
            for done in [n for n in self._results if n < number]:
                del self._results[done]
            results = self._results[number]
            if results is not None:
                results.append(planes_of(picture, self._format))


def _format_after(graph: av.filter.Graph, sample: av.VideoFrame) -> str:
    """The format that `graph` makes of `sample`: another one if libavfilter has put a conversion before the filter."""
    sample.pts = 0
    graph.vpush(sample)
    graph.vpush(None)
    return str(pull_all(graph)[0].format.name)


def _with_next(frames: Iterable[Frame]) -> Iterator[tuple[Frame, Frame | None]]:
    """Each frame with the one after it, or None."""
    last: Frame | None = None
    for frame in frames:
        if last is not None:
            yield last, frame
        last = frame
    if last is not None:
        yield last, None
