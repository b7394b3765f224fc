"""The training loop: one network on prepared data; seeded, logged, resumable.

Muon or Adam with a warm-up and a cosine to (almost) zero, an exponential moving average of the weights, L1 loss (or
another) and in the last tenth mean squared error (which is what PSNR measures) or another. The patches of a step
depend on seed and step alone, so that a training resumed from a checkpoint ends, on a CPU, with the same bits as one
that was never interrupted.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from vsr.errors import OptionError, TrainingError
from vsr.networks import create
from vsr.networks.base import LumaNetwork, PlainNetwork
from vsr.networks.blocks import PlainLayer
from vsr.training.checkpoint import (
    append_log,
    check_layers,
    checkpoint_network,
    cut_log,
    layers,
    load_checkpoint,
    save_checkpoint,
)
from vsr.training.curve import draw_curve
from vsr.training.data import PatchData
from vsr.training.evaluate import validation_psnr
from vsr.training.muon import Muon

CHARBONNIER_EPSILON: Final = 1e-3
RMS_EPSILON: Final = 1e-3
#: Gain in dB below which a validation counts as no better, for `patience`.
LEAST_GAIN: Final = 0.001


def charbonnier(got: Tensor, wanted: Tensor) -> Tensor:
    """L1 rounded off around zero: mean of sqrt(d² + 1e-6). Lai et al., "Deep Laplacian Pyramid Networks", 2017."""
    return torch.sqrt(torch.square(got - wanted) + CHARBONNIER_EPSILON**2).mean()


def patch_rms(got: Tensor, wanted: Tensor) -> Tensor:
    """Root of the mean squared error of each patch, [N, C, H, W] in, their mean out.

    Between the mean squared error, which the hardest patches decide alone, and the mean of PSNR figures, the logarithm,
    for which a flat patch weighs as much as one of edges.
    """
    return torch.sqrt(torch.square(got - wanted).mean(dim=(1, 2, 3)) + RMS_EPSILON**2).mean()


LOSSES: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "charbonnier": charbonnier,
    "rms": patch_rms,
}
OPTIMIZERS: Final = ("adam", "muon")
PRECISIONS: Final = ("fp32", "bf16")


@dataclass(frozen=True)
class TrainOptions:
    """What decides the result of a training, apart from the data.

    patch: side of a low-resolution patch in pixels; ema: decay per step of the averaged weights; mse_share: the part
    of the steps, at the end, that minimises `last_loss`, the mean squared error if nothing else is said; loss: what
    the steps before minimise (both of `LOSSES`); init: where the start came from, for the record; all_scales: train
    one set of weights on the scales 2, 3 and 4 in turn, with `patch` that of x2 and the same area in the others, for
    networks that work on the enlargement; patience: stop after this many validations without a gain, and keep the best
    weights (0: never). contrast: the largest factor by which a patch's contrast is raised (1: it is left as it is; see
    `vsr.training.tones.raise_contrast`). optimizer: `adam`, or `muon` (see `vsr.training.muon`). teacher: the larger
    network whose answers are learnt until `mse_share` begins, and originals from there on (see
    `vsr.training.teacher`). precision: in which convolutions are computed, `fp32` or `bf16`; weights and what is added
    to them stay in fp32. None: bf16 on a GPU, fp32 on a CPU. fresh, curves: low resolution is made from each patch
    after it got its tones, which for that share of the patches a random curve gives (see `vsr.training.tones`).
    teacher_negatives: the teacher's answers to negatives count, too.
    """

    network: str
    scale: int
    steps: int
    batch: int = 16
    patch: int = 32
    lr: float = 1e-3
    lr_last: float = 1e-6
    warm_up: int = 500
    ema: float = 0.999
    mse_share: float = 0.1
    seed: int = 1
    init: str | None = None
    loss: str = "l1"
    last_loss: str = "l2"
    all_scales: bool = False
    patience: int = 0
    contrast: float = 1.0
    optimizer: str = "adam"
    teacher: str | None = None
    precision: str | None = None
    fresh: bool = False
    curves: float = 0.0
    teacher_negatives: bool = False

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 1), ("patch", 1), ("patience", 0)):
            if getattr(self, name) < least:
                raise OptionError(f"got {name} {getattr(self, name)}; it must be at least {least}")
        if not (0 < self.lr_last <= self.lr and 0 <= self.ema < 1 and 0 <= self.mse_share <= 1):
            raise OptionError(
                f"got lr {self.lr}, lr_last {self.lr_last}, ema {self.ema}, mse_share {self.mse_share}; "
                "allowed are 0 < lr_last <= lr, 0 <= ema < 1, 0 <= mse_share <= 1"
            )
        if self.optimizer not in OPTIMIZERS:
            raise OptionError(f"got optimizer {self.optimizer!r}; there are {', '.join(OPTIMIZERS)}")
        if self.precision not in (None, *PRECISIONS):
            raise OptionError(f"got precision {self.precision!r}; there are {', '.join(PRECISIONS)}")
        if not 0.0 <= self.curves <= 1.0:
            raise OptionError(f"got curves {self.curves}; it is a share of the patches, 0 to 1")
        if self.teacher_negatives and not self.teacher:
            raise OptionError("teacher negatives need a teacher", "name one, or leave them out")
        if self.curves and not self.fresh:
            raise OptionError("curves need fresh patches", "ask for those too, or leave the curves out")
        if not 1.0 <= self.contrast <= 100.0:
            raise OptionError(f"got contrast {self.contrast}; it must be 1 to 100")
        for loss in (self.loss, self.last_loss):
            if loss not in LOSSES:
                raise OptionError(f"got loss {loss!r}; there are {', '.join(LOSSES)}")

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step (counted from 0): linear warm-up, then a cosine down to `lr_last`."""
        warm = min(self.warm_up, self.steps // 10)
        if step < warm:
            return self.lr * (step + 1) / warm
        progress = (step - warm) / max(1, self.steps - warm)
        return self.lr_last + (self.lr - self.lr_last) * 0.5 * (1.0 + math.cos(math.pi * progress))

    @property
    def first_mse_step(self) -> int:
        """The step from which `last_loss` is minimised."""
        return self.steps - round(self.steps * self.mse_share)


@dataclass(frozen=True)
class TrainResult:
    """How a training ended: at `step` of its steps, told to stop by `signal`, finished if by none."""

    step: int
    signal: int | None
    seconds: float
    validation_psnr: float
    network: LumaNetwork

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do (all steps, or patience at its end)."""
        return self.signal is None


@contextmanager
def _stop_on_signals() -> Iterator[Callable[[], int | None]]:
    """Within, SIGTERM and SIGINT are only noted; yields what tells the one that came. A second one acts as ever."""
    came: list[int] = []
    before: dict[int, Any] = {}

    def handler(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number in before:
            signal.signal(number, handler)
    try:
        yield lambda: came[0] if came else None
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def check_same(path: Path, state: dict[str, Any], options: TrainOptions, data: str | None = None) -> None:
    """See that a checkpoint is of the training that is asked for; data: their `identity`. Raises `TrainingError`."""
    hint = "give the same options and data, or another --out"
    # options that came into being after the checkpoint had their defaults in it
    defaults = asdict(TrainOptions(options.network, options.scale, options.steps))
    theirs, ours = {**defaults, **state["options"]}, asdict(options)
    if (theirs["network"], theirs["scale"]) != (options.network, options.scale):
        raise TrainingError(
            f"{path} is of another training: network {theirs['network']} x{theirs['scale']}, not {options.network} "
            f"x{options.scale}",
            hint,
        )
    if theirs != ours:
        names = [name for name in theirs if theirs[name] != ours.get(name)]
        texts = [f"{name} {theirs[name]}, not {ours.get(name)}" for name in names]
        raise TrainingError(f"{path} is of another training: {'; '.join(texts)}", hint)
    if data is not None and state["data"] != data:
        raise TrainingError(f"{path} is of another training: data {state['data'][:12]}, not {data[:12]}", hint)


class _Training:
    """What a training changes as it goes, and how it is kept and measured."""

    def __init__(self, options: TrainOptions, data: Sequence[PatchData], start: list[PlainLayer] | None, device: str):
        self.options, self.data, self.device = options, data, torch.device(device)
        torch.manual_seed(options.seed)
        network = create(options.network, options.scale)
        self.whole_start = start is None or network.start_from(start)
        # 10 to 30 % faster on a CPU than rows of planes
        self.network: LumaNetwork = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = create(options.network, options.scale)
        self.averaged.load_state_dict(network.state_dict())
        self.averaged.to(self.device)
        self.parameters: list[Tensor] = list(self.network.parameters())
        self._average: list[Tensor] = list(self.averaged.parameters())
        self.optimizer: torch.optim.Optimizer = (
            Muon(self.parameters, lr=options.lr)
            if options.optimizer == "muon"
            else torch.optim.Adam(self.parameters, lr=options.lr, foreach=True)
        )
        self._forward = _mixed(self.network, options, self.device.type)

    def step(self, step: int) -> Tensor:
        """Take step `step` (from 0); returns its loss."""
        options = self.options
        for group in self.optimizer.param_groups:
            group["lr"] = options.learning_rate(step)
        data = self.data[step % len(self.data)]
        self.network.scale = data.scale
        early = step < options.first_mse_step
        patches = data.batch(options.seed, step, options.batch, options.contrast, curves=options.curves, taught=early)
        low, high = (torch.from_numpy(a).to(self.device) for a in patches)
        got = self._forward(low.to(memory_format=torch.channels_last)).float()
        loss = LOSSES[options.loss if early else options.last_loss](got, high)
        self.optimizer.zero_grad(set_to_none=True)
        (loss + self.network.penalty).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        # early on the average follows closely, or the random start would linger in it
        decay = min(options.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self._average, self.parameters, 1.0 - decay)
        return loss.detach()

    def measure(self) -> float:
        """PSNR in dB of the averaged weights on the validation pictures; mean over the scales that are trained."""
        figures = []
        for data in self.data:
            self.averaged.scale = data.scale
            figures.append(validation_psnr(data.validation, data.scale, PlainNetwork(self.averaged)))
        self.averaged.scale = self.options.scale
        return sum(figures) / len(figures)

    def state(self, step: int, seconds: float) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "options": asdict(self.options),
            "data": self.data[0].identity,
            "layers": layers(self.network),
            "step": step,
            "seconds": seconds,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint holds."""
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])


