"""What an engine's manifest says of its speed and of its distance from fp32: measured where it runs, and only there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.backends import onnx_models
from tests.backends.fake_gpu import GPU, FakeDevice
from vsr.backends import tensorrt
from vsr.backends.tensorrt import TensorRtBackend, measure_built
from vsr.engines.engine import EngineSpec
from vsr.frame import PIXEL_FORMATS, ColorSpec
from vsr.gpu import build
from vsr.gpu.build import EngineRequest, build_engine
from vsr.gpu.engine_store import Profile, manifest_path, refusal
from vsr.gpu.names import Gpu
from vsr.graphs.chain import load_chain, plain_form
from vsr.graphs.fidelity import BOUNDS_DB, reference_psnr
from vsr.graphs.frame_graph import FrameGraphSpec, GraphForm
from vsr.model import BICUBIC, Model, load_model

SMALL = Profile((64, 48), (64, 48), (64, 48))


def large() -> bytes:
    proto = onnx_models.nearest(2)
    proto.doc_string = "x" * (1 << 20)
    return proto.SerializeToString()


def compiled(model: Model, precision: str, pix_fmt: str = "yuv420p", size: tuple[int, int] = (8, 6)) -> list[str]:
    notes: list[str] = []
    graph = FrameGraphSpec(PIXEL_FORMATS[pix_fmt], ColorSpec(), model.scale, *size)
    TensorRtBackend().compile(EngineSpec(model, graph, precision, on_note=notes.append)).close()
    return notes


def manifest() -> Any:
    (path,) = build.default_folder().glob("*.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_at_its_first_start_an_engine_is_measured(precision: str, machine: list[FakeDevice]) -> None:
    model = load_model("fast", 2, precision)
    compiled(model, precision)
    first = manifest()["measured"]
    assert first["ms"] > 0
    assert first["psnr_db"] >= BOUNDS_DB[precision]
    assert (first["gpu"], first["size"]) == ("Fake 9000", [8, 6])
    compiled(model, precision)
    assert manifest()["measured"] == first  # once


@pytest.mark.parametrize(("pix_fmt", "size"), [("gray", (130, 120)), ("yuv420p10le", (121, 40)), ("gbrp", (9, 7))])
def test_of_a_large_picture_a_part_is_compared(pix_fmt: str, size: tuple[int, int], machine: list[FakeDevice]) -> None:
    compiled(Model(BICUBIC, 2), "fp32", pix_fmt, size)
    measured = manifest()["measured"]
    assert measured["note"] == "equal to fp32" if measured["psnr_db"] is None else measured["psnr_db"] > 60


def test_an_engine_that_is_far_off_is_told(machine: list[FakeDevice], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "measure", lambda *_: {"ms": 1.0, "psnr_db": 31.24})
    notes = compiled(Model(BICUBIC, 2), "fp16", "gray")
    assert notes[1].endswith("the engine's picture is 31.2 dB from fp32, and fp16 should reach 55 dB")


@pytest.mark.parametrize(
    ("pix_fmt", "profile"),
    [
        ("gray", SMALL),
        ("gray", Profile((16, 16), (32, 24), (64, 48))),
        ("yuv420p", replace(SMALL, batch=3)),
        ("nv12", SMALL),
        ("p010", Profile((16, 16), (32, 24), (64, 48), 2)),
    ],
)
def test_build_engine_measures_what_it_builds_for_this_gpu(
    pix_fmt: str, profile: Profile, machine: list[FakeDevice]
) -> None:
    request = EngineRequest(Model(BICUBIC, 2), GPU, pix_fmt, profile=profile)
    report = build_engine(request)
    measure_built(report.path, request)
    measured = json.loads(manifest_path(report.path).read_text())["measured"]
    assert measured["ms"] > 0
    assert measured["size"] == list(profile.usual)
    assert measured["psnr_db"] is None or measured["psnr_db"] >= BOUNDS_DB["fp16"]
    assert measured["note"] in (None, "equal to fp32")


def test_what_no_job_runs_is_not_measured(machine: list[FakeDevice]) -> None:
    request = EngineRequest(Model(BICUBIC, 2), GPU, "p016", profile=SMALL)
    report = build_engine(request)
    measure_built(report.path, request)
    measured = json.loads(manifest_path(report.path).read_text())["measured"]
    assert measured == {"ms": None, "psnr_db": None, "note": "not measured: it has not run yet"}


def test_for_a_gpu_that_is_not_here_it_says_so_and_the_graph_is_measured_instead(tmp_path: Path) -> None:
    request = EngineRequest(load_model("fast", 2), Gpu((8, 6)), "gray", profile=SMALL)
    report = build_engine(request, tmp_path / "x.engine", reference=True)
    measure_built(report.path, request)
    said = json.loads(manifest_path(report.path).read_text())
    assert said["measured"] == {"ms": None, "psnr_db": None, "note": "not measured: no GPU of sm_86 here"}
    assert said["reference"]["psnr_db"] >= BOUNDS_DB["fp16"]
    assert said["reference"]["note"] == "this frame graph by ONNX's reference on 32x24, not the engine"
    assert build_engine(request, tmp_path / "x.engine").reason is None  # and it is still trusted


@pytest.mark.parametrize(
    ("model", "half", "want"),
    [
        (load_model("fast", 2, "int8"), True, BOUNDS_DB["int8"]),
        (load_model("fast", 2), False, "fp32 is what others are compared with"),
        (
            Model("own.onnx", 2, load_model("fast", 2, "int8").onnx_bytes),
            True,
            "the model's fp32 form is not known",
        ),
        (
            Model("own.onnx", 2, large()),
            True,
            "the model is too large for ONNX's reference",
        ),
    ],
)
def test_the_distance_of_a_graph_or_why_there_is_none(model: Model, half: bool, want: float | str) -> None:
    spec = FrameGraphSpec(PIXEL_FORMATS["gray"], ColorSpec(), model.scale, 640, 480)
    found = reference_psnr(model, spec, GraphForm(half=half))
    assert found == want if isinstance(want, str) else not isinstance(found, str) and found >= want


def test_facts_are_added_to_a_manifest_that_is_there_and_make_none(tmp_path: Path) -> None:
    build.add_facts(tmp_path / "none.engine", {"a": 1})
    assert list(tmp_path.iterdir()) == []
    assert refusal(tmp_path / "none.engine", None) == "it is not there yet"  # type: ignore[arg-type]


def test_the_plain_form_of_a_joined_model_is_that_of_its_parts() -> None:
    joined = load_chain("fast", 6, "int8")
    plain = plain_form(joined)
    assert plain is not None
    assert plain.onnx_bytes == load_chain("fast", 6, "fp32").onnx_bytes
    unknown = Model("own.onnx", 3, joined.parts[1].onnx_bytes)
    assert plain_form(replace(joined, parts=(joined.parts[0], unknown))) is None
