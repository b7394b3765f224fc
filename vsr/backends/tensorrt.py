"""TensorRT and TensorRT for RTX on an NVIDIA GPU: an engine and a few lanes, each of which takes a frame or a batch.

Nothing here has been run on a GPU by this project yet: the order of calls is tested against a recording fake, and their
names against the real bindings.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from vsr.backends.device import Device, missing, open_device
from vsr.backends.tensorrt_check import complaint, measure
from vsr.backends.tensorrt_lane import Lane, Recorder
from vsr.backends.tensorrt_ports import HostPorts, Shapes, shapes_of
from vsr.backends.tensorrt_surfaces import SurfacePool, SurfacePorts
from vsr.engines.engine import EngineSpec, check_planes
from vsr.engines.timing import Parts
from vsr.errors import BackendError, DeviceMemoryError, EngineLoadError
from vsr.frame import PIXEL_FORMATS, Planes
from vsr.gpu import tensorrt_api
from vsr.gpu.build import EngineRequest, build_engine, find, find_or_build
from vsr.gpu.build_process import build_elsewhere
from vsr.gpu.cuda_driver import Driver, RecordedGraph, probe
from vsr.gpu.devices import number_of
from vsr.gpu.engine_store import Profile, add_facts, forget, read_facts
from vsr.gpu.kernel_cache import cached_contexts
from vsr.gpu.memory import MEMORY_HINT, first_line, lacks_memory
from vsr.gpu.tensorrt_api import TensorRt
from vsr.surface import LAYOUTS, layout_of

LANES: Final = 3  # one copies up, one computes, one copies down
INTERLEAVED: Final = {layout.removesuffix("le"): layout for layout in LAYOUTS}
"""Layouts of surfaces, by the names that engines for them are built under."""


class TensorRtBackend:
    """Adapter to whichever of the two packages is installed."""

    name = "tensorrt"
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    exact_tiles: tuple[str, ...] = ()
    takes_batches = True
    takes_surfaces = True

    def unavailable_reason(self) -> str | None:
        """None where a package, a way to the GPU's memory and a GPU are there."""
        if not any(tensorrt_api.available(runtime) for runtime in tensorrt_api.PACKAGES):
            return "neither tensorrt nor tensorrt_rtx is installed; pip install 'vsr[tensorrt-rtx]'"
        found = probe()  # before a package is touched: without a GPU they fail in ways that do not say so
        if isinstance(found, str):
            return found
        runtime = next(name for name in tensorrt_api.PACKAGES if tensorrt_api.available(name))
        return tensorrt_api.driver_refusal(runtime, found.cuda) or missing()

    def identity(self) -> str:
        """Package, version and GPU."""
        api = tensorrt_api.choose_runtime(without_gpu=False)
        return f"{api.runtime} {api.version}, {self.gpu_name()}"

    def gpu_name(self) -> str | None:
        """As the driver says."""
        found = probe()
        return found.gpu.name if isinstance(found, Driver) else None

    def device_refusal(self, device: str) -> str | None:
        """Only GPUs that the driver finds will do."""
        if device == "cpu":
            return "TensorRT runs on GPUs, and cpu was asked for"
        found = probe(number_of(device))
        return found if isinstance(found, str) else None

    def compile(self, spec: EngineSpec) -> TensorRtEngine:
        """Load the engine of `spec`, which is built first where there is none that can be trusted."""
        request, api = _request(spec)
        path, used = find_or_build(request, api, spec.on_note, spec.on_build)
        try:
            return _measured_once(self._load(path, api, spec, used), path, spec)
        except EngineLoadError as error:  # whole, made by this version for this GPU, and yet not taken
            forget(path)
            spec.on_note(f"{path.name} is built again: {error.message}")
            path, used = find_or_build(request, api, spec.on_note, spec.on_build)
        except DeviceMemoryError as error:
            if used == request:
                raise
            spec.on_note(f"{path.name}: {error.message}; an engine for this size only needs less")
            report = build_engine(request, api=api, on_note=spec.on_note, on_build=spec.on_build)
            path, used = report.path, request
        return _measured_once(self._load(path, api, spec, used), path, spec)

    def build_reason(self, spec: EngineSpec) -> str | None:
        """Which engine has to be built first, and why; None if it is there."""
        found = find(*_request(spec))
        return None if found.lack is None else f"{found.path.name} is built: {found.lack}"

    def build(self, spec: EngineSpec, unwanted: threading.Event) -> None:
        """Build that engine, in another process."""
        request, api = _request(spec)
        found = find(request, api)
        if found.lack is not None:
            build_elsewhere(found.request, found.path, api.runtime, unwanted)

    @staticmethod
    def _load(path: Path, api: TensorRt, spec: EngineSpec, request: EngineRequest) -> TensorRtEngine:
        try:
            data = path.read_bytes()
        except OSError as exc:
            raise BackendError(f"engine {path} cannot be read: {exc.strerror}") from exc
        device = open_device(number_of(spec.devices[0]) if spec.devices else 0)
        try:
            return TensorRtEngine(api, device, data, spec, request, spec.lanes or LANES, record=RecordedGraph.begin)
        except BaseException:
            device.close()
            raise


