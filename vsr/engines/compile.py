"""From a spec to an engine: the backend is chosen, and pictures too large for the memory are given to it in strips."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Final

from vsr.engines.engine import Backend, Engine, EngineSpec, choose_backend
from vsr.engines.precision import settle
from vsr.engines.replenish import ReplenishingEngine, plan_grid
from vsr.engines.strips import StripEngine
from vsr.engines.tiles import Span, TileGrid, plan_spans
from vsr.errors import BackendError, OptionError
from vsr.graphs.footprint import footprint, frame_halo
from vsr.resample import LOBES

LARGEST_BUDGET: Final = 2 << 30
RESAMPLED_BYTES: Final = 16  # for each sample that a model makes: luma, and its windows
RESAMPLED_HALO: Final = LOBES + 1  # rows of the input that Lanczos' kernel reads: stretched as luma had been enlarged
SHARE_OF_MEMORY: Final = 8  # of the machine's memory, what the activations of one picture may take


@dataclass(frozen=True)
class Opened:
    """An engine and how it came about.

    Attributes:
        engine: compiled, and wrapped as the pictures need it.
        backend: its name.
        backend_reason: why that backend, in one line.
        precision_reason: why that precision, in one line.
    """

    engine: Engine
    backend: str
    backend_reason: str
    precision_reason: str


def open_engine(spec: EngineSpec, backend: str = "auto", *, reuse: bool = False) -> Opened:
    """Choose a backend and compile `spec` with it.

    Args:
        spec: what to compile.
        backend: `auto` or a name in `BACKENDS`.
        reuse: whether the pictures will be consecutive frames, whose unchanged parts need not be computed again; done
            where this gives the same bits.

    Returns:
        What was opened, and the reasons.

    Raises:
        BackendError: as `choose_backend` and `compile_engine`.
        OptionError: the backend does not have the precision asked for.
    """
    chosen, reason = choose_backend(backend)
    if spec.precision not in ("auto", *chosen.precisions):
        raise OptionError(
            f"backend {chosen.name} has no precision {spec.precision} here; it has {', '.join(chosen.precisions)}"
        )
    settled = settle(chosen, spec)
    engine = compile_engine(chosen, settled.spec)
    if reuse:
        engine = _replenishing(chosen, settled.spec, engine)
    return Opened(engine, chosen.name, reason, settled.reason)


def _replenishing(backend: Backend, spec: EngineSpec, engine: Engine) -> Engine:
    halo = _picture_halo(spec) if spec.graph.is_whole else None  # resampled tiles need not have the same bits
    grid = plan_grid(spec.graph, halo) if halo is not None and spec.precision in backend.exact_tiles else None
    if grid is None:
        return engine
    return ReplenishingEngine(engine, grid, lambda: backend.compile(replace(spec, graph=grid.tile_graph)))


def _picture_halo(spec: EngineSpec) -> int | None:
    """How far a sample of the enlarged picture reads, chroma included, in luma samples; None if it is not known."""
    need = footprint(spec.model)
    unit = 1 << max(spec.graph.format.log2_w, spec.graph.format.log2_h)
    return None if need.halo is None else frame_halo(spec.model, need.halo, unit)


def compile_engine(backend: Backend, spec: EngineSpec, budget: int | None = None) -> Engine:
    """Compile `spec`, for strips of the picture if all of it would take more than `budget` bytes.

    Raises:
        BackendError: it would, and the model cannot be computed in strips; or the runtime refuses.
    """
    budget = memory_budget() if budget is None else budget
    graph, need = spec.graph, footprint(spec.model)
    row_bytes = graph.width * (need.bytes_per_sample + (0 if graph.is_whole else RESAMPLED_BYTES * graph.scale**2))
    if row_bytes * graph.height <= budget:
        return backend.compile(spec)
    refusal = (
        f"model {spec.model.name} would need {row_bytes * graph.height / (1 << 30):.1f} GiB for {graph.width}x"
        f"{graph.height}, and the limit here is {budget / (1 << 30):.1f} GiB"
    )
    if need.halo is None:
        raise BackendError(f"{refusal}; it cannot be computed in strips, for it may read the whole picture at once")
    subsampling = 1 << graph.format.log2_h
    halo = frame_halo(spec.model, need.halo, subsampling) + (0 if graph.is_whole else RESAMPLED_HALO)
    unit = graph.ratios[1].denominator * subsampling
    try:
        rows = plan_spans(graph.height, budget // row_bytes, halo, unit)
    except ValueError as exc:
        hint = "use a smaller model or picture" if graph.is_whole else "ask for a whole multiple of the size"
        raise BackendError(f"{refusal}, too little even for a strip", hint) from exc
    grid = TileGrid(graph, rows, (graph.width, [Span(0, 0, graph.width)]))
    return StripEngine(backend.compile(replace(spec, graph=grid.tile_graph)), grid)


def memory_budget() -> int:
    """Bytes that the activations of one picture may take on this machine."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(LARGEST_BUDGET, total // SHARE_OF_MEMORY)
