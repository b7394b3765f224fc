"""`vsr bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vsr.errors import OptionError

EPILOG = """\b
Examples:
  vsr bench
  vsr bench -s 2 -m fast:int8 -m fast:fp32 -m espcn --size 1280x720 --only engines
  vsr bench clip.mp4 --compare --rounds 5 -o figures.json --chart figures.png
"""


@click.command("bench", epilog=EPILOG, context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.argument("clip", required=False, type=click.Path(path_type=Path))
@click.option("-s", "--scale", type=int, default=3, help="Enlargement.")
@click.option("-m", "--model", "models", multiple=True, help="NAME or NAME:PRECISION; repeat for several.")
@click.option("--size", default="480x270", help="Of the clip that is made when none is given, and for engines alone.")
@click.option("--frames", type=int, default=300, help="Of the clip that is made.")
@click.option("--encoder", default="x264", help="As of vsr upscale, or null for none.")
@click.option("--preset", help="Of the encoder.  [default: the encoder's]")
@click.option("--crf", type=float, help="Of the encoder.  [default: the encoder's]")
@click.option("--engine-size", "engine_sizes", multiple=True, help="For engines alone, instead of --size; repeatable.")
@click.option("--engine-scale", "engine_scales", type=int, multiple=True, help="For engines alone; repeatable.")
@click.option("--lanes", type=int, multiple=True, help="Pictures in flight on a GPU, engines alone; repeatable.")
@click.option("--batch", type=int, multiple=True, help="Pictures computed at once, TensorRT alone; repeatable.")
@click.option("--backend", default="auto", help="auto, or a backend's name.")
@click.option("--device", default="auto", help="auto, cpu, cuda:N, several with commas, or all GPUs.")
@click.option("--threads", type=int, default=0, help="CPU threads; 0 lets each part choose.")
@click.option("--rounds", type=int, default=3, help="How often each process is run, taking turns.")
@click.option("--seconds", type=float, default=1.0, help="How long each engine is measured.")
@click.option(
    "--only", "parts", multiple=True, type=click.Choice(["engines", "stages", "processes"]), help="[default: all]"
)
@click.option("--compare", is_flag=True, help="Beside what is found on this machine: ffmpeg, OpenCV, ONNX Runtime.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the JSON here too.")
@click.option("--chart", type=click.Path(path_type=Path), help="Write a chart of frame rates here (PNG).")
@click.option("-q", "--quiet", is_flag=True, help="Do not say what is being measured.")
def command(
    clip: Path | None,
    size: str,
    engine_sizes: tuple[str, ...],
    parts: tuple[str, ...],
    as_json: bool,
    output: Path | None,
    chart: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Measure frame rates: engines alone, each stage of a job alone, a job, and whole processes.

    Every frame is computed, whatever it shares with the one before. Figures are good for comparing within one run
    on one idle machine.
    """
    from vsr.benchmark.run import PARTS, BenchOptions, bench
    from vsr.benchmark.tables import as_text, draw_chart
    from vsr.cli.console import width
    from vsr.store import atomic_write

    sizes = tuple(_size(text) for text in engine_sizes)
    chosen = BenchOptions(size=_size(size), engine_sizes=sizes, parts=parts or PARTS, **options)
    report = bench(clip, chosen, say=lambda text: None if quiet else click.echo(f"vsr: {text}", err=True))
    plain = json.dumps(report.to_dict(), indent=2)
    click.echo(plain if as_json else as_text(report, width()))
    if output is not None:
        with atomic_write(output, overwrite=True) as temporary:
            temporary.write_text(plain + "\n")
    if chart is not None:
        with atomic_write(chart, overwrite=True) as temporary:
            draw_chart(report, temporary)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise OptionError(f"size {text!r}; give WIDTHxHEIGHT, such as 480x270")
    return int(width), int(height)
