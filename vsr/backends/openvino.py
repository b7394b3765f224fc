"""OpenVINO on the CPU: the default backend (design figures: the fastest runtime for these networks on x86).

Throughput mode: one stream a core and a few requests in flight measured steadier and faster than spreading one frame
over all threads. Inputs and outputs are bound to NumPy memory, so no sample is copied but for padded input rows and in
the last pixel shuffle, which NumPy does sooner (`vsr.interleave`).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from functools import cache
from typing import Any

import numpy as np

from vsr.engine import EngineSpec, check_planes
from vsr.errors import BackendError
from vsr.frame import Plane, Planes
from vsr.graph import build_frame_graph
from vsr.interleave import interleave, without_last_shuffle

REQUESTS_BESIDE_STREAMS = 2  # one being filled, one waiting to be taken, while each stream computes one


class OpenVinoBackend:
    """Adapter to the OpenVINO runtime's CPU device."""

    name = "openvino"
    exact_tiles = ("fp32", "bf16", "int8")

    def unavailable_reason(self) -> str | None:
        """None where the package is installed and has its CPU plugin."""
        if importlib.util.find_spec("openvino") is None:
            return "the package openvino is not installed; pip install openvino"
        if "CPU" not in self._core().available_devices:
            return "OpenVINO finds no CPU plugin; reinstall the package openvino"
        return None

    def identity(self) -> str:
        """Runtime, version, processor, and how many of its cores this process may use."""
        version = import_openvino().__version__
        processor = str(self._core().get_property("CPU", "FULL_DEVICE_NAME")).strip()
        return f"OpenVINO {version}, {processor}, {len(os.sched_getaffinity(0))} cores"

    def gpu_name(self) -> None:
        """Always None: only the CPU plugin is used."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """fp32, and what else the processor computes faster."""
        capabilities = self._core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return ("fp32", *(p for p in ("bf16", "int8") if p.upper() in capabilities))

    def compile(self, spec: EngineSpec) -> OpenVinoEngine:
        """Compile the frame graph of `spec` for the CPU."""
        graph = build_frame_graph(spec.model, spec.graph)
        shapes = [tuple(d.dim_value for d in o.type.tensor_type.shape.dim) for o in graph.graph.output]
        graph = without_last_shuffle(graph)
        precision = "fp32" if spec.precision == "auto" else spec.precision
        threads = spec.threads or len(os.sched_getaffinity(0))
        config = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
            # Left to itself OpenVINO takes bf16 where the processor has it. int8 is in the model's own nodes.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        try:
            core = self._core()
            compiled = core.compile_model(core.read_model(graph.SerializeToString()), "CPU", config)
        except RuntimeError as exc:
            raise BackendError(f"OpenVINO cannot compile model {spec.model.name}: {_last_line(exc)}") from exc
        return OpenVinoEngine(compiled, spec, shapes, threads + REQUESTS_BESIDE_STREAMS, precision)

    @staticmethod
    def _core() -> Any:
        return shared_core()


class OpenVinoEngine:
    """A compiled frame graph with a pool of asynchronous requests.

    Args:
        compiled: the graph, whose last pixel shuffles may have been taken out.
        spec: what it was made from.
        shapes: of the planes that come out, [1, 1, height, width] each, shuffled.
        depth: number of requests.
        precision: for the description.
    """

    def __init__(
        self, compiled: Any, spec: EngineSpec, shapes: list[tuple[int, ...]], depth: int, precision: str
    ) -> None:
        openvino = import_openvino()
        self._tensor = openvino.Tensor
        self._spec = spec
        self._shapes = shapes
        self._shuffled = [tuple(o.shape) == shape for o, shape in zip(compiled.outputs, shapes, strict=True)]
        self._free = [compiled.create_infer_request() for _ in range(depth)]
        self._depth = depth
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
        if not self._free:
            raise BackendError(f"more than {self._depth} frames in flight")
        request = self._free.pop()
        inputs = [np.require(a, requirements=["C", "W"])[None, None] for a in planes.arrays]
        # What is not shuffled yet stays in the request's own memory, and `finish` makes the plane of it.
        outputs = {
            i: np.empty(shape, dtype=graph.format.dtype)
            for i, (shape, shuffled) in enumerate(zip(self._shapes, self._shuffled, strict=True))
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
            for i, shape in enumerate(self._shapes)
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


@cache
def shared_core() -> Any:
    """The one Core of this process, kept for good.

    A Core's CPU plugin installs a signal stack in the thread that loads it and unmaps it when the Core dies. With two
    Cores a thread can be left on an unmapped one, and the next signal kills the process.
    """
    return import_openvino().Core()


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would start a thread and report each import to Google.

    It falls back to a stub of its own when the telemetry package cannot be imported, so that is what it is told.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    blocked = "openvino_telemetry" not in sys.modules
    if blocked:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        if blocked:
            del sys.modules["openvino_telemetry"]


def _last_line(exc: BaseException) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if lines else type(exc).__name__
