"""One benchmark: what is asked for, in which order it is measured, and what came out."""

from __future__ import annotations

import itertools
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from vsr._version import __version__
from vsr.benchmark.clip import make_clip
from vsr.benchmark.engines import EngineFigure, measure_engine
from vsr.benchmark.native_model import native_model
from vsr.benchmark.peers import (
    BASELINE,
    IN_FFMPEG,
    Command,
    Encoding,
    ProcessFigure,
    ffmpeg_command,
    loop_command,
    race,
    sr_command,
    vsr_command,
)
from vsr.benchmark.stages import NULL, StageFigure, limit_fps, measure_job, measure_stages
from vsr.errors import MissingInputError, OptionError
from vsr.gpu.cuda_driver import Driver, probe
from vsr.gpu.devices import number_of, parse_devices
from vsr.model import default_model_name, load_model, shipped_models
from vsr.options import UpscaleOptions
from vsr.processor import usable_cores
from vsr.writing.encoder_table import ENCODERS

PARTS: Final = ("engines", "stages", "processes")
LOOP_MODEL: Final = "espcn"  # what people run in OpenCV; its own weights are not at hand, so it is this project's
SUFFIX: Final = ".mkv"  # every encoder's pictures fit into it


@dataclass(frozen=True)
class BenchOptions:
    """What is measured.

    Attributes:
        scale: enlargement.
        models: `NAME` or `NAME:PRECISION`; none means the default model.
        size: width and height of the clip that is made when none is given, and of the pictures for engines alone.
        frames: of the clip that is made.
        encoder: a name in `vsr.writing.encoder_table.ENCODERS`, or `null`.
        preset, crf: of the encoder; None for its defaults.
        engine_sizes: widths and heights for engines alone; none means `size`.
        engine_scales: enlargements for engines alone; none means `scale`.
        lanes: pictures in flight on a GPU for engines alone, or batches; none lets the backend choose.
        batch: pictures that a GPU computes at once, for engines alone; none means one.
        device: as of a job.
        backend: `auto` or a name in `vsr.engines.engine.BACKENDS`.
        threads: as of a job.
        rounds: how often each process is run.
        seconds: that each engine is measured for.
        parts: of `PARTS`.
        compare: whether peers found on the machine are run too.
    """

    scale: int = 3
    models: tuple[str, ...] = ()
    size: tuple[int, int] = (480, 270)
    frames: int = 300
    encoder: str = "x264"
    preset: str | None = None
    crf: float | None = None
    engine_sizes: tuple[tuple[int, int], ...] = ()
    engine_scales: tuple[int, ...] = ()
    lanes: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    device: str = "auto"
    backend: str = "auto"
    threads: int = 0
    rounds: int = 3
    seconds: float = 1.0
    parts: tuple[str, ...] = PARTS
    compare: bool = False

    def __post_init__(self) -> None:
        if self.encoder != NULL and self.encoder not in ENCODERS:
            raise OptionError(f"encoder {self.encoder!r}; allowed are {NULL}, {', '.join(ENCODERS)}")
        wrong = sorted(set(self.parts) - set(PARTS))
        if wrong or not self.parts:
            raise OptionError(f"parts {', '.join(wrong) or 'none'}; allowed are {', '.join(PARTS)}")
        parse_devices(self.device)
        measured = (self.size, *self.engine_sizes)
        if (
            min(n for size in measured for n in size) < 16
            or any(n % 2 for size in measured for n in size)
            or any(n < 1 for n in (*self.lanes, *self.batch, *self.engine_scales))
            or self.frames < 2
            or self.rounds < 1
            or self.seconds <= 0
        ):
            raise OptionError(
                f"size {self.size[0]}x{self.size[1]}, frames {self.frames}, rounds {self.rounds}, seconds "
                f"{self.seconds:g}; they must be even and at least 16x16, 2, 1 and above 0"
            )

    def resolved_models(self, scale: int | None = None) -> list[tuple[str, str]]:
        """(name, precision) of each model, at `scale`."""
        wanted = self.models or (default_model_name(scale or self.scale),)
        pairs = [entry.partition(":")[::2] for entry in wanted]
        return [(name, precision or "auto") for name, precision in pairs]

    def job(self, model: str, precision: str) -> UpscaleOptions:
        """The options of a job with one of the models. Frames are always computed in full: reuse is no speed."""
        return UpscaleOptions(
            self.scale,
            model=model,
            backend=self.backend,
            precision=precision,
            threads=self.threads,
            device=self.device,
            encoder=self.encoder,
            crf=self.crf,
            preset=self.preset,
            reuse=False,
        )


