"""What one frame in flight on a GPU needs, or a batch of frames, and what is done with it.

A lane has an execution context, a stream and buffers of its own. A frame takes one lane: copy up, compute, copy down,
all in the lane's stream, so that the order within a frame needs no further care, and the copies of one frame run beside
the computing of another. Where the driver allows it the three are recorded once as a CUDA graph and launched as one; of
frames that stay in the GPU's memory, each of which lies elsewhere, the computing alone. A lane is free again only when
its frames have been taken or given up, both of which wait for the stream.

With an engine of several pictures at once a lane has a place for each. Places that stay empty are computed too, from
what was in them: a recorded graph has one size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from vsr.backends.device import Device, Event
from vsr.backends.tensorrt_ports import HostPorts, Shapes
from vsr.engines.timing import Parts
from vsr.errors import BackendError
from vsr.frame import Planes
from vsr.gpu.kernel_cache import Contexts
from vsr.graphs.frame_graph import FrameGraphSpec

Recorder = Callable[[int], Any]


class Lane:
    """What one frame in flight needs, or one batch.

    Args:
        contexts: what makes execution contexts.
        device: the GPU; its context is current.
        shapes: of the engine's inputs and outputs.
        make_ports: how frames come in and go out.
        dynamic: whether the engine has to be told the shapes.
        record: starts recording work in a stream; None not to.

    Attributes:
        batch: frames that it holds.
        graph: the recorded work, or None if it is put into the stream anew for each frame.
    """

    def __init__(
        self,
        contexts: Contexts,
        device: Device,
        shapes: Shapes,
        make_ports: Callable[[], HostPorts],
        dynamic: bool,
        record: Recorder | None = None,
    ) -> None:
        self._device = device
        self.batch = shapes.batch
        self.graph: Any = None
        self._ports: HostPorts | None = None
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
            self._ports = make_ports()
            for name, memory in self._ports.memory.items():
                if not self._context.set_tensor_address(name, memory.address):
                    raise BackendError(f"the engine has no input or output {name}")
            if record is not None:
                self._record(record)
        except BaseException:
            self.close()
            raise

    @property
    def ports(self) -> HostPorts:
        """How frames come in and go out, while the lane is open."""
        assert self._ports is not None
        return self._ports

    def fill(self, planes: Planes, place: int) -> None:
        """Take in a frame of the next start."""
        self.ports.fill(planes, place)

    def start(self) -> None:
        """Enqueue what was filled in."""
        if self.graph is not None and self.ports.steady:
            self.graph.launch(self._stream.handle)
        else:
            self._enqueue()
        self._done.record(self._stream)

    def wait(self) -> None:
        """Until the frames can be taken."""
        self._done.synchronize()

    def settle(self) -> None:
        """Wait until nothing touches the lane's memory, whatever became of the frames."""
        with contextlib.suppress(*self._device.errors):
            self._stream.synchronize()

    def take(self, graph: FrameGraphSpec, place: int) -> Planes:
        """One enlarged frame."""
        return self.ports.take(graph, place)

    def release(self) -> None:
        """Let go of the frames, which have been waited for, or settled."""
        self.ports.release()

    def close(self) -> None:
        """Free everything, in the reverse order of its making."""
        if self.graph is not None:
            self.graph.close()
            self.graph = None
        self._context = None
        if self._ports is not None:
            self._ports.close()

    def parts(self, planes: Planes, pictures: int) -> Parts:
        """Means of the parts' times of a picture, each batch alone and not recorded."""
        timers = [self._device.timer() for _ in range(4)]
        sums = [0.0, 0.0, 0.0]
        for _ in range(pictures):
            for place in range(self.batch):
                self.fill(planes, place)
            self._enqueue(timers)
            self._stream.synchronize()
            self.release()
            for i in range(3):
                sums[i] += self._device.elapsed_ms(timers[i], timers[i + 1]) / (pictures * self.batch)
        return Parts(*sums)

    def _enqueue(self, timers: Sequence[Event] = ()) -> None:
        """Put a frame's work into the stream, with `timers` before, between and behind its three parts."""
        marks = iter(timers)

        def mark() -> None:
            if (timer := next(marks, None)) is not None:
                timer.record(self._stream)

        mark()
        self.ports.bring(self._stream)
        mark()
        if self.graph is not None and not self.ports.steady:  # what was recorded is this only
            self.graph.launch(self._stream.handle)
        else:
            self._compute()
        mark()
        self.ports.fetch(self._stream)
        mark()

    def _compute(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise BackendError("TensorRT does not enqueue the frame")

    def _record(self, record: Recorder) -> None:
        """Record a frame's work, without copies that differ from frame to frame.

        The first run is not recorded: libraries load their kernels in it.
        """
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
            if self.ports.steady:
                self._enqueue()
            else:
                self._compute()
            whole = True
        with contextlib.suppress(BackendError):
            graph.end()  # in any case: the stream records until then
            if whole:
                self.graph = graph