def _mixed(network: LumaNetwork, options: TrainOptions, device: str) -> Callable[[Tensor], Tensor]:
    """The network in the precision of the options (bfloat16 needs no loss scaling).

    On a GPU as a CUDA graph where the shapes are fixed.
    """
    on_gpu = device == "cuda"
    mixed = (options.precision or ("bf16" if on_gpu else "fp32")) == "bf16"

    def precision() -> torch.autocast:
        # a graph must not hold the cache's copies
        return torch.autocast(device, torch.bfloat16, enabled=mixed, cache_enabled=False)

    forward: Callable[[Tensor], Tensor] = network
    if on_gpu and not (options.all_scales or network.regularised):  # a graph returns the picture only
        sample = torch.rand(options.batch, 1, options.patch, options.patch, device="cuda")
        with precision():
            forward = cast(
                "Callable[[Tensor], Tensor]",
                torch.cuda.make_graphed_callables(network, (sample.to(memory_format=torch.channels_last),)),
            )

    def run(y: Tensor) -> Tensor:
        with precision():
            return forward(y)

    return run


def _out_of_patience(entries: Sequence[dict[str, Any]], patience: int) -> bool:
    """Whether the last `patience` validations brought nothing over those before."""
    figures = [float(entry["validation_psnr"]) for entry in entries]
    return 0 < patience < len(figures) and max(figures[-patience:]) < max(figures[:-patience]) + LEAST_GAIN


