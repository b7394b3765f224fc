"""The driver, asked through a stand-in of its C library."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import pytest

from vsr.errors import BackendError
from vsr.gpu import cuda_driver
from vsr.gpu.cuda_driver import Driver
from vsr.gpu.dlpack import Rows
from vsr.gpu.names import Gpu


class FakeLibcuda:
    """The driver's C functions, writing through ctypes pointers as the real ones do."""

    def __init__(self, fail: str = "", code: int = 0, devices: int = 1) -> None:
        self.fail, self.code, self.devices = fail, code, devices

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == self.fail:
                return self.code
            values = {
                "cuDeviceGetCount": self.devices,
                "cuDeviceGet": 0,
                "cuDriverGetVersion": 13010,
                "cuDeviceTotalMem_v2": 1 << 34,
                "cuDeviceGetAttribute": 8 if 75 in arguments[1:] else 9,
            }
            if name == "cuDeviceGetName":
                arguments[0].value = b"NVIDIA Something"
            elif name == "cuGetErrorName":
                arguments[1]._obj.value = b"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"
            elif name in values:
                arguments[0]._obj.value = values[name]
            return 0

        return call


def probed(monkeypatch: pytest.MonkeyPatch, library: Any, number: int = 0) -> Driver | str:
    monkeypatch.setattr(cuda_driver, "library", library)
    for question in (cuda_driver.probe, cuda_driver.count):
        question.cache_clear()
    try:
        return cuda_driver.probe(number)
    finally:
        for question in (cuda_driver.probe, cuda_driver.count):
            question.cache_clear()


def test_the_driver_is_asked_for_the_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = probed(monkeypatch, FakeLibcuda)
    assert found == Driver(Gpu((8, 9), "NVIDIA Something"), 1 << 34, (13, 1))


def test_one_of_several_gpus_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(probed(monkeypatch, lambda: FakeLibcuda(devices=2), 1), Driver)
    assert "finds 2 GPUs, and cuda:2 is not" in str(probed(monkeypatch, lambda: FakeLibcuda(devices=2), 2))


def test_a_primary_context_is_pushed_and_popped_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Recording(FakeLibcuda):
        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return super().__getattr__(name)

    library = Recording()
    monkeypatch.setattr(cuda_driver, "library", lambda: library)
    with pytest.raises(ZeroDivisionError), cuda_driver.primary_context(1):
        calls.append(f"inside {1 / 0}")
    expected = "cuDeviceGet cuDevicePrimaryCtxRetain cuCtxPushCurrent_v2 cuCtxPopCurrent_v2"
    assert calls == [*expected.split(), "cuDevicePrimaryCtxRelease_v2"]
    broken = FakeLibcuda("cuCtxPushCurrent_v2", 2)
    monkeypatch.setattr(cuda_driver, "library", lambda: broken)
    with pytest.raises(BackendError, match="cuCtxPushCurrent failed"), cuda_driver.primary_context(0):
        pytest.fail("there is no context")


def test_a_driver_that_is_missing_empty_or_broken_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        return ctypes.CDLL("libnothing-of-that-name.so.1")

    assert "libcuda.so.1 is missing" in str(probed(monkeypatch, missing))
    assert "finds no GPU" in str(probed(monkeypatch, lambda: FakeLibcuda(devices=0)))
    broken = probed(monkeypatch, lambda: FakeLibcuda("cuInit", 803))
    assert "cuInit failed with CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" in str(broken)


def test_rows_are_copied_between_pitches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver reads CUDA_MEMCPY2D_v2: 16 members, 128 bytes, as in cuda.h."""
    seen: list[tuple[bytes, int]] = []

    class Recording(FakeLibcuda):
        def cuMemcpy2DAsync_v2(self, copy: Any, stream: Any) -> int:  # noqa: N802
            seen.append((bytes(copy._obj), stream.value))
            return self.code

    library = Recording()
    monkeypatch.setattr(cuda_driver, "library", lambda: library)
    cuda_driver.copy_rows(Rows(0x9000, 1024, 854, 480), Rows(0x5000, 896, 854, 480), 7)
    source = struct.pack("<QQI4xQQQQ", 0, 0, 2, 0, 0x5000, 0, 896)
    target = struct.pack("<QQI4xQQQQ", 0, 0, 2, 0, 0x9000, 0, 1024)
    assert seen == [(source + target + struct.pack("<QQ", 854, 480), 7)]
    with pytest.raises(ValueError, match="into"):
        cuda_driver.copy_rows(Rows(0x9000, 1024, 854, 480), Rows(0x5000, 896, 854, 240), 7)
    library.code = 1
    with pytest.raises(BackendError, match="cuMemcpy2DAsync failed with"):
        cuda_driver.copy_rows(Rows(0, 4, 4, 1), Rows(0, 4, 4, 1), 7)
