"""The precision nobody asked for: measured once, kept, and never one that rounds more than the pictures allow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from vsr.engines import precision, timing
from vsr.engines.engine import DoneTicket, EngineSpec
from vsr.engines.precision import settle
from vsr.errors import BackendError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes
from vsr.graphs.chain import join, load_chain, quantised_form
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.model import BICUBIC, Model, load_model, shipped_models

CLOCK = [0.0]


class FakeBackend:
    """Takes the given milliseconds a picture in each precision; None: refuses to compile."""

    name = "fake"
    exact_tiles: tuple[str, ...] = ()

    def __init__(self, **milliseconds: float | None) -> None:
        self.milliseconds = milliseconds
        self.precisions = tuple(milliseconds)
        self.device = "fake device"
        self.compiled: list[str] = []
        self.open = 0

    def identity(self) -> str:
        return self.device

    def unavailable_reason(self) -> None:
        return None

    def gpu_name(self) -> None:
        return None

    def compile(self, spec: EngineSpec) -> Any:
        wanted = self.milliseconds[spec.precision]
        if wanted is None:
            raise BackendError("no such kernel")
        self.compiled.append(spec.precision)
        self.open += 1
        return FakeEngine(self, wanted)


class FakeEngine:
    description = "fake"
    depth = 2

    def __init__(self, backend: FakeBackend, milliseconds: float) -> None:
        self.backend, self.milliseconds = backend, milliseconds

    def submit(self, planes: Planes) -> DoneTicket:
        CLOCK[0] += self.milliseconds / 1000
        return DoneTicket(planes)

    def close(self) -> None:
        self.backend.open -= 1


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes only while an engine computes."""
    monkeypatch.setattr(timing.time, "perf_counter", lambda: CLOCK[0])


def spec_of(model: Model | None = None, pix_fmt: str = "yuv420p", wanted: str = "auto") -> EngineSpec:
    model = model or load_model("fast", 2)
    return EngineSpec(model, FrameGraphSpec(PIXEL_FORMATS[pix_fmt], ColorSpec(), model.scale, 64, 48), wanted, 1)


@pytest.mark.parametrize(
    ("milliseconds", "best"),
    [
        ({"fp32": 8.0, "int8": 2.0}, "int8"),
        ({"fp32": 2.0, "int8": 6.0}, "fp32"),
        ({"fp32": 3.0, "int8": 2.9}, "fp32"),
        ({"fp32": 8.0, "bf16": 2.0, "int8": 5.0}, "bf16"),
        ({"fp32": 5.0, "int8": None}, "fp32"),
    ],
)
def test_the_fastest_is_taken_where_it_is_worth_while(milliseconds: dict[str, float | None], best: str) -> None:
    backend = FakeBackend(**milliseconds)
    settled = settle(backend, spec_of())
    assert settled.spec.precision == best
    assert settled.reason.startswith(f"{best}: fastest on this machine")
    assert (settled.spec.model.metadata.get("vsr.precision") == "int8") is (best == "int8")
    assert ("dB less than fp32" in settled.reason) is (best == "int8")
    assert backend.open == 0, "engines left open"


def test_the_loss_on_held_out_pictures_is_told_where_the_model_states_it(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeBackend(fp32=8.0, int8=2.0)
    spec = spec_of()
    small = load_model(spec.model.name, spec.model.scale, "int8")
    stated = replace(small, metadata={**small.metadata, "vsr.int8_loss_db": "0.0432"})
    monkeypatch.setattr(precision, "quantised_form", lambda _: stated)
    assert "; 0.04 dB less than fp32 on pictures held out from training" in settle(backend, spec).reason


def test_the_measurement_is_made_once_and_again_for_another_machine() -> None:
    backend = FakeBackend(fp32=4.0, int8=1.0)
    first = settle(backend, spec_of())
    made = len(backend.compiled)
    assert settle(backend, spec_of()).reason == first.reason
    assert len(backend.compiled) == made
    backend.device = "another device"
    settle(backend, spec_of())
    assert len(backend.compiled) == 2 * made


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"milliseconds": 3}',
        '{"milliseconds": {"int8": 1}}',
        '{"milliseconds": {"fp32": "x", "int8": 1}}',
    ],
)
def test_a_cache_file_that_is_not_ours_is_measured_over(content: str) -> None:
    backend = FakeBackend(fp32=4.0, int8=1.0)
    settle(backend, spec_of())
    made = len(backend.compiled)
    (file,) = (Path(platformdirs.user_cache_dir("vsr")) / "precision").iterdir()
    file.write_text(content)
    assert settle(backend, spec_of()).spec.precision == "int8"
    assert len(backend.compiled) == 2 * made
    assert json.loads(file.read_text())["milliseconds"].keys() == {"fp32", "int8"}


def test_without_a_cache_folder_the_job_goes_on(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert settle(FakeBackend(fp32=4.0, int8=1.0), spec_of()).spec.precision == "int8"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (spec_of(pix_fmt="yuv420p10le"), "fp32: pictures of more than 8 bits"),
        (spec_of(Model(BICUBIC, 2)), "fp32: the only one for this model here"),
        (spec_of(wanted="fp32"), "fp32: asked for"),
        (spec_of(load_model("fast", 2, "int8"), wanted="int8"), "int8: asked for"),
    ],
)
def test_nothing_is_measured_where_there_is_no_choice(spec: EngineSpec, reason: str) -> None:
    backend = FakeBackend(fp32=1.0, int8=0.1)
    assert settle(backend, spec).reason == reason
    assert backend.compiled == []


def test_a_model_of_ones_own_is_never_replaced_by_a_shipped_one() -> None:
    fast = load_model("fast", 2)
    assert quantised_form(fast) is not None
    assert quantised_form(Model("fast", 2, fast.onnx_bytes + b"\n")) is None


def test_a_product_has_an_int8_form_where_each_of_its_parts_has_one() -> None:
    product = load_chain("fast", 6)
    form = quantised_form(product)
    assert form is not None
    assert form.onnx_bytes == load_chain("fast", 6, "int8").onnx_bytes
    assert (form.scale, form.name) == (6, product.name)
    two = load_model("fast", 2)
    assert quantised_form(join([two, replace(two, name="own.onnx")])) is None
    chosen = settle(FakeBackend(fp32=4.0, int8=1.0), spec_of(product)).spec
    assert (chosen.precision, chosen.model.onnx_bytes) == ("int8", form.onnx_bytes)


def test_every_shipped_int8_model_belongs_to_the_fp32_model_beside_it() -> None:
    for name, scale in shipped_models(quantised=True):
        assert quantised_form(load_model(name, scale)) is not None, f"{name} x{scale}: run scripts/quantise again"
