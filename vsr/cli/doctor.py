"""`vsr doctor`."""

from __future__ import annotations

import json
from typing import Final

import click

INDENT: Final = 10  # where names begin


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(as_json: bool) -> None:
    """Show versions, CPU features, runtimes, GPUs and encoders, each with what is missing and how to get it."""
    from vsr.cli.console import width
    from vsr.doctor import examine, to_dict
    from vsr.layout import paragraph

    findings = examine()
    if as_json:
        click.echo(json.dumps(to_dict(findings), indent=2))
        return
    topic = ""
    for finding in findings:
        if finding.topic != topic:
            topic = finding.topic
            click.echo(f"{topic}:")
        line = f"  {'ok     ' if finding.ok else 'missing'} {finding.name}: {finding.detail}"
        click.echo(paragraph(line, width(), INDENT))
