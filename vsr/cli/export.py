"""`vsr export`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from vsr.errors import OptionError

EPILOG = """\b
Examples:
  vsr export runs/mine -o mine_x3.onnx --test-data testing/
  vsr export runs/mine -o mine_x3.int8.onnx --precision int8 --data patches.h5
  vsr export fast -s 2 -o fast_x2.fp16.onnx --precision fp16
  vsr export 4x_compact.pth -o 4x_compact.onnx
"""

FOREIGN_ENDINGS = (".pth", ".ckpt", ".safetensors")


@click.command("export", epilog=EPILOG, context_settings={"show_default": True})
@click.argument("network")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The model file, .onnx.")
@click.option("-s", "--scale", type=int, help="Of a shipped model.  [default: the file's own]")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32", help="Of the computation.")
@click.option("--data", type=click.Path(path_type=Path), help="Prepared patches, to calibrate and fine-tune int8.")
@click.option(
    "--test-data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="VSR_TEST_DATA",
    help="Folder with Set5 and Set14, whose PSNR goes into the file.  [default: what VSR_TEST_DATA names]",
)
@click.option("--steps", type=click.IntRange(min=0), help="Of fine-tuning for int8; 0 for none.  [default: 1000]")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="CPU threads of torch; 0 lets it choose.")
@click.option("-y", "--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output at the end.")
def command(
    network: str,
    output: Path,
    scale: int | None,
    precision: Any,
    data: Path | None,
    test_data: Path | None,
    steps: int | None,
    threads: int,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write NETWORK as an ONNX model with its metadata, checked by running it.

    NETWORK is a checkpoint of `vsr train` or its folder, a model that this project exported, or, with --scale, the
    name of a shipped one. The int8 form is calibrated, fine-tuned and refused if it loses more than 0.1 dB.

    It may also be the weights of another project's network (.pth, .ckpt, .safetensors: Compact, SPAN, ESRGAN, PLKSR and
    what else spandrel knows), in fp32 or fp16. Nothing inside such a file is executed.
    """
    from vsr.store import check_output_path

    if output.suffix.lower() != ".onnx":
        raise OptionError(f"{output} is not called .onnx")
    check_output_path(output, overwrite=overwrite)

    def say(text: str) -> None:
        if not quiet:
            click.echo(f"vsr: {text}", err=True)

    if Path(network).suffix.lower() in FOREIGN_ENDINGS:
        _check_foreign(precision, data=data, steps=steps, test_data=test_data)
        facts = _export_foreign(Path(network), output, scale=scale, precision=precision, threads=threads, say=say)
        if as_json:
            click.echo(json.dumps({"output": str(output), "precision": precision, **facts}))
        elif not quiet:
            click.echo(f"{output}: {precision}, {facts['architecture']} x{facts['scale']}")
        return
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("h5py") is None:
        raise OptionError("vsr export needs torch and h5py", "pip install 'vsr[train]'")
    from vsr.training.forms import export, read_trained
    from vsr.training.quantise import QuantiseOptions

    options = QuantiseOptions() if steps is None else QuantiseOptions(steps=steps)
    figures = export(
        read_trained(network, scale),
        output,
        precision,
        database=data,
        test_folder=test_data,
        options=options,
        threads=threads,
        say=say,
    )
    if as_json:
        click.echo(json.dumps({"output": str(output), "precision": precision, "psnr": figures}))
    elif not quiet:
        found = ", ".join(f"{name} {value:.2f} dB" for name, value in figures.items()) or "no test pictures"
        click.echo(f"{output}: {precision}, {found}")


def _check_foreign(precision: str, **options: Any) -> None:
    """See that nothing is asked for that there is for this project's own networks only."""
    if precision == "int8":
        raise OptionError("--precision int8 of another project's network; allowed are fp32 and fp16")
    given = click.get_current_context().get_parameter_source
    for name, value in options.items():
        if value is not None and given(name) is ParameterSource.COMMANDLINE:
            raise OptionError(f"--{name.replace('_', '-')} is for this project's own networks only", "leave it out")


def _export_foreign(path: Path, output: Path, **options: Any) -> dict[str, Any]:
    """Export weights that others trained; returns what they are."""
    for package in ("torch", "spandrel"):
        if importlib.util.find_spec(package) is None:
            raise OptionError(
                f"{path.suffix} files are read by torch and spandrel; {package} is not installed",
                "pip install 'vsr[spandrel]'",
            )
    from vsr.training.pretrained import convert

    found = convert(path, output, **options)
    return {"architecture": found.architecture, "scale": found.scale, "channels": found.channels}
