"""The source: opens a file, finds its picture stream, and yields frames with exact times.

Frames come out once each, in order, with strictly increasing pts in the stream's own time base. A picture that cannot
be decoded is replaced by a repeat of the one before it at the lost picture's time, so that nothing after it moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import av
import av.error

from vsr.copying.selection import Selection
from vsr.errors import BackendError, CorruptInputError, NotMediaError, OptionError, TruncatedInputError
from vsr.fields.order import HEADER_ORDERS, FieldReader, order_from_header
from vsr.frame import FieldOrder, Frame
from vsr.hdr import read_static_hdr
from vsr.pixel_formats import planes_of, reformat, working_format
from vsr.reading.crop import cut, find_crop
from vsr.reading.decode_report import DecodeReport, ErrorBudget, times_jump_back
from vsr.reading.demux import check_input_path, open_input, packets, read_only
from vsr.reading.field_packets import FieldPackets
from vsr.reading.hardware import Decoder, Hardware, difference, samples_of
from vsr.reading.picture_times import DURATIONS_BY_DECODING, PictureTimes, until_next
from vsr.reading.probe import FALLBACK_RATE, has_times, pick_video, read_info, time_base_of
from vsr.reading.seek import jump, origin_of, packets_from, time_after_frames
from vsr.reading.truncation import WITHOUT_STREAM_LENGTHS, cut_off_by_structure, missing_seconds
from vsr.trim import CLOCKED_FORMATS, Trim, Window, window_of

OnTruncated = Literal["fail", "keep"]
Note = Callable[[str], None]

LARGE_PICTURE: Final = 1 << 20  # samples; above it one decoding thread may be too slow
UNKNOWN_LENGTH: Final = 1000  # packets that a file is taken to have while it does not say
FLUSH_ATTEMPTS: Final = 64
LONGEST_JUMP_S: Final = 1  # by which times may go back and be mended one by one


class Source:
    """One input file.

    Opening decodes the first picture, so that what `info` says is what will come.

    Args:
        path: the file.
        on_truncated: `fail` on a file that was cut off, or `keep` what there is.
        budget: of decode errors.
        threads: for decoding; 0 chooses by picture size.
        trim: the part of the file that is wanted.
        selection: of its streams, which tells among which videos to choose.
        note: called with one line for each thing the user should know.
        hardware: a decoder to use if it can be used, which is told with `note` if it cannot.

    Attributes:
        info: what is known of the pictures, cropped as the header asks.
        crop: what is cut off the coded pictures.
        skipped: seconds between the first picture and the first that is wanted.
        window: the wanted part in the file's own times, and by how much the times of the frames have moved.
        hdr: static HDR metadata, or None.
        report: what has happened so far.

    Raises:
        MissingInputError, NotMediaError, UnsupportedInputError, TruncatedInputError, CorruptInputError.
        OptionError: no picture lies within `trim`.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_truncated: OnTruncated = "fail",
        budget: ErrorBudget | None = None,
        threads: int = 0,
        trim: Trim | None = None,
        selection: Selection | None = None,
        note: Note = lambda _: None,
        hardware: Hardware | None = None,
    ) -> None:
        self.path = path
        self.report = DecodeReport()
        self._budget = budget or ErrorBudget()
        self._note = note
        self._on_truncated = on_truncated
        self._threads = threads
        self._selection = selection or Selection()
        self.skipped = Fraction(0)
        self._stopped: Callable[[], bool] = lambda: False
        self._ready: Frame | None = None  # the first wanted one, decoded while it was sought
        self._hardware: Hardware | None = None  # in use
        check_input_path(path)
        self._bytes = _size_of(path)
        self._cut = cut_off_by_structure(path)
        self._open()
        try:
            if self._cut is not None and on_truncated == "fail":
                raise TruncatedInputError(
                    f"{path} was cut off: {self._cut}", "get the whole file, or use --on-truncated keep"
                )
            self._decoded = self._decode(packets(self._container, self._stream, path=path))
            self._first = next(self._decoded, None)
            if self._first is None:
                why = "" if self._cut is None else f"; it was cut off: {self._cut}"
                raise NotMediaError(f"{path} has a video stream, but not one frame of it can be decoded{why}")
            self._fields = FieldReader(order_from_header(self._stream.codec_context))
            self._timed = has_times(self._stream, self._first)
            known = self._switch_to(hardware, self._first) if hardware is not None else None
            self.window = self._find_window(trim or Trim(), self._first)
            first = known or self._first
            order = self._fields.order(first)
            self._coded = read_info(self._container, self._stream, first, order)
            fields = order is not FieldOrder.PROGRESSIVE or int(self._stream.codec_context.field_order) in HEADER_ORDERS
            self.crop = find_crop(path, self._stream_index, self._coded, fields=fields, note=note)
            width, height = self.crop.size_of(self._coded)
            self.info = replace(self._coded, width=width, height=height)
            if not self._timed:
                per_second = 1 / self.info.time_base
                note(f"{path} has no time stamps; its frames are taken to follow at {per_second} per second")
            self.hdr = read_static_hdr(first)
            planes_of(first, self.info.format)  # refuses now what it would refuse later
            self._frames = self._within_window()
            if not self.window.changes_nothing:
                self._ready = next(self._frames, None)
                if self._ready is None:
                    raise self._nothing_left()
                self.skipped = self._ready.pts * self.info.time_base + self.window.shift - self._first_time
        except BaseException:
            self._container.close()
            raise

    @property
    def hardware(self) -> Hardware | None:
        """What decodes, if it is not libavcodec."""
        return self._hardware

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
        self._stopped = stop
        if self._ready is not None and not stop():
            yield self._ready
        yield from self._frames

    def _within_window(self) -> Iterator[Frame]:
        """The frames that are wanted, at the times that they have in the output."""
        tick = self.info.time_base
        shift = int(self.window.shift / tick)
        kept: Frame | None = None
        frames = self._all_frames()
        if self._container.format.name in DURATIONS_BY_DECODING:
            frames = until_next(frames, self._stopped)
        for frame in frames:
            if self.window.starts_after(frame.pts * tick):
                continue
            if self.window.end is None:
                yield self._wanted(frame, shift, None)
                continue
            over = self.window.ends_by(frame.pts * tick)
            if kept is not None:
                yield self._wanted(kept, shift, frame.pts if over else None)
            kept = frame
            if over:
                return
        if kept is not None and not self._stopped():
            yield self._wanted(kept, shift, None)

    def _wanted(self, frame: Frame, shift: int, behind: int | None) -> Frame:
        """`frame` at its time in the output; `behind` is when the first one that is not wanted is shown."""
        self.report.frames += 1
        self.report.repeated += frame.repeated
        whole = duration = frame.duration if behind is None else behind - frame.pts
        if self.window.end is not None:
            duration = min(duration, math.ceil(self.window.end / self.info.time_base) - frame.pts)
        return replace(frame, pts=frame.pts - shift, duration=duration, uncut=whole if duration < whole else None)

    def _all_frames(self) -> Iterator[Frame]:
        """Every frame from where decoding has begun, at its own time."""
        step = max(1, round(1 / ((self.info.rate or FALLBACK_RATE) * self.info.time_base)))
        last: Frame | None = None
        decoded = self._first
        self._first = None
        while decoded is not None:
            if self._stopped():
                return
            pts, lost = self._time_of(decoded, last, step)
            if last is not None:
                yield from self._repeats(last, lost)
            last = self._frame(decoded, pts)
            yield last
            decoded = next(self._decoded, None)
        if last is not None and self.report.errors:
            for repeat in self._repeats(last, self._times.left()):
                last = repeat
                yield repeat
        self._check_end(last, step)

    def _repeats(self, last: Frame, times: list[int]) -> Iterator[Frame]:
        """`last` again at each of the `times` after it, for the pictures that were lost there."""
        for pts in times:
            if pts > last.pts:
                last = replace(last, pts=pts, repeated=True)
                yield last

    # -- reading ------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Open the file, or open it anew; decoding begins where the caller reads on."""
        self._container = open_input(self.path)
        try:
            self._stream = pick_video(self._container, self.path, self._selection)
            self._stream_index = int(self._stream.index)
            read_only(self._container, {self._stream_index})
            context = self._stream.codec_context
            large = context.width * context.height > LARGE_PICTURE
            context.thread_count = self._threads or (2 if large else 1)
            context.thread_type = "AUTO"
            self._decoder: Decoder = context if self._hardware is None else self._hardware.decoder(self._stream)
        except BaseException:
            self._container.close()
            raise
        fields = FieldPackets(self._stream)
        self._times = PictureTimes(fields, by_decoding=self._container.format.name == "avi")

    def _switch_to(self, hardware: Hardware, known: av.VideoFrame) -> av.VideoFrame | None:
        """Decode by `hardware` from the start if it gives the same first picture, which is returned then."""
        fmt, name = working_format(known.format.name), self._stream.codec_context.codec.canonical_name
        refusal = hardware.refusal(name, known.format.name)
        if refusal is None:
            self._hardware = hardware
            try:
                self._restart()
                refusal = difference(hardware, self._first, known, fmt)
            except BackendError as error:
                refusal = error.message
            if refusal is None:
                return known
            self._container.close()
            self._hardware = None
            self._restart()
        self._note(f"{refusal}; the CPU decodes")
        return None

    def _restart(self) -> None:
        """Open the file anew and decode its first picture."""
        self._container.close()
        self._open()
        self._begin(self._packets())

    def _begin(self, found: Iterator[Any]) -> None:
        """Decode the first picture of the packets `found`."""
        self.report = DecodeReport()
        self._decoded = self._decode(found)
        self._first = next(self._decoded, None)

    def _packets(self) -> Iterator[Any]:
        return packets(self._container, self._stream, path=self.path)

    def _find_window(self, trim: Trim, first: av.VideoFrame) -> Window:
        """What `trim` means here; decoding goes on at the key frame before its start if it can."""
        tick = time_base_of(self._stream, first)
        self._first_time = begin = (self._times.begin(first) if self._timed else 0) * tick
        self._origin = origin = origin_of(self._container, begin)
        clocked = self._container.format.name in CLOCKED_FORMATS
        if begin < 0 and not clocked:
            self._note(f"the video begins {float(-begin):.3f} s before time zero; all streams are moved by as much")
        window = window_of(trim, origin=origin, first=begin, time_base=tick, clocked=clocked)
        if trim.frames is not None:
            behind, found = self._time_behind(trim.frames, window.start, tick)
            if found < trim.frames:
                self._note(f"{trim.frames} frames are asked for, and there are {found} from the start on")
            if behind is not None and not window.ends_by(behind):
                window = replace(window, end=behind)
        if window.start is not None and window.start > begin and self._timed and not self._times.by_decoding:
            self._start_at(window.start)
        return window

    def _time_behind(self, count: int, start: Fraction | None, tick: Fraction) -> tuple[Fraction | None, int]:
        """When the frame behind the first `count` from `start` on is shown, if there is one; how many there are."""
        if not self._timed:  # frames are numbered, and how many there are is not known
            return (math.ceil((start or Fraction(0)) / tick) + count) * tick, count
        only_dts = self._times.by_decoding
        return time_after_frames(self.path, self._stream_index, count, start, decoding_times=only_dts)

    def _start_at(self, start: Fraction) -> None:
        """Decode from the last key frame at or before `start` (seconds); from the first one where that fails."""
        self._container.close()
        self._open()
        jump(self._container, self._stream, start)
        found = packets_from(self._container, self._stream, self.path, start)
        if found is not None and self._decodes_before(found, start):
            return
        self._restart()

    def _decodes_before(self, found: Iterator[Any], start: Fraction) -> bool:
        """Begin decoding; whether the first picture is shown at or before `start`, so that nothing is missing."""
        self._begin(found)
        at = None if self._first is None else self._first.pts
        return at is not None and at * Fraction(self._stream.time_base) <= start

    def _nothing_left(self) -> OptionError:
        start = (self.window.start or self._origin) - self._origin
        until = "its end" if self.window.end is None else f"{float(self.window.end - self._origin):.3f} s"
        return OptionError(
            f"no picture of {self.path} begins between {float(start):.3f} s and {until}; "
            f"what was read of it ends at {float(self.report.end - self._origin):.3f} s",
            "choose other times",
        )

    def _decode(self, found: Iterator[Any]) -> Iterator[av.VideoFrame]:
        for packet in found:
            if packet.size:
                self.report.packets += 1
                at = self._times.expect(packet)
                if at is not None:
                    end = (at + (packet.duration or 0)) * packet.time_base
                    self.report.end = max(self.report.end, end)
                yield from self._decode_packet(packet)
        for _ in range(FLUSH_ATTEMPTS):  # a damaged frame ends one flush, and those behind it come with the next
            frames = list(self._decode_packet(None))
            yield from frames
            if not frames:
                return

    def _decode_packet(self, packet: Any) -> Iterator[av.VideoFrame]:
        try:
            yield from self._decoder.decode(packet)
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
        pts, lost = self._times.of(decoded, last, step)
        if last is not None and pts <= last.pts:
            back = (last.pts - pts) * self.info.time_base
            if back > LONGEST_JUMP_S:
                raise times_jump_back(self.path, back, last.pts * self.info.time_base - self._origin)
            pts = last.pts + 1
            self.report.shifted += 1
        return pts, [p for p in lost if p < pts] if self.report.errors else []

    def _frame(self, decoded: av.VideoFrame, pts: int) -> Frame:
        info = self._coded
        if decoded.is_corrupt and self.window.holds(pts * info.time_base):
            self.report.damaged += 1
        order = self._fields.order(decoded)
        same, first = samples_of(decoded.sw_format or decoded.format), samples_of(info.pix_fmt_from_header)
        if (decoded.width, decoded.height, same) != (info.width, info.height, first):
            if not self.report.rescaled:
                self._note(
                    f"the picture changes from {info.width}x{info.height} {info.pix_fmt_from_header} to "
                    f"{decoded.width}x{decoded.height} {decoded.format.name} at "
                    f"{float(pts * info.time_base):.3f} s; it is fitted to the first, as ffmpeg does"
                )
            self.report.rescaled += 1
            decoded = reformat(decoded, width=info.width, height=info.height, format=info.format.name)
        duration = max(0, decoded.duration or 0) + self._times.second_field(pts) if self._timed else 1
        planes = (self._hardware.planes if self._hardware is not None else planes_of)(decoded, info.format)
        return Frame(cut(planes, self.crop), pts, duration, field_order=order)

    def _check_end(self, last: Frame | None, step: int) -> None:
        self._check_budget(self.report.packets)
        info = self.info
        end = self.report.end
        if last is not None:
            duration = max(last.duration, self._times.last_gap) if self._times.by_decoding else last.duration
            end = max(end, (last.pts + (duration or step)) * info.time_base)
        start = info.start_from_header or Fraction(0)
        expected = None if info.duration_from_header is None else start + info.duration_from_header
        of_stream = self._stream.duration is not None and self._container.format.name not in WITHOUT_STREAM_LENGTHS
        missing = missing_seconds(self.path, end, expected, step * info.time_base, of_stream=of_stream)
        if missing is not None:
            self.report.missing_s = float(missing)
            what = f"the last {float(missing):.3f} s of {float(info.duration_from_header or 0):.3f} s are missing"
        elif (size := _size_of(self.path)) > self._bytes:
            self.report.missing_s = float("nan")
            what = f"it went from {self._bytes} to {size} bytes while it was read, so it is still being written"
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


def _size_of(path: Path) -> int:
    """Bytes; 0 if the file is gone, which does not hinder the one who has it open."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
