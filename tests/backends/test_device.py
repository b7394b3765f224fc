"""The two device interfaces, against stand-ins of their packages."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest

from vsr.backends import device as device_module
from vsr.backends.device import PycudaDevice, TorchDevice
from vsr.errors import BackendError
from vsr.gpu.dlpack import Rows


class FakePycuda(types.ModuleType):
    """pycuda.driver's names, as in its sources (src/wrapper/wrap_cudadrv.cpp of 2026.1)."""

    class Error(Exception):
        pass

    class event_flags:  # noqa: N801
        DISABLE_TIMING = 2

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.calls: list[str] = []
        calls = self.calls

        class Context:
            def push(self) -> None:
                calls.append("push")

            @staticmethod
            def pop() -> None:
                calls.append("pop")

            def detach(self) -> None:
                calls.append("detach")

        class Device:
            def __init__(self, _: int) -> None:
                pass

            def retain_primary_context(self) -> Context:
                return Context()

            def name(self) -> str:
                return "Fake"

        self.Device = Device

        class Stream:
            handle = 7

            def __init__(self, flags: int) -> None:
                calls.append(f"stream {flags}")

            def wait_for_event(self, event: Any) -> None:
                calls.append(f"wait for {event.at}")

        class Event:
            at = "nothing"

            def __init__(self, flags: int) -> None:
                self.flags = flags

            def record(self, stream: Any = None) -> None:
                self.at = "the default stream" if stream is None else "a stream"

        self.Stream, self.Event = Stream, Event

    def init(self) -> None:
        self.calls.append("init")

    def pagelocked_empty(self, size: int, dtype: Any) -> Any:
        class Base(np.ndarray):
            pass

        owner = np.zeros(size, dtype).view(Base)
        owner.free = lambda: self.calls.append("free host")  # type: ignore[attr-defined]
        return np.ndarray.__new__(Base, size, dtype, owner)

    def mem_alloc(self, size: int) -> Any:
        calls = self.calls

        class Allocation:
            def __int__(self) -> int:
                return 0xABC

            def free(self) -> None:
                calls.append("free device")

        return Allocation()

    def memcpy_htod_async(self, dest: int, src: Any, stream: Any) -> None:
        self.calls.append(f"up {dest:x} {len(src)} {stream.handle}")

    def memcpy_dtoh_async(self, dest: Any, src: int, stream: Any) -> None:
        self.calls.append(f"down {src:x} {len(dest)} {stream.handle}")


def test_pycuda_is_used_by_its_primary_context_only(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakePycuda()
    monkeypatch.setitem(sys.modules, "pycuda", types.ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake)
    copies: list[Any] = []
    monkeypatch.setattr(device_module, "copy_rows", lambda *arguments: copies.append(arguments))
    device = PycudaDevice(1)
    assert device.place == (2, 1)  # kDLCUDA
    with device.active():
        host, memory, stream = device.host(16), device.memory(16), device.stream()
        device.upload(memory, host, stream)  # type: ignore[arg-type]
        device.download(host, memory, stream)  # type: ignore[arg-type]
        device.follow(stream)
        device.copy(Rows(1, 2, 2, 1), Rows(3, 2, 2, 1), stream)
        assert device.event().flags == 2
        memory.free()
        host.free()
    with pytest.raises(ZeroDivisionError), device.active():
        1 / 0  # noqa: B018
    device.close()
    assert fake.calls == [
        "init",
        "push",
        "stream 1",  # CU_STREAM_NON_BLOCKING
        "up abc 16 7",
        "down abc 16 7",
        "wait for the default stream",
        "free device",
        "free host",
        "pop",
        "push",
        "pop",
        "detach",
    ]
    assert copies == [(Rows(1, 2, 2, 1), Rows(3, 2, 2, 1), 7)]
    assert "pycuda.autoinit" not in sys.modules


def test_a_torch_without_cuda_is_told_apart_from_none() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this torch has a GPU")
    with pytest.raises(BackendError, match=r"torch .* cannot use the GPU; pip install 'vsr\[cuda\]'"):
        TorchDevice()


def test_torch_has_what_a_stream_needs_that_follows_another() -> None:
    import torch

    assert "wait_stream" in dir(torch.cuda.Stream)
    assert callable(torch.cuda.default_stream)
