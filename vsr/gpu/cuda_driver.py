"""The NVIDIA driver, asked directly: is there a GPU, which one, and graphs of recorded work.

By ctypes on libcuda, because the question must be answered before a CUDA package is imported: without a GPU TensorRT
returns nothing where it should fail, and one of its runtimes crashes. Signatures are those of the CUDA driver API.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from vsr.errors import BackendError
from vsr.gpu.dlpack import Rows
from vsr.gpu.names import Gpu

CUDA_SUCCESS: Final = 0
CAPABILITY_MAJOR: Final = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
CAPABILITY_MINOR: Final = 76
CAPTURE_THREAD_LOCAL: Final = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
MEMORY_OF_DEVICE: Final = 2  # CU_MEMORYTYPE_DEVICE


@dataclass(frozen=True)
class Driver:
    """What the driver says of itself and of a GPU.

    Attributes:
        gpu: one of those that CUDA_VISIBLE_DEVICES leaves.
        memory: of it, in bytes.
        cuda: the newest CUDA version that the driver knows, major and minor.
    """

    gpu: Gpu
    memory: int
    cuda: tuple[int, int]


@cache
def count() -> int | str:
    """How many GPUs there are, or why there is none, in one line."""
    try:
        cuda = library()
    except OSError:
        return "no NVIDIA driver is installed (libcuda.so.1 is missing)"
    found = ctypes.c_int()
    try:
        check(cuda.cuInit(0), "cuInit")
        check(cuda.cuDeviceGetCount(ctypes.byref(found)), "cuDeviceGetCount")
    except BackendError as error:
        return f"the NVIDIA driver is there and does not work: {error.message}"
    return found.value or "the NVIDIA driver finds no GPU"


@cache
def probe(number: int = 0) -> Driver | str:
    """The driver and one of its GPUs, or why there is none, in one line."""
    there = count()
    if isinstance(there, str):
        return there
    if number >= there:
        return f"the NVIDIA driver finds {there} GPUs, and cuda:{number} is not among them"
    cuda = library()
    try:
        device, version, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
        check(cuda.cuDeviceGet(ctypes.byref(device), number), "cuDeviceGet")
        check(cuda.cuDriverGetVersion(ctypes.byref(version)), "cuDriverGetVersion")
        name = ctypes.create_string_buffer(256)
        check(cuda.cuDeviceGetName(name, len(name), device), "cuDeviceGetName")
        check(cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device), "cuDeviceTotalMem")
        capability = []
        for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR):
            value = ctypes.c_int()
            check(cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device), "cuDeviceGetAttribute")
            capability.append(value.value)
    except BackendError as error:
        return f"the NVIDIA driver is there and does not work: {error.message}"
    gpu = Gpu((capability[0], capability[1]), name.value.decode(errors="replace"), number)
    return Driver(gpu, memory.value, (version.value // 1000, version.value % 1000 // 10))


@contextlib.contextmanager
def primary_context(number: int) -> Iterator[None]:
    """Make the primary context of a GPU this thread's, as for libraries that use whichever is current.

    Raises:
        BackendError: the driver refuses.
    """
    cuda = library()
    device, context, popped = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
    check(cuda.cuDeviceGet(ctypes.byref(device), number), "cuDeviceGet")
    check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "cuDevicePrimaryCtxRetain")
    try:
        check(cuda.cuCtxPushCurrent_v2(context), "cuCtxPushCurrent")
        try:
            yield
        finally:
            cuda.cuCtxPopCurrent_v2(ctypes.byref(popped))
    finally:
        cuda.cuDevicePrimaryCtxRelease_v2(device)


def library() -> Any:
    """The driver's library.

    Raises:
        OSError: it is not there.
    """
    return ctypes.CDLL("libcuda.so.1")


def check(code: int, call: str) -> None:
    """See that a call of the driver succeeded.

    Raises:
        BackendError: it did not; the message has the driver's own name for the error.
    """
    if code == CUDA_SUCCESS:
        return
    name = ctypes.c_char_p()
    library().cuGetErrorName(code, ctypes.byref(name))
    text = name.value.decode() if name.value else f"error {code}"
    raise BackendError(f"CUDA: {call} failed with {text}")


class _End(ctypes.Structure):
    """Half of CUDA_MEMCPY2D: where to copy from, or to."""

    _fields_ = (
        ("x_in_bytes", ctypes.c_size_t),
        ("y", ctypes.c_size_t),
        ("kind", ctypes.c_uint),
        ("host", ctypes.c_void_p),
        ("device", ctypes.c_void_p),
        ("array", ctypes.c_void_p),
        ("pitch", ctypes.c_size_t),
    )


class _Copy2D(ctypes.Structure):
    """CUDA_MEMCPY2D, version 2."""

    _fields_ = (("source", _End), ("target", _End), ("width", ctypes.c_size_t), ("height", ctypes.c_size_t))


def copy_rows(target: Rows, source: Rows, stream: int) -> None:
    """Put a copy of rows of bytes, within the current GPU's memory, into a stream.

    Raises:
        BackendError: the driver refuses.
        ValueError: they are not as many and as long.
    """
    if (target.width, target.height) != (source.width, source.height):
        raise ValueError(f"{source} into {target}")
    ends = [_End(kind=MEMORY_OF_DEVICE, device=rows.address, pitch=rows.pitch) for rows in (source, target)]
    copy = _Copy2D(*ends, source.width, source.height)
    check(library().cuMemcpy2DAsync_v2(ctypes.byref(copy), ctypes.c_void_p(stream)), "cuMemcpy2DAsync")


class RecordedGraph:
    """Work that was put into a stream once and can be launched again as a whole.

    Between `begin` and `end` the caller puts work into the stream; `launch` does it, as often as wanted.

    Args:
        stream: handle of a stream that is not the default one, in the current context.
    """

    def __init__(self, stream: int) -> None:
        self._stream = ctypes.c_void_p(stream)
        self._executable = ctypes.c_void_p()
        self._cuda = library()

    @classmethod
    def begin(cls, stream: int) -> RecordedGraph:
        """Start recording: what this thread puts into `stream` is kept, and not done.

        Raises:
            BackendError: the driver refuses.
        """
        graph = cls(stream)
        check(graph._cuda.cuStreamBeginCapture_v2(graph._stream, CAPTURE_THREAD_LOCAL), "cuStreamBeginCapture")
        return graph

    def end(self) -> None:
        """Stop recording.

        Raises:
            BackendError: something was called that cannot be recorded; the stream is usable again.
        """
        recorded = ctypes.c_void_p()
        check(self._cuda.cuStreamEndCapture(self._stream, ctypes.byref(recorded)), "cuStreamEndCapture")
        try:
            code = self._cuda.cuGraphInstantiateWithFlags(
                ctypes.byref(self._executable), recorded, ctypes.c_ulonglong(0)
            )
            check(code, "cuGraphInstantiate")
        finally:
            self._cuda.cuGraphDestroy(recorded)

    def launch(self, stream: int) -> None:
        """Do the recorded work, in `stream`.

        Raises:
            BackendError: the driver refuses.
        """
        check(self._cuda.cuGraphLaunch(self._executable, ctypes.c_void_p(stream)), "cuGraphLaunch")

    def close(self) -> None:
        """Free it."""
        if self._executable:
            self._cuda.cuGraphExecDestroy(self._executable)
            self._executable = ctypes.c_void_p()
