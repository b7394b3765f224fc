"""How frames come into a lane of the TensorRT backend and leave it: by page-locked memory of the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from vsr.backends.device import Device, DeviceMemory, HostMemory, Stream
from vsr.frame import Planes
from vsr.graphs.frame_graph import FrameGraphSpec, GraphForm, plane_shapes
from vsr.surface import Samples


@dataclass(frozen=True)
class Shapes:
    """Of an engine's inputs and outputs, in bytes, by name and in the order of the planes."""

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]

    @property
    def batch(self) -> int:
        """Frames at once."""
        return next(iter(self.inputs.values()))[0]


def shapes_of(graph: FrameGraphSpec, form: GraphForm) -> Shapes:
    """Those of the engine for `graph`, as many pictures at a time as `form` says."""
    large = FrameGraphSpec(graph.format, graph.color, graph.scale, *graph.output_size)
    outputs = {f"{name}_out": shape for name, shape in plane_shapes(large, form).items()}
    return Shapes(plane_shapes(graph, form), outputs)


class HostPorts:
    """The GPU's memory for an engine's inputs and outputs, and the host's that they are copied from and to.

    Args:
        device: the GPU; its context is current.
        shapes: of the inputs and outputs.
        without_host: names of those that nothing of the host's is copied from or to.

    Attributes:
        memory: of the GPU, by name.
        steady: whether the copies are the same for every frame, so that they can be recorded.
    """

    steady = True

    def __init__(self, device: Device, shapes: Shapes, without_host: frozenset[str] = frozenset()) -> None:
        self._device = device
        self._shapes = shapes
        self.memory: dict[str, DeviceMemory] = {}
        self._hosts: dict[str, HostMemory] = {}
        try:
            for name, shape in (*shapes.inputs.items(), *shapes.outputs.items()):
                if name not in without_host:
                    self._hosts[name] = device.host(prod(shape))
                self.memory[name] = device.memory(prod(shape))
        except BaseException:
            self.close()
            raise

    def fill(self, planes: Planes, place: int) -> None:
        """Take a frame in; it is copied at once."""
        self._put(planes.arrays, place)

    def bring(self, stream: Stream) -> None:
        """Put the copies of what was filled in to the engine's inputs into `stream`."""
        for name in self._shapes.inputs:
            self._device.upload(self.memory[name], self._hosts[name], stream)

    def fetch(self, stream: Stream) -> None:
        """Put the copies of the engine's outputs into `stream`."""
        for name in self._shapes.outputs:
            self._device.download(self._hosts[name], self.memory[name], stream)

    def take(self, graph: FrameGraphSpec, place: int) -> Planes:
        """One enlarged frame; the stream has been waited for."""
        width, height = graph.output_size
        sizes = [graph.format.plane_size(name, width, height)[::-1] for name in graph.format.plane_names]
        return Planes(self._results(graph, place, sizes), graph.format, width, height)

    def release(self) -> None:
        """Let go of the frames: nothing is in flight any more."""

    def close(self) -> None:
        """Free the memory."""
        for memory in self.memory.values():
            memory.free()
        for host in self._hosts.values():
            host.free()
        self.memory.clear()
        self._hosts.clear()

    def _put(self, arrays: tuple[Samples, ...], place: int) -> None:
        for name, array in zip(self._shapes.inputs, arrays, strict=False):
            whole = self._hosts[name].array.view(array.dtype)
            whole.reshape(self._shapes.batch, *array.shape)[place] = array

    def _results(self, graph: FrameGraphSpec, place: int, sizes: Sequence[tuple[int, ...]]) -> tuple[Samples, ...]:
        """Copies of a frame's outputs, whose shapes are `sizes`."""
        arrays = []
        for name, size in zip(self._shapes.outputs, sizes, strict=True):
            whole = self._hosts[name].array.view(graph.format.dtype)
            arrays.append(np.array(whole.reshape(self._shapes.batch, *size)[place]))
        return tuple(arrays)
