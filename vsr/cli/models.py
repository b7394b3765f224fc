"""`vsr models`."""

from __future__ import annotations

import json
from typing import Final

import click

SETS: Final = ("Set5", "Set14")
FOOTERS: Final = (
    "The baseline needs no network.",
    "A model of your own: --model path.onnx (one channel of luma or three of RGB, in and out).",
)


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(as_json: bool) -> None:
    """List the shipped models with their measured PSNR.

    PSNR is on luma, in dB, on the standard test sets; docs/models.md has the protocol.
    """
    from vsr.cli.console import width
    from vsr.layout import paragraph, table
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
    heads = ("model", "scale", *SETS, "")
    lines = []
    for row in rows:
        psnr = row["psnr"]
        figures = [f"{psnr[s]:.2f}" if isinstance(psnr, dict) and s in psnr else "–" for s in SETS]
        lines.append([str(row["name"]), f"x{row['scale']}", *figures, "default" if row["default"] else ""])
    lines.append([BICUBIC, "any", *("–" for _ in SETS), "baseline"])
    click.echo(table(heads, lines, width()))
    for text in FOOTERS:
        click.echo(paragraph(text, width()))
