"""A GPU that is not there: streams that run late, memory that notices misuse, and TensorRT's names around them.

What is put into a stream happens in a thread of its own, after a delay of the test's choosing; so whoever does not wait
sees old bytes. Buffers know which streams still have to read or write them, and object to being touched meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import itertools
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from vsr.gpu.dlpack import Rows
from vsr.gpu.names import Gpu
from vsr.gpu.tensorrt_api import Built
from vsr.surface import CPU

GPU = Gpu((8, 9), "NVIDIA Something")


class MisuseError(AssertionError):
    """A rule of CUDA or TensorRT was broken."""


class FakeError(Exception):
    """What pycuda.driver.Error would be."""


class FakeMemory:
    def __init__(self, device: FakeDevice, size: int) -> None:
        self.device, self.size = device, size
        self.array = np.full(size, 0xCD, np.uint8)
        self.address = self.array.ctypes.data
        self.freed = False
        device.memories[self.address] = self

    def free(self) -> None:
        self.device.need_context()
        if self.freed:
            raise MisuseError("freed twice")
        self.freed = True
        del self.device.memories[self.address]


class FakeStream:
    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.handle = next(device.addresses)
        device.streams[self.handle] = self
        self.work: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self.recording: list[Callable[[], None]] | None = None
        self.thread = threading.Thread(target=self._run, name=f"fake stream {self.handle}", daemon=True)
        self.thread.start()

    def put(self, what: str, action: Callable[[], None]) -> None:
        self.device.log.append((what, self.handle))
        if self.recording is not None:
            self.recording.append(action)
        else:
            self.work.put(action)

    def synchronize(self) -> None:
        if self.recording is not None:
            raise MisuseError("synchronised while recording")
        self.work.join()
        self.device.raise_failures()

    def _run(self) -> None:
        while (action := self.work.get()) is not None:
            time.sleep(self.device.delay())
            try:
                action()
            except BaseException as error:
                self.device.failures.append(error)
            self.work.task_done()
        self.work.task_done()


class FakeEvent:
    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.passed: threading.Event | None = None
        self.at = 0.0

    def record(self, stream: FakeStream) -> None:
        self.passed = passed = threading.Event()

        def pass_by() -> None:
            self.at = time.perf_counter()
            passed.set()

        stream.put("record", pass_by)

    def synchronize(self) -> None:
        self.device.need_context()
        self.device.log.append(("wait", 0))
        if self.passed is None:
            raise MisuseError("waited for an event that was not recorded")
        if not self.passed.wait(20):
            raise MisuseError("the event was never passed")
        self.device.raise_failures()


class FakeDevice:
    """Args: delay: seconds before each piece of work; memory: bytes of the GPU; number: which one it is."""

    name = "Fake 9000"
    place = (CPU, 0)  # its memory is this machine's
    driver = 1
    errors = (FakeError,)

    def __init__(self, delay: Callable[[], float] = lambda: 0.0, memory: int = 1 << 30, number: int = 0) -> None:
        self.delay, self.left, self.number = delay, memory, number
        self.addresses = itertools.count(0x1000, 0x100)
        self.memories: dict[int, FakeMemory] = {}
        self.hosts: list[FakeMemory] = []
        self.streams: dict[int, FakeStream] = {}
        self.log: list[tuple[str, int]] = []
        self.failures: list[BaseException] = []
        self.depth = threading.local()
        self.following: set[int] = set()
        self.closed = False

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        self.depth.value = getattr(self.depth, "value", 0) + 1
        try:
            yield
        finally:
            self.depth.value -= 1

    def need_context(self) -> None:
        if getattr(self.depth, "value", 0) < 1:
            raise MisuseError("no context is current in this thread")

    def raise_failures(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def stream(self) -> FakeStream:
        self.need_context()
        return FakeStream(self)

    def event(self) -> FakeEvent:
        self.need_context()
        return FakeEvent(self)

    def timer(self) -> FakeEvent:
        return self.event()

    def elapsed_ms(self, start: FakeEvent, end: FakeEvent) -> float:
        return (end.at - start.at) * 1000

    def host(self, size: int) -> FakeMemory:
        self.need_context()
        self.hosts.append(FakeMemory(self, size))
        return self.hosts[-1]

    def memory(self, size: int) -> FakeMemory:
        self.need_context()
        self.left -= size
        if self.left < 0:
            raise FakeError("cuMemAlloc failed: out of memory")
        return FakeMemory(self, size)

    def upload(self, target: FakeMemory, source: FakeMemory, stream: FakeStream) -> None:
        self._copy("upload", target, source, stream)

    def download(self, target: FakeMemory, source: FakeMemory, stream: FakeStream) -> None:
        self._copy("download", target, source, stream)

    def follow(self, stream: FakeStream) -> None:
        self.need_context()
        self.following.add(stream.handle)
        stream.put("follow", lambda: None)

    def copy(self, target: Rows, source: Rows, stream: FakeStream) -> None:
        """Rows of the fake's own memory and of decoders', which may be read only after the default stream's work."""
        self.need_context()
        if (target.width, target.height) != (source.width, source.height):
            raise MisuseError(f"copy of {source} into {target}")
        if not self._owns(target):
            raise MisuseError("a copy beyond the memory")
        if not self._owns(source) and stream.handle not in self.following:
            raise MisuseError("a surface is read before the decoder's work is waited for")
        places = [(target.address + i * target.pitch, source.address + i * source.pitch) for i in range(target.height)]

        def move() -> None:
            for to, start in places:
                ctypes.memmove(to, start, target.width)

        for to, _ in places:
            ctypes.memset(to, 0xEE, target.width)  # whoever still reads what was there reads this
        stream.put("copy", move)

    def _owns(self, rows: Rows) -> bool:
        end = rows.address + (rows.height - 1) * rows.pitch + rows.width
        return any(a <= rows.address and end <= a + memory.size for a, memory in self.memories.items())

    def _copy(self, what: str, target: FakeMemory, source: FakeMemory, stream: FakeStream) -> None:
        self.need_context()
        if target.size != source.size:
            raise MisuseError(f"{what} of {source.size} bytes into {target.size}")
        if target in self.hosts:
            target.array[...] = 0xEE  # whoever reads before the copy is done reads this
        stream.put(what, lambda: np.copyto(target.array, source.array))

    def close(self) -> None:
        if self.closed:
            raise MisuseError("closed twice")
        self.closed = True
        for stream in self.streams.values():
            stream.work.put(None)
        for stream in self.streams.values():
            stream.thread.join(5)


