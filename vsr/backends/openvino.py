"""OpenVINO on the CPU: the default backend (design figures: the fastest runtime for these networks on x86).

Throughput mode: one stream a core and a few requests in flight measured steadier and faster than spreading one frame
over all threads. Inputs and outputs are bound to NumPy memory, so no sample is copied but for padded input rows and in
the last pixel shuffle, which NumPy does sooner (`vsr.graphs.interleave`).

Its threads yield to the others. An encoder's wait for each other and leave cores idle between; an engine of their own
priority runs ahead until its queue is full, and then those gaps stay empty.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from typing import Any, Final

import numpy as np
import platformdirs

from vsr.engines.blob_store import BlobStore
from vsr.engines.engine import EngineSpec, check_planes
from vsr.errors import BackendError
from vsr.frame import Plane, Planes
from vsr.graphs.frame_graph import GraphForm, build_frame_graph
from vsr.graphs.interleave import interleave, without_last_shuffle
from vsr.processor import usable_cores, yielding

TELEMETRY: Final = "openvino_telemetry"
CONVERTER: Final = "openvino.tools.ovc"
REQUESTS_BESIDE_STREAMS: Final = 2  # one being filled, one waiting to be taken, while each stream computes one


class OpenVinoBackend:
    """Adapter to the OpenVINO runtime's CPU device."""

    name = "openvino"
    exact_tiles = ("fp32", "bf16", "int8")
    takes_batches = False
    takes_surfaces = False

    def unavailable_reason(self) -> str | None:
        """None where the package is installed and has its CPU plugin."""
        if importlib.util.find_spec("openvino") is None:
            return "the package openvino is not installed; pip install openvino"
        try:  # asking for all devices would load the plugins of GPUs and NPUs too
            self._core().get_property("CPU", "FULL_DEVICE_NAME")
        except RuntimeError as exc:
            return f"OpenVINO has no CPU plugin that works ({_last_line(exc)}); reinstall the package openvino"
        return None

    def identity(self) -> str:
        """Runtime, version, processor, and how many of its cores this process may use."""
        version = import_openvino().__version__
        processor = str(self._core().get_property("CPU", "FULL_DEVICE_NAME")).strip()
        return f"OpenVINO {version}, {processor}, {usable_cores()} cores"

    def gpu_name(self) -> None:
        """Always None: only the CPU plugin is used."""

    def device_refusal(self, device: str) -> str | None:
        """It is used on the CPU only."""
        return None if device == "cpu" else f"OpenVINO is used on the CPU, and {device} was asked for"

    @property
    def precisions(self) -> tuple[str, ...]:
        """fp32, and what else the processor computes faster."""
        capabilities = self._core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return ("fp32", *(p for p in ("bf16", "int8") if p.upper() in capabilities))

    def compile(self, spec: EngineSpec) -> OpenVinoEngine:
        """Compile the frame graph of `spec` for the CPU."""
        graph = build_frame_graph(spec.model, spec.graph, GraphForm(products=True))
        shapes = {o.name: tuple(d.dim_value for d in o.type.tensor_type.shape.dim) for o in graph.graph.output}
        graph, flat = without_last_shuffle(graph)
        outputs = [(shape, name not in flat) for name, shape in shapes.items()]
        precision = "fp32" if spec.precision == "auto" else spec.precision
        cores = usable_cores()
        threads = min(spec.threads or cores, cores)  # more streams than cores only cost memory
        config = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
            # Left to itself OpenVINO takes bf16 where the processor has it. int8 is in the model's own nodes.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        try:
            compiled = self._compiled(graph.SerializeToString(), config)
        except RuntimeError as exc:
            raise BackendError(f"OpenVINO cannot compile model {spec.model.name}: {_last_line(exc)}") from exc
        return OpenVinoEngine(compiled, spec, outputs, threads + REQUESTS_BESIDE_STREAMS, precision)

    def _compiled(self, graph: bytes, config: dict[str, str]) -> Any:
        """`graph` compiled: read from the cache folder, which takes a third of the time, or made and put there."""
        core = self._core()
        store = BlobStore(platformdirs.user_cache_path("vsr") / "openvino")
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        key = "\n".join(
            (self.identity(), *capabilities, *(f"{n}={v}" for n, v in config.items()), sha256(graph).hexdigest())
        )
        blob = store.get(key)
        if blob is not None:
            try:
                return yielding(lambda: core.import_model(blob, "CPU", config))
            except RuntimeError:
                store.discard(key)  # whole, and yet not to this runtime's taste
        compiled = yielding(lambda: core.compile_model(core.read_model(graph), "CPU", config))
        with contextlib.suppress(RuntimeError):  # a graph that cannot be exported is compiled each time
            store.put(key, compiled.export_model().getvalue())
        return compiled

    @staticmethod
    def _core() -> Any:
        return shared_core()


