"""A GPU's memory, streams and events behind one small interface, by pycuda or, where that is absent, by torch.

Only the primary context is used, which CUDA's runtime library and TensorRT use too; it is pushed in whichever thread
works with the device, and popped when that is done.

Nothing here has been run on a GPU by this project yet; the calls are those of pycuda 2026.1 and torch 2.13.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vsr.errors import BackendError
from vsr.gpu.cuda_driver import copy_rows
from vsr.gpu.dlpack import Rows
from vsr.surface import CUDA

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
Bytes = npt.NDArray[np.uint8]


class HostMemory(Protocol):
    """Page-locked memory of the host, which copies can run from and to while it works."""

    array: Bytes

    def free(self) -> None:
        """Give it back."""


class DeviceMemory(Protocol):
    """Memory of the GPU."""

    address: int

    def free(self) -> None:
        """Give it back."""


class Stream(Protocol):
    """Work in order."""

    handle: int

    def synchronize(self) -> None:
        """Wait until all of it is done."""


class Event(Protocol):
    """A place in a stream."""

    def record(self, stream: Any) -> None:
        """Be the place that `stream` has come to."""

    def synchronize(self) -> None:
        """Wait until the stream has passed it."""


class Device(Protocol):
    """One GPU.

    Attributes:
        name: of it.
        place: DLPack's type and number of it.
        errors: that its calls raise.
    """

    name: str
    place: tuple[int, int]
    errors: tuple[type[BaseException], ...]

    def active(self) -> contextlib.AbstractContextManager[None]:
        """Make the GPU's context this thread's, for as long as the block lasts; every other call needs it."""

    def stream(self) -> Stream:
        """A new stream, independent of the default one."""

    def event(self) -> Event:
        """A new event."""

    def timer(self) -> Event:
        """A new event that knows when it was passed."""

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two timers that have been passed."""

    def host(self, size: int) -> HostMemory:
        """`size` bytes of page-locked host memory."""

    def memory(self, size: int) -> DeviceMemory:
        """`size` bytes of the GPU's memory."""

    def upload(self, target: Any, source: Any, stream: Any) -> None:
        """Put a copy from host to GPU, of all of `source`, into `stream`."""

    def download(self, target: Any, source: Any, stream: Any) -> None:
        """Put a copy from GPU to host, of all of `source`, into `stream`."""

    def copy(self, target: Rows, source: Rows, stream: Any) -> None:
        """Put a copy of rows within the GPU's memory into `stream`."""

    def follow(self, stream: Any) -> None:
        """Let what is put into `stream` from now on wait for what is in the default stream, where decoders work."""

    def close(self) -> None:
        """Let go of the context."""


def missing() -> str | None:
    """What to install so that there is a device interface; None if there is one."""
    if importlib.util.find_spec("pycuda") is not None or importlib.util.find_spec("torch") is not None:
        return None
    return "neither pycuda nor torch is installed; pip install 'vsr[cuda]', or a CUDA build of torch"


def open_device(number: int = 0) -> Device:
    """A GPU, as CUDA counts them, by pycuda if it is installed, else by torch.

    Raises:
        BackendError: neither can use it.
    """
    if importlib.util.find_spec("pycuda") is not None:
        return PycudaDevice(number)
    if importlib.util.find_spec("torch") is not None:
        return TorchDevice(number)
    raise BackendError(str(missing()))


class _PycudaHost:
    def __init__(self, array: Bytes) -> None:
        self.array = array

    def free(self) -> None:
        self.array.base.free()  # type: ignore[union-attr]  # pycuda's PagelockedHostAllocation


class _PycudaMemory:
    def __init__(self, allocation: Any) -> None:
        self.allocation = allocation
        self.address = int(allocation)

    def free(self) -> None:
        self.allocation.free()


