"""The source: opens a file, finds its picture stream, and yields frames with exact times.

Frames come out once each, in order, with strictly increasing pts in the stream's own time base. A picture that cannot
be decoded is replaced by a repeat of the one before it at the lost picture's time, so that nothing after it moves.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import av
import av.error
import av.stream
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from vsr.demux import open_input, packets
from vsr.errors import CorruptInputError, NotMediaError, TruncatedInputError
from vsr.frame import ColorSpec, Frame, Range, Siting, VideoInfo
from vsr.hdr import read_static_hdr
from vsr.pixel_formats import SAME_SAMPLES, planes_of, reformat, working_format
from vsr.truncation import cut_off_by_structure, missing_seconds

OnTruncated = Literal["fail", "keep"]
Note = Callable[[str], None]

FREE_ERRORS: Final = 10  # below this many, a percentage says nothing
LARGE_PICTURE: Final = 1 << 20  # samples; above it one decoding thread may be too slow
UNKNOWN_LENGTH: Final = 1000  # packets that a file is taken to have while it does not say
FALLBACK_RATE: Final = Fraction(25)
FLUSH_ATTEMPTS: Final = 64


@dataclass(frozen=True)
class ErrorBudget:
    """How many packets may fail to decode: a number, or a share of those read.

    Attributes:
        value: packets, or per cent of the packets of the file (then the first ten are free).
        percent: which of the two.
    """

    value: float = 10.0
    percent: bool = True

    @classmethod
    def parse(cls, text: str) -> ErrorBudget:
        """Read `N` or `N%`.

        Raises:
            ValueError: it is neither, or negative.
        """
        percent = text.endswith("%")
        value = float(text.removesuffix("%")) if percent else float(int(text))
        if not 0 <= value <= (100 if percent else math.inf):
            raise ValueError(text)
        return cls(value, percent)

    def allows(self, errors: int, packets: int) -> bool:
        """Whether `errors` of `packets` are within the budget."""
        if not self.percent:
            return errors <= self.value
        return errors <= max(FREE_ERRORS if self.value else 0, self.value * packets / 100)

    def __str__(self) -> str:
        return f"{self.value:g}%" if self.percent else f"{self.value:g}"


@dataclass
class DecodeReport:
    """What happened while decoding.

    Attributes:
        packets: video packets read.
        frames: frames yielded, repeats included.
        repeated: frames that stand in for ones that could not be decoded.
        errors: packets the decoder refused.
        damaged: frames the decoder returned but marked as damaged.
        shifted: frames whose time stamp did not increase and was moved to the next tick.
        rescaled: frames of another size or format than the first, fitted to it.
        missing_s: seconds missing at the end, None if nothing is, NaN if unknown.
        end: where the last packet ends, in seconds.
    """

    packets: int = 0
    frames: int = 0
    repeated: int = 0
    errors: int = 0
    damaged: int = 0
    shifted: int = 0
    rescaled: int = 0
    missing_s: float | None = None
    end: Fraction = field(default_factory=Fraction)


class Source:
    """One input file.

    Opening decodes the first picture, so that what `info` says is what will come.

    Args:
        path: the file.
        on_truncated: `fail` on a file that was cut off, or `keep` what there is.
        budget: of decode errors.
        threads: for decoding; 0 chooses by picture size.
        note: called with one line for each thing the user should know.

    Raises:
        MissingInputError, NotMediaError, UnsupportedInputError, TruncatedInputError, CorruptInputError.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_truncated: OnTruncated = "fail",
        budget: ErrorBudget | None = None,
        threads: int = 0,
        note: Note = lambda _: None,
    ) -> None:
        self.path = path
        self.report = DecodeReport()
        self._budget = budget or ErrorBudget()
        self._note = note
        self._on_truncated = on_truncated
        self._container = open_input(path)
        try:
            self._stream = self._pick_stream()
            self._stream_index = int(self._stream.index)
            self._cut = cut_off_by_structure(path)
            if self._cut is not None and on_truncated == "fail":
                raise TruncatedInputError(
                    f"{path} was cut off: {self._cut}", "get the whole file, or use --on-truncated keep"
                )
            for stream in self._container.streams:
                if stream is not self._stream:
                    stream.discard = av.stream.Discard.all
            context = self._stream.codec_context
            large = context.width * context.height > LARGE_PICTURE
            context.thread_count = threads or (2 if large else 1)
            context.thread_type = "AUTO"
            self._timed = True
            # AVI stores no presentation times: what libavformat gives as such are decoding times.
            self._decoding_times = self._container.format.name == "avi"
            self._first_dts: int | None = None
            self._expected: list[int] = []  # pts of packets whose frame has not come yet, a heap
            self._decoded = self._decode()
            self._first = next(self._decoded, None)
            if self._first is None:
                raise NotMediaError(f"{path} has a video stream, but not one frame of it can be decoded")
            self.info = self._read_info(self._first)
            self.hdr = read_static_hdr(self._first)
            planes_of(self._first, self.info.format)  # refuses now what it would refuse later
        except BaseException:
            self._container.close()
            raise

    @property
    def stream_index(self) -> int:
        """The index of the picture stream in the file."""
        return self._stream_index

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def frames(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Frame]:
        """Yield every frame. Call it once.

        Args:
            stop: looked at before each frame; when it says yes, the frames end there and nothing is checked.

        Raises:
            TruncatedInputError, CorruptInputError: at the end or as soon as it is certain.
        """
        step = max(1, round(1 / ((self.info.rate or FALLBACK_RATE) * self.info.time_base)))
        last: Frame | None = None
        decoded = self._first
        self._first = None
        while decoded is not None:
            if stop():
                return
            pts, lost = self._time_of(decoded, last, step)
            if last is not None:
                for lost_pts in lost:
                    if lost_pts > last.pts:
                        last = replace(last, pts=lost_pts, repeated=True)
                        self.report.repeated += 1
                        self.report.frames += 1
                        yield last
            last = self._frame(decoded, pts)
            self.report.frames += 1
            yield last
            decoded = next(self._decoded, None)
        if last is not None and self.report.errors:
            for lost_pts in sorted(p for p in self._expected if p > last.pts):
                last = replace(last, pts=lost_pts, repeated=True)
                self.report.repeated += 1
                self.report.frames += 1
                yield last
        self._check_end(last, step)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _pick_stream(self) -> Any:
        pictures = [s for s in self._container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        usable = [s for s in pictures if s.codec_context is not None]
        if not usable:
            kinds: dict[str, int] = {}
            for stream in self._container.streams:
                cover = stream.type == "video" and stream not in pictures
                kind = "cover picture" if cover else str(stream.type)
                kinds[kind] = kinds.get(kind, 0) + 1
            found = ", ".join(f"{n} {kind}" for kind, n in kinds.items()) or "nothing"
            raise NotMediaError(f"{self.path} has no video stream that can be decoded; it has {found}")
        return max(
            usable,
            key=lambda s: (
                bool(s.disposition & av.stream.Disposition.default),
                s.codec_context.width * s.codec_context.height,
                -s.index,
            ),
        )

    def _decode(self) -> Iterator[av.VideoFrame]:
        for packet in packets(self._container, self._stream, path=self.path):
            if packet.size:
                self.report.packets += 1
                if self._first_dts is None:
                    self._first_dts = packet.dts
                if packet.pts is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    self.report.end = max(self.report.end, end)
                    if not packet.is_discard:
                        heapq.heappush(self._expected, packet.pts)
                yield from self._decode_packet(packet)
        for _ in range(FLUSH_ATTEMPTS):  # a damaged frame ends one flush, and those behind it come with the next
            frames = list(self._decode_packet(None))
            yield from frames
            if not frames:
                return

    def _decode_packet(self, packet: Any) -> Iterator[av.VideoFrame]:
        try:
            yield from self._stream.codec_context.decode(packet)
        except EOFError:
            return
        except (av.error.FFmpegError, ValueError) as exc:
            self.report.errors += 1
            # Damage comes in bursts: a share is judged against the whole file, as long as that may still be ahead.
            self._check_budget(max(self.report.packets, self._stream.frames or UNKNOWN_LENGTH), exc)

    def _check_budget(self, packets_in_all: int, exc: BaseException | None = None) -> None:
        if not self._budget.allows(self.report.errors, packets_in_all):
            raise CorruptInputError(
                f"{self.path}: {self.report.errors} of the first {self.report.packets} video packets cannot be "
                f"decoded, and the budget is {self._budget}",
                "raise it with --max-decode-errors",
            ) from exc

    # -- times --------------------------------------------------------------------------------------------------------

    def _time_of(self, decoded: av.VideoFrame, last: Frame | None, step: int) -> tuple[int, list[int]]:
        """The frame's pts, and the pts of pictures before it that were lost to errors."""
        if not self._timed:
            return (0 if last is None else last.pts + 1), []
        if self._decoding_times:
            return self._time_by_decoding(decoded, last, step), []
        pts = decoded.pts if decoded.pts is not None else decoded.dts
        if pts is None:
            pts = 0 if last is None else last.pts + (last.duration or step)
        lost = []
        while self._expected and self._expected[0] <= pts:
            expected = heapq.heappop(self._expected)
            if expected < pts and self.report.errors:
                lost.append(expected)
        if last is not None and pts <= last.pts:
            pts = last.pts + 1
            self.report.shifted += 1
        return pts, [p for p in lost if p < pts]

    def _time_by_decoding(self, decoded: av.VideoFrame, last: Frame | None, step: int) -> int:
        """The frame's place in a file that has decoding times only: without the decoder's delay, gaps kept."""
        if last is None:
            self._delay = 0 if decoded.dts is None else decoded.dts - (self._first_dts or 0)
        after_last = 0 if last is None else last.pts + step
        pts = after_last if decoded.dts is None else decoded.dts - self._delay
        return pts if last is None or pts > last.pts else after_last

    def _frame(self, decoded: av.VideoFrame, pts: int) -> Frame:
        info = self.info
        if decoded.is_corrupt:
            self.report.damaged += 1
        same = SAME_SAMPLES.get(decoded.format.name, decoded.format.name)
        first = SAME_SAMPLES.get(info.pix_fmt_from_header, info.pix_fmt_from_header)
        if (decoded.width, decoded.height, same) != (info.width, info.height, first):
            if not self.report.rescaled:
                self._note(
                    f"the picture changes from {info.width}x{info.height} {info.pix_fmt_from_header} to "
                    f"{decoded.width}x{decoded.height} {decoded.format.name} at "
                    f"{float(pts * info.time_base):.3f} s; it is fitted to the first, as ffmpeg does"
                )
            self.report.rescaled += 1
            decoded = reformat(decoded, width=info.width, height=info.height, format=info.format.name)
        duration = max(0, decoded.duration or 0) if self._timed else 1
        return Frame(planes_of(decoded, info.format), pts, duration)

    def _check_end(self, last: Frame | None, step: int) -> None:
        self._check_budget(self.report.packets)
        info = self.info
        end = self.report.end
        if last is not None:
            end = max(end, (last.pts + (last.duration or step)) * info.time_base)
        start = info.start_from_header or Fraction(0)
        expected = None if info.duration_from_header is None else start + info.duration_from_header
        of_stream = self._stream.duration is not None
        missing = missing_seconds(self.path, end, expected, step * info.time_base, of_stream=of_stream)
        if missing is not None:
            self.report.missing_s = float(missing)
            what = f"the last {float(missing):.3f} s of {float(info.duration_from_header or 0):.3f} s are missing"
        elif self._cut is not None:
            self.report.missing_s = float("nan")
            what = f"the end is missing ({self._cut}); how many seconds cannot be known"
        else:
            return
        if self._on_truncated == "fail":
            raise TruncatedInputError(
                f"{self.path} was cut off: {what}", "get the whole file, or use --on-truncated keep"
            )
        self._note(f"{self.path} was cut off: {what}")

    # -- what the header and the first frame say -----------------------------------------------------------------------

    def _read_info(self, first: av.VideoFrame) -> VideoInfo:
        stream, context = self._stream, self._stream.codec_context
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        has_times = first.pts is not None or first.dts is not None
        if has_times and stream.time_base:
            time_base = Fraction(stream.time_base)
        else:  # elementary streams have no times: frames follow each other at the nominal rate
            time_base = 1 / (rate or FALLBACK_RATE)
            self._timed = False
            self._note(f"{self.path} has no time stamps; its frames are taken to follow at {1 / time_base} per second")
        pix_fmt = first.format.name
        color_range = Range(first.color_range) if first.color_range in (0, 1, 2) else Range.UNSPECIFIED
        if pix_fmt.startswith("yuvj"):
            color_range = Range.FULL
        start, duration = self._times_from_header(time_base)
        sar = stream.sample_aspect_ratio
        return VideoInfo(
            width=first.width,
            height=first.height,
            format=working_format(pix_fmt),
            pix_fmt_from_header=pix_fmt,
            color=ColorSpec(
                matrix=int(first.colorspace),
                primaries=int(first.color_primaries),
                transfer=int(first.color_trc),
                range=color_range,
                siting=_siting(first),
            ),
            time_base=time_base,
            rate=Fraction(rate) if rate else None,
            sample_aspect_ratio=Fraction(sar) if sar else None,
            start_from_header=start,
            duration_from_header=duration,
            num_frames_from_header=stream.frames or None,
            codec=context.codec.canonical_name,
            bit_rate=context.bit_rate or None,
            display_matrix=_display_matrix(first),
            interlaced=bool(first.interlaced_frame),
        )

    def _times_from_header(self, time_base: Fraction) -> tuple[Fraction | None, Fraction | None]:
        """Start and duration of the picture stream, in seconds."""
        stream, container = self._stream, self._container
        start = None if stream.start_time is None else stream.start_time * time_base
        # The durations of these count from zero, not from where the stream or the file starts.
        from_zero = any(name in container.format.name for name in ("matroska", "nut", "avi"))
        if stream.duration is not None:
            duration = stream.duration * time_base
            if container.format.name == "avi" and stream.frames and stream.average_rate:
                # Without an index libavformat guesses the duration from the size; the frame count is the header's.
                duration = max(duration, stream.frames / Fraction(stream.average_rate))
            return start, duration - (start or 0) if from_zero else duration
        if container.duration is None:
            return start, None
        file_start = Fraction(0) if from_zero else Fraction(container.start_time or 0, av.time_base)
        return start, file_start + Fraction(container.duration, av.time_base) - (start or 0)


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    side_data: Any = frame.side_data  # its mapping takes types as well as names
    data = side_data.get(SideDataType.DISPLAYMATRIX)
    return None if data is None else tuple(int(v) for v in np.frombuffer(data, dtype=np.int32))


def _siting(frame: av.VideoFrame) -> Siting:
    """The frame's chroma location, which PyAV shows only in what the `showinfo` filter logs of it."""
    import re

    import av.filter
    import av.logging

    if not any(c.is_chroma for c in frame.format.components):
        return Siting.UNSPECIFIED
    graph = av.filter.Graph()
    try:
        graph.link_nodes(
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)),
            graph.add("showinfo"),
            graph.add("buffersink"),
        ).configure()
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            with av.logging.Capture(local=True) as lines:
                graph.push(frame)
                graph.pull()
        finally:
            av.logging.set_level(level)
    except (av.error.FFmpegError, ValueError):
        return Siting.UNSPECIFIED
    match = re.search(r"\bcl:(\w+)", " ".join(line for _, _, line in lines))
    names = {s.name.lower(): s for s in Siting}
    return names.get(match.group(1), Siting.UNSPECIFIED) if match else Siting.UNSPECIFIED
