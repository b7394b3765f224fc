"""`vsr models`."""

from __future__ import annotations

import json

import click


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(as_json: bool) -> None:
    """List the shipped models with their measured PSNR.

    PSNR is on luma, in dB, on the standard test sets; docs/models.md has the protocol.
    """
    from vsr.model import BICUBIC, default_model_name, load_model, shipped_models

    rows = []
    for name, scale in shipped_models():
        model = load_model(name, scale)
        rows.append(
            {
                "name": name,
                "scale": scale,
                "default": name == default_model_name(scale),
                "psnr": model.psnr,
                "licence": model.metadata.get("vsr.licence", ""),
                "training_data": model.metadata.get("vsr.training_data", ""),
                "sha256": model.sha256,
            }
        )
    if as_json:
        click.echo(json.dumps({"models": rows, "baseline": BICUBIC}, indent=2))
        return
    click.echo(f"{'model':<12} {'scale':<6} {'Set5':>7} {'Set14':>7}")
    for row in rows:
        psnr = row["psnr"]
        figures = [f"{psnr[s]:7.2f}" if isinstance(psnr, dict) and s in psnr else "      –" for s in ("Set5", "Set14")]
        mark = "  default" if row["default"] else ""
        click.echo(f"{row['name']:<12} x{row['scale']:<5} {figures[0]} {figures[1]}{mark}")
    click.echo(f"{BICUBIC:<12} any          –       –  no network: the baseline")
    click.echo("A model of your own: --model path.onnx (one channel of luma or three of RGB, in and out).")
