"""Engines of every kind are really built, by TensorRT for RTX, for GPUs that are not here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.backends import onnx_models
from vsr.errors import BackendError, ModelError, OptionError
from vsr.frame import PIXEL_FORMATS
from vsr.gpu import build as build_module
from vsr.gpu import tensorrt_api
from vsr.gpu.build import BUILD_PRECISIONS, INTERLEAVED, BuildReport, EngineRequest, build_engine
from vsr.gpu.engine_store import Profile, manifest_path
from vsr.gpu.names import Gpu, parse_gpu
from vsr.graphs.frame_graph import FrameGraphSpec, plane_shapes
from vsr.model import BICUBIC, Model, load_model, shipped_models

SMALL = Profile((64, 48), (64, 48), (64, 48))
FREE = Profile((16, 16), (64, 48), (128, 96), 2)
ADA = Gpu((8, 9))


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build_module, "default_folder", lambda: tmp_path / "engines")
    return tmp_path / "engines"


def built(request: EngineRequest) -> tuple[BuildReport, dict[str, Any]]:
    report = build_engine(request)
    assert report.reason == "it is not there yet"
    assert report.path.stat().st_size == report.bytes > 10_000
    return report, json.loads(manifest_path(report.path).read_text())


def check_bindings(request: EngineRequest, manifest: dict[str, Any]) -> None:
    """What TensorRT takes and returns is what the frame graph says, in bytes."""
    spec, form = request.spec, request.form
    large = FrameGraphSpec(
        spec.format, spec.color, spec.scale, spec.width * spec.scale, spec.height * spec.scale, spec.target
    )
    want = {name: list(shape) for name, shape in plane_shapes(spec, form).items()}
    want |= {f"{name}_out": list(shape) for name, shape in plane_shapes(large, form).items()}
    assert {b["dtype"] for b in manifest["bindings"]} == {"UINT8"}
    found = {b["name"]: b["shape"] for b in manifest["bindings"]}
    if form.dynamic:
        for name, shape in want.items():
            rows = 1 if name.startswith("uv") else 2
            shape[0] = shape[rows] = shape[rows + 1] = -1
    assert found == want


@pytest.mark.parametrize(("name", "scale"), shipped_models())
def test_every_shipped_model_builds_in_fp16(name: str, scale: int) -> None:
    request = EngineRequest(load_model(name, scale), ADA, profile=SMALL)
    _, manifest = built(request)
    check_bindings(request, manifest)


@pytest.mark.parametrize(("name", "scale"), shipped_models(quantised=True))
def test_every_int8_model_builds_in_int8(name: str, scale: int) -> None:
    request = EngineRequest(load_model(name, scale, "int8"), ADA, profile=SMALL, precision="int8")
    report, manifest = built(request)
    check_bindings(request, manifest)
    half = build_engine(EngineRequest(load_model(name, scale), ADA, profile=SMALL))
    assert report.path.read_bytes() != half.path.read_bytes()


@pytest.mark.parametrize("gpu", ["sm_75", "sm_80", "sm_86", "sm_120"])
def test_other_gpus_get_engines_of_their_own(gpu: str) -> None:
    _, manifest = built(EngineRequest(load_model("fast", 2), parse_gpu(gpu), profile=SMALL))
    assert manifest["key"]["capability"] == gpu


@pytest.mark.parametrize(
    ("pix_fmt", "profile", "precision"),
    [
        ("nv12", SMALL, "fp16"),
        ("nv12", FREE, "int8"),
        ("p010", SMALL, "fp16"),
        ("p010le", FREE, "fp32"),
        ("yuv420p", Profile((63, 47), (63, 47), (63, 47), 2), "fp16"),
        ("yuv420p10le", FREE, "fp16"),
        ("yuv422p", FREE, "fp16"),
        ("gbrap16le", SMALL, "fp32"),
        ("gray", FREE, "fp16"),
    ],
)
def test_every_layout_builds(pix_fmt: str, profile: Profile, precision: str) -> None:
    request = EngineRequest(load_model("fast", 2, precision), ADA, pix_fmt, precision=precision, profile=profile)
    check_bindings(request, built(request)[1])


@pytest.mark.parametrize("profile", [SMALL, FREE])
@pytest.mark.parametrize("pix_fmt", ["nv12", "yuv422p", "gbrp"])
def test_rgb_models_build(pix_fmt: str, profile: Profile) -> None:
    model = Model("compact.onnx", 4, onnx_models.compact(4).SerializeToString(), 3)
    request = EngineRequest(model, ADA, pix_fmt, profile=profile)
    check_bindings(request, built(request)[1])


@pytest.mark.parametrize("profile", [SMALL, FREE])
def test_models_that_are_padded_to_multiples_build(profile: Profile, tmp_path: Path) -> None:
    model = onnx_models.loaded(onnx_models.blocks(2, 4, 3), tmp_path, 2)
    request = EngineRequest(model, ADA, "nv12", profile=profile)
    check_bindings(request, built(request)[1])


def fp8_model() -> Model:
    """Convolutions between roundings to E4M3, as ModelOpt exports them."""
    weights = {
        "s": np.float32(0.05),
        "w": np.full((16, 1, 3, 3), 0.1, np.float32),
        "v": np.full((4, 16, 3, 3), 0.1, np.float32),
    }
    nodes = [helper.make_node("Conv", ["input", "w"], ["c"], pads=[1, 1, 1, 1])]
    for x in ("c", "v"):
        nodes.append(helper.make_node("QuantizeLinear", [x, "s", "z"], [f"q{x}"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"q{x}", "s", "z"], [f"d{x}"]))
    nodes.append(helper.make_node("Conv", ["dc", "dv"], ["wide"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("DepthToSpace", ["wide"], ["output"], blocksize=2, mode="CRD"))
    proto = onnx_models.make_model(nodes, weights, opset=19)
    proto.graph.initializer.append(helper.make_tensor("z", TensorProto.FLOAT8E4M3FN, [], [0.0]))
    return Model("eight.onnx", 2, proto.SerializeToString())


def test_fp8_models_build_where_the_gpu_has_fp8_and_are_refused_in_one_line_elsewhere() -> None:
    built(EngineRequest(fp8_model(), ADA, precision="fp8", profile=SMALL))
    with pytest.raises(BackendError, match=r"cannot build model eight\.onnx for sm_86: .*fp8"):
        build_engine(EngineRequest(fp8_model(), Gpu((8, 6)), precision="fp8", profile=SMALL))


# -- kept and trusted -------------------------------------------------------------------------------------------------


def request() -> EngineRequest:
    return EngineRequest(Model(BICUBIC, 2), ADA, "gray", profile=SMALL)


def test_what_is_there_is_not_built_again() -> None:
    first = build_engine(request())
    written = first.path.stat().st_mtime_ns
    notes: list[str] = []
    second = build_engine(request(), on_note=notes.append)
    assert (second.reason, second.build_s, notes) == (None, 0.0, [])
    assert second.path == first.path
    assert first.path.stat().st_mtime_ns == written


def test_a_damaged_or_stale_engine_is_built_again_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_engine(request())
    good = first.path.read_bytes()
    notes: list[str] = []
    first.path.write_bytes(good[:-1])
    assert build_engine(request(), on_note=notes.append).reason == f"it has {len(good) - 1} bytes of {len(good)}"
    assert notes == [f"building {first.path.name}: it has {len(good) - 1} bytes of {len(good)}"]
    assert first.path.read_bytes() == good
    api = tensorrt_api.load("tensorrt-rtx")
    monkeypatch.setattr(api, "version", "1.99")
    assert "1.99 is installed" in str(build_engine(request()).reason)


def test_an_engine_goes_where_it_is_told(tmp_path: Path) -> None:
    report = build_engine(request(), tmp_path / "here.engine")
    assert report.path == tmp_path / "here.engine"
    assert {p.name for p in tmp_path.iterdir()} == {"here.engine", "here.engine.json", "here.engine.lock"}


def test_of_two_processes_one_builds_and_the_other_uses_it(tmp_path: Path) -> None:
    arguments = ["build-engine", "fast", "-s", "2", "--gpu", "sm_89", "--input-size", "64x48", "--json"]
    command = [sys.executable, "-m", "vsr", *arguments, "-o", str(tmp_path / "x.engine")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outcomes = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], outcomes
    assert sorted(json.loads(out)["engines"][0]["built"] for out, _ in outcomes) == [False, True]


# -- refused ----------------------------------------------------------------------------------------------------------


def test_a_gpu_that_cannot_be_built_for_is_refused_with_those_that_can(own_folder: Path) -> None:
    with pytest.raises(BackendError, match=r"does not build for sm_90; it builds for sm_75, .*sm_120"):
        build_engine(EngineRequest(Model(BICUBIC, 2), Gpu((9, 0)), profile=SMALL))
    assert not own_folder.exists()


def test_operators_that_tensorrt_lacks_are_named(own_folder: Path) -> None:
    proto = onnx_models.nearest(2)
    proto.graph.node[1].output[0] = "before"
    proto.graph.node.append(helper.make_node("Unique", ["before"], ["output"], name="odd", axis=0))
    with pytest.raises(ModelError, match=r"cannot take model own\.onnx: .*Unique") as caught:
        build_engine(EngineRequest(Model("own.onnx", 2, proto.SerializeToString()), ADA, profile=SMALL))
    assert "\n" not in str(caught.value)
    assert [p.name for p in own_folder.iterdir() if p.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "bf16"}, "allowed are fp16, fp32, int8, fp8"),
        ({"pix_fmt": "nv16"}, "pixel format 'nv16'.*nv12"),
        ({"pix_fmt": "p010", "precision": "int8"}, "reduce to 8"),
        ({"profile": Profile((64, 64), (32, 32), (128, 128))}, "must grow"),
        ({"profile": Profile((63, 63), (64, 64), (128, 128))}, "multiples of 2x2"),
        ({"profile": Profile((0, 64), (64, 64), (64, 64))}, "at least 1x1"),
        ({"profile": Profile((64, 64), (64, 64), (64, 64), 0)}, "batch 0"),
    ],
)
def test_impossible_requests_are_refused_before_any_work(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        EngineRequest(Model(BICUBIC, 2), ADA, **options)


@pytest.mark.parametrize(
    ("model", "precision", "words"),
    [
        (load_model("fast", 2), "int8", "has no Q/DQ nodes, and TensorRT computes in int8 only"),
        (load_model("fast", 2, "int8"), "fp16", "is quantised to int8; use --precision int8"),
        (load_model("fast", 2, "int8"), "fp8", "is quantised to int8, and TensorRT computes in fp8 only"),
        (Model(BICUBIC, 2), "int8", "bicubic has no Q/DQ nodes"),
    ],
)
def test_a_precision_that_the_model_does_not_have_is_refused(model: Model, precision: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        EngineRequest(model, ADA, precision=precision)


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_api, "available", lambda _: False)
    with pytest.raises(BackendError, match=r"pip install 'vsr\[tensorrt-rtx\]'"):
        build_engine(request())


def test_names_of_what_can_be_asked_for_are_known() -> None:
    assert set(BUILD_PRECISIONS) == {"fp16", "fp32", "int8", "fp8"}
    assert {planar for planar, _ in INTERLEAVED.values()} <= set(PIXEL_FORMATS)
