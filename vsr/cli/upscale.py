"""`vsr upscale`."""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.build_bar import BuildBar
from vsr.cli.console import say, unless_deaf
from vsr.cli.interrupts import Interrupts, interrupts
from vsr.cli.part_options import part_options
from vsr.cli.sections import SectionedCommand
from vsr.cli.size_options import chosen_scale, size_options
from vsr.errors import InterruptedJobError, VsrError

if TYPE_CHECKING:
    from vsr.batch import BatchReport
    from vsr.report import JobProgress, JobReport

WORTH_SAYING = 0.01  # share of the work that was spared
PLAIN_LINE_SECONDS = 10.0  # between two lines of progress where there is no terminal

EPILOG = """\b
Examples:
  vsr upscale input.mp4 -s 3 -o out.mp4
  vsr upscale dvd.mkv --size 1080p --square-pixels -o out.mkv
  vsr upscale old.avi -s 2 -o new.mkv --model fsrcnn --encoder x265 --crf 18
  vsr upscale photo.jpg -s 4 -o large.png
  vsr upscale frame_%05d.png -s 2 -o out.mkv --fps 24
  vsr upscale input.mp4 -s 2 -o frames/%05d.png
  vsr upscale holiday/ -s 2 -o holiday-large/
  vsr upscale input.mp4 -s 2 -o - | mpv -
  vsr upscale dvd.mkv -s 2 -o out.mkv --for archive
  vsr upscale film.mkv -s 2 -o out.mkv --encoder x265 --tune grain --enc-opt x265-params=aq-mode=3
  vsr upscale half.mkv -s 2 -o out.mkv --on-truncated keep
  vsr upscale film.mkv -s 2 -o scene.mkv --start 1:02:30 --duration 90
"""


SECTIONS = {
    "Output": ("output", "overwrite", "scale", "size", "fit", "square_pixels"),
    "Model": ("model", "backend", "precision", "wait_engine", "threads", "device", "batch", "hw", "reuse"),
    "Encoding": (
        *("use", "encoder", "crf", "preset", "tune", "bitrate", "lossless"),
        *("encoder_options", "pix_fmt", "quality"),
    ),
    "A part of the input": ("start", "end", "duration", "frames", "map", "video_stream"),
    "Interlaced video, image sequences": ("deinterlace", "field_order", "field_rate", "fps"),
    "If something is wrong": ("on_truncated", "max_decode_errors", "on_unsupported"),
    "Messages": ("verbose", "quiet", "as_json"),
}


