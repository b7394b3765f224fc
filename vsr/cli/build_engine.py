"""`vsr build-engine`."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.build_bar import BuildBar
from vsr.errors import OptionError

if TYPE_CHECKING:
    from vsr.gpu.engine_store import Profile

EPILOG = """\b
Examples:
  vsr build-engine fast -s 3 --input-size 1280x720
  vsr build-engine fast -s 3 --gpu sm_86 --gpu 'RTX 4090' --precision int8
  vsr build-engine own.onnx --gpu L4 --pix-fmt p010 --min 64x64 --opt 1280x720 --max 1920x1080
"""


class SizeType(click.ParamType[tuple[int, int]]):
    """WIDTHxHEIGHT."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read it."""
        match = re.fullmatch(r"(\d+)x(\d+)", str(value))
        if match is None:
            self.fail(f"{value!r} is no size; give it as 1280x720", param, ctx)
        return int(match.group(1)), int(match.group(2))


SIZE = SizeType()


@click.command("build-engine", epilog=EPILOG, context_settings={"show_default": True})
@click.argument("model")
@click.option("-s", "--scale", type=int, help="2, 3 or 4 for a shipped one.  [default: 3, or what an ONNX file does]")
@click.option(
    "--gpu",
    "gpus",
    multiple=True,
    help="sm_89, or a name such as 'RTX 4090'; may be repeated.  [default: this machine's]",
)
@click.option("--precision", default="fp16", help="fp16, fp32, or int8 and fp8 for models that are quantised so.")
@click.option("--input-size", type=SIZE, help="The one size of the pictures; fastest.  [default: free]")
@click.option("--min", "smallest", type=SIZE, help="Smallest picture, if sizes are free.  [default: 64x64]")
@click.option("--opt", "usual", type=SIZE, help="The size to tune for.  [default: 1280x720, or within the others]")
@click.option("--max", "largest", type=SIZE, help="Largest picture.  [default: 1920x1080]")
@click.option("--batch", type=int, default=1, help="Pictures at once, for vsr upscale --batch of as many.")
@click.option("--pix-fmt", default="yuv420p", help="Of the pictures: yuv420p, yuv420p10le, nv12, p010, gbrp, …")
@click.option("--matrix", type=click.Choice(["bt601", "bt709", "bt2020"]), default="bt709", help="Of the pictures.")
@click.option("--range", "color_range", type=click.Choice(["limited", "full"]), default="limited", help="Likewise.")
@click.option(
    "--siting", type=click.Choice(["left", "center", "topleft"]), default="left", help="Of the chroma samples."
)
@click.option(
    "--runtime",
    type=click.Choice(["auto", "tensorrt", "tensorrt-rtx"]),
    default="auto",
    help="Which TensorRT; a GPU that is not here needs tensorrt-rtx.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Engine file.  [default: the engine folder]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output at the end.")
def command(
    model: str,
    scale: int | None,
    gpus: tuple[str, ...],
    precision: str,
    pix_fmt: str,
    runtime: str,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Compile MODEL, a shipped name or an ONNX file, into TensorRT engines, also for GPUs that are not here.

    MODEL is wrapped in the frame graph first: integer planes in and out, colour and chroma inside. An engine that is
    there already and can be trusted is left alone. `vsr upscale --backend tensorrt` finds engines for its pictures' one
    size or for the default sizes, of its --batch; planar ones, and with --hw full those for nv12 and p010. Other kinds
    are for programs of your own.
    """
    from vsr.backends.tensorrt import measure_built
    from vsr.errors import OutputError
    from vsr.frame import ColorSpec, Range, Siting
    from vsr.gpu import tensorrt_api
    from vsr.gpu.build import MATRICES, EngineRequest, build_engine, this_gpu
    from vsr.gpu.engine_store import manifest_path
    from vsr.gpu.names import parse_gpu
    from vsr.model import load_model

    if output is not None and len(gpus) > 1:
        raise click.UsageError("-o names one file, and there are several --gpu")
    if output is not None and output.is_file() and output.suffix != ".engine" and not manifest_path(output).exists():
        raise OutputError(f"{output} exists and is no engine", "give -o another name, or delete it first")
    profile = _profile(options)
    targets = [parse_gpu(text) for text in gpus] or [this_gpu()]
    loaded = load_model(model, scale, precision)
    color = ColorSpec(
        MATRICES[options["matrix"]],
        range=Range[options["color_range"].upper()],
        siting=Siting[options["siting"].upper()],
    )
    requests = [EngineRequest(loaded, gpu, pix_fmt, color, precision, profile) for gpu in targets]
    api = None if runtime == "auto" else tensorrt_api.load(runtime)
    reports = []
    for request in requests:
        with contextlib.closing(BuildBar(plain=as_json or not sys.stderr.isatty())) as bar:

            def show(share: float, bar: BuildBar = bar) -> bool:
                bar.show(share)
                return True

            report = build_engine(request, output, api=api, on_note=_note, on_build=show, reference=True)
        reports.append(report)
        if report.reason is not None and (api is None or runtime == "tensorrt"):
            measure_built(report.path, request, _note)
        if not as_json:
            done = f"built in {report.build_s:.2f} s" if report.reason else "is up to date"
            click.echo(f"{report.path}: {report.capability}, {report.bytes / 1000:.0f} kB, {done}")
    if as_json:
        click.echo(json.dumps({"engines": [r.to_dict() for r in reports]}, indent=2))


def _note(text: str) -> None:
    click.echo(f"vsr: note: {text}", err=True)


def _profile(options: dict[str, Any]) -> Profile:
    from vsr.gpu.build import ANY_SIZE
    from vsr.gpu.engine_store import Profile

    size, batch = options["input_size"], options["batch"]
    free = {name: options[name] for name in ("smallest", "usual", "largest")}
    if size is not None:
        if any(free.values()):
            raise OptionError("--input-size is one size, and --min, --opt and --max are for free ones", "give either")
        return Profile(size, size, size, batch)
    smallest, largest = free["smallest"] or ANY_SIZE.smallest, free["largest"] or ANY_SIZE.largest
    usual = free["usual"] or tuple(
        min(max(n, low), high) for n, low, high in zip(ANY_SIZE.usual, smallest, largest, strict=True)
    )
    return Profile(smallest, usual, largest, batch)
