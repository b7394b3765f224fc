"""Devices as the user says them, on machines with GPUs, of another count, or none."""

from __future__ import annotations

import pytest

from tests.end_to_end.command import assert_one_line, vsr
from vsr.engines.engine import choose_backend
from vsr.errors import BackendError, OptionError
from vsr.gpu import devices
from vsr.gpu.cuda_driver import Driver, probe
from vsr.gpu.devices import number_of, parse_devices


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("auto", ()),
        ("cpu", ("cpu",)),
        ("cuda", ("cuda:0",)),
        ("CUDA:2", ("cuda:2",)),
        ("cuda:1, cuda:0", ("cuda:1", "cuda:0")),
        ("all", ("cuda:0", "cuda:1", "cuda:2")),
    ],
)
def test_what_is_said_is_found(text: str, found: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count", lambda: 3)
    assert parse_devices(text) == found
    assert [number_of(name) for name in found if name != "cpu"] == [int(n[-1]) for n in found if n != "cpu"]


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:x", "cuda:0,cpu", "cuda:-1", "cuda:0,all", "rocm"])
def test_what_is_no_device_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count", lambda: 3)
    with pytest.raises(OptionError, match="allowed are auto, cpu, cuda:N, several with commas, and all"):
        parse_devices(text)


def test_devices_that_are_not_there_or_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count", lambda: 2)
    with pytest.raises(BackendError, match="device cuda:5, and the GPUs here are cuda:0, cuda:1"):
        parse_devices("cuda:0,cuda:5")
    with pytest.raises(OptionError, match="names one twice"):
        parse_devices("cuda,cuda:0")
    monkeypatch.setattr(devices, "count", lambda: "the NVIDIA driver finds no GPU")
    for text in ("all", "cuda:0"):
        with pytest.raises(BackendError, match="finds no GPU; leave it out, or say cpu"):
            parse_devices(text)


def test_a_device_is_never_silently_another() -> None:
    assert choose_backend("auto", ("cpu",))[1] == "openvino: runs on cpu"
    assert choose_backend("torch", ("cpu", "cpu"))[1] == "torch: asked for"
    with pytest.raises(BackendError, match="OpenVINO is used on the CPU, and cuda:1 was asked for"):
        choose_backend("openvino", ("cuda:1",))


@pytest.mark.skipif(isinstance(probe(), Driver), reason="there is a GPU")
def test_without_a_gpu_one_is_refused_in_one_line() -> None:
    with pytest.raises(BackendError, match=r"no backend is available on cuda:0 \(openvino: .*; torch: .*cannot use"):
        choose_backend("auto", ("cuda:0",))
    assert_one_line(vsr("upscale", "a.mp4", "-o", "b.mp4", "--device", "cuda:0"), "device 'cuda:0': no NVIDIA driver")
