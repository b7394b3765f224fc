"""`vsr doctor`."""

from __future__ import annotations

import json

import click


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(as_json: bool) -> None:
    """Show versions, CPU features, runtimes, GPUs and encoders, each with what is missing and how to get it."""
    from vsr.doctor import examine, to_dict

    findings = examine()
    if as_json:
        click.echo(json.dumps(to_dict(findings), indent=2))
        return
    topic = ""
    for finding in findings:
        if finding.topic != topic:
            topic = finding.topic
            click.echo(f"{topic}:")
        click.echo(f"  {'ok     ' if finding.ok else 'missing'} {finding.name}: {finding.detail}")
