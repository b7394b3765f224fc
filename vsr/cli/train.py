"""`vsr train`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

EPILOG = """\b
Examples:
  vsr train --network fast --scale 2 --data footage/ --out runs/fast_x2 --export fast_x2.onnx
  vsr train --network fast-compressed --scale 2 --data footage/ --init fast_x2 --lr 3e-4 --out runs/fc_x2
  vsr train --network fast --scale 2 --data footage/ --out runs/fast_x2 --resume
  vsr upscale input.mp4 -s 2 --model fast_x2.onnx -o out.mp4
"""
#: Of `vsr.training.loop`, which takes torch to list them.
LOSS = click.Choice(["l1", "l2", "charbonnier", "rms"])


@click.command("train", epilog=EPILOG)
@click.option("--network", required=True, metavar="NAME", help="Which network; a wrong name lists them.")
@click.option("--scale", required=True, help="2, 3, 4, or all: one set of weights, for networks that allow it.")
@click.option(
    "--data",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Folder with pictures and clips (may be given several times), or one database of `vsr prepare-data` (.h5).",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for checkpoint, log and curve.")
@click.option(
    "--degradation",
    type=click.Choice(["clean", "codec"]),
    help="How low-resolution pictures are made from folders. Default: codec for NAME-compressed, else clean.",
)
@click.option("--steps", default=40_000, show_default=True, help="Batches to train on.")
@click.option("--batch", default=16, show_default=True, help="Patches in a batch.")
@click.option("--patch", default=32, show_default=True, help="Side of a low-resolution patch in pixels.")
@click.option("--lr", default=1e-3, show_default=True, help="Highest learning rate, which falls by a cosine to 1e-6.")
@click.option("--optimizer", default="muon", show_default=True, type=click.Choice(["muon", "adam"]))
@click.option("--loss", default="l1", show_default=True, type=LOSS)
@click.option("--mse-share", default=0.1, show_default=True, help="Last part of the steps, on --last-loss.")
@click.option("--last-loss", default="l2", show_default=True, type=LOSS)
@click.option("--contrast", default=6.0, show_default=True, help="Largest factor that raises a patch's; 1: none.")
@click.option(
    "--fresh", is_flag=True, help="Make low resolution of each patch after its contrast is raised. For clean data."
)
@click.option("--curves", default=0.0, show_default=True, help="Share of fresh patches whose tones a curve gives.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    help="In which convolutions are computed. Default: bf16 on a GPU, else fp32.",
)
@click.option("--ema", default=0.999, show_default=True, help="Decay per step of the averaged weights, which are kept.")
@click.option("--seed", default=1, show_default=True, help="Decides the random start and the patches of each step.")
@click.option("--init", help="Start from a checkpoint, a model (.onnx) or a shipped one (fast_x2), of any scale.")
@click.option(
    "--teacher", help="Learn from a larger network first: a checkpoint, a model (.onnx) or a shipped one (best)."
)
@click.option("--teacher-negatives", is_flag=True, help="Count its answers to the pictures' negatives too.")
@click.option("--patience", default=0, help="Stop after this many validations without a gain. Default: never.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in OUT.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", default=0, help="CPU threads. Default: as many as there are cores.")
@click.option("--save-every", type=int, help="Steps between checkpoints. Default: 2000, fewer if there are few.")
@click.option("--report-every", default=1000, show_default=True, help="Steps between validations.")
@click.option("--export", type=click.Path(path_type=Path), help="Write the finished model here (.onnx).")
@click.option("--test-data", type=click.Path(path_type=Path), help="Folder with Set5 and Set14, to measure it on.")
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
def command(
    network: str,
    scale: str,
    data: tuple[Path, ...],
    out: Path,
    degradation: str | None,
    resume: bool,
    device: str,
    threads: int,
    save_every: int | None,
    report_every: int,
    export: Path | None,
    test_data: Path | None,
    quiet: bool,
    **chosen: object,
) -> int:
    """Train a network on pictures and clips of your own.

    Pictures are shrunk at least 2x, which takes their compression away, and serve as what the network shall give;
    shrunk again (and with the codec degradation encoded), as what it gets. All of it is prepared once, as
    OUT/../data.h5.

    SIGTERM and Ctrl-C save a checkpoint; the same command with --resume goes on, on a CPU to the same bits as if
    nothing had happened. Needs the packages torch and h5py (pip install 'vsr[train]').
    """
    from vsr.errors import OptionError, TrainingError

    try:
        from vsr.training import session
        from vsr.training.data import database_facts
        from vsr.training.loop import TrainOptions
    except ImportError as exc:
        raise TrainingError(f"training needs {exc.name}, which is not installed", "pip install 'vsr[train]'") from exc

    number, all_scales = session.check_network(network, scale)
    options = TrainOptions(network, number, all_scales=all_scales, **chosen)  # type: ignore[arg-type]
    if min(1 if save_every is None else save_every, report_every) < 1 or threads < 0:
        raise OptionError("--save-every and --report-every must be at least 1, and --threads at least 0")
    if export:
        session.export_paths(export, options)
    if (out / "checkpoint.pt").exists() and not resume:
        raise OptionError(f"{out} holds a checkpoint already", "--resume goes on from it; or give another --out")
    session.check_start(options, out, resume, degradation)
    if threads:
        session.set_threads(threads)

    def say(text: str) -> None:
        if not quiet:
            bar.write(text) if bar else click.echo(text)

    bar = None
    if len(data) == 1 and data[0].suffix == ".h5":
        database = data[0]
    else:
        degradation = degradation or session.degradation_of(network)
        database = session.prepared(data, session.default_database(out.parent, degradation), degradation, say)
    if not quiet and sys.stderr.isatty():
        from tqdm import tqdm

        bar = tqdm(total=options.steps, unit="step", dynamic_ncols=True)

    def tick(step: int) -> None:
        if bar is not None:
            bar.update(step - bar.n)

    try:
        result = session.run_training(
            options,
            database,
            out,
            device=device,
            resume=resume,
            say=say,
            tick=tick,
            save_every=save_every,
            report_every=report_every,
        )
    finally:
        if bar is not None:
            bar.close()
            bar = None
    if result.signal is not None:
        click.echo(f"vsr: stopped at step {result.step} of {options.steps}; --resume goes on from there", err=True)
        return 128 + result.signal
    say(f"trained for {result.step} steps: {result.validation_psnr:.3f} dB on the validation pictures")
    if export:
        for path, psnr in session.export_result(
            result, options, database_facts(database)[0], export, test_data
        ).items():
            say(f"{path}: " + (", ".join(f"{name} {value:.2f} dB" for name, value in psnr.items()) or "written"))
    return 0
