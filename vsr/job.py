"""A job: one input to one output. The wiring of source, upscaler, remux and sink, and the account of what they did."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from vsr.endpoints import (
    AnySink,
    AnySource,
    check_names,
    check_paths,
    open_deinterlacer,
    open_remux,
    open_sink,
    open_source,
    plan_output,
)
from vsr.enlarged import enlarged_info, frame_bytes, wanted_size
from vsr.errors import InterruptedJobError, OptionError, VerificationError
from vsr.fields.deinterlace import Deinterlacer
from vsr.frame import ColorSpec
from vsr.graphs.frame_graph import Target
from vsr.hardware import device_format, plan_route
from vsr.hdr import notes as hdr_losses
from vsr.options import UpscaleOptions
from vsr.pictures.files import is_still, shows_as_video
from vsr.pictures.sequence import is_sequence
from vsr.pipeline import Pipeline, bottleneck
from vsr.report import JobProgress, JobReport
from vsr.sink import STDOUT, Progress
from vsr.siting import arithmetic_color
from vsr.size import OutputSize
from vsr.source import Source
from vsr.stills import upscale_still
from vsr.trim import expected_frames
from vsr.upscaler import Upscaler
from vsr.writing.color_tags import color_notes
from vsr.writing.encoders import EncoderPlan

CHANNEL_DEPTH: Final = 4
CHANNEL_BYTES: Final = 1 << 29  # of upscaled pictures waiting to be encoded; above it fewer wait


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
    """Upscale one video, image sequence or still to another. (`vsr.batch.upscale_folder` takes folders.)

    The output appears under its name only when it is complete and has been verified, and so does each picture of a
    sequence.

    Args:
        input: path of the video or still, or pattern of the pictures: `frame_%05d.png`, `frames/*.png`.
        output: path of the result, whose extension names the container or format; `-` writes Matroska to standard
            output; `big_%05d.png` writes pictures.
        scale: enlargement; `size=` among the options takes its place.
        on_progress: called in the calling thread after each written frame; not for a still.
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
    check_names(str(input), str(output))
    return upscale_one(Path(input), str(output), chosen, on_progress, on_note, stop, on_build)


def upscale_one(
    input: Path,
    output: str,
    options: UpscaleOptions,
    on_progress: Callable[[JobProgress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
    on_build: Callable[[float], bool] = lambda _: True,
) -> JobReport:
    """As `upscale`, with its options in one. An animation is a still, or a video, by the name of the output."""
    if makes_one_picture(input, output):
        return upscale_still(input, Path(output), options, on_note=on_note, on_build=on_build)
    return Job(input, output, options, on_progress, on_note, stop, on_build).run()


def makes_one_picture(input: Path, output: str) -> bool:
    """Whether a still becomes a still, and not a video or one of a sequence.

    Raises:
        InputError: `input` is called like a still, and is none that is read.
    """
    return is_still(input) and not is_sequence(input) and output != STDOUT and not shows_as_video(input, Path(output))


class Job:
    """One run of `upscale` for all but stills."""

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
            plan = plan_output(source, destination, size.width, size.height, options, self._note)
            lost = [] if source.hdr is None else hdr_losses(source.hdr, plan.encoder.parameters, container.muxer)
            lost += color_notes(info.color, plan.encoder.codec)
            for note in (*plan.notes, *lost):
                self._note(note)
            decoder = source.hardware if isinstance(source, Source) else None
            whole = not fields.works_from_start
            route = plan_route(decoder, info, plan, (size.width, size.height), whole=whole)
            if route.keep:
                plan = replace(plan, surfaces=device_format(plan))
            upscaler = options.upscaler(
                reuse=options.reuse,
                surfaces=route.surfaces,
                keep=route.keep,
                batch=options.batch,
                compressed=info.compressed,
                on_note=self._note,
                on_build=self._build_on,
            )
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
            done = f"; {sink.packets_written} frames went to {self._output}" if sink.packets_written else ""
            raise InterruptedJobError("interrupted" + (done or " before anything was written"))
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