def measure_built(path: Path, request: EngineRequest, on_note: Callable[[str], None] = lambda _: None) -> None:
    """Write into the manifest of an engine how it does on this GPU, if it is for this GPU and this backend runs it.

    Raises:
        BackendError: it does not run.
    """
    found, backend = probe(), TensorRtBackend()
    if isinstance(found, str) or found.gpu.capability != request.gpu.capability or backend.unavailable_reason():
        return
    surfaces = request.pix_fmt in INTERLEAVED
    if not (surfaces or request.pix_fmt in PIXEL_FORMATS) or request.precision not in backend.precisions:
        return
    width, height = request.profile.usual
    graph, batch = replace(request.spec, width=width, height=height), request.profile.batch
    spec = EngineSpec(request.model, graph, request.precision, surfaces=surfaces, batch=batch, on_note=on_note)
    api = tensorrt_api.choose_runtime(without_gpu=False)
    _measured_once(backend._load(path, api, spec, request), path, spec).close()


def _measured_once(engine: TensorRtEngine, path: Path, spec: EngineSpec) -> TensorRtEngine:
    """`engine`; at its first start, what it does on this GPU is written into its manifest, and told if it is bad."""
    measured = read_facts(path).get("measured")
    if isinstance(measured, dict) and measured.get("ms") is None:
        try:
            measured = measure(engine, spec, engine.gpu)
        except BaseException:
            engine.close()
            raise
        add_facts(path, {"measured": measured})
        wrong = complaint(measured, spec.precision)
        if wrong is not None:
            spec.on_note(f"{path.name}: {wrong}")
    return engine


def _request(spec: EngineSpec) -> tuple[EngineRequest, TensorRt]:
    """The engine for `spec` on a GPU of this machine, and what builds and loads it."""
    found = probe(number_of(spec.devices[0]) if spec.devices else 0)
    if isinstance(found, str):
        raise BackendError(f"TensorRT needs a GPU: {found}")
    graph = spec.graph
    size = (graph.width, graph.height)
    surface = layout_of(graph.format) if spec.surfaces else None
    request = EngineRequest(
        spec.model,
        found.gpu,
        graph.format.name if surface is None else surface.removesuffix("le"),
        graph.color,
        "fp32" if spec.precision == "auto" else spec.precision,
        Profile(size, size, size, spec.batch),
        graph.target,
    )
    return request, tensorrt_api.choose_runtime(without_gpu=False)


