"""Kernels compiled on the GPU: once for an engine, never while work is recorded, not trusted where stale."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import tensorrt_rtx

from tests.backends import reference
from tests.backends.fake_gpu import GPU, FakeApi, FakeDevice, FakeGraph
from tests.backends.reference import picture, worst_difference
from vsr.backends.tensorrt import TensorRtEngine
from vsr.engines.engine import EngineSpec
from vsr.frame import ColorSpec
from vsr.gpu import tensorrt_api
from vsr.gpu.build import ANY_SIZE, EngineRequest
from vsr.gpu.engine_store import Profile
from vsr.graphs.frame_graph import FrameGraphSpec, build_frame_graph
from vsr.model import BICUBIC, Model

COLOR = ColorSpec()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vsr" / "kernels"


def compilations(
    *, name: str = "Fake 9000", version: str = "1.0", dynamic: bool = False, compiles: bool = True, graphs: bool = True
) -> tuple[int, list[str]]:
    """Loads an engine, runs three frames and closes it; how often it compiled, and what was said."""
    planes, model, notes = picture(1, "gray", 64, 64), Model(BICUBIC, 2), list[str]()
    device: Any = FakeDevice()
    device.name = name
    api: Any = FakeApi(device)
    api.version, api.compiles_kernels = version, compiles
    size = (planes.width, planes.height)
    profile = ANY_SIZE if dynamic else Profile(size, size, size)
    request = EngineRequest(model, GPU, "gray", COLOR, "fp32", profile)
    data = build_frame_graph(model, request.spec, request.form).SerializeToString()
    spec = EngineSpec(model, FrameGraphSpec(planes.format, COLOR, 2, *size), "fp32", 1, on_note=notes.append)
    record = (lambda handle: FakeGraph(device, handle)) if graphs else None
    engine = TensorRtEngine(api, device, data, spec, request, 3, record)
    try:
        for _ in range(3):
            got = engine.submit(planes).result()
            assert worst_difference(got, reference.frame_graph(planes, COLOR, 2)) <= 1
    finally:
        engine.close()  # the device with it
    return sum(what == "compile" for what, _ in device.log), notes


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("graphs", [False, True])
def test_all_lanes_and_the_next_start_share_what_was_compiled_once(dynamic: bool, graphs: bool) -> None:
    assert compilations(dynamic=dynamic, graphs=graphs) == (1, [])
    assert compilations(dynamic=dynamic, graphs=graphs) == (0, [])


def test_kernels_are_for_one_engine_version_and_gpu() -> None:
    assert compilations()[0] == 1
    assert compilations(dynamic=True) == (1, [])
    assert compilations(version="1.1") == (1, [])
    assert compilations(name="Fake 9001") == (1, [])
    assert compilations() == (0, [])


def test_what_the_runtime_refuses_is_compiled_again_with_a_line_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an update of the driver, which the key does not hold."""
    compilations()
    plain = FakeDevice.__init__

    def updated(self: Any, *arguments: Any, **options: Any) -> None:
        plain(self, *arguments, **options)
        self.driver = 2

    monkeypatch.setattr(FakeDevice, "__init__", updated)
    said = ["kernels are compiled again: fake-rt 1.0 does not take those that were kept"]
    assert compilations() == (1, said)
    assert compilations() == (0, [])


@pytest.mark.parametrize("damage", [b"", b"x", b"x" * 4000])
def test_a_damaged_file_counts_as_none(damage: bytes, folder: Path) -> None:
    compilations()
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage)
    assert compilations() == (1, [])
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-1])
    assert compilations() == (1, [])


def test_a_folder_that_cannot_be_written_costs_a_compilation_and_nothing_else(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("a file")
    assert compilations() == (1, [])
    assert compilations() == (1, [])


def test_two_starts_at_once_both_work(folder: Path) -> None:
    done: list[tuple[int, list[str]]] = []
    threads = [threading.Thread(target=lambda: done.append(compilations())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(done) == 3
    assert [notes for _, notes in done] == [[], [], []]
    assert len(list(folder.iterdir())) == 1
    assert compilations() == (0, [])


def test_a_runtime_that_compiles_nothing_is_left_alone(folder: Path) -> None:
    assert compilations(compiles=False) == (0, [])
    assert not folder.exists()


def test_the_real_package_has_what_is_asked_of_it() -> None:
    api = tensorrt_api.load("tensorrt-rtx")
    assert api.compiles_kernels
    assert api.eager_kernels == tensorrt_rtx.DynamicShapesKernelSpecializationStrategy.EAGER
    assert isinstance(vars(tensorrt_rtx.IRuntimeConfig)["dynamic_shapes_kernel_specialization_strategy"], property)