@click.command(
    "upscale", cls=SectionedCommand, sections=SECTIONS, epilog=EPILOG, context_settings={"show_default": True}
)
@click.argument("input")
@size_options
@click.option(
    "-o",
    "--output",
    required=True,
    help="Output file, sequence (big_%05d.png), folder, or - for standard output (Matroska).",
)
@click.option("-m", "--model", help="A name of `vsr models`, or an ONNX file.  [default: by --for and input]")
@click.option("--backend", default="auto", help="auto, openvino, torch or tensorrt.")
@click.option("--precision", default="auto", help="auto (by --for, measured once), fp32, bf16, fp16 or int8.")
@click.option(
    "--wait-engine/--no-wait-engine",
    default=True,
    help="Wait for a TensorRT engine that must be built, or begin on torch or the CPU and go over when it is there.",
)
@click.option("--threads", type=int, default=0, help="CPU threads of engine and encoder; 0 lets each choose.")
@click.option("--device", default="auto", help="auto, cpu, cuda:N, several with commas (frames in turn), or all GPUs.")
@click.option("--batch", type=int, default=1, help="Frames that TensorRT computes at once; see vsr bench --device.")
@click.option(
    "--hw",
    type=click.Choice(["auto", "off", "decode", "full"]),
    default="auto",
    help="GPU's video units: none; NVDEC; or NVDEC, engine and NVENC with frames in the GPU's memory. auto is off.",
)
@click.option(
    "--encoder",
    default="auto",
    help="auto, x264, x264rgb, x265, svtav1, vp9, ffv1, prores, h264_nvenc, hevc_nvenc or av1_nvenc.",
)
@click.option(
    "--for",
    "use",
    type=click.Choice(["archive", "everyday", "realtime"]),
    default="everyday",
    help="What the result is for; decides preset, CRF, model and precision where they are not given.",
)
@click.option("--crf", type=float, help="Constant rate factor; lower is better and larger.  [default: by --for]")
@click.option("--preset", help="Speed of the encoder; for ProRes, the profile.  [default: by --for]")
@click.option("--tune", help="What the encoder is tuned for, as film or grain.  [default: nothing]")
@click.option("--bitrate", help="Average bits a second, as 8M or 2500k, in one pass; instead of --crf.")
@click.option("--lossless", is_flag=True, help="Encode without any loss; instead of --crf.")
@click.option(
    "--enc-opt",
    "encoder_options",
    metavar="NAME=VALUE",
    multiple=True,
    help="One more option for the encoder; may be given several times. Unknown ones are refused.",
)
@click.option("--pix-fmt", help="Pixel format of the output.  [default: the input's]")
@click.option("--on-truncated", type=click.Choice(["fail", "keep"]), default="fail", help="If the input was cut off.")
@click.option("--max-decode-errors", default="10%", help="Packets that may fail to decode: N or N%.")
@click.option(
    "--on-unsupported",
    type=click.Choice(["fail", "drop"]),
    default="fail",
    help="If the output container cannot hold a stream.",
)
@click.option(
    "--reuse/--no-reuse", default=True, help="Take what equals the frame before from there (the same result, sooner)."
)
@click.option("--fps", help="Frame rate of an image sequence: 24, 23.976, 30000/1001.  [default: 25]")
@click.option("--quality", type=int, help="Of JPEG and WebP pictures, 1 to 100.  [default: 95]")
@part_options
@click.option(
    "--deinterlace",
    type=click.Choice(["auto", "detect", "off", "bwdif", "yadif"]),
    default="auto",
    help="Interlaced pictures: those marked so, by bwdif; those seen to be; none; or all, by bwdif or yadif.",
)
@click.option(
    "--field-order",
    type=click.Choice(["auto", "tff", "bff"]),
    default="auto",
    help="As marked; or take all pictures for interlaced, top or bottom field first.",
)
@click.option("--field-rate", is_flag=True, help="Deinterlace to a picture for each field: twice the frame rate.")
@click.option("-y", "--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("-v", "--verbose", is_flag=True, help="Say what was chosen and why, and where the time went.")
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output at the end.")
def command(
    input: str,
    output: str,
    overwrite: bool,
    verbose: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Upscale INPUT: a video, a still image, an image sequence (frame_%05d.png or 'frames/*.png'), or a folder.

    Audio, subtitles, chapters and the rest are copied. The output appears under its name only when it is complete
    and has been checked. Interrupted once, what is done is kept as OUT.partial.EXT; twice, nothing is.
    """
    if verbose and quiet:
        raise click.UsageError("-v and -q contradict each other")
    stop = threading.Event()
    screen = Screen(stop, quiet=quiet, verbose=verbose, plain=as_json or not sys.stderr.isatty())

    def tell(error: VsrError) -> None:
        screen.close()
        if as_json:
            details = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
            click.echo(json.dumps({"ok": False, "input": input, "output": output, "error": details}))

    def stopped_at_once() -> None:
        error = InterruptedJobError("interrupted; a picture is written whole or not at all")
        tell(error)
        say(f"vsr: error: {error}")

    try:
        with interrupts(stop, screen.interrupted, stopped_at_once) as heard:
            return _run(input, output, {**options, "overwrite": overwrite}, screen, heard, as_json)
    except VsrError as error:
        tell(error)
        raise
    finally:
        screen.close()


def _run(name: str, output: str, options: dict[str, Any], screen: Screen, heard: Interrupts, as_json: bool) -> int:
    from vsr.endpoints import check_names
    from vsr.job import makes_one_picture, upscale_one
    from vsr.options import UpscaleOptions
    from vsr.pictures.sequence import is_sequence
    from vsr.reading.demux import missing_input
    from vsr.sink import STDOUT

    options["scale"] = chosen_scale(options["scale"], options["size"], options["model"])
    chosen = UpscaleOptions(**options)
    if as_json and output == STDOUT:
        raise click.UsageError("--json and -o - both need standard output")
    check_names(name, output)
    input = Path(name)
    if not is_sequence(input) and not input.exists():
        raise missing_input(input)
    if input.is_dir():
        return _run_folder(input, output, chosen, screen, heard, as_json)
    with heard.at_once() if makes_one_picture(input, output) else nullcontext():
        report = upscale_one(input, output, chosen, screen.progress, screen.note, heard.stop, screen.build)
    screen.close()
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    screen.summary(report)
    return 0


def _run_folder(input: Path, output: str, options: Any, screen: Screen, heard: Interrupts, as_json: bool) -> int:
    from vsr.batch import upscale_folder

    report = upscale_folder(
        input,
        Path(output),
        options,
        on_file=screen.file,
        on_failure=screen.failure,
        on_progress=screen.progress,
        on_note=screen.note,
        on_build=screen.build,
        stop=heard.stop,
        around_still=heard.at_once,
    )
    screen.close()
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    screen.batch_summary(report)
    return 0 if report.ok else 1


class Screen:
    """What the user sees: a bar on a terminal, lines elsewhere, all on standard error."""

    def __init__(self, stop: threading.Event, *, quiet: bool, verbose: bool, plain: bool) -> None:
        self._stop = stop
        self._build_bar = BuildBar(plain=plain)
        self._quiet = quiet
        self._verbose = verbose
        self._plain = plain
        self._bar: Any = None
        self._last_line = time.monotonic()

    def note(self, text: str) -> None:
        """One line that the user should know."""
        if not self._quiet:
            self._line(f"vsr: note: {text}")

    def interrupted(self) -> None:
        """Say that the first signal has been heard."""
        if not self._quiet:
            self._line("vsr: interrupted; finishing what is done (once more to stop at once)")

    def file(self, path: Path, number: int, count: int) -> None:
        """A file of a folder begins."""
        self.close()
        if not self._quiet:
            self._line(f"vsr: {path.name} ({number} of {count})")

    def failure(self, path: Path, error: VsrError) -> None:
        """A file of a folder failed."""
        self.close()
        self._line(f"vsr: error: {path.name}: {error}")

    def progress(self, progress: JobProgress) -> None:
        """A frame has been written."""
        if self._quiet:
            return
        if not self._plain:
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(total=progress.frames_expected, unit="frame", dynamic_ncols=True, file=sys.stderr)
            with unless_deaf():
                self._bar.update(progress.frames - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = now
            fps = progress.frames / progress.wall_s
            total = progress.frames_expected
            left = f", {max(0, total - progress.frames) / fps:.0f} s left" if total else ""
            of = f" of {total}" if total else ""
            self._line(f"vsr: {progress.frames}{of} frames, {progress.time_s:.1f} s, {fps:.1f} fps{left}")

    def build(self, share: float) -> bool:
        """An engine that the job waits for has come so far, 0 to 1. Answers whether it is still wanted."""
        if not self._quiet:
            self._build_bar.show(share)
        return not self._stop.is_set()

    def summary(self, report: JobReport) -> None:
        """A job has ended well."""
        if self._quiet:
            return
        frames = "1 picture" if report.frames_out == 1 else f"{report.frames_out} frames"
        limit = f", limited by {report.bottleneck}" if report.bottleneck else ""
        limit += f", {report.reused:.0%} not computed again" if report.reused >= WORTH_SAYING else ""
        self._line(
            f"vsr: {report.output}: {frames} of {report.width}x{report.height} in {report.wall_s:.1f} s "
            f"({report.fps:.1f} fps{limit})"
        )
        if len(report.engines) > 1:
            self._line("vsr: " + ", ".join(f"{count} frames by {name}" for name, count in report.engines.items()))
        if self._verbose:
            self._line(f"vsr: backend {report.backend_reason}; {report.engine}")
            self._line(f"vsr: precision {report.precision_reason}")
            self._line(f"vsr: model {report.model}, encoder {report.encoder} {report.pix_fmt}".rstrip())
            for stage in report.stages:
                self._line(
                    f"vsr: stage {stage['name']:<8} busy {stage['busy_s']:7.2f} s ({stage['occupancy']:4.0%}), "
                    f"waited {stage['starved_s']:.2f} s for input, {stage['blocked_s']:.2f} s for output"
                )

    def batch_summary(self, report: BatchReport) -> None:
        """A folder has ended."""
        done, failed = len(report.jobs), len(report.failures)
        if self._quiet and not failed:
            return
        skipped = f", {len(report.skipped)} other files left alone" if report.skipped else ""
        names = ": " + ", ".join(path.name for path, _ in report.failures) if failed else ""
        self._line(f"vsr: {done} of {done + failed} files upscaled, {failed} failed{names}{skipped}")

    def close(self) -> None:
        """End the bars."""
        self._build_bar.close()
        if self._bar is not None:
            with unless_deaf():
                self._bar.close()
            self._bar = None

    def _line(self, text: str) -> None:
        if self._bar is not None:
            with unless_deaf():
                self._bar.clear()
        say(text)
