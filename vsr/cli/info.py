"""`vsr info`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("info")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(file: Path, as_json: bool) -> None:
    """Show what is known of FILE before it is decoded."""
    from vsr.inspect import describe

    facts = describe(file)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        if key == "streams":
            for stream in value:
                line = ", ".join(f"{k} {v}" for k, v in stream.items() if k not in ("index", "type") and v is not None)
                click.echo(f"stream {stream['index']:<9} {stream['type']}: {line}")
        elif value is not None:
            click.echo(f"{key.replace('_', ' '):<16} {value}")
