"""Which precision an engine gets when none was asked for: the fastest by a measurement on this machine, made once.

Whether a lower precision pays depends on the processor, the runtime and the model, so it is measured and not
guessed: a few small pictures through each candidate, taking turns. The answer is kept in the user's cache folder
under everything that it depends on. Candidates are int8, where the model is shipped in it (which it is only if it
stays within 0.10 dB of fp32 on pictures held out from training), fp16, bf16 and fp32; above 8 bits only fp32,
because the others round to 8 bits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import platformdirs

from vsr.engines.engine import Backend, EngineSpec
from vsr.engines.timing import time_engine
from vsr.errors import OutputError, VsrError
from vsr.frame import PIXEL_FORMATS, Planes
from vsr.graphs.chain import quantised_form
from vsr.graphs.frame_graph import SAME
from vsr.model import Model
from vsr.store import atomic_write

WORTH_WHILE: Final = 1.1  # how many times as fast as fp32 another precision must be to be taken
WIDTH, HEIGHT = 320, 180  # of the pictures measured with
ROUNDS: Final = 3
ROUND_S: Final = 0.03  # seconds that one candidate's turn takes at least
_FORMAT: Final = 1


@dataclass(frozen=True)
class Settled:
    """A spec whose precision is decided.

    Attributes:
        spec: with the model and the precision to compile.
        reason: of the choice, in one line.
    """

    spec: EngineSpec
    reason: str


def settle(backend: Backend, spec: EngineSpec, *, measure: bool = True) -> Settled:
    """Decide the precision of `spec` if it is `auto`.

    Args:
        backend: that will compile it.
        spec: for what.
        measure: whether there is time to measure; else it is fp16 where the backend has that and fp32 where not.

    Raises:
        BackendError: the runtime refuses the model.
    """
    if spec.precision != "auto":
        return Settled(spec, f"{spec.precision}: asked for")
    candidates = _candidates(backend, spec)
    if len(candidates) == 1:
        why = "pictures of more than 8 bits" if spec.graph.format.bits > 8 else "the only one for this model here"
        return Settled(replace(spec, precision="fp32"), f"fp32: {why}")
    if not measure:
        name = "fp16" if "fp16" in candidates else "fp32"
        return Settled(replace(spec, precision=name), f"{name}: not measured, so as not to wait")
    milliseconds = _measured(backend, spec, candidates)
    best = min(milliseconds, key=lambda name: milliseconds[name])
    if milliseconds[best] * WORTH_WHILE > milliseconds["fp32"]:
        best = "fp32"
    table = ", ".join(f"{name} {ms:.2f}" for name, ms in milliseconds.items())
    cost = _cost(spec.model, candidates[best]) if best == "int8" else ""
    chosen = replace(spec, precision=best, model=candidates[best])
    return Settled(chosen, f"{best}: fastest on this machine (ms for {WIDTH}x{HEIGHT}: {table}){cost}")


def _candidates(backend: Backend, spec: EngineSpec) -> dict[str, Model]:
    found = {"fp32": spec.model}
    if spec.graph.format.bits == 8 and not spec.model.is_bicubic:
        found |= {name: spec.model for name in ("fp16", "bf16") if name in backend.precisions}
        quantised = quantised_form(spec.model) if "int8" in backend.precisions else None
        if quantised is not None:
            found["int8"] = quantised
    return found


def _cost(plain: Model, quantised: Model) -> str:
    """What is lost, as measured when the model was quantised."""
    lost = [plain.psnr[name] - value for name, value in quantised.psnr.items() if isinstance(value, int | float)]
    found = [f"{max(lost):.2f} dB less than fp32 at most on the standard test pictures"] if lost else []
    if quantised.held_out_loss is not None:
        found.insert(0, f"{quantised.held_out_loss:.2f} dB less than fp32 on pictures held out from training")
    return "".join(f"; {text}" for text in found)


def _measured(backend: Backend, spec: EngineSpec, candidates: Mapping[str, Model]) -> dict[str, float]:
    """Milliseconds a picture for each candidate: from the cache, or measured and put there."""
    machine = backend.identity()
    parts = [str(_FORMAT), machine, str(spec.threads), *(f"{n} {m.sha256}" for n, m in candidates.items())]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
    path = Path(platformdirs.user_cache_dir("vsr")) / "precision" / f"{key}.json"
    try:
        kept = {name: float(value) for name, value in json.loads(path.read_text())["milliseconds"].items()}
        if kept.keys() == candidates.keys():
            return kept
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass  # not measured yet, or the file is not what was written
    found = _measure(backend, spec, candidates)
    with contextlib.suppress(OSError, OutputError):  # a folder that cannot be written to costs a measurement each time
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, overwrite=True) as temporary:
            temporary.write_text(json.dumps({"machine": machine, "milliseconds": found}, indent=1) + "\n")
    return found


def _measure(backend: Backend, spec: EngineSpec, candidates: Mapping[str, Model]) -> dict[str, float]:
    fmt = PIXEL_FORMATS["gray"]
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    picture = Planes((noise,), fmt, WIDTH, HEIGHT)
    graph = replace(spec.graph, format=fmt, width=WIDTH, height=HEIGHT, target=SAME)
    engines = {}
    best: dict[str, float] = {}
    try:
        for name, model in candidates.items():
            try:
                engines[name] = backend.compile(replace(spec, graph=graph, model=model, precision=name))
            except VsrError:
                if name == "fp32":
                    raise  # there is nothing to fall back to
        for turn in range(ROUNDS + 1):
            for name, engine in engines.items():
                spent = time_engine(engine, picture, seconds=ROUND_S).ms
                if turn:  # the first turn warms up
                    best[name] = min(spent, best.get(name, spent))
    finally:
        for engine in engines.values():
            engine.close()
    return {name: round(ms, 3) for name, ms in best.items()}
