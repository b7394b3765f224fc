"""The sink: encodes frames, muxes them with the copied streams, and publishes the file when it is complete."""

from __future__ import annotations

import contextlib
import errno
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.container
import av.error

from vsr.errors import EncoderError, OutputError
from vsr.frame import Frame, Siting, VideoInfo
from vsr.hdr import StaticHdr, encoder_parameters
from vsr.pixel_formats import SurfaceFrames
from vsr.remux import Remux
from vsr.store import FULL_ERRNOS, AtomicFile, translate_write_error
from vsr.surface import SurfacePlanes
from vsr.writing.check import check_output
from vsr.writing.containers import MATROSKA, Container
from vsr.writing.conversion import encodable, output_color
from vsr.writing.encoder_options import hush_libraries, merged_parameters
from vsr.writing.encoders import EncoderPlan
from vsr.writing.matroska import FittedStream, Header, VideoTrack, display_size, fit_file
from vsr.writing.quicktime import add_hdr, describe_data

STDOUT: Final = "-"
FLUSH_SECONDS: Final = 2.0  # what an interrupted job gives the encoder to hand over the frames it holds
UNORDERED_FRAMES: Final = 2  # a video of so few has no B-frames, and x265 4.x gives them random decoding times
LONGEST_REORDERING: Final = 64  # frames; encoders use 16 at most
LONGEST_NAME: Final = 255  # bytes, on nearly every file system
LARGEST_TIMESCALE: Final = 50_000_000
# Values whose name x264, x265 and SVT-AV1 share; `left` is what they write nothing for, and what readers assume.
SITING_OPTION: Final = {
    Siting.CENTER: "center",
    Siting.TOPLEFT: "topleft",
    Siting.TOP: "top",
    Siting.BOTTOMLEFT: "bottomleft",
    Siting.BOTTOM: "bottom",
}


@dataclass(frozen=True)
class Progress:
    """How far the sink has come.

    Attributes:
        frames: written.
        time: presentation time of the last one from the first, in seconds.
    """

    frames: int
    time: float


