"""`vsr prepare-data`."""

from __future__ import annotations

from pathlib import Path

import click

EPILOG = """\b
Examples:
  vsr prepare-data footage/ photographs/ -o data.h5
  vsr prepare-data footage/ --degradation codec -o data-compressed.h5
  vsr train --network fast --scale 2 --data data.h5 --out runs/fast_x2
"""


@click.command("prepare-data", epilog=EPILOG)
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The database to write (.h5).")
@click.option(
    "--degradation",
    type=click.Choice(["clean", "codec"]),
    default="clean",
    show_default=True,
    help="clean: MATLAB's bicubic. codec: a fifth so, the rest by random kernels and encoded by x264, x265 or SVT-AV1.",
)
@click.option(
    "--shrink",
    type=click.Choice(["soft", "sharp"]),
    default="soft",
    show_default=True,
    help="Kernel by which sources are halved: the triangle, or Lanczos.",
)
@click.option(
    "--frames-per-clip", default=8, show_default=True, help="Frames of each clip that serve, spread over its length."
)
@click.option(
    "--dead-leaves",
    type=float,
    metavar="SHARE",
    default=0.0,
    show_default=True,
    help="Share of generated pictures of random shapes: better on drawings and text, a little worse on film; try 0.08.",
)
@click.option("--seed", default=1, show_default=True, help="Decides what is random: shapes, and the codec degradation.")
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
def command(
    folders: tuple[Path, ...],
    output: Path,
    degradation: str,
    shrink: str,
    frames_per_clip: int,
    dead_leaves: float,
    seed: int,
    quiet: bool,
) -> None:
    """Decode and degrade all pictures and clips under FOLDERS once, into one HDF5 file for `vsr train`.

    A database that is there already and was made from the same files in the same way is kept. Needs the packages torch
    and h5py (pip install 'vsr[train]').
    """
    from vsr.errors import OptionError, TrainingError

    try:
        from vsr.training.prepare import prepare
    except ImportError as exc:
        raise TrainingError(f"preparing needs {exc.name}, which is not installed", "pip install 'vsr[train]'") from exc

    if output.suffix != ".h5":
        raise OptionError(f"got {output} to write; a database's name ends in .h5")
    say = (lambda _: None) if quiet else click.echo
    digest = prepare(
        *folders,
        out=output,
        degradation=degradation,
        shrink=shrink,
        frames_per_clip=frames_per_clip,
        dead_leaves=dead_leaves,
        seed=seed,
        say=say,
    )
    say(f"{output}: {output.stat().st_size / 1e6:.0f} MB, data {digest[:12]}")