class TensorRtEngine:
    """A loaded engine and its lanes.

    Args:
        api: the package.
        device: the GPU.
        data: the serialised engine.
        spec: what it is for.
        request: what it was built as.
        lanes: frames or batches in flight; fewer if the GPU's memory does not hold as many.
        record: starts recording work in a stream, as `RecordedGraph.begin`; None not to.
    """

    def __init__(
        self,
        api: TensorRt,
        device: Device,
        data: bytes,
        spec: EngineSpec,
        request: EngineRequest,
        lanes: int = LANES,
        record: Recorder | None = None,
    ) -> None:
        self._api = api
        self._spec = spec
        self.gpu = device.name
        self._device = device
        self._open = True
        dynamic = not request.profile.static
        shapes = shapes_of(spec.graph, request.form)
        layout = INTERLEAVED.get(request.pix_fmt)
        self._pool: SurfacePool | None = None  # which closes the device, then
        if layout is not None and spec.keep:
            self._pool = SurfacePool(device, layout, *spec.graph.output_size)

        def make_ports() -> HostPorts:
            return HostPorts(device, shapes) if layout is None else SurfacePorts(device, shapes, layout, self._pool)

        with self._translated("cannot load the engine"), device.active():
            self._runtime, self._engine = api.deserialise(data)
            try:
                self._cached = cached_contexts(api, self._engine, data, device.name, spec.on_note)
                self._lanes = list(self._make_lanes(lanes, shapes, make_ports, dynamic, record))
            except BaseException:
                self._cached = self._engine = self._runtime = None  # while the context is there
                if self._pool is not None:
                    self._pool.free()
                raise
            self._keep_kernels()
        self._free = list(self._lanes)
        self._busy: list[_Batch] = []  # that have a lane, oldest first
        self._gathering: _Batch | None = None  # the last of them, if it has not been started
        self._outstanding = 0
        batch = f" of {request.profile.batch} pictures" if request.profile.batch > 1 else ""
        graphs = "CUDA graphs" if self._lanes[0].graph is not None else "no CUDA graphs"
        how = f"{len(self._lanes)} lanes{batch}, {graphs}"
        self.description = f"TensorRT ({api.runtime} {api.version}) {request.precision}, {how}, {device.name}"

    @property
    def depth(self) -> int:
        """How many tickets may be outstanding at once."""
        return sum(lane.batch for lane in self._lanes)

    def submit(self, planes: Planes) -> TensorRtTicket:
        """Give a frame to the lane that gathers frames; a lane that is full starts."""
        check_planes(planes, self._spec.graph)
        if self._outstanding >= self.depth:
            raise BackendError(f"more than {self.depth} frames in flight")
        with self._translated("failed on a frame"), self._device.active():
            if self._gathering is None:
                if not self._free:  # some were started before they were full: their frames need not stay in them
                    self._complete(self._busy[0])
                self._gathering = _Batch(self._free.pop())
                self._busy.append(self._gathering)
            batch = self._gathering
            batch.lane.fill(planes, batch.frames)
            batch.frames += 1
            if batch.frames == batch.lane.batch:
                self._start(batch)
                if batch.error is not None:
                    raise batch.error
        self._outstanding += 1
        return TensorRtTicket(self, batch, batch.frames - 1)

    def finish(self, batch: _Batch, place: int) -> Planes:
        """Wait for a batch, which starts now if it has not, and hand out one of its frames."""
        self._outstanding -= 1
        with self._translated("failed on a frame"), self._device.active():
            self._complete(batch)
            if batch.error is not None:
                raise batch.error
        return batch.results.pop(place)

    def cancel(self, batch: _Batch, place: int) -> None:
        """Give a frame up; with the last of a batch, wait until the GPU no longer touches its lane's memory."""
        self._outstanding -= 1
        batch.given_up.add(place)
        batch.results.pop(place, None)
        if len(batch.given_up) == batch.frames and batch in self._busy:
            with self._device.active():
                batch.lane.settle()
            self._release(batch)

    def _start(self, batch: _Batch) -> None:
        self._gathering = None
        try:
            batch.lane.start()
        except Exception as error:  # which every frame of the batch gets to hear
            batch.error = self._kind_of(error)
            batch.lane.settle()
            self._release(batch)

    def _kind_of(self, error: Exception) -> Exception:
        """An error of ours becomes one about memory if that was short, as TensorRT itself says in its log only."""
        if isinstance(error, BackendError) and (lacks_memory(error) or self._api.lacked_memory()):
            return DeviceMemoryError(f"{error.message}: the GPU's memory is full", MEMORY_HINT)
        return error

    def _complete(self, batch: _Batch) -> None:
        """Wait for a batch and copy its frames out of the lane, which is free then."""
        if batch is self._gathering:
            self._start(batch)
        if batch not in self._busy:
            return
        try:
            batch.lane.wait()
            wanted = set(range(batch.frames)) - batch.given_up
            batch.results = {place: batch.lane.take(self._spec.graph, place) for place in wanted}
        except Exception as error:
            batch.error = error
            batch.lane.settle()
        self._release(batch)

    def _release(self, batch: _Batch) -> None:
        if batch is self._gathering:
            self._gathering = None
        self._busy.remove(batch)
        batch.lane.release()
        self._free.append(batch.lane)

    def parts(self, planes: Planes, pictures: int) -> Parts:
        """Where a picture's time goes, by events in the stream of one lane."""
        check_planes(planes, self._spec.graph)
        if self._busy:
            raise BackendError("frames are in flight")
        with self._translated("failed on a frame"), self._device.active():
            return self._lanes[0].parts(planes, pictures)

    def close(self) -> None:
        """Free the GPU's memory."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(BackendError), self._translated("cannot be closed"), self._device.active():
            self._keep_kernels()
            for lane in self._lanes:
                lane.close()
            self._free.clear()
            self._busy.clear()
            self._lanes.clear()
            self._cached = None
            self._engine = self._runtime = None  # the context must outlive them
        if self._pool is not None:
            self._pool.close()
        else:
            self._device.close()

    def _make_lanes(
        self,
        count: int,
        shapes: Shapes,
        make_ports: Callable[[], HostPorts],
        dynamic: bool,
        record: Recorder | None,
    ) -> Iterator[Lane]:
        for i in range(count):
            try:
                lane = Lane(self._cached or self._engine, self._device, shapes, make_ports, dynamic, record)
            except Exception as exc:
                if not isinstance(exc, (*self._device.errors, MemoryError, BackendError)):
                    raise
                if i:  # fewer do as well, a little slower
                    self._spec.on_note(f"the GPU's memory holds {i} of {count} lanes: {first_line(exc)}")
                    return
                if not lacks_memory(exc) and not self._api.lacked_memory():
                    raise
                raise DeviceMemoryError(
                    f"the GPU's memory does not hold what one frame needs: {first_line(exc)}", MEMORY_HINT
                ) from exc
            yield lane

    def _keep_kernels(self) -> None:
        if self._cached is not None:
            self._cached.keep()

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._device.errors as exc:
            if lacks_memory(exc):
                raise DeviceMemoryError(f"TensorRT {what}: {first_line(exc)}", MEMORY_HINT) from exc
            raise BackendError(f"TensorRT {what}: {first_line(exc)}") from exc


class _Batch:
    """Frames that share a lane, and what became of them."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.frames = 0
        self.given_up: set[int] = set()  # places
        self.results: dict[int, Planes] = {}
        self.error: Exception | None = None


class TensorRtTicket:
    """A frame of a batch."""

    def __init__(self, engine: TensorRtEngine, batch: _Batch, place: int) -> None:
        self._engine = engine
        self._batch = batch
        self._place = place

    def result(self) -> Planes:
        """Wait for the frame."""
        return self._engine.finish(self._batch, self._place)

    def cancel(self) -> None:
        """Wait until the GPU is done with it: what is enqueued cannot be taken back."""
        self._engine.cancel(self._batch, self._place)
