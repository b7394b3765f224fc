"""The doctor: it looks at everything, never fails, and says how to get what is missing."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from typing import Any

import pytest
from av.codec import hwaccel

from vsr import doctor
from vsr.doctor import Finding, examine, to_dict
from vsr.engines.engine import BACKENDS
from vsr.errors import BackendError
from vsr.gpu.cuda_driver import Driver
from vsr.gpu.names import Gpu
from vsr.model import shipped_models
from vsr.writing.encoders import ENCODERS


def by_topic(findings: list[Finding]) -> dict[str, list[Finding]]:
    topics: dict[str, list[Finding]] = {}
    for finding in findings:
        topics.setdefault(finding.topic, []).append(finding)
    return topics


def test_everything_is_looked_at() -> None:
    topics = by_topic(examine())
    assert set(topics) == {"system", "package", "cpu", "backend", "gpu", "tensorrt", "decoder", "encoder", "model"}
    assert {f.name for f in topics["encoder"]} == set(ENCODERS)
    assert {f.name for f in topics["backend"]} == {*BACKENDS, "automatic choice"}
    assert {f.name for f in topics["model"]} == {f"x{s}" for _, s in shipped_models()}
    versions = {f.name: f.detail for f in topics["package"]}
    for name in ("av", "numpy", "onnx"):
        assert versions[name] == importlib.metadata.version(name)
    assert all(f.detail for f in examine())
    assert all("\n" not in f.detail for f in examine())


def test_the_report_is_plain_json() -> None:
    report = json.loads(json.dumps(to_dict(examine())))
    assert set(report) == {"version", "findings"}
    assert all(set(f) == {"topic", "name", "ok", "detail"} for f in report["findings"])


def test_a_missing_package_comes_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    for finding in by_topic(examine())["package"]:
        assert not finding.ok
        assert finding.detail == f"pip install {finding.name}"


def test_a_missing_encoder_is_named_with_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "library_formats", lambda _: None)
    findings = by_topic(examine())["encoder"]
    assert all(not f.ok and ENCODERS[f.name].library in f.detail and "pip install" in f.detail for f in findings)


def test_a_backend_that_fails_is_a_finding_and_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise BackendError(f"backend {name} cannot be imported: libfoo.so")

    monkeypatch.setattr(doctor, "load_backend", broken)
    monkeypatch.setattr(doctor, "choose_backend", lambda: broken("any"))
    findings = by_topic(examine())["backend"]
    assert len(findings) == len(BACKENDS) + 1
    assert all(not f.ok and "libfoo.so" in f.detail for f in findings)


def test_without_a_driver_a_gpu_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    (finding,) = by_topic(examine())["gpu"]
    assert not finding.ok
    assert "optional" in finding.detail


def test_every_gpu_is_listed_with_what_torch_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "NVIDIA H200, 570.1, 143771 MiB\nNVIDIA L4, 570.1, 23034 MiB\n"
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "nvidia-smi")
    real = subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        if command[0] == "nvidia-smi":
            return subprocess.CompletedProcess(command, 0, stdout=text)
        return real(command, **options)

    monkeypatch.setattr(doctor.subprocess, "run", run)
    findings = by_topic(examine())["gpu"]
    assert [f.detail for f in findings[:2]] == text.strip().splitlines()
    assert findings[2].name == "used by torch"


def test_a_driver_that_hangs_or_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "nvidia-smi")

    def run(command: list[str], **_: Any) -> Any:
        raise subprocess.TimeoutExpired(command, 20)

    monkeypatch.setattr(doctor.subprocess, "run", run)
    (finding,) = by_topic(examine())["gpu"]
    assert not finding.ok
    assert "nvidia-smi fails" in finding.detail


def test_without_models_the_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "shipped_models", list)
    (finding,) = by_topic(examine())["model"]
    assert not finding.ok
    assert "reinstall" in finding.detail


def test_what_nvdec_decodes_or_why_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "probe", lambda: "the NVIDIA driver finds no GPU")
    (found,) = by_topic(examine())["decoder"]
    assert (found.ok, found.detail) == (False, "the NVIDIA driver finds no GPU; the CPU decodes")
    monkeypatch.setattr(doctor, "probe", lambda: Driver(Gpu((9, 0), "NVIDIA H200"), 140 << 30, (13, 0)))
    (found,) = by_topic(examine())["decoder"]
    assert (found.ok, found.detail) == (True, "h264, hevc, vp8, vp9 (--hw decode or full)")  # no AV1 on Hopper
    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["qsv"])
    (found,) = by_topic(examine())["decoder"]
    assert not found.ok
    assert "pip install --force-reinstall av; the CPU decodes" in found.detail


def tensorrt_findings() -> dict[str, Finding]:
    return {f.name: f for f in by_topic(examine())["tensorrt"]}


def test_each_part_of_tensorrt_is_there_or_comes_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "probe", lambda: "no NVIDIA driver is installed (libcuda.so.1 is missing)")
    found = tensorrt_findings()
    assert found["tensorrt-rtx"].detail.startswith(importlib.metadata.version("tensorrt-rtx"))
    for name, (extra, _) in doctor.TENSORRT_PARTS.items():
        assert found[name].ok or f"pip install 'vsr[{extra}]'" in found[name].detail
    assert not found["driver"].ok
    assert "libcuda.so.1 is missing); engines are built without one" in found["driver"].detail


def test_a_driver_is_described_and_one_too_old_is_told_which_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu((8, 9), "NVIDIA L4")
    monkeypatch.setattr(doctor, "probe", lambda: Driver(gpu, 24 << 30, (13, 0)))
    assert tensorrt_findings()["driver"].detail == "CUDA 13.0, NVIDIA L4 (sm_89), 24 GiB"
    monkeypatch.setattr(doctor, "probe", lambda: Driver(gpu, 24 << 30, (12, 4)))
    finding = tensorrt_findings()["driver"]
    assert not finding.ok
    assert "knows CUDA 12.4, and tensorrt-rtx needs 13.0; update the driver to 580" in finding.detail
