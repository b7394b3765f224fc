"""Frames that stay in the GPU's memory on their way through the TensorRT backend.

A decoder's surface is copied, within the GPU, into the engine's inputs, and what the engine makes into memory from a
pool, which goes back there when the last who reads it, the encoder as a rule, lets go of it. Frames in host memory are
taken too.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from vsr.backends.device import Device, DeviceMemory, Stream
from vsr.backends.tensorrt_ports import HostPorts, Shapes
from vsr.errors import BackendError
from vsr.frame import PIXEL_FORMATS, Planes
from vsr.gpu.dlpack import Rows, capsule_of, rows_of
from vsr.gpu.memory import first_line
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.surface import LAYOUTS, Samples, SurfacePlanes, packed, pitch_of, unpacked


class SurfacePool:
    """Memory of a GPU for enlarged pictures of one size. It lives, and the GPU's context with it, as long as they do.

    Args:
        device: the GPU; closed with the pool, when no picture is out any more.
        layout: a name in `vsr.surface.LAYOUTS`.
        width: of the pictures in luma samples.
        height: likewise.
    """

    def __init__(self, device: Device, layout: str, width: int, height: int) -> None:
        self.device = device
        self.layout = layout
        self.width, self.height = width, height
        self.pitch = pitch_of(width, layout)
        self.bits = 8 * PIXEL_FORMATS[LAYOUTS[layout][0]].dtype.itemsize
        self._size = self.pitch * height * 3 // 2
        self._idle: list[DeviceMemory] = []
        self._out = 0
        self._closed = False
        # Memory comes back whenever Python drops the last reference, even while this thread takes some: hence the R.
        self._lock = threading.RLock()

    def grow(self, pieces: int) -> None:
        """Have so many more; the context is current."""
        with self._lock:
            for _ in range(pieces):
                self._idle.append(self.device.memory(self._size))

    def take(self) -> DeviceMemory:
        """A piece of memory, of one picture; the context is current."""
        with self._lock:
            piece = self._idle.pop() if self._idle else self.device.memory(self._size)
            self._out += 1
            return piece

    def give(self, piece: DeviceMemory) -> None:
        """Take a piece back, in whatever thread."""
        with self._lock:
            self._out -= 1
            self._idle.append(piece)
            if self._closed:
                self._end()

    def free(self) -> None:
        """Free what is not out; the context is current."""
        with self._lock:
            while self._idle:
                self._idle.pop().free()

    def close(self) -> None:
        """Free the memory, and close the device; while pictures are out, when they come back."""
        with self._lock:
            self._closed = True
            self._end()

    def rows(self, piece: DeviceMemory) -> tuple[Rows, Rows]:
        """Of luma, and of chroma below it."""
        line = self.width * self.bits // 8
        return (
            Rows(piece.address, self.pitch, line, self.height),
            Rows(piece.address + self.pitch * self.height, self.pitch, line, self.height // 2),
        )

    def download(self, piece: DeviceMemory) -> tuple[Samples, Samples]:
        """Luma and chroma in host memory.

        Raises:
            BackendError: the copy failed.
        """
        with self._translated(), self.device.active():
            host, stream = self.device.host(self._size), self.device.stream()
            try:
                self.device.download(host, piece, stream)
                stream.synchronize()
                dtype = PIXEL_FORMATS[LAYOUTS[self.layout][0]].dtype
                whole = np.array(host.array).view(dtype).reshape(self.height * 3 // 2, -1)[:, : self.width]
            finally:
                host.free()
        return whole[: self.height], whole[self.height :].reshape(self.height // 2, -1, 2)

    def _end(self) -> None:
        with contextlib.suppress(*self.device.errors), self.device.active():
            self.free()
        if not self._out:
            self.device.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self.device.errors as exc:
            raise BackendError(f"a picture in the GPU's memory is lost: {first_line(exc)}") from exc


class PooledSurface:
    """An enlarged picture in memory of a pool; a `vsr.surface.Surface`.

    Args:
        pool: that the memory goes back to.
        piece: of it; what was put there is there.
    """

    def __init__(self, pool: SurfacePool, piece: DeviceMemory) -> None:
        self.layout, self.device = pool.layout, pool.device.place
        self._pool, self._piece = pool, piece
        weakref.finalize(self, pool.give, piece).atexit = False

    def capsules(self) -> tuple[Any, Any]:
        """Each keeps this surface."""
        pool, (luma, chroma) = self._pool, self._pool.rows(self._piece)
        return (
            capsule_of(luma, (pool.height, pool.width), self.device, pool.bits, self),
            capsule_of(chroma, (pool.height // 2, pool.width // 2, 2), self.device, pool.bits, self),
        )

    def download(self) -> tuple[Samples, Samples]:
        """By the pool."""
        return self._pool.download(self._piece)


class SurfacePorts(HostPorts):
    """Inputs from surfaces of the same GPU, or from planes, and outputs as surfaces, or as planes.

    Args:
        device: the GPU; its context is current.
        shapes: of an interleaved frame graph.
        layout: of the surfaces.
        pool: for enlarged pictures; None where they are wanted in host memory.
    """

    steady = False

    def __init__(self, device: Device, shapes: Shapes, layout: str, pool: SurfacePool | None) -> None:
        self._layout, self._pool = layout, pool
        self._sources: dict[int, tuple[Any, Any] | None] = {}  # capsules of the frames that were filled in, by place
        self._made: dict[int, DeviceMemory] = {}
        super().__init__(device, shapes, frozenset(shapes.outputs) if pool is not None else frozenset())
        if pool is not None:  # what frames need is found out before the first comes
            pool.grow(shapes.batch)

    def fill(self, planes: Planes, place: int) -> None:
        """Take a frame in; a surface is referred to until it has been copied."""
        surface = planes.surface if isinstance(planes, SurfacePlanes) else None
        if surface is not None and (surface.layout, surface.device) == (self._layout, self._device.place):
            self._sources[place] = surface.capsules()
        else:
            self._sources[place] = None
            self._put(packed(planes.arrays, self._layout), place)

    def bring(self, stream: Stream) -> None:
        """Put the copies to the engine's inputs into `stream`: all from the host, unless every frame is a surface."""
        surfaces = {place: capsules for place, capsules in self._sources.items() if capsules is not None}
        if len(surfaces) < self._shapes.batch:
            super().bring(stream)
        if surfaces:
            self._device.follow(stream)
        for place, capsules in surfaces.items():
            for name, capsule in zip(self._shapes.inputs, capsules, strict=True):
                source = rows_of(capsule)
                self._device.copy(self._rows(name, place, source.height), source, stream)

    def fetch(self, stream: Stream) -> None:
        """Put the copies of the engine's outputs into `stream`."""
        if self._pool is None:
            super().fetch(stream)
            return
        for place in self._sources:
            self._made[place] = self._pool.take()
            for name, target in zip(self._shapes.outputs, self._pool.rows(self._made[place]), strict=True):
                self._device.copy(target, self._rows(name, place, target.height), stream)

    def take(self, graph: FrameGraphSpec, place: int) -> Planes:
        """One enlarged frame; the stream has been waited for."""
        width, height = graph.output_size
        if self._pool is not None:
            return SurfacePlanes(PooledSurface(self._pool, self._made.pop(place)), width, height)
        columns, rows = graph.format.plane_size("u", width, height)
        luma, chroma = self._results(graph, place, [(height, width), (rows, columns, 2)])
        return Planes(unpacked(luma, chroma, self._layout), graph.format, width, height)

    def release(self) -> None:
        """Let go of surfaces; of what was made and nobody took, too."""
        self._sources.clear()
        while self._made and self._pool is not None:
            self._pool.give(self._made.popitem()[1])

    def close(self) -> None:
        """Free the memory; what is in flight is given up."""
        self.release()
        super().close()

    def _rows(self, name: str, place: int, height: int) -> Rows:
        """A frame's part of the memory of an input or output."""
        shape = {**self._shapes.inputs, **self._shapes.outputs}[name]
        size = int(np.prod(shape[1:]))
        return Rows(self.memory[name].address + place * size, size // height, size // height, height)
