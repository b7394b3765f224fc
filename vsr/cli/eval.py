"""`vsr eval`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsr.cli.console import width
from vsr.errors import OptionError

if TYPE_CHECKING:
    from vsr.evaluation.measure import Evaluation, Score, SetScores

EPILOG = """\b
Examples:
  vsr eval -s 3 --data Set5
  vsr eval fast fast:int8 own.onnx -s 2 --data holiday/ -o figures.json -o figures.csv
  vsr eval fast bicubic -s 2 --data pristine.mp4 --frames 100
  vsr eval fast bicubic -s 2 --data pristine.mp4 --against crf28.mp4
  vsr eval bicubic espcn fast -s 3 --data Set14 --sheet sheet.png
"""


@click.command("eval", epilog=EPILOG, context_settings={"show_default": True})
@click.argument("models", metavar="[MODEL]…", nargs=-1)
@click.option("-s", "--scale", type=int, default=3, help="Enlargement: 2, 3 or 4, or that of a model of your own.")
@click.option(
    "-d",
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    envvar="VSR_TEST_DATA",
    help="Originals: a folder of stills, a folder of such folders, a still, or a video; may be given again.  "
    "[default: what VSR_TEST_DATA names]",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Low-resolution form of the video --data, to be enlarged as it is.  [default: --data, shrunk by bicubic]",
)
@click.option("--frames", type=click.IntRange(min=1), help="Only the first so many frames of a video.  [default: all]")
@click.option("--backend", default="auto", help="auto, openvino, torch or tensorrt.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="CPU threads; 0 for all.")
@click.option(
    "--vmaf/--no-vmaf", default=None, help="VMAF and VMAF-NEG too.  [default: where ffmpeg on PATH has libvmaf]"
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), multiple=True, help="Write the figures: .json or .csv."
)
@click.option(
    "--sheet", type=click.Path(path_type=Path), help="Write a picture sheet of details of the first files, PNG."
)
@click.option("-y", "--overwrite", is_flag=True, help="Replace existing outputs.")
@click.option("-q", "--quiet", is_flag=True, help="No table and no notes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output in place of the table.")
def command(
    models: tuple[str, ...],
    scale: int,
    data: tuple[Path, ...],
    against: Path | None,
    frames: int | None,
    backend: str,
    threads: int,
    vmaf: bool | None,
    output: tuple[Path, ...],
    sheet: Path | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure MODELs against original pictures: PSNR, SSIM and, where it can be had, VMAF.

    A MODEL is the name of a shipped one, `bicubic`, or the path of an ONNX file; `fast:int8` asks for a
    precision other than fp32.
    Without any: bicubic and all that are shipped. The originals' luma is shrunk by MATLAB's bicubic, rounded to whole
    code values, enlarged by the runtime that `vsr upscale` uses, and compared without a border of SCALE pixels.
    """
    from vsr.evaluation.measure import default_models, evaluate
    from vsr.evaluation.pairs import find_sets
    from vsr.evaluation.sheet import draw_sheet
    from vsr.store import atomic_write, check_output_path

    for path in (*output, *([sheet] if sheet else [])):
        allowed = (".png",) if path == sheet else (".json", ".csv")
        if path.suffix.lower() not in allowed:
            raise OptionError(f"{path} is not called {' or '.join(allowed)}")
        check_output_path(path, overwrite=overwrite)
    if not data:
        raise OptionError("nothing to measure on", "give --data, or set VSR_TEST_DATA to a folder of test pictures")
    if against is not None and len(data) > 1:
        raise OptionError("--against goes with one video, and several --data were given")

    def note(text: str) -> None:
        if not quiet:
            click.echo(f"vsr: note: {text}", err=True)

    sets = [one for path in data for one in find_sets(path, scale, against=against, frames=frames, note=note)]
    deepest = max(item.bits for one in sets for item in one.items)
    result = evaluate(
        sets,
        models or default_models(scale, deepest),
        scale,
        backend=backend,
        threads=threads,
        vmaf=_vmaf_command(vmaf, note),
        sheet=sheet is not None,
        on_file=_progress(sum(len(one.items) for one in sets), hidden=quiet or as_json),
    )
    for path in output:
        text = json.dumps(result.to_dict(), indent=2) + "\n" if path.suffix.lower() == ".json" else result.to_csv()
        with atomic_write(path, overwrite=overwrite) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if sheet is not None:
        with atomic_write(sheet, overwrite=overwrite) as temporary:
            draw_sheet(result.rows, ["original", *result.models], temporary)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    elif not quiet:
        for one in result.sets:
            click.echo(_table(one, result))


def _vmaf_command(wanted: bool | None, note: Callable[[str], None]) -> str | None:
    from vsr.evaluation.vmaf import MISSING, ffmpeg_with_vmaf

    if wanted is False:
        return None
    found = ffmpeg_with_vmaf()
    if found is None:
        if wanted:
            raise OptionError(MISSING, "put one with it first on PATH (imageio-ffmpeg has one), or leave --vmaf out")
        note(MISSING)
    return found


def _progress(count: int, *, hidden: bool) -> Callable[[str], None]:
    if hidden or not sys.stderr.isatty():
        return lambda _: None
    done = iter(range(1, count + 1))
    return lambda name: click.echo(f"\r\x1b[K{next(done)}/{count} {name} ", err=True, nl=False)


def _table(one: SetScores, result: Evaluation) -> str:
    """The figures of a set: a line for each file, columns for the models."""
    from vsr.layout import paragraph, table

    with_vmaf = any(s.vmaf is not None for f in one.files for s in f.scores.values())

    def cell(score: Score) -> str:
        text = f"{score.psnr_db:.2f} / {score.ssim:.4f}"
        return f"{text} / {score.vmaf:.1f} / {score.vmaf_neg:.1f}" if with_vmaf else text

    rows = [[file.name, *(cell(file.scores[m]) for m in result.models)] for file in one.files]
    rows.append(["mean", *(cell(one.mean(m)) for m in result.models)])
    what = "PSNR dB / SSIM" + (" / VMAF / VMAF-NEG" if with_vmaf else "")
    frames = sum(file.frames for file in one.files)
    title = f"{one.name} x{result.scale}: {what}; files {len(one.files)}, pictures {frames}"
    return "\n".join([paragraph(title, width()), table(["", *result.models], rows, width())])
