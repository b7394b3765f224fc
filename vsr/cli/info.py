"""`vsr info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

INDENT: Final = 17  # where values begin


@click.command("info")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(file: Path, as_json: bool) -> None:
    """Show what is known of FILE before it is decoded."""
    from vsr.cli.console import width
    from vsr.inspect import describe
    from vsr.layout import paragraph

    facts = describe(file)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        if key == "streams":
            for stream in value:
                told = {k: v for k, v in stream.items() if k not in ("index", "type")}
                line = f"stream {stream['index']:<9} {stream['type']}: {in_words(told, ' ')}"
                click.echo(paragraph(line, width(), INDENT))
        elif value is not None:
            click.echo(paragraph(f"{key.replace('_', ' '):<16} {in_words(value, ': ')}", width(), INDENT))


def in_words(value: Any, between: str) -> str:
    """A value as people write it; `between` parts the names of a dictionary from their values."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{k}{between}{in_words(v, between)}" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return " + ".join(in_words(v, between) for v in value)
    return str(value)
