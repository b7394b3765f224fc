"""The training loop: one network, one scale, on prepared data; seeded, logged, resumable.

Adam with a warm-up and a cosine to (almost) zero, an exponential moving average of the weights, L1 loss and
in the last tenth mean squared error (which is what PSNR measures). The patches of a step depend on seed and
step alone, so that a training resumed from a checkpoint ends, on a CPU, with the same bits as one that was
never interrupted.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vsr.errors import OptionError, TrainingError
from vsr.networks import create
from vsr.networks.base import LumaNetwork, PlainNetwork
from vsr.networks.blocks import PlainLayer
from vsr.training.data import PatchData
from vsr.training.evaluate import validation_psnr


@dataclass(frozen=True)
class TrainOptions:
    """What decides the result of a training, apart from the data.

    patch: side of a low-resolution patch in pixels; ema: decay per step of the averaged weights; mse_share:
    the part of the steps, at the end, that minimises the mean squared error; init: where the start came from,
    for the record.
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

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "patch"):
            if getattr(self, name) < 1:
                raise OptionError(f"got {name} {getattr(self, name)}; it must be at least 1")
        if not (0 < self.lr_last <= self.lr and 0 <= self.ema < 1 and 0 <= self.mse_share <= 1):
            raise OptionError(
                f"got lr {self.lr}, lr_last {self.lr_last}, ema {self.ema}, mse_share {self.mse_share}; "
                "allowed are 0 < lr_last <= lr, 0 <= ema < 1, 0 <= mse_share <= 1"
            )

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step (counted from 0): linear warm-up, then a cosine down to `lr_last`."""
        warm = min(self.warm_up, self.steps // 10)
        if step < warm:
            return self.lr * (step + 1) / warm
        progress = (step - warm) / max(1, self.steps - warm)
        return self.lr_last + (self.lr - self.lr_last) * 0.5 * (1.0 + math.cos(math.pi * progress))

    @property
    def first_mse_step(self) -> int:
        """The step from which the mean squared error is minimised."""
        return self.steps - round(self.steps * self.mse_share)


@dataclass(frozen=True)
class TrainResult:
    """How a training ended: at `step` of its steps (fewer than asked for when it was told to stop)."""

    step: int
    finished: bool
    seconds: float
    validation_psnr: float
    network: LumaNetwork


def _save(path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as exc:  # torch reports a full disk as a RuntimeError
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise TrainingError(
            f"cannot save the checkpoint {path}: {exc}",
            "the last good checkpoint is untouched: make room, --resume",
        ) from exc


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint file. Raises `TrainingError` when it is not one."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch raises a dozen kinds for a file that is not its own
        raise TrainingError(
            f"cannot read the checkpoint {path}: {str(exc) or type(exc).__name__}".splitlines()[0]
        ) from exc
    if not isinstance(state, dict) or "averaged" not in state or "options" not in state:
        raise TrainingError(f"{path} is not a checkpoint of this project")
    return state


def checkpoint_network(path: Path) -> LumaNetwork:
    """The network of a checkpoint with its averaged weights, which are the ones to measure and ship."""
    state = load_checkpoint(path)
    network = create(state["options"]["network"], state["options"]["scale"])
    network.load_state_dict(state["averaged"])
    return network


def _cut_log(path: Path, step: int) -> None:
    """Drop what the log says of steps after `step`, which are about to be made again, and a line cut short."""
    kept = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["step"] <= step:
                kept.append(f"{line}\n")
    path.write_text("".join(kept))


@contextmanager
def _stop_on_sigterm() -> Iterator[threading.Event]:
    stop = threading.Event()

    def handler(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def train(
    options: TrainOptions,
    data: PatchData,
    out: Path,
    *,
    start: list[PlainLayer] | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
    report_every: int = 1000,
    save_every: int = 2000,
) -> TrainResult:
    """Train and leave `checkpoint.pt` and `log.jsonl` in the folder `out`.

    start: deployed layers to start from (see `LumaNetwork.start_from`). resume: go on from
    `out/checkpoint.pt`, which must come from the same options and data; a folder without a checkpoint starts
    anew. SIGTERM saves a checkpoint and returns early. Raises `TrainingError` when saving fails, the loss is
    no longer a number, or a checkpoint is of another training.
    """
    checkpoint = out / "checkpoint.pt"
    record = {**asdict(options), "data": data.sha256}
    torch.manual_seed(options.seed)
    network = create(options.network, options.scale)
    if start is not None and not network.start_from(start):
        say("starting from another scale's weights: all layers but the last")
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 10 to 30 % faster on a CPU than rows of planes
    averaged = create(options.network, options.scale)
    averaged.load_state_dict(network.state_dict())
    parameters: list[Tensor] = list(network.parameters())
    average: list[Tensor] = list(averaged.parameters())
    optimizer = torch.optim.Adam(parameters, lr=options.lr, foreach=True)
    first, seconds = 0, 0.0
    if resume and checkpoint.exists():
        state = load_checkpoint(checkpoint)
        if {**state["options"], "data": state["data"]} != record:
            raise TrainingError(
                f"{checkpoint} is of another training or data: {state['options']}, not {asdict(options)}",
                "give the same options and data, or another --out",
            )
        network.load_state_dict(state["network"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds = state["step"], state["seconds"]
        say(f"resumed at step {first}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        _cut_log(out / "log.jsonl", first)
    except OSError as exc:
        raise TrainingError(f"cannot write to the folder {out}: {exc}") from exc

    began = time.monotonic() - seconds
    figure = math.nan

    def save(step: int) -> None:
        _save(
            checkpoint,
            {
                "options": asdict(options),
                "data": data.sha256,
                "step": step,
                "seconds": time.monotonic() - began,
                "network": network.state_dict(),
                "averaged": averaged.state_dict(),
                "optimizer": optimizer.state_dict(),
            },
        )

    def measure() -> float:
        plain = PlainNetwork(averaged)
        return validation_psnr(data.validation, options.scale, plain)

    step, saved, counted_from = first, -1, first
    losses = torch.zeros(())
    with _stop_on_sigterm() as stop:
        while step < options.steps and not stop.is_set():
            rate = options.learning_rate(step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            low, high = (torch.from_numpy(a) for a in data.batch(options.seed, step, options.batch))
            out_luma = network(low.to(memory_format=torch.channels_last))
            loss = F.mse_loss(out_luma, high) if step >= options.first_mse_step else F.l1_loss(out_luma, high)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            # early on the average follows closely, or the random start would linger in it
            decay = min(options.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(average, parameters, 1.0 - decay)
            losses += loss.detach()
            step += 1
            if step % report_every == 0 or step == options.steps:
                value = float(losses) / (step - counted_from)
                losses.zero_()
                counted_from = step
                if not math.isfinite(value):
                    raise TrainingError(f"the loss is {value} at step {step}", "lower the learning rate")
                figure = measure()
                passed = time.monotonic() - began
                with (out / "log.jsonl").open("a") as log:
                    entry = {
                        "step": step,
                        "loss": value,
                        "lr": rate,
                        "validation_psnr": figure,
                        "seconds": passed,
                    }
                    log.write(json.dumps(entry) + "\n")
                say(f"step {step}/{options.steps} loss {value:.5f} validation {figure:.3f} dB {passed:.0f} s")
            if step % save_every == 0 or step == options.steps:
                save(step)
                saved = step
    if saved != step:
        save(step)
    if math.isnan(figure):
        figure = measure()
    return TrainResult(step, step >= options.steps, time.monotonic() - began, figure, averaged)
