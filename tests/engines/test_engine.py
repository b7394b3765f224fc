"""Choosing a backend: by name or automatically, always with the reason, never silently another."""

from __future__ import annotations

import pytest

from vsr.engines import engine as engine_module
from vsr.engines.compile import open_engine
from vsr.engines.engine import BACKENDS, EngineSpec, choose_backend, load_backend
from vsr.errors import BackendError, OptionError
from vsr.frame import PIXEL_FORMATS, ColorSpec
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.model import BICUBIC, Model

GRAPH = FrameGraphSpec(PIXEL_FORMATS["gray"], ColorSpec(), 2, 4, 4)


class FakeBackend:
    def __init__(self, name: str, reason: str | None = None, gpu: str | None = None) -> None:
        self.name, self.reason, self.gpu = name, reason, gpu
        self.precisions = ("fp32",)

    def unavailable_reason(self) -> str | None:
        return self.reason

    def gpu_name(self) -> str | None:
        return self.gpu


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeBackend]:
    """A machine without a GPU on which every backend works; tests change it."""
    found = {name: FakeBackend(name) for name in BACKENDS}
    monkeypatch.setattr(engine_module, "load_backend", lambda name: found[name])
    monkeypatch.setattr(engine_module, "_nvidia_driver_present", lambda: False)
    return found


def test_without_a_gpu_openvino_is_chosen(machine: dict[str, FakeBackend]) -> None:
    backend, reason = choose_backend()
    assert backend.name == "openvino"
    assert reason.startswith("openvino: ")
    assert "no CUDA GPU" in reason


def test_a_gpu_that_torch_can_use_comes_first(machine: dict[str, FakeBackend], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_nvidia_driver_present", lambda: True)
    monkeypatch.setattr(engine_module.importlib.util, "find_spec", lambda _: object())
    machine["torch"].gpu = "NVIDIA Something 9000"
    backend, reason = choose_backend()
    assert backend.name == "torch"
    assert "NVIDIA Something 9000" in reason


def test_a_driver_without_a_gpu_for_torch_changes_nothing(
    machine: dict[str, FakeBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_nvidia_driver_present", lambda: True)
    assert choose_backend()[0].name == "openvino"


def test_without_openvino_torch_is_the_last_resort_and_the_reason_says_why(machine: dict[str, FakeBackend]) -> None:
    machine["openvino"].reason = "the package openvino is not installed"
    backend, reason = choose_backend()
    assert backend.name == "torch"
    assert "openvino is not installed" in reason


def test_without_any_backend_every_reason_is_given(machine: dict[str, FakeBackend]) -> None:
    machine["openvino"].reason, machine["torch"].reason = "no wheel", "no disk"
    with pytest.raises(BackendError, match=r"openvino: no wheel.*torch: no disk"):
        choose_backend()


def test_a_backend_asked_for_is_never_replaced(machine: dict[str, FakeBackend]) -> None:
    machine["torch"].reason = "the package torch is not installed; pip install 'vsr[torch]'"
    with pytest.raises(BackendError, match=r"backend torch is not available.*pip install"):
        choose_backend("torch")
    assert choose_backend("openvino")[1] == "openvino: asked for"


@pytest.mark.parametrize("name", ["", "cuda", "OpenVINO"])
def test_an_unknown_backend_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(OptionError, match=r"there are auto, openvino, torch, tensorrt"):
        load_backend(name)


def test_an_adapter_that_cannot_be_imported_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engine_module.BACKENDS, "broken", "vsr.backends.no_such_module:Thing")
    with pytest.raises(BackendError, match="backend broken cannot be imported"):
        load_backend("broken")


@pytest.mark.parametrize(("precision", "threads"), [("fp8", 0), ("", 0), ("FP32", 0), ("auto", -1)])
def test_impossible_specifications_are_refused(precision: str, threads: int) -> None:
    with pytest.raises(OptionError, match=r"precision|threads"):
        EngineSpec(Model(BICUBIC, 2), GRAPH, precision, threads)


def test_opening_an_engine_tells_backend_and_reason() -> None:
    opened = open_engine(EngineSpec(Model(BICUBIC, 2), GRAPH, threads=1), "openvino")
    opened.engine.close()
    assert (opened.backend, opened.backend_reason) == ("openvino", "openvino: asked for")
    assert opened.precision_reason == "fp32: the only one for this model here"
