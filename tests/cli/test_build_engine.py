"""`vsr build-engine`: what it prints, what it refuses, always in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.backends import onnx_models
from tests.cli.conftest import Outcome
from tests.faults.models import NOT_SUPER_RESOLUTION
from vsr.gpu import build

Run = Callable[..., Outcome]
SMALL = ("--input-size", "64x48")


@pytest.fixture(autouse=True)
def without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "default_folder", lambda: tmp_path / "engines")
    monkeypatch.setattr(build, "probe", lambda number=0: "no NVIDIA driver is installed (libcuda.so.1 is missing)")


def test_several_gpus_at_once_and_once_more(run: Run, tmp_path: Path) -> None:
    arguments = ("build-engine", "fast", "-s", "2", *SMALL, "--gpu", "sm_86", "--gpu", "RTX 4090")
    first = run(*arguments)
    assert first.code == 0, first.err
    lines = first.out.splitlines()
    assert [line.split(": ")[1].split(",")[0] for line in lines] == ["sm_86", "sm_89"]
    assert all("built in" in line for line in lines)
    assert first.err.count("it is not there yet") == 2
    again = run(*arguments, "--json")
    engines = json.loads(again.out)["engines"]
    assert [(e["gpu"], e["built"], e["reason"], e["build_s"]) for e in engines] == [
        ("sm_86", False, None, 0.0),
        ("sm_89", False, None, 0.0),
    ]
    assert again.err == ""
    damaged = Path(engines[0]["path"])
    damaged.write_bytes(b"x" * 100)
    assert f"bytes of {engines[0]['bytes']}" in run(*arguments).err


def test_a_model_of_ones_own_is_taken_at_its_scale(run: Run, tmp_path: Path) -> None:
    path = onnx_models.saved(onnx_models.compact(4), tmp_path / "mine.onnx")
    free = ("--min", "32x32", "--max", "640x360", "--pix-fmt", "p010", "--matrix", "bt2020")
    outcome = run("build-engine", str(path), "--gpu", "L4", *free, "-o", str(tmp_path / "mine.engine"))
    assert outcome.code == 0, outcome.err
    key = json.loads((tmp_path / "mine.engine.json").read_text())["key"]
    assert (key["model"], key["scale"], key["pix_fmt"]) == ("mine.onnx", 4, "p010")
    assert key["color"] == "bt2020-limited-left"
    assert key["profile"]["usual"] == [640, 360]  # 1280x720, brought within the largest


def outside(tmp_path: Path, location: str) -> Path:
    path = tmp_path / "own.onnx"
    onnx.save_model(onnx_models.nearest(2), path, save_as_external_data=True, location="w.data", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        next(e for e in tensor.external_data if e.key == "location").value = location
    path.write_bytes(proto.SerializeToString())
    return path


def control_flow(tmp_path: Path) -> Path:
    proto = onnx_models.nearest(2)
    proto.graph.node[1].output[0] = "before"
    value = helper.make_tensor_value_info("same", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["before"], ["same"])], "branch", [], [value])
    proto.graph.node.append(helper.make_node("If", ["yes"], ["output"], then_branch=branch, else_branch=branch))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    return onnx_models.saved(proto, tmp_path / "own.onnx")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: outside(p, "gone.data"), "keeps weights in gone.data, which is not there"),
        (lambda p: outside(p, "../w.data"), "not in its own folder"),
        (lambda p: outside(p, "/etc/hostname"), "not in its own folder"),
        (control_flow, "control flow"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused_in_one_line(make: Any, words: str, run: Run, tmp_path: Path) -> None:
    outcome = run("build-engine", str(make(tmp_path)), "--gpu", "sm_89", *SMALL)
    assert outcome.code == 1
    assert words in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert outcome.out == ""


def test_a_file_that_is_no_engine_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    holiday = tmp_path / "holiday.mp4"
    holiday.write_bytes(b"dear to me")
    outcome = run("build-engine", "fast", "-s", "2", "--gpu", "sm_89", *SMALL, "-o", str(holiday))
    assert outcome.code == 1
    said = f"vsr: error: {holiday} exists and is no engine; give -o another name, or delete it first\n"
    assert outcome.err == said
    assert holiday.read_bytes() == b"dear to me"


@pytest.mark.parametrize("kind", [k for k in NOT_SUPER_RESOLUTION if k != "scale 3 where 2 is asked for"])
def test_what_is_no_super_resolution_model_is_refused(kind: str, run: Run, tmp_path: Path) -> None:
    make, words = NOT_SUPER_RESOLUTION[kind]
    outcome = run("build-engine", str(make(tmp_path / "model.onnx")), "--gpu", "sm_89", *SMALL)
    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "engines").exists()
    assert "model.onnx" in outcome.err
    assert any(word.lower() in outcome.err.lower() for word in words.split("|"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "no GPU to build for: no NVIDIA driver"),
        (("--gpu", "Voodoo 2"), 2, "no GPU is known as 'Voodoo 2'"),
        (("--gpu", "H100"), 1, "does not build for sm_90; it builds for sm_75"),
        (("--gpu", "sm_89", "--input-size", "64"), 2, "'64' is no size; give it as 1280x720"),
        (("--gpu", "sm_89", "--input-size", "64x64", "--max", "99x99"), 2, "--input-size is one size"),
        (("--gpu", "sm_89", "--min", "99x99"), 2, "multiples of 2x2"),
        (("--gpu", "sm_89", "--precision", "int4"), 2, "allowed are fp16"),
        (("--gpu", "sm_89", "--precision", "fp8"), 1, "no Q/DQ nodes"),
        (("--gpu", "sm_89", "-s", "7"), 1, "not shipped for scale 7"),
        (("--gpu", "sm_89", "--gpu", "sm_86", "-o", "x.engine"), 2, "-o names one file"),
        (("--gpu", "sm_89", "--pix-fmt", "rgb24"), 2, "pixel format 'rgb24'"),
        (("--gpu", "sm_89", "--runtime", "tensorrt"), 1, "tensorrt is not installed; pip install 'vsr[tensorrt]'"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_any_work(
    arguments: tuple[str, ...], code: int, words: str, run: Run, tmp_path: Path
) -> None:
    outcome = run("build-engine", "fast", *arguments)
    assert outcome.code == code, outcome.err
    assert words in outcome.err
    assert outcome.out == ""
    assert not (tmp_path / "engines").exists()