def train(
    options: TrainOptions,
    data: PatchData | Sequence[PatchData],
    out: Path,
    *,
    start: list[PlainLayer] | None = None,
    resume: bool = False,
    device: str = "cpu",
    say: Callable[[str], None] = print,
    tick: Callable[[int], None] | None = None,
    report_every: int = 1000,
    save_every: int = 2000,
) -> TrainResult:
    """Train and leave `checkpoint.pt`, `log.jsonl` and `curve.png` in the folder `out`; with patience also `best.pt`.

    data: of the scale, or of all three in turn with `options.all_scales`. start: deployed layers to start from (see
    `LumaNetwork.start_from`). resume: go on from `out/checkpoint.pt`, which must come from the same options and data; a
    folder without a checkpoint starts anew. device: `cpu` or `cuda`. tick: called with the number of steps done after
    each. SIGTERM and SIGINT save a checkpoint and return early. Raises `TrainingError` when saving fails, the loss is
    no longer a number, or a checkpoint is of another training.
    """
    datas = [data] if isinstance(data, PatchData) else list(data)
    checkpoint, log, best = out / "checkpoint.pt", out / "log.jsonl", out / "best.pt"
    training = _Training(options, datas, start, device)
    if not training.whole_start:
        say("starting from another scale's weights: all layers but the last")
    first, seconds = 0, 0.0
    if resume and checkpoint.exists():
        state = load_checkpoint(checkpoint)
        check_same(checkpoint, state, options, datas[0].identity)
        check_layers(checkpoint, state, training.network)
        training.restore(state)
        first, seconds = state["step"], state["seconds"]
        say(f"resumed at step {first}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        entries = cut_log(log, first)
    except OSError as exc:
        raise TrainingError(f"cannot write to the folder {out}: {exc}") from exc
    began = time.monotonic() - seconds

    def save(step: int) -> None:
        save_checkpoint(checkpoint, training.state(step, time.monotonic() - began))
        draw_curve(entries, f"{options.network} x{options.scale}", out / "curve.png")

    step, saved, counted_from = first, -1, first
    losses = torch.zeros((), device=training.device)
    done = _out_of_patience(entries, options.patience)
    with _stop_on_signals() as stopped:
        while step < options.steps and not done and stopped() is None:
            losses += training.step(step)
            step += 1
            if tick:
                tick(step)
            if step % report_every == 0 or step == options.steps:
                value = float(losses) / (step - counted_from)
                losses.zero_()
                counted_from = step
                if not math.isfinite(value):
                    raise TrainingError(f"the loss is {value} at step {step}", "lower the learning rate")
                figure, passed = training.measure(), time.monotonic() - began
                rate = options.learning_rate(step - 1)
                entries.append({"step": step, "loss": value, "lr": rate, "validation_psnr": figure, "seconds": passed})
                append_log(log, entries[-1])
                say(f"step {step}/{options.steps} loss {value:.5f} validation {figure:.3f} dB {passed:.0f} s")
                if options.patience and figure >= max(e["validation_psnr"] for e in entries):
                    save_checkpoint(best, training.state(step, passed))
                done = _out_of_patience(entries, options.patience)
                if done:
                    say(f"stopped early: {options.patience} validations without a gain")
            if step % save_every == 0 or step == options.steps or done:
                save(step)
                saved = step
        number = stopped()
    if saved != step:
        save(step)
    finished = done or step >= options.steps
    network = training.averaged.cpu()
    figure = entries[-1]["validation_psnr"] if entries and entries[-1]["step"] == step else training.measure()
    if finished and options.patience and best.exists():
        network = checkpoint_network(best)
        figure = max(entry["validation_psnr"] for entry in entries)
    return TrainResult(step, None if finished else number, time.monotonic() - began, figure, network)
