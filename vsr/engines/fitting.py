"""An engine that the memory holds: for the whole picture, or for strips of it where that is too much.

For the machine's own memory this is known beforehand, by what the model's activations take. A GPU's is known when it
has been tried, for what else lives there and what kernels take besides is nobody's to say.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import lcm
from typing import Final

from vsr.engines.engine import Engine, EngineSpec
from vsr.engines.strips import StripEngine
from vsr.engines.tiles import Span, TileGrid, plan_spans
from vsr.errors import BackendError, DeviceMemoryError
from vsr.graphs.footprint import footprint, frame_halo
from vsr.processor import SHARE_OF_MEMORY, memory_size
from vsr.resample import LOBES

LARGEST_BUDGET: Final = 2 << 30
RESAMPLED_BYTES: Final = 16  # for each sample that a model makes: luma, and its windows
RESAMPLED_HALO: Final = LOBES + 1  # rows of the input that Lanczos' kernel reads: stretched as luma had been enlarged
# Of the machine's budget, what one strip may take by its model: up to four are under way at once, and what the frame
# graph has around the model takes as much again (measured: 12 GB of 2 GiB without this).
SHARE_OF_STRIP: Final = 8
LEAST_ROWS: Final = 8  # of a strip, that are kept: with fewer a GPU would compute little but halo


@dataclass(frozen=True)
class Plan:
    """What a backend is to compile.

    Attributes:
        spec: for the picture or for a strip of it.
        grid: the strips; None for the whole picture.
    """

    spec: EngineSpec
    grid: TileGrid | None = None

    def wrap(self, engine: Engine) -> Engine:
        """An engine of whole pictures, from one that was compiled for `spec`."""
        return engine if self.grid is None else StripEngine(engine, self.grid)


def compile_fitting(
    compile_spec: Callable[[EngineSpec], Engine], spec: EngineSpec, budget: int | None = None
) -> Engine:
    """An engine for the pictures of `spec`, in strips if the machine's memory or the GPU's holds no more.

    Args:
        compile_spec: a backend's `compile`, or what does as much.
        spec: of the whole picture; its `on_note` is told of strips that a GPU makes necessary.
        budget: bytes that the activations of one picture may take; default: `memory_budget`.

    Raises:
        DeviceMemoryError: the GPU's memory does not hold a strip either, or the model cannot be computed in strips.
        BackendError: the same of the machine's memory; or the runtime refuses.
    """
    return compile_plan(compile_spec, spec, planned(spec, budget))[0]


def compile_plan(compile_spec: Callable[[EngineSpec], Engine], spec: EngineSpec, plan: Plan) -> tuple[Engine, Plan]:
    """What `plan` is for, or a smaller one where a GPU's memory does not hold that; and which plan it came to.

    Raises:
        BackendError: as `compile_fitting`.
    """
    while True:
        try:
            return plan.wrap(compile_spec(plan.spec)), plan
        except DeviceMemoryError as error:
            plan = smaller(spec, plan, error)
            spec.on_note(f"{error.message}: trying {in_words(plan)}")
        gc.collect()  # what the error's frames held of the GPU's memory is free now


def planned(spec: EngineSpec, budget: int | None = None) -> Plan:
    """What to compile for `spec`, so that the activations of one picture take no more than `budget` bytes.

    Raises:
        BackendError: they would, and the model cannot be computed in strips, or not in strips so low.
    """
    of_strip = memory_budget() // SHARE_OF_STRIP if budget is None else budget
    budget = memory_budget() if budget is None else budget
    graph, row_bytes = spec.graph, _row_bytes(spec)
    if row_bytes * graph.height <= budget:
        return Plan(spec)
    refusal = (
        f"model {spec.model.name} would need {row_bytes * graph.height / (1 << 30):.1f} GiB for {graph.width}x"
        f"{graph.height}, and the limit here is {budget / (1 << 30):.1f} GiB"
    )
    if footprint(spec.model).halo is None:
        raise BackendError(f"{refusal}; it cannot be computed in strips, for it may read the whole picture at once")
    try:
        return _strips(spec, of_strip // row_bytes)
    except ValueError as exc:
        hint = "use a smaller model or picture" if graph.is_whole else "ask for a whole multiple of the size"
        raise BackendError(f"{refusal}, too little even for a strip", hint) from exc


def memory_budget() -> int:
    """Bytes that the activations of one picture may take on this machine."""
    return min(LARGEST_BUDGET, memory_size() // SHARE_OF_MEMORY)


def _row_bytes(spec: EngineSpec) -> int:
    graph = spec.graph
    resampled = 0 if graph.is_whole else RESAMPLED_BYTES * graph.scale**2
    return graph.width * (footprint(spec.model).bytes_per_sample + resampled)


def _strips(spec: EngineSpec, rows: int) -> Plan:
    """For strips of at most `rows`, halo included.

    They are cut in host memory, so pictures that are surfaces come down first, and none stay on the device.

    Raises:
        ValueError: that leaves nothing beside the halo.
    """
    graph, need = spec.graph, footprint(spec.model)
    assert need.halo is not None
    subsampling = 1 << graph.format.log2_h
    halo = frame_halo(spec.model, need.halo, subsampling) + (0 if graph.is_whole else RESAMPLED_HALO)
    spans = plan_spans(graph.height, rows, halo, lcm(graph.ratios[1].denominator * subsampling, need.unit))
    grid = TileGrid(graph, spans, (graph.width, [Span(0, 0, graph.width)]))
    return Plan(replace(spec, graph=grid.tile_graph, surfaces=False, keep=False), grid)


def smaller(spec: EngineSpec, plan: Plan, error: DeviceMemoryError) -> Plan:
    """For a batch of half as many pictures; of one picture strips of half the height.

    Raises:
        DeviceMemoryError: there are none.
    """
    if plan.spec.batch > 1:
        return replace(plan, spec=replace(plan.spec, batch=plan.spec.batch // 2))
    spec = replace(spec, batch=1)
    if footprint(spec.model).halo is None:
        raise DeviceMemoryError(
            f"{error.message}; model {spec.model.name} cannot be computed in strips, for it may read the whole picture "
            "at once",
            error.hint,
        ) from None
    try:
        less = _strips(spec, plan.spec.graph.height // 2)
    except ValueError:
        less = plan
    if less.grid is None or less is plan or less.grid.rows[0].keep_stop < LEAST_ROWS:
        raise DeviceMemoryError(f"{error.message}, not even for {in_words(plan)}", error.hint) from None
    return less


def in_words(plan: Plan) -> str:
    """What a plan is for, in messages."""
    graph = plan.spec.graph
    if plan.spec.batch > 1:
        return f"{plan.spec.batch} pictures at once"
    if plan.grid is None:
        return f"one picture of {graph.width}x{graph.height}"
    return f"{len(plan.grid)} strips of {graph.height} rows"
