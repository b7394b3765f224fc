"""What one frame in flight on a GPU needs, or a batch of frames, and what is done with it.

A lane has an execution context, a stream and buffers of its own. A frame takes one lane: copy up, compute, copy down,
all in the lane's stream, so that the order within a frame needs no further care, and the copies of one frame run beside
the computing of another. Where the driver allows it the three are recorded once as a CUDA graph and launched as one. A
lane is free again only when its frames have been taken or given up, both of which wait for the stream.

With an engine of several pictures at once a lane has a place for each. Places that stay empty are computed too, from
what was in them: a recorded graph has one size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from vsr.backends.device import Device, DeviceMemory, Event, HostMemory
from vsr.engines.timing import Parts
from vsr.errors import BackendError
from vsr.frame import Plane, Planes
from vsr.gpu.kernel_cache import Contexts
from vsr.graphs.frame_graph import FrameGraphSpec, GraphForm, plane_shapes

Recorder = Callable[[int], Any]


@dataclass(frozen=True)
class Shapes:
    """Of an engine's inputs and outputs, in bytes, by name and in the order of the planes."""

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]


def shapes_of(graph: FrameGraphSpec, form: GraphForm) -> Shapes:
    """Those of the engine for `graph`, as many pictures at a time as `form` says."""
    one = GraphForm(byte_pairs=form.byte_pairs, batch=form.batch)
    large = FrameGraphSpec(graph.format, graph.color, graph.scale, *graph.output_size)
    return Shapes(plane_shapes(graph, one), {f"{name}_out": shape for name, shape in plane_shapes(large, one).items()})


class Lane:
    """What one frame in flight needs, or one batch.

    Attributes:
        batch: frames that it holds.
        graph: the recorded work, or None if it is put into the stream anew for each frame.
    """

    def __init__(
        self, contexts: Contexts, device: Device, shapes: Shapes, dynamic: bool, record: Recorder | None = None
    ) -> None:
        self._device = device
        self._shapes = shapes
        self.batch = next(iter(shapes.inputs.values()))[0]
        self.graph: Any = None
        self._memory: list[DeviceMemory] = []
        self._hosts: list[HostMemory] = []
        try:
            self._context = contexts.create_execution_context()
            if self._context is None:
                raise BackendError("TensorRT makes no execution context")
            self._stream = device.stream()
            self._done = device.event()
            if dynamic:
                for name, shape in shapes.inputs.items():
                    if not self._context.set_input_shape(name, shape):
                        raise BackendError(f"the engine does not take {name} of {shape}")
            for name, shape in (*shapes.inputs.items(), *shapes.outputs.items()):
                self._hosts.append(device.host(prod(shape)))
                self._memory.append(device.memory(prod(shape)))
                if not self._context.set_tensor_address(name, self._memory[-1].address):
                    raise BackendError(f"the engine has no input or output {name}")
            if record is not None:
                self._record(record)
        except BaseException:
            self.close()
            raise

    def fill(self, planes: Planes, place: int) -> None:
        """Copy a frame into page-locked memory."""
        for host, array in zip(self._hosts, planes.arrays, strict=False):
            host.array.view(array.dtype).reshape(self.batch, *array.shape)[place] = array

    def start(self) -> None:
        """Enqueue what was filled in."""
        if self.graph is not None:
            self.graph.launch(self._stream.handle)
        else:
            self._enqueue()
        self._done.record(self._stream)

    def wait(self) -> None:
        """Until the frames are in page-locked memory."""
        self._done.synchronize()

    def settle(self) -> None:
        """Wait until nothing touches the lane's memory, whatever became of the frames."""
        with contextlib.suppress(*self._device.errors):
            self._stream.synchronize()

    def take(self, graph: FrameGraphSpec, place: int) -> tuple[Plane, ...]:
        """Copies of the enlarged planes of one frame."""
        width, height = graph.output_size
        arrays: list[Plane] = []
        for name, host in zip(graph.format.plane_names, self._hosts[len(self._shapes.inputs) :], strict=True):
            columns, rows = graph.format.plane_size(name, width, height)
            samples = host.array.view(graph.format.dtype).reshape(self.batch, rows, columns)
            arrays.append(np.array(samples[place]))
        return tuple(arrays)

    def close(self) -> None:
        """Free everything, in the reverse order of its making."""
        if self.graph is not None:
            self.graph.close()
            self.graph = None
        self._context = None
        for memory in self._memory:
            memory.free()
        for host in self._hosts:
            host.free()
        self._memory.clear()
        self._hosts.clear()

    def parts(self, planes: Planes, pictures: int) -> Parts:
        """Means of the parts' times of a picture, each batch alone and not recorded."""
        timers = [self._device.timer() for _ in range(4)]
        sums = [0.0, 0.0, 0.0]
        for _ in range(pictures):
            for place in range(self.batch):
                self.fill(planes, place)
            self._enqueue(timers)
            self._stream.synchronize()
            for i in range(3):
                sums[i] += self._device.elapsed_ms(timers[i], timers[i + 1]) / (pictures * self.batch)
        return Parts(*sums)

    def _enqueue(self, timers: Sequence[Event] = ()) -> None:
        """Put a frame's work into the stream, with `timers` before, between and behind its three parts."""
        inputs, marks = len(self._shapes.inputs), iter(timers)

        def mark() -> None:
            if (timer := next(marks, None)) is not None:
                timer.record(self._stream)

        mark()
        for host, memory in zip(self._hosts[:inputs], self._memory[:inputs], strict=True):
            self._device.upload(memory, host, self._stream)
        mark()
        if not self._context.execute_async_v3(self._stream.handle):
            raise BackendError("TensorRT does not enqueue the frame")
        mark()
        for host, memory in zip(self._hosts[inputs:], self._memory[inputs:], strict=True):
            self._device.download(host, memory, self._stream)
        mark()

    def _record(self, record: Recorder) -> None:
        """Record a frame's work. The first run is not recorded: libraries load their kernels in it."""
        self._enqueue()
        self._stream.synchronize()
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(self._stream.handle):
            return
        try:
            graph = record(self._stream.handle)
        except BackendError:
            return  # an old driver; work is enqueued piece by piece then
        whole = False
        with contextlib.suppress(BackendError, *self._device.errors):  # some call that cannot be recorded
            self._enqueue()
            whole = True
        with contextlib.suppress(BackendError):
            graph.end()  # in any case: the stream records until then
            if whole:
                self.graph = graph