class FakeGraph:
    """Records like vsr.gpu.cuda_driver.RecordedGraph."""

    def __init__(self, device: FakeDevice, handle: int) -> None:
        self.device, self.stream = device, device.streams[handle]
        self.stream.recording = []
        self.actions: list[Callable[[], None]] = []

    def end(self) -> None:
        assert self.stream.recording is not None
        self.actions, self.stream.recording = self.stream.recording, None

    def launch(self, handle: int) -> None:
        self.device.need_context()
        actions = list(self.actions)

        def run() -> None:
            for action in actions:
                time.sleep(self.device.delay())
                action()

        self.device.streams[handle].put("launch", run)

    def close(self) -> None:
        self.actions.clear()


class FakeContext:
    """Like IExecutionContext; computes the frame graph by ONNX's reference."""

    def __init__(self, engine: FakeEngine, config: FakeRuntimeConfig | None = None) -> None:
        self._engine = engine
        self._kernels = None if config is None else config.cache
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = tuple(shape)
        return name in self._engine.inputs

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return name in (*self._engine.inputs, *self._engine.outputs)

    def is_stream_capturable(self, handle: int) -> bool:
        return handle in self._engine.device.streams and self._engine.capturable

    def execute_async_v3(self, handle: int) -> bool:
        device, engine = self._engine.device, self._engine
        device.need_context()
        for name in (*engine.inputs, *engine.outputs):
            if name not in self._addresses:
                raise MisuseError(f"no address for {name} before the frame is enqueued")
        for name, shape in engine.inputs.items():
            if None in shape and name not in self._shapes:
                raise MisuseError(f"no shape for {name} of a dynamic engine")
        if engine.refuses:
            return False
        addresses = dict(self._addresses)
        if engine.compiles:
            self._compile()

        def compute() -> None:
            inputs = {}
            for name, declared in engine.inputs.items():
                memory = device.memories[addresses[name]]
                inputs[name] = memory.array.reshape([int(n) for n in self._shapes.get(name, declared)])  # type: ignore[arg-type]
            results: Any = engine.evaluator.run(None, inputs)
            for name, result in zip(engine.outputs, results, strict=True):
                memory = device.memories[addresses[name]]
                if memory.size != result.nbytes:
                    raise MisuseError(f"{name} has {memory.size} bytes of {result.nbytes}")
                memory.array[...] = np.ascontiguousarray(result).view(np.uint8).reshape(-1)

        device.streams[handle].put("execute", compute)
        return True

    def _compile(self) -> None:
        """As TensorRT for RTX does at the first frame of each shape; not while a stream records."""
        device, kernel = self._engine.device, f"{self._engine.digest} {sorted(self._shapes.items())}"
        known = self._engine.compiled if self._kernels is None else self._kernels.kernels
        if kernel not in known:
            if any(stream.recording is not None for stream in device.streams.values()):
                raise MisuseError("kernels are compiled while a stream records")
            device.log.append(("compile", 0))
            known.add(kernel)