class PycudaDevice:
    """pycuda, without its autoinit, which would make a context of its own."""

    def __init__(self, number: int = 0) -> None:
        try:
            self._cuda: Any = importlib.import_module("pycuda.driver")
            self._cuda.init()
            device = self._cuda.Device(number)
            self._context = device.retain_primary_context()
        except Exception as exc:  # ImportError where its libraries do not fit, pycuda's own errors otherwise
            raise BackendError(f"pycuda cannot use the GPU: {exc}", "see vsr doctor") from exc
        self.name = str(device.name())
        self.place = (CUDA, number)
        self.errors: tuple[type[BaseException], ...] = (self._cuda.Error,)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Push the context, and pop it at the end."""
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def stream(self) -> Any:
        """A pycuda stream; one without that flag would wait for the default stream, and that for it."""
        return self._cuda.Stream(NON_BLOCKING)

    def event(self) -> Any:
        """A pycuda event that measures no time."""
        return self._cuda.Event(self._cuda.event_flags.DISABLE_TIMING)

    def timer(self) -> Any:
        """A pycuda event that does."""
        return self._cuda.Event()

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """By cuEventElapsedTime."""
        return float(end.time_since(start))

    def host(self, size: int) -> HostMemory:
        """By cuMemHostAlloc."""
        return _PycudaHost(self._cuda.pagelocked_empty(size, np.uint8))

    def memory(self, size: int) -> DeviceMemory:
        """By cuMemAlloc."""
        return _PycudaMemory(self._cuda.mem_alloc(size))

    def upload(self, target: _PycudaMemory, source: _PycudaHost, stream: Any) -> None:
        """By cuMemcpyHtoDAsync."""
        self._cuda.memcpy_htod_async(target.address, source.array, stream)

    def download(self, target: _PycudaHost, source: _PycudaMemory, stream: Any) -> None:
        """By cuMemcpyDtoHAsync."""
        self._cuda.memcpy_dtoh_async(target.array, source.address, stream)

    def copy(self, target: Rows, source: Rows, stream: Any) -> None:
        """By cuMemcpy2DAsync."""
        copy_rows(target, source, stream.handle)

    def follow(self, stream: Any) -> None:
        """By an event in the default stream."""
        event = self.event()
        event.record()
        stream.wait_for_event(event)

    def close(self) -> None:
        """Release the primary context."""
        self._context.detach()


class _TorchHost:
    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.array: Bytes = tensor.numpy()

    def free(self) -> None:
        self.tensor = None


class _TorchMemory:
    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.address = int(tensor.data_ptr())

    def free(self) -> None:
        self.tensor = None


class _TorchStream:
    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.handle = int(stream.cuda_stream)

    def synchronize(self) -> None:
        self.stream.synchronize()


class _TorchEvent:
    def __init__(self, event: Any) -> None:
        self.event = event

    def record(self, stream: _TorchStream) -> None:
        self.event.record(stream.stream)

    def synchronize(self) -> None:
        self.event.synchronize()


class TorchDevice:
    """torch.cuda, whose context is the primary one."""

    def __init__(self, number: int = 0) -> None:
        self._number = number
        self._torch: Any = importlib.import_module("torch")
        if not self._torch.cuda.is_available():
            raise BackendError(
                f"torch {self._torch.__version__} cannot use the GPU",
                "pip install 'vsr[cuda]', or a CUDA build of torch",
            )
        self.name = str(self._torch.cuda.get_device_name(number))
        self.place = (CUDA, number)
        self.errors: tuple[type[BaseException], ...] = (RuntimeError,)

    def active(self) -> contextlib.AbstractContextManager[None]:
        """torch makes the context current by itself."""
        context: contextlib.AbstractContextManager[None] = self._torch.cuda.device(self._number)
        return context

    def stream(self) -> _TorchStream:
        """A torch stream."""
        return _TorchStream(self._torch.cuda.Stream())

    def event(self) -> _TorchEvent:
        """A torch event that measures no time."""
        return _TorchEvent(self._torch.cuda.Event(enable_timing=False))

    def timer(self) -> _TorchEvent:
        """A torch event that measures time."""
        return _TorchEvent(self._torch.cuda.Event(enable_timing=True))

    def elapsed_ms(self, start: _TorchEvent, end: _TorchEvent) -> float:
        """By cudaEventElapsedTime."""
        return float(start.event.elapsed_time(end.event))

    def host(self, size: int) -> HostMemory:
        """A pinned tensor."""
        return _TorchHost(self._torch.empty(size, dtype=self._torch.uint8, pin_memory=True))

    def memory(self, size: int) -> DeviceMemory:
        """A tensor on the GPU."""
        return _TorchMemory(self._torch.empty(size, dtype=self._torch.uint8, device=f"cuda:{self._number}"))

    def upload(self, target: _TorchMemory, source: _TorchHost, stream: _TorchStream) -> None:
        """By `Tensor.copy_`."""
        with self._torch.cuda.stream(stream.stream):
            target.tensor.copy_(source.tensor, non_blocking=True)

    def download(self, target: _TorchHost, source: _TorchMemory, stream: _TorchStream) -> None:
        """By `Tensor.copy_`."""
        with self._torch.cuda.stream(stream.stream):
            target.tensor.copy_(source.tensor, non_blocking=True)

    def copy(self, target: Rows, source: Rows, stream: _TorchStream) -> None:
        """By cuMemcpy2DAsync: torch makes no tensor of an address."""
        copy_rows(target, source, stream.handle)

    def follow(self, stream: _TorchStream) -> None:
        """By an event in the default stream."""
        stream.stream.wait_stream(self._torch.cuda.default_stream(self._number))

    def close(self) -> None:
        """torch keeps its context."""