@dataclass(frozen=True)
class JobFigures:
    """One model's stages alone and its job.

    Attributes:
        model: as asked for.
        stages: each alone.
        job: all together.
        limit_fps: what the stages' CPU time allows.
        efficiency: the job's frame rate over that, 0 to 1.
        limited_by: the stage with the most CPU time.
    """

    model: str
    stages: list[StageFigure]
    job: StageFigure
    limit_fps: float
    efficiency: float
    limited_by: str


@dataclass
class BenchReport:
    """What was measured, and on what.

    Attributes:
        machine: versions and hardware.
        settings: of the benchmark.
        engines, jobs, processes: the figures of each part.
        notes: what was left out, and why.
    """

    machine: dict[str, Any]
    settings: dict[str, Any]
    engines: list[EngineFigure] = field(default_factory=list)
    jobs: list[JobFigures] = field(default_factory=list)
    processes: list[ProcessFigure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Every figure as a plain value."""
        plain = asdict(self)
        for entry, engine in zip(plain["engines"], self.engines, strict=True):
            entry["fps"], entry["share_of_roofline"] = engine.fps, engine.share_of_roofline
        for entry, process in zip(plain["processes"], self.processes, strict=True):
            entry["fps"] = process.fps
        for entry, job in zip(plain["jobs"], self.jobs, strict=True):
            for stage, figure in zip([*entry["stages"], entry["job"]], [*job.stages, job.job], strict=True):
                stage["fps"], stage["cpu_ms"] = figure.fps, figure.cpu_ms
        return plain


def bench(clip: Path | None, options: BenchOptions, say: Callable[[str], None] = lambda _: None) -> BenchReport:
    """Measure what `options` ask for; `say` is told what is going on.

    Args:
        clip: a video, or None for one that is made for the purpose.

    Raises:
        VsrError: as a job; `MissingInputError` where there is no such clip.
    """
    if clip is not None and not clip.is_file():
        raise MissingInputError(f"{clip} does not exist")
    report = BenchReport(
        machine(options.backend, parse_devices(options.device)),
        asdict(options) | {"clip": str(clip) if clip else "made for the purpose"},
    )
    if "engines" in options.parts:
        sizes, scales = options.engine_sizes or (options.size,), options.engine_scales or (options.scale,)
        counts = itertools.product(options.lanes or (0,), options.batch or (1,))
        for scale, size, (lanes, batch) in itertools.product(scales, sizes, counts):
            for name, precision in options.resolved_models(scale):
                say(f"engine alone: {name} {precision} x{scale} {size[0]}x{size[1]}" + (f" {lanes}" if lanes else ""))
                figure = measure_engine(
                    name,
                    scale,
                    precision,
                    size,
                    backend=options.backend,
                    threads=options.threads,
                    devices=parse_devices(options.device),
                    lanes=lanes,
                    batch=batch,
                    seconds=options.seconds,
                )
                report.engines.append(figure)
    if {"stages", "processes"} & set(options.parts):
        with tempfile.TemporaryDirectory(prefix="vsr-bench-") as folder:
            if clip is None:
                say("making a clip")
                clip = Path(folder) / "clip.mp4"
                make_clip(clip, *options.size, options.frames)
            _measure_clip(clip, Path(folder) / f"out{SUFFIX}", options, report, say)
    return report


def _measure_clip(
    clip: Path, out: Path, options: BenchOptions, report: BenchReport, say: Callable[[str], None]
) -> None:
    if "stages" in options.parts:
        for name, precision in options.resolved_models():
            label = f"{name} {precision}"
            say(f"stages alone: {label}")
            stages = measure_stages(clip, out, options.job(name, precision), options.frames)
            say(f"job: {label}")
            job = measure_job(clip, out, options.job(name, precision), options.frames)
            limit = limit_fps(stages)
            slowest = max(stages, key=lambda stage: stage.cpu_ms).name
            report.jobs.append(JobFigures(label, stages, job, limit, job.fps / limit, slowest))
    if "processes" in options.parts:
        if options.encoder == NULL:
            report.notes.append("no whole processes: they need an encoder")
            return
        commands = _commands(clip, out, options, report)
        frames = report.jobs[0].job.frames if report.jobs else _count(clip)
        report.processes = race(commands, frames, options.rounds, say)


def _commands(clip: Path, out: Path, options: BenchOptions, report: BenchReport) -> dict[str, Command]:
    encoder = ENCODERS[options.encoder]
    preset, crf = options.preset or encoder.preset, options.crf
    if crf is None and encoder.crf is not None:
        crf = encoder.crf[2]
    commands: dict[str, Command] = {}
    if options.compare:
        if options.encoder in IN_FFMPEG:
            commands = _peers(clip, out, options, Encoding(options.encoder, preset or "", crf or 0), report)
        else:
            report.notes.append(f"no peers with {options.encoder}; they are run with {', '.join(IN_FFMPEG)}")
    settings = [
        "--encoder",
        options.encoder,
        "--threads",
        str(options.threads),
        "--backend",
        options.backend,
        "--device",
        options.device,
    ]
    settings += ["--preset", preset] if preset else []
    settings += ["--crf", f"{crf:g}"] if crf is not None else []
    for name, precision in options.resolved_models():
        model = ["--model", name, "--precision", precision, "--no-reuse"]
        commands[f"vsr {name} {precision}"] = vsr_command(clip, out, options.scale, [*settings, *model])
    return commands


def _peers(clip: Path, out: Path, options: BenchOptions, encoding: Encoding, report: BenchReport) -> dict[str, Command]:
    """Those that are found here; a note for each that is not."""
    scale = options.scale
    found: dict[str, Command | None] = {}
    found[BASELINE] = ffmpeg_command(clip, out, scale, encoding)
    for runtime, title, name in (
        ("opencv", "OpenCV dnn", LOOP_MODEL),
        ("onnxruntime", "ONNX Runtime", default_model_name(scale)),
    ):
        if (name, scale) in shipped_models():
            file = out.with_name(f"{runtime}.onnx")
            file.write_bytes(load_model(name, scale).onnx_bytes)
            found[f"{title} {name} fp32"] = loop_command(runtime, file, clip, out, scale, encoding)
    if (LOOP_MODEL, scale) in shipped_models():
        file = out.with_name("native.model")
        file.write_bytes(native_model(load_model(LOOP_MODEL, scale).onnx_bytes))
        command = sr_command(file, clip, out, options.size, encoding)
        found[f"ffmpeg sr {LOOP_MODEL} fp32" + (f", frames: {command.only}" if command else "")] = command
    for name, command in found.items():
        if command is None:
            report.notes.append(f"{name} is left out: it is not installed here, or lacks {options.encoder}")
    return {name: command for name, command in found.items() if command is not None}


def _count(clip: Path) -> int:
    import av

    with av.open(str(clip)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def machine(backend: str, devices: tuple[str, ...] = ()) -> dict[str, Any]:
    """Versions, and the hardware that `backend` finds, or which of it `devices` are.

    Raises:
        BackendError: there is no such backend here.
    """
    from vsr.engines.engine import choose_backend

    gpus = {}
    for device in devices:
        if device != "cpu" and isinstance(found := probe(number_of(device)), Driver):
            gpus[device] = f"{found.gpu.name} ({found.gpu.sm}, {found.memory >> 30} GiB)"
            gpus["CUDA of the driver"] = f"{found.cuda[0]}.{found.cuda[1]}"
    return {
        "vsr": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "backend": choose_backend(backend, devices)[0].identity(),
        "cores": usable_cores(),
        **gpus,
    }