class FakeRuntimeCache:
    """Like IRuntimeCache. It refuses what another GPU or version made."""

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.kernels: set[str] = set()

    def deserialize(self, blob: bytes) -> bool:
        self.device.need_context()
        try:
            made_on, kernels = json.loads(blob)
        except ValueError:
            return False
        if made_on != [self.device.name, self.device.driver]:
            return False
        self.kernels |= set(kernels)
        return True

    def serialize(self) -> bytes:
        self.device.need_context()
        return json.dumps([[self.device.name, self.device.driver], sorted(self.kernels)]).encode()


class FakeRuntimeConfig:
    """Like IRuntimeConfig."""

    dynamic_shapes_kernel_specialization_strategy = "LAZY"

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.cache: FakeRuntimeCache | None = None

    def create_runtime_cache(self) -> FakeRuntimeCache:
        return FakeRuntimeCache(self.device)

    def set_runtime_cache(self, cache: FakeRuntimeCache) -> bool:
        self.cache = cache
        return True


class FakeEngine:
    """Like ICudaEngine, of a frame graph."""

    def __init__(self, device: FakeDevice, data: bytes) -> None:
        proto = onnx.load_model_from_string(data)
        self.device = device
        self.evaluator = ReferenceEvaluator(proto)
        self.inputs = {i.name: _shape(i) for i in proto.graph.input}
        self.outputs = {o.name: _shape(o) for o in proto.graph.output}
        self.capturable, self.refuses, self.compiles = True, False, True
        self.contexts = 0
        self.digest = hashlib.sha256(data).hexdigest()[:8]
        self.compiled: set[str] = set()

    def create_runtime_config(self) -> FakeRuntimeConfig:
        return FakeRuntimeConfig(self.device)

    def create_execution_context(self, config: FakeRuntimeConfig | None = None) -> FakeContext:
        self.contexts += 1
        if self.compiles and config is not None and config.dynamic_shapes_kernel_specialization_strategy != "EAGER":
            raise MisuseError("kernels would change after they have been recorded")
        return FakeContext(self, config)


def _shape(value: Any) -> tuple[int | None, ...]:
    return tuple(d.dim_value or None for d in value.type.tensor_type.shape.dim)


class FakeApi:
    """Like vsr.gpu.tensorrt_api.TensorRt, whose engines are the frame graphs themselves."""

    runtime, version = "fake-rt", "1.0"
    compiles_kernels, eager_kernels, said_so = True, "EAGER", False

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.engine: FakeEngine | None = None
        self.capturable = True

    def deserialise(self, data: bytes) -> tuple[Any, Any]:
        self.device.need_context()
        self.engine = FakeEngine(self.device, data)
        self.engine.capturable, self.engine.compiles = self.capturable, self.compiles_kernels
        return object(), self.engine

    def lacked_memory(self) -> bool:
        return self.said_so


class FakeTensorRt(FakeApi):
    """With the builder's side, too: what it builds is the frame graph itself."""

    ties_to_gpu_name = True

    def check_target(self, gpu: Gpu) -> None:
        assert gpu == GPU

    def build(self, graph: bytes, name: str, gpu: Gpu, profile: Any, timing: bytes | None, on_build: Any) -> Any:
        assert timing is not None  # the GPU is here
        return Built(graph, ()), timing + b"grown"