class Sink:
    """One output file.

    Nothing is opened before the first frame is there; the output's name is taken only by `publish`.

    Args:
        target: the final path, or `-` for standard output.
        container: of the output.
        info: of the pictures that come: as the input's, but for the size, shape and siting that the job gave them.
        plan: the encoder.
        remux: the other streams, or None if there are none.
        overwrite: whether an existing target may be replaced.
        threads: of the encoder; 0 lets it choose.
        hdr: static HDR metadata of the input, or None.

    Raises:
        OutputExistsError, OutputError, DiskFullError: as `store.AtomicFile`.
    """

    def __init__(
        self,
        target: Path | str,
        container: Container,
        info: VideoInfo,
        plan: EncoderPlan,
        remux: Remux | None,
        *,
        overwrite: bool = False,
        threads: int = 0,
        hdr: StaticHdr | None = None,
    ) -> None:
        self.frames_written = 0
        self.packets_written = 0
        self._container = container
        self._info = info
        self._plan = plan
        self._remux = remux
        self._threads = threads
        self._hdr = hdr
        self._size = (info.width, info.height)
        self._color = output_color(info, plan)
        self._first_pts: int | None = None
        self._last: Frame | None = None
        self._durations: dict[int, int] = {}
        self._surface_frames = SurfaceFrames()
        self._muxed_end = Fraction(0)
        self._output: av.container.OutputContainer | None = None
        self._stream: Any = None
        self._name = str(target)
        self._file: AtomicFile | None = None
        self._unnamed: FittedStream | None = None
        self._header = Header()
        if container.muxer in ("matroska", "webm"):
            video = VideoTrack(display_size(*self._size, info.sample_aspect_ratio), hdr)
            self._header = Header(video, () if remux is None else remux.sound_tracks)
        if target != STDOUT and not _is_stream(Path(target)):
            self._file = AtomicFile(Path(target), overwrite=overwrite)

    def consume(self, frames: Iterator[Frame], stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Encode and mux `frames`, yielding the progress after each.

        Raises:
            EncoderError, DiskFullError, OutputError.
        """
        try:
            for frame in frames:
                if stop():
                    break
                self._encode(frame)
                self.frames_written += 1
                assert self._first_pts is not None
                yield Progress(self.frames_written, float((frame.pts - self._first_pts) * self._info.time_base))
            if self._output is not None:
                self._finish(stop)
        except (av.error.FFmpegError, OSError) as exc:
            raise translate_write_error(exc, self._name) from exc

    def publish(self) -> None:
        """Verify the finished file and give it its name.

        Raises:
            VerificationError: the file is not what was written.
            OutputError, DiskFullError, OutputExistsError: as `store.AtomicFile.publish`.
        """
        if self._file is None:
            return
        check_output(
            self._file.temporary,
            self._name,
            frames=self.frames_written,
            size=self._size,
            first=self._time(self._first_pts),
            last=self._time(None if self._last is None else self._last.pts),
            muxer=self._container.muxer,
            number=self._videos_before,
        )
        self._file.publish()

    def publish_partial(self) -> Path | None:
        """Keep what an interrupted job has finished, as OUT.partial.EXT; None if there is nothing to keep."""
        if self._file is None or not self.packets_written:
            self.discard()
            return None
        target = self._file.target
        stem = target.stem.encode()[: LONGEST_NAME - len(f".partial{target.suffix}".encode())].decode(errors="ignore")
        return self._file.publish(target.with_name(f"{stem}.partial{target.suffix}"))

    def discard(self) -> None:
        """Close and delete whatever is unfinished."""
        if self._output is not None:
            output, self._output = self._output, None
            with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):  # it is being thrown away
                output.close()
        if self._unnamed is not None:
            with contextlib.suppress(OSError):
                self._unnamed.close()
        if self._file is not None:
            self._file.discard()

    @property
    def seconds_written(self) -> float:
        """Seconds of video that have gone into the file."""
        return float(self._muxed_end - (self._time(self._first_pts) or 0)) if self.packets_written else 0.0

    # -- opening ------------------------------------------------------------------------------------------------------

    def _open(self, first: Frame) -> None:
        muxer_options = dict(self._container.options)
        if self._container.muxer in ("mp4", "mov"):
            muxer_options["movie_timescale"] = str(self._movie_timescale())
            if self._remux is not None and self._remux.needs_free_tags:
                muxer_options["movflags"] = "use_metadata_tags"
        self._output = av.open(self._destination(), "w", format=self._container.muxer, container_options=muxer_options)
        if self._remux is not None:
            self._remux.add_streams(self._output, after_picture=False)
        hush_libraries()
        self._stream = self._add_picture_stream(self._output, first)
        if self._remux is not None:
            self._remux.add_streams(self._output, after_picture=True)
            self._remux.copy_metadata(self._output, self._stream)
        if self._header.video:
            self._stream.metadata["title"] = self._stream.metadata.get("title", "") + self._header.video.room()

    def _start(self, picture: av.VideoFrame, *, surface: bool) -> list[Any]:
        """Open the encoder, write the header, and encode the first picture, on whose device the encoder is opened."""
        assert self._output is not None
        packets: list[Any] = []
        try:
            if surface:
                self._stream.codec_context.pix_fmt = self._plan.surfaces
                packets = self._stream.encode(picture)
            self._output.start_encoding()
        except (av.error.FFmpegError, ValueError) as exc:
            if getattr(exc, "errno", None) in (*FULL_ERRNOS, errno.EPIPE):
                raise
            raise EncoderError(
                f"encoder {self._plan.encoder.name} or the {self._container.title} muxer refuses "
                f"{self._size[0]}x{self._size[1]} {self._plan.pix_fmt}: {exc}",
                "try another --encoder, --preset or --pix-fmt",
            ) from exc
        return packets if surface else list(self._stream.encode(picture))

    def _destination(self) -> Any:
        if self._file is not None:
            return f"file:{self._file.temporary}"
        if not self._header:
            return "pipe:1" if self._name == STDOUT else f"file:{self._name}"
        self._unnamed = FittedStream(None if self._name == STDOUT else Path(self._name), self._header)
        return self._unnamed

    def _movie_timescale(self) -> int:
        """Ticks in which MP4 edit lists count; its default of 1/1000 s would round where each stream starts."""
        rates = [] if self._remux is None else self._remux.tick_rates
        ticks = self._info.time_base.denominator
        for rate in rates:
            if math.lcm(ticks, rate) <= LARGEST_TIMESCALE:
                ticks = math.lcm(ticks, rate)
        return max(ticks, 1000) if ticks <= LARGEST_TIMESCALE else 90000

    def _add_picture_stream(self, output: av.container.OutputContainer, first: Frame) -> Any:
        info, plan = self._info, self._plan
        options = dict(plan.options)
        siting = SITING_OPTION.get(info.color.siting)
        if siting and (info.format.log2_w or info.format.log2_h):
            options["chroma_sample_location"] = siting
        name = plan.encoder.parameters
        parameters = None if self._hdr is None else encoder_parameters(self._hdr, name)
        if name is not None and parameters is not None:
            options[name] = merged_parameters(parameters, options.get(name, ""))
        rate = info.rate or Fraction(25)
        told = min(rate, Fraction(plan.encoder.max_rate)) if plan.encoder.max_rate else rate
        if not self._container.negative_dts and first.pts * info.time_base * rate < LONGEST_REORDERING:
            options["bf"] = "0"
        stream: Any = output.add_stream(plan.encoder.library, rate=told, options=options)
        context = stream.codec_context
        context.width, context.height = self._size
        context.pix_fmt = plan.pix_fmt
        context.time_base = info.time_base
        stream.time_base = info.time_base
        context.thread_count = self._threads
        context.thread_type = "AUTO"
        if info.sample_aspect_ratio is not None:
            context.sample_aspect_ratio = info.sample_aspect_ratio
        context.color_range = int(self._color.range)
        context.color_primaries = self._color.primaries
        context.color_trc = self._color.transfer
        context.colorspace = self._color.matrix
        if info.display_matrix is not None:
            stream.set_display_matrix(info.display_matrix)
        return stream

    # -- writing ------------------------------------------------------------------------------------------------------

    def _encode(self, frame: Frame) -> None:
        surface = self._plan.surfaces is not None and isinstance(frame.planes, SurfacePlanes)
        if isinstance(frame.planes, SurfacePlanes) and surface:
            picture = self._surface_frames.frame(frame.planes)
        else:
            picture = encodable(frame.planes, self._info, self._color, self._plan.pix_fmt)
        # Most encoders take these from their context; ProRes takes them from the pictures.
        picture.color_primaries = self._color.primaries
        picture.color_trc = self._color.transfer
        picture.colorspace = self._color.matrix
        picture.color_range = int(self._color.range)
        picture.pts = frame.pts
        picture.time_base = self._info.time_base
        picture.duration = frame.duration
        if frame.duration:
            self._durations[frame.pts] = frame.duration
        self._last = frame
        if self._output is None:
            self._first_pts = frame.pts
            self._open(frame)
            packets = self._start(picture, surface=surface)
        else:
            packets = self._stream.encode(picture)
        for packet in packets:
            self._mux(packet)

    def _mux(self, packet: Any) -> None:
        assert self._output is not None
        if packet.pts is not None:
            packet.duration = self._durations.pop(packet.pts, None) or packet.duration
            if self.frames_written <= UNORDERED_FRAMES or not self._is_plausible(packet.dts, packet.pts):
                packet.dts = packet.pts
            self._muxed_end = max(self._muxed_end, (packet.pts + (packet.duration or 0)) * self._info.time_base)
        at = packet.dts if packet.dts is not None else packet.pts
        if self._remux is not None:
            until = None if at is None else at * self._info.time_base
            if until is not None:
                for other in self._remux.packets_until(until):
                    self._output.mux_one(other)
        self._output.mux_one(packet)
        self.packets_written += 1

    def _is_plausible(self, dts: int | None, pts: int) -> bool:
        """Whether `dts` can be right: x265 4.x returns random ones for a video shorter than its reordering delay.

        Encoders start decoding before the first picture by as much time as the pictures that they reorder span.
        """
        assert self._first_pts is not None
        assert self._last is not None
        rate = self._info.rate or Fraction(25)
        earliest = 2 * self._first_pts - self._last.pts - LONGEST_REORDERING / (rate * self._info.time_base)
        return dts is not None and earliest <= dts <= pts

    def _finish(self, stop: Callable[[], bool]) -> None:
        assert self._output is not None
        interrupted = stop()
        deadline = time.monotonic() + FLUSH_SECONDS
        for packet in self._stream.codec_context.encode_lazy(None):
            packet.stream = self._stream
            self._mux(packet)
            if interrupted and time.monotonic() > deadline:
                break
        if self._remux is not None and not interrupted:
            for other in self._remux.packets_until(None):
                self._output.mux_one(other)
        output, self._output = self._output, None
        output.close()
        if self._unnamed is not None:
            self._unnamed.close()
        if self._file is not None and self._header:
            fit_file(self._file.temporary, self._header)
        if self._file is not None and self._hdr is not None and self._container.muxer in ("mp4", "mov"):
            add_hdr(self._file.temporary, self._hdr, self._videos_before)
        if self._file is not None and self._remux is not None:
            describe_data(self._file.temporary, self._remux.data_tracks(self._stream.index))
        if not interrupted and self.packets_written != self.frames_written:
            raise OutputError(
                f"encoder {self._plan.encoder.name} was given {self.frames_written} frames and returned "
                f"{self.packets_written} packets"
            )

    @property
    def _videos_before(self) -> int:
        return 0 if self._remux is None else self._remux.videos_before_picture

    def _time(self, pts: int | None) -> Fraction | None:
        return None if pts is None else pts * self._info.time_base


def _is_stream(path: Path) -> bool:
    """Whether `path` is something that cannot be renamed into place: a pipe or a device."""
    return path.exists() and not path.is_file() and not path.is_dir()


def streaming_container() -> Container:
    """The container written to standard output, where no name tells."""
    return MATROSKA


def refuse_terminal() -> None:
    """Raise if standard output is a terminal, which a video would upset, or closed."""
    if sys.stdout is None:
        raise OutputError(
            "standard output is closed", "send it to a file or a program, as in: vsr upscale … -o - | mpv -"
        )
    if sys.stdout.isatty():
        raise OutputError(
            "standard output is a terminal",
            "send it to a file or a program, as in: vsr upscale … -o - | mpv -",
        )
