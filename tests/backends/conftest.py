from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.backends.fake_gpu import GPU, FakeApi, FakeDevice, FakeGraph, FakeTensorRt
from vsr.backends import tensorrt
from vsr.gpu import build, tensorrt_api
from vsr.gpu.cuda_driver import Driver


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeDevice]]:
    """A machine with a fake GPU, as `TensorRtBackend` sees it; the devices that were opened."""
    devices: list[FakeDevice] = []

    def open_fake(number: int) -> FakeDevice:
        devices.append(FakeDevice(number=number))
        return devices[-1]

    def choose(*, without_gpu: bool) -> Any:
        assert not without_gpu
        return FakeTensorRt(devices[-1] if devices else FakeDevice())

    def deserialise(self: Any, data: bytes) -> Any:
        self.device = devices[-1]
        return FakeApi.deserialise(self, data)

    for module in (tensorrt, build):
        monkeypatch.setattr(module, "probe", lambda number=0: Driver(replace(GPU, number=number), 1 << 34, (13, 0)))
    monkeypatch.setattr(build, "default_folder", lambda: tmp_path / "engines")
    monkeypatch.setattr(FakeTensorRt, "deserialise", deserialise)
    monkeypatch.setattr(tensorrt, "open_device", open_fake)
    monkeypatch.setattr(tensorrt_api, "choose_runtime", choose)
    monkeypatch.setattr(tensorrt.RecordedGraph, "begin", lambda handle: FakeGraph(devices[-1], handle))
    yield devices
    for device in devices:
        assert device.closed
        assert device.memories == {}
