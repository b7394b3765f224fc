"""From a spec to an engine: backend and precision are chosen, and engines are joined as a job needs them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from vsr.engines.deal import DealingEngine
from vsr.engines.engine import Backend, BuildsAhead, Engine, EngineSpec, choose_backend
from vsr.engines.fitting import compile_fitting, planned
from vsr.engines.handover import HandoverEngine, bound_check
from vsr.engines.precision import settle
from vsr.engines.replenish import ReplenishingEngine, plan_grid
from vsr.engines.shrinking import ShrinkingEngine
from vsr.errors import OptionError
from vsr.graphs.footprint import footprint, frame_halo


@dataclass(frozen=True)
class Opened:
    """An engine and how it came about.

    Attributes:
        engine: compiled, and wrapped as the pictures need it.
        backend: its name.
        backend_reason: why that backend, in one line.
        precision_reason: why that precision, in one line.
        early_backend: name of the backend that does the work until the engine goes over; empty if none does.
    """

    engine: Engine
    backend: str
    backend_reason: str
    precision_reason: str
    early_backend: str = ""

    @property
    def backend_at_work(self) -> str:
        """Name of the backend that computed the last frame."""
        early = isinstance(self.engine, HandoverEngine) and not self.engine.has_gone_over
        return self.early_backend if early else self.backend


def open_engine(spec: EngineSpec, backend: str = "auto", *, reuse: bool = False, wait: bool = True) -> Opened:
    """Choose a backend and compile `spec` with it.

    Args:
        spec: what to compile.
        backend: `auto` or a name in `BACKENDS`.
        reuse: whether the pictures will be consecutive frames, whose unchanged parts need not be computed again; done
            where this gives the same bits.
        wait: whether to wait for an engine that has to be built; if not, another one starts, and the work goes over.

    Returns:
        What was opened, and the reasons.

    Raises:
        BackendError: as `choose_backend` and `compile_engine`.
        OptionError: the backend does not have the precision asked for, or takes no batches.
    """
    chosen, reason = choose_backend(backend, spec.devices)
    if spec.precision not in ("auto", *chosen.precisions):
        raise OptionError(
            f"backend {chosen.name} has no precision {spec.precision} here; it has {', '.join(chosen.precisions)}"
        )
    if spec.batch > 1 and not chosen.takes_batches:
        raise OptionError(
            f"backend {chosen.name} computes one picture at a time, and a batch of {spec.batch} was asked for",
            "use --backend tensorrt",
        )
    ahead = chosen if isinstance(chosen, BuildsAhead) else None
    if not wait and ahead is None:
        spec.on_note(f"backend {chosen.name} builds no engine that would have to be waited for")
    settled = settle(chosen, spec, measure=wait or ahead is None)
    if len(spec.devices) > 1:
        if not wait and ahead is not None:
            spec.on_note("engines for several GPUs are waited for")
        return Opened(_dealing(chosen, settled.spec), chosen.name, reason, settled.reason)
    if not wait and ahead is not None:
        why = ahead.build_reason(planned(settled.spec).spec)
        if why is not None:
            early, name = _open_early(chosen, ahead, settled.spec, why, reuse=reuse)
            return Opened(early, chosen.name, reason, settled.reason, name)
    engine = compile_engine(chosen, settled.spec)
    if reuse:
        engine = _replenishing(chosen, settled.spec, engine)
    return Opened(engine, chosen.name, reason, settled.reason)


def _open_early(
    backend: Backend, ahead: BuildsAhead, spec: EngineSpec, why: str, *, reuse: bool
) -> tuple[HandoverEngine, str]:
    """An engine that starts on another backend while `ahead` builds; and that backend's name."""
    starter, _ = choose_backend("auto")
    precision = "int8" if spec.precision == "int8" and "int8" in starter.precisions else "fp32"
    devices = () if any(starter.device_refusal(device) for device in spec.devices) else spec.devices
    if starter.gpu_name() is None or devices != spec.devices:  # whose pictures are where the encoder is opened
        spec = replace(spec, keep=False)
    early = replace(spec, precision=precision, devices=devices, batch=1)
    first = compile_engine(starter, early)
    if reuse:
        first = _replenishing(starter, early, first)

    def prepare(unwanted: threading.Event) -> Engine:
        def build_and_load(part: EngineSpec) -> Engine:
            ahead.build(part, unwanted)
            return backend.compile(replace(part, on_build=lambda _: not unwanted.is_set()))

        return ShrinkingEngine(build_and_load, spec)

    spec.on_note(f"starting on {first.description}, until {why}")
    return HandoverEngine(first, prepare, bound_check(spec.precision), spec.on_note), starter.name


def _dealing(backend: Backend, spec: EngineSpec) -> Engine:
    """An engine for each device. What one frame shares with the one before is not known where they part."""
    engines: list[Engine] = []
    try:
        for device in spec.devices:
            engines.append(compile_engine(backend, replace(spec, devices=(device,))))
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    return DealingEngine(engines)


def _replenishing(backend: Backend, spec: EngineSpec, engine: Engine) -> Engine:
    if not (spec.graph.is_whole and spec.precision in backend.exact_tiles):
        return engine  # its tiles need not have the bits of the whole
    need = footprint(spec.model)
    if need.halo is None:
        return engine
    subsampling = 1 << max(spec.graph.format.log2_w, spec.graph.format.log2_h)
    grid = plan_grid(spec.graph, frame_halo(spec.model, need.halo, subsampling), need.unit)
    if grid is None:
        return engine
    return ReplenishingEngine(engine, grid, lambda graph: backend.compile(replace(spec, graph=graph)))


def compile_engine(backend: Backend, spec: EngineSpec, budget: int | None = None) -> Engine:
    """Compile `spec`, for strips of the picture if all of it would take more than `budget` bytes, or than a GPU has.

    Raises:
        BackendError: as `vsr.engines.fitting.compile_fitting`.
    """
    if spec.devices != ("cpu",) and backend.gpu_name() is not None:
        return ShrinkingEngine(backend.compile, spec, budget)
    return compile_fitting(backend.compile, spec, budget)