class OpenVinoEngine:
    """A compiled frame graph with a pool of asynchronous requests.

    Args:
        compiled: the graph, whose last pixel shuffles may have been taken out.
        spec: what it was made from.
        outputs: of each plane that comes out, its shape [1, 1, height, width], and whether the graph shuffles it.
        depth: number of requests.
        precision: for the description.
    """

    def __init__(
        self, compiled: Any, spec: EngineSpec, outputs: list[tuple[tuple[int, ...], bool]], depth: int, precision: str
    ) -> None:
        openvino = import_openvino()
        self._tensor = openvino.Tensor
        self._spec = spec
        self._outputs = outputs
        self._free = [compiled.create_infer_request() for _ in range(depth)]
        self._depth = depth
        self._process = os.getpid()
        cpu = str(shared_core().get_property("CPU", "FULL_DEVICE_NAME")).strip()
        version = openvino.__version__.split("-")[0]
        self.description = f"OpenVINO {version} {precision}, {depth - REQUESTS_BESIDE_STREAMS} streams, {cpu}"

    @property
    def depth(self) -> int:
        """How many tickets may be outstanding at once."""
        return self._depth

    def submit(self, planes: Planes) -> OpenVinoTicket:
        """Start a frame on a free request."""
        graph = self._spec.graph
        check_planes(planes, graph)
        refuse_fork(self._process)
        if not self._free:
            raise BackendError(f"more than {self._depth} frames in flight")
        request = self._free.pop()
        inputs = [np.require(a, requirements=["C", "W"])[None, None] for a in planes.arrays]
        # What is not shuffled yet stays in the request's own memory, and `finish` makes the plane of it.
        outputs = {
            i: np.empty(shape, dtype=graph.format.dtype)
            for i, (shape, shuffled) in enumerate(self._outputs)
            if shuffled
        }
        for i, array in enumerate(inputs):
            request.set_input_tensor(i, self._tensor(array, shared_memory=True))
        for i, array in outputs.items():
            request.set_output_tensor(i, self._tensor(array, shared_memory=True))
        request.start_async()
        return OpenVinoTicket(self, request, inputs, outputs)

    def finish(self, request: Any, outputs: dict[int, Any]) -> Planes:
        """Wait for `request`, give it back to the pool and wrap its outputs."""
        graph = self._spec.graph
        try:
            request.wait()
        except RuntimeError as exc:
            raise BackendError(f"OpenVINO failed on a frame: {_last_line(exc)}") from exc
        arrays: list[Plane] = [
            outputs[i][0, 0] if i in outputs else interleave(request.get_output_tensor(i).data[0], *shape[2:])
            for i, (shape, _) in enumerate(self._outputs)
        ]
        self._free.append(request)
        return Planes(tuple(arrays), graph.format, *graph.output_size)

    def cancel(self, request: Any) -> None:
        """Give up the frame of `request`, and give the request back to the pool."""
        request.cancel()
        with contextlib.suppress(RuntimeError):  # how a cancelled request reports itself
            request.wait()
        self._free.append(request)

    def close(self) -> None:
        """Drop the requests."""
        self._free.clear()


class OpenVinoTicket:
    """A frame in flight; keeps its memory alive until the result is there."""

    def __init__(self, engine: OpenVinoEngine, request: Any, inputs: list[Any], outputs: dict[int, Any]) -> None:
        self._engine = engine
        self._request = request
        self._inputs = inputs
        self._outputs = outputs

    def result(self) -> Planes:
        """Wait for the frame."""
        planes = self._engine.finish(self._request, self._outputs)
        self._inputs.clear()
        return planes

    def cancel(self) -> None:
        """Stop the request between two layers."""
        self._engine.cancel(self._request)
        self._inputs.clear()


def shared_core() -> Any:
    """The one Core of this process, kept for good.

    A Core's CPU plugin installs a signal stack in the thread that loads it and unmaps it when the Core dies. With two
    Cores a thread can be left on an unmapped one, and the next signal kills the process.

    Raises:
        BackendError: it is of the process that this one was forked from.
    """
    core, process = _core_and_process()
    refuse_fork(process)
    return core


@cache
def _core_and_process() -> tuple[Any, int]:
    return import_openvino().Core(), os.getpid()


def refuse_fork(process: int) -> None:
    """Raise if this is not `process`, but forked from it: OpenVINO's threads are not, and it would wait for them.

    Raises:
        BackendError
    """
    if os.getpid() != process:
        raise BackendError(
            "OpenVINO was at work before this process was forked, and cannot go on in it",
            "start processes by 'spawn' (multiprocessing.get_context), or fork before the first picture",
        )


def import_openvino() -> Any:
    """Import OpenVINO without two of its parts.

    Its telemetry would start a thread and report each import to Google; OpenVINO falls back to a stub of its own when
    that package cannot be imported, so that is what it is told. The converter from other frameworks takes longer to
    import than all the rest; it is imported when someone asks the package for it.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    with _absent(TELEMETRY, CONVERTER):
        openvino = importlib.import_module("openvino")
    if not hasattr(openvino, "convert_model"):
        openvino.__getattr__ = _late_attribute  # type: ignore[method-assign]  # as PEP 562 has it
    return openvino


def _late_attribute(name: str) -> Any:
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    with _absent(TELEMETRY):
        return importlib.import_module(CONVERTER).convert_model


@contextlib.contextmanager
def _absent(*names: str) -> Iterator[None]:
    """Those of the modules `names` that are not imported yet seem not to be installed."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is what makes an import fail
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _last_line(exc: BaseException) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if lines else type(exc).__name__
