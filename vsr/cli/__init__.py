"""The command line: options, progress and exit codes, nothing else.

Each command has a module of its own, imported when it is called, so that `vsr --help` imports no runtime.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

import click

from vsr._version import __version__
from vsr.cli.console import (
    STANDARD_OUTPUT,
    is_of_standard_output,
    open_missing_streams,
    say,
    silence,
    unless_deaf,
)
from vsr.errors import VsrError

# name: (module, one line for `vsr --help`), kept here so that listing commands imports none of them
COMMANDS: Final = {
    "upscale": ("vsr.cli.upscale", "Upscale a video, a still image, or a folder of them."),
    "build-engine": (
        "vsr.cli.build_engine",
        "Compile a model for NVIDIA GPUs, also for one that is not here.",
    ),
    "models": ("vsr.cli.models", "List the shipped models."),
    "info": ("vsr.cli.info", "Show what is known of a media file."),
    "verify": ("vsr.cli.verify", "Prove that an output is its input, larger and otherwise untouched."),
    "eval": ("vsr.cli.eval", "Measure models against original pictures: PSNR, SSIM, VMAF."),
    "bench": ("vsr.cli.bench", "Measure frame rates: engines, stages, jobs, and beside what others use."),
    "train": ("vsr.cli.train", "Train a network on pictures and clips of your own."),
    "prepare-data": ("vsr.cli.prepare_data", "Build the database to train on, once."),
    "export": ("vsr.cli.export", "Write a trained network as an ONNX model: fp32, fp16 or int8."),
    "doctor": ("vsr.cli.doctor", "Show what works on this machine, and what is missing for the rest."),
    "completion": ("vsr.cli.completion", "Print a completion script for a shell."),
}

EPILOG: Final = """\b
Examples:
  vsr upscale input.mp4 -s 3 -o out.mp4
  vsr upscale holiday/ -s 2 -o holiday-large/
  vsr info input.mp4
  vsr doctor
"""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order in which people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the module of `cmd_name`."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vsr")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Video super-resolution: decode, upscale by a learned model, encode; everything else in the file is kept."""
    ctx.obj = {"debug": debug}


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    arguments = sys.argv[1:] if args is None else args
    open_missing_streams()
    try:
        code: Any = cli.main(arguments, prog_name="vsr", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except VsrError as error:
        if "--debug" in arguments:
            raise
        say(f"vsr: error: {error}")
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        say("vsr: interrupted")
        sys.exit(130)
    except click.ClickException as error:
        with unless_deaf():
            error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        if not is_of_standard_output(error):
            raise
        silence(STANDARD_OUTPUT)
        if not isinstance(error, BrokenPipeError):  # of a reader of plain text, such as `vsr models | head -1`
            say(f"vsr: error: standard output cannot be written: {error.strerror}")
        sys.exit(1)
