"""`vsr completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from vsr.errors import OptionError

EPILOG = """\b
Examples:
  vsr completion bash > ~/.local/share/bash-completion/completions/vsr
  vsr completion zsh  > ~/.zfunc/_vsr
  vsr completion fish > ~/.config/fish/completions/vsr.fish
"""


@click.command("completion", epilog=EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a completion script for SHELL."""
    completion = get_completion_class(shell)
    root = ctx.find_root().command
    if completion is None:
        raise OptionError(f"this version of click completes nothing for {shell}")
    # `source()` of bash runs the shell to learn its version, which is not needed to print the script.
    shell_completion = completion(root, {}, "vsr", "_VSR_COMPLETE")
    click.echo(shell_completion.source_template % shell_completion.source_vars())
