"""A job: one input to one output. The wiring of source, upscaler, remux and sink, and the account of what they did."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from vsr.copying.selection import Selection
from vsr.endpoints import (
    AnySink,
    AnySource,
    check_paths,
    open_deinterlacer,
    open_remux,
    open_sink,
    open_source,
    plan_output,
)
from vsr.enlarged import enlarged_info, frame_bytes, wanted_size
from vsr.errors import InterruptedJobError, OptionError, VerificationError
from vsr.fields.deinterlace import Deinterlace, Deinterlacer, FieldOptions, FieldOrderOption
from vsr.frame import ColorSpec
from vsr.graphs.frame_graph import Target
from vsr.hdr import notes as hdr_losses
from vsr.model import archive_model_name
from vsr.pictures.sequence import parse_rate
from vsr.pipeline import Pipeline, bottleneck
from vsr.reading.decode_report import ErrorBudget
from vsr.remux import OnUnsupported
from vsr.report import JobProgress, JobReport
from vsr.sink import Progress
from vsr.siting import arithmetic_color
from vsr.size import OutputSize, SizeRequest
from vsr.source import OnTruncated
from vsr.trim import Time, Trim, expected_frames
from vsr.upscaler import Upscaler
from vsr.writing.color_tags import color_notes
from vsr.writing.encoder_options import EncoderRequest, parse_bitrate, parse_options
from vsr.writing.encoder_table import EVERYDAY
from vsr.writing.encoders import EncoderPlan

CHANNEL_DEPTH: Final = 4
CHANNEL_BYTES: Final = 1 << 29  # of upscaled pictures waiting to be encoded; above it fewer wait


@dataclass(frozen=True)
class UpscaleOptions:
    """What a job is asked for; every value has a sensible default.

    Attributes:
        scale: enlargement, any number over 1 and up to 16; 2, 3, 4, 6, 8, 9, 12 and 16 are what models do, others are
            made by the next of these, reduced.
        size: instead of a scale: `1920x1080`, `1920x-2`, `-2x2160`, `4k` and the like, as displayed; None for `scale`.
        fit: what WIDTHxHEIGHT means for a picture of another shape: `exact` refuses it, `inside` takes the largest size
            that fits into it, `stretch` distorts the picture.
        square_pixels: make samples square that are not; silent, their shape is kept.
        model: shipped name, `bicubic`, path of an ONNX file, or None for the default.
        backend: `auto` or a name in `vsr.engines.engine.BACKENDS`.
        precision: `auto` (measured once for the machine; fp32 in an archive), `fp32`, `bf16`, `fp16` or `int8`.
        wait_engine: whether to wait for an engine that has to be built first; if not, the job begins on another backend
            and goes over between two frames when the engine is there.
        threads: CPU threads of the engine and of the encoder; 0 lets each choose.
        encoder: `auto` or a name in `vsr.writing.encoders.ENCODERS`; those that need a GPU are never chosen by `auto`.
        use: what the result is for: `archive`, `everyday` or `realtime`. Decides what is not said: the encoder's preset
            and crf, and in an archive the model `best`, once that is shipped, and fp32.
        crf: constant rate factor (NVENC calls it cq); None for the encoder's default for this use.
        preset: of the encoder; None for its default for this use. For ProRes, the profile; None is hq or, with 4:4:4,
            4444.
        tune: of the encoder, as it names them; None for none.
        bitrate: average in bits a second, as a number or as `8M` or `2500k`, in one pass; instead of `crf`.
        lossless: whether the encoder must give back exactly what it is given; instead of `crf`.
        encoder_options: more for the encoder, as `name=value` each or as a mapping. They win over all of the above.
            `x264-params`, `x265-params` and `svtav1-params` are joined with what is in them already. An option that the
            encoder has not is refused before the work starts.
        pix_fmt: of the output; None keeps the input's.
        overwrite: whether an existing output may be replaced.
        on_truncated: `fail` on an input that was cut off, or `keep` what there is.
        max_decode_errors: how many packets may fail to decode: `N` or `N%`.
        on_unsupported: `fail` if the container cannot hold a stream, or `drop` it.
        reuse: whether parts of a frame that equal the frame before are taken from there; the result has the same bits.
        quality: of JPEG and WebP pictures, 1 to 100; None for 95.
        fps: frame rate of an image sequence, such as 24, "23.976" or "30000/1001"; None for 25.
        start: where to begin, counted from where players begin to show the file: seconds, or text such as "1:30.5".
        end: where to stop: what begins at `end` or later is left out. Likewise.
        duration: how much to take from `start` on, instead of `end`. Likewise.
        frames: how many frames to take at most.
        map: which streams to keep, as FFmpeg's stream specifiers such as "a:0", "s:m:language:eng" or "-s"; nothing
            keeps all. `vsr.copying.selection` says how several go together.
        video_stream: which video to upscale where there are several, counted from 0 without covers; None takes the
            default one, else the largest. The others are copied.
        deinterlace: `auto` (pictures marked as interlaced, by bwdif), `detect` (by what the pictures show), `off`, or
            `bwdif` or `yadif` for every picture.
        field_order: `auto` (as marked), or `tff` or `bff` for every picture, whatever it is marked as.
        field_rate: one picture for each field instead of one for each frame, which doubles the frame rate.
    """

    scale: float = 3
    size: str | None = None
    fit: str = "exact"
    square_pixels: bool = False
    model: str | Path | None = None
    backend: str = "auto"
    precision: str = "auto"
    wait_engine: bool = True
    threads: int = 0
    encoder: str = "auto"
    use: str = EVERYDAY
    crf: float | None = None
    preset: str | None = None
    tune: str | None = None
    bitrate: str | int | None = None
    lossless: bool = False
    encoder_options: Sequence[str] | Mapping[str, str] = ()
    pix_fmt: str | None = None
    overwrite: bool = False
    on_truncated: OnTruncated = "fail"
    max_decode_errors: str = "10%"
    on_unsupported: OnUnsupported = "fail"
    reuse: bool = True
    quality: int | None = None
    fps: str | float | Fraction | None = None
    start: Time | None = None
    end: Time | None = None
    duration: Time | None = None
    frames: int | None = None
    map: str | Sequence[str] = ()
    video_stream: int | None = None
    deinterlace: Deinterlace = "auto"
    field_order: FieldOrderOption = "auto"
    field_rate: bool = False

    def __post_init__(self) -> None:
        self.size_request()
        if self.threads < 0:
            raise OptionError(f"threads {self.threads}; it must be 0 (automatic) or more")
        for name, value, allowed in (
            ("on_truncated", self.on_truncated, ("fail", "keep")),
            ("on_unsupported", self.on_unsupported, ("fail", "drop")),
        ):
            if value not in allowed:
                raise OptionError(f"{name} {value!r}; allowed are {', '.join(allowed)}")
        if self.quality is not None and not (isinstance(self.quality, int) and 1 <= self.quality <= 100):
            raise OptionError(f"quality {self.quality!r}; allowed are 1 to 100")
        if self.fps is not None:
            parse_rate(self.fps)
        self.error_budget()
        self.encoder_request()
        self.trim()
        self.selection()
        self.fields()

    def encoder_request(self) -> EncoderRequest:
        """What is asked of the encoder, read.

        Raises:
            OptionError: it is not to be read, or contradicts itself.
        """
        return EncoderRequest(
            self.encoder,
            self.pix_fmt,
            self.crf,
            self.preset,
            self.tune,
            parse_bitrate(self.bitrate),
            self.lossless,
            parse_options(self.encoder_options),
            self.use,
        )

    def upscaler(
        self,
        *,
        reuse: bool = False,
        on_note: Callable[[str], None] = lambda _: None,
        on_build: Callable[[float], bool] = lambda _: True,
    ) -> Upscaler:
        """An upscaler as it is asked for; what is left open follows from the use.

        Args:
            reuse: whether the pictures will be consecutive frames, of which only what changed is computed.
            on_note: is told what takes its time and why.
            on_build: is told how far an engine is built, as `Upscaler` says.

        Raises:
            OptionError, ModelError.
        """
        archive = self.use == "archive"
        return Upscaler(
            self.scale,
            archive_model_name() if archive and self.model is None else self.model,
            size=self.size,
            fit=self.fit,
            backend=self.backend,
            precision="fp32" if archive and self.precision == "auto" else self.precision,
            threads=self.threads,
            reuse=reuse,
            wait=self.wait_engine,
            on_note=on_note,
            on_build=on_build,
        )

    def selection(self) -> Selection:
        """`map` and `video_stream`, read.

        Raises:
            OptionError: one is no stream specifier, or the number is negative.
        """
        return Selection.parse(self.map, self.video_stream)

    def size_request(self) -> SizeRequest:
        """What is asked of the output's size.

        Raises:
            OptionError: it makes no sense.
        """
        return SizeRequest(self.scale, self.size, self.fit, self.square_pixels)

    def trim(self) -> Trim:
        """`start`, `end`, `duration` and `frames`, read.

        Raises:
            OptionError: one of them is no time, or they contradict each other.
        """
        return Trim.parse(self.start, self.end, self.duration, self.frames)

    def error_budget(self) -> ErrorBudget:
        """`max_decode_errors`, read.

        Raises:
            OptionError: it is neither a number nor a percentage.
        """
        try:
            return ErrorBudget.parse(self.max_decode_errors)
        except ValueError as exc:
            raise OptionError(
                f"max decode errors {self.max_decode_errors!r}; give a number of packets, or a percentage such as 10%"
            ) from exc

    def fields(self) -> FieldOptions:
        """How interlaced pictures are treated."""
        return FieldOptions(self.deinterlace, self.field_order, self.field_rate)


def upscale(
    input: str | Path,
    output: str | Path,
    scale: float = 3,
    *,
    on_progress: Callable[[JobProgress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    on_build: Callable[[float], bool] = lambda _: True,
    stop: threading.Event | None = None,
    **options: Any,
) -> JobReport:
    """Upscale one video or image sequence to another.

    The output appears under its name only when it is complete and has been verified, and so does each picture of a
    sequence.

    Args:
        input: path of the video, or pattern of the pictures: `frame_%05d.png`, `frames/*.png`.
        output: path of the result, whose extension names the container; `-` writes Matroska to standard output;
            `big_%05d.png` writes pictures.
        scale: enlargement; `size=` among the options takes its place.
        on_progress: called in the calling thread after each written frame.
        on_note: called with each line that the user should see, as it arises; all are in the report too.
        on_build: called, while an engine is built that the job has to wait for, with how much of it is done, 0 to 1;
            answers whether to go on.
        stop: when it is set, the job finalises what is done as OUT.partial.EXT and raises `InterruptedJobError`.
        options: the other attributes of `UpscaleOptions`.

    Raises:
        InterruptedJobError: `stop` was set.
        VsrError: anything else that is wrong, as `vsr.errors` lists it. Nothing is left behind then.
    """
    try:
        chosen = UpscaleOptions(scale=scale, **options)
    except TypeError as exc:
        raise OptionError(str(exc).replace("UpscaleOptions.__init__()", "upscale()")) from exc
    return Job(Path(input), str(output), chosen, on_progress, on_note, stop, on_build).run()


class Job:
    """One run of `upscale`."""

    def __init__(
        self,
        input: Path,
        output: str,
        options: UpscaleOptions,
        on_progress: Callable[[JobProgress], None] | None,
        on_note: Callable[[str], None] | None,
        stop: threading.Event | None,
        on_build: Callable[[float], bool] = lambda _: True,
    ) -> None:
        self._input = input
        self._output = output
        self._options = options
        self._on_progress = on_progress
        self._on_note = on_note
        self._on_build = on_build
        self._stop = stop or threading.Event()
        self.report = JobReport(str(input), output)

    def run(self) -> JobReport:
        """Do the job."""
        started = time.monotonic()
        options, report = self._options, self.report
        destination = check_paths(self._input, self._output, options)
        container = destination.container
        with ExitStack() as stack:
            source = open_source(self._input, destination, options, self._note)
            stack.callback(source.close)
            fields = open_deinterlacer(source, options, self._note)
            info = fields.info
            remux = open_remux(self._input, source, destination, options, self._note)
            if remux is not None:
                stack.callback(remux.close)
                report.streams_dropped = [f"{p.index}: {p.reason}" for p in remux.plans if not p.copied]
                for note in remux.notes:
                    self._note(note)
            size = wanted_size(options.size_request(), info)
            plan = plan_output(source, destination, size.width, size.height, options)
            lost = [] if source.hdr is None else hdr_losses(source.hdr, plan.encoder.parameters, container.muxer)
            lost += color_notes(info.color, plan.encoder.codec)
            for note in (*plan.notes, *lost):
                self._note(note)
            upscaler = options.upscaler(reuse=options.reuse, on_note=self._note, on_build=self._build_on)
            stack.callback(upscaler.close)
            color = arithmetic_color(info)
            enlarged = enlarged_info(info, size, plan, container)
            target = Target((size.width, size.height), enlarged.color.siting)
            upscaler.prepare(info.format, color, info.width, info.height, target)
            sink = open_sink(destination, source, enlarged, plan, remux, options, self._note)
            stack.callback(sink.discard)
            self._describe(upscaler, plan, size)
            depth = max(1, min(CHANNEL_DEPTH, CHANNEL_BYTES // frame_bytes(enlarged)))
            self._run_pipeline(source, fields, upscaler, color, target, sink, depth, started)
            report.reused, report.engines = upscaler.reused, upscaler.computed
            report.backend, report.engine = upscaler.backend, upscaler.description
            for note in [] if remux is None else remux.afterthoughts:
                self._note(note)
            report.streams_copied = {} if remux is None else dict(remux.packets_copied)
            self._conclude(source, fields, sink, started)
        return report

    def _describe(self, upscaler: Upscaler, plan: EncoderPlan, size: OutputSize) -> None:
        report = self.report
        report.scale, report.model = size.plain_factor, upscaler.model.name
        report.backend, report.backend_reason = upscaler.backend, upscaler.backend_reason
        report.precision_reason = upscaler.precision_reason
        report.engine = upscaler.description
        report.encoder, report.pix_fmt = plan.encoder.name, plan.pix_fmt
        report.width, report.height = size.width, size.height

    def _run_pipeline(
        self,
        source: AnySource,
        fields: Deinterlacer,
        upscaler: Upscaler,
        color: ColorSpec,
        target: Target,
        sink: AnySink,
        depth: int,
        started: float,
    ) -> None:
        stop = self._stop.is_set
        expected = fields.expected(expected_frames(source.info, source.window, self._options.frames))

        def decode(_: Iterator[Any]) -> Iterator[Any]:
            frames = source.frames(stop)
            return frames if fields.works_from_start else fields.stream(frames, stop)

        def deinterlace(frames: Iterator[Any]) -> Iterator[Any]:
            return fields.stream(frames, stop)

        def enlarge(frames: Iterator[Any]) -> Iterator[Any]:
            return upscaler.stream(frames, color, stop, target)

        def encode(frames: Iterator[Any]) -> Iterator[Progress]:
            return sink.consume(frames, stop)

        stages = [("decode", decode), ("deinterlace", deinterlace), ("upscale", enlarge), ("encode", encode)]
        if not fields.works_from_start:  # hardly any work, if at all: a thread of its own would only cost
            del stages[1]
        pipeline = Pipeline(stages, depth)
        for progress in pipeline.run():
            self.report.duration_s = progress.time
            if self._on_progress is not None:
                self._on_progress(JobProgress(progress.frames, expected, progress.time, time.monotonic() - started))
        limiting = bottleneck(pipeline.stats)
        self.report.bottleneck = None if limiting is None else limiting.name
        self.report.stages = [{**asdict(s), "busy_s": s.busy_s, "occupancy": s.occupancy} for s in pipeline.stats]

    def _conclude(self, source: AnySource, fields: Deinterlacer, sink: AnySink, started: float) -> None:
        report, decoded = self.report, source.report
        report.frames_in, report.frames_out = decoded.frames, sink.frames_written
        report.frames_repeated, report.decode_errors = decoded.repeated, decoded.errors
        report.frames_deinterlaced = fields.frames_deinterlaced
        if (note := fields.concluding_note()) is not None:
            self._note(note)
        if decoded.errors or decoded.damaged:
            self._note(
                f"{decoded.errors} of {decoded.packets} packets could not be decoded and {decoded.damaged} pictures "
                f"are damaged; {decoded.repeated} were replaced by a repeat of the one before"
            )
        if decoded.shifted:
            self._note(f"{decoded.shifted} time stamps did not increase and were moved to the next tick")
        if self._stop.is_set():
            self._interrupted(sink, started)
        if report.frames_in + fields.frames_added != report.frames_out:
            extra = f" (and {fields.frames_added} second fields)" if fields.frames_added else ""
            raise VerificationError(f"{report.frames_in} frames{extra} came in and {report.frames_out} went out")
        sink.publish()
        report.wall_s = time.monotonic() - started
        report.fps = report.frames_out / report.wall_s
        report.ok = True

    def _interrupted(self, sink: AnySink, started: float) -> None:
        partial = sink.publish_partial()
        self.report.wall_s = time.monotonic() - started
        if partial is None:
            raise InterruptedJobError("interrupted before anything was written")
        self.report.output = str(partial)
        raise InterruptedJobError(
            f"interrupted; what is done is in {partial}: {sink.packets_written} frames, {sink.seconds_written:.2f} s"
        )

    def _build_on(self, share: float) -> bool:
        return self._on_build(share) and not self._stop.is_set()

    def _note(self, text: str) -> None:
        if text not in self.report.notes:
            self.report.notes.append(text)
            if self._on_note is not None:
                self._on_note(text)
