"""Building in another process: what it builds, what it says when it cannot, and that it never outlives its use."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from onnx import helper

from tests.backends import onnx_models
from vsr.errors import BackendError, InterruptedJobError, ModelError
from vsr.gpu import build_process
from vsr.gpu.build import EngineRequest, build_engine
from vsr.gpu.build_process import build_elsewhere
from vsr.gpu.engine_store import Profile, manifest_path
from vsr.gpu.names import Gpu
from vsr.model import BICUBIC, Model, load_model

SMALL = Profile((64, 48), (64, 48), (64, 48))


def request(model: Model | None = None) -> EngineRequest:
    return EngineRequest(model or Model(BICUBIC, 2), Gpu((8, 9)), "gray", profile=SMALL)


def test_what_it_builds_is_taken_here(tmp_path: Path) -> None:
    path = tmp_path / "x.engine"
    build_elsewhere(request(), path, "tensorrt-rtx", threading.Event())
    assert build_engine(request(), path).reason is None
    assert json.loads(manifest_path(path).read_text())["key"]["capability"] == "sm_89"


def test_what_it_refuses_is_the_same_error_here(tmp_path: Path) -> None:
    proto = onnx_models.nearest(2)
    proto.graph.node[1].output[0] = "before"
    proto.graph.node.append(helper.make_node("Unique", ["before"], ["output"], name="odd", axis=0))
    model = Model("own.onnx", 2, proto.SerializeToString())
    with pytest.raises(ModelError, match=r"cannot take model own\.onnx: .*Unique"):
        build_elsewhere(request(model), tmp_path / "x.engine", "tensorrt-rtx", threading.Event())
    assert [p.name for p in tmp_path.iterdir()] == ["x.engine.lock"]


def test_when_it_is_not_wanted_any_more_it_ends_at_once(tmp_path: Path) -> None:
    """In the midst of the work: the lock is there, and the engine is one that takes a while."""
    free = EngineRequest(load_model("espcn", 3), Gpu((8, 9)))
    unwanted, path, seen = threading.Event(), tmp_path / "x.engine", list[float]()

    def watch() -> None:
        while not path.with_name("x.engine.lock").exists():
            time.sleep(0.01)
        seen.append(time.monotonic())
        unwanted.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(InterruptedJobError, match=r"x\.engine was being built"):
        build_elsewhere(free, path, "tensorrt-rtx", unwanted)
    assert time.monotonic() - seen[0] < build_process.GRACE_S + 2
    watcher.join()
    assert [p.name for p in tmp_path.iterdir()] == ["x.engine.lock"]


def test_a_crash_in_it_is_an_error_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    die = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"]
    plain = subprocess.Popen

    def crash(_: object, **options: object) -> subprocess.Popen[bytes]:
        return plain(die, **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(build_process.subprocess, "Popen", crash)
    with pytest.raises(BackendError, match=f"x.engine ended with signal {signal.SIGSEGV.value} and no word"):
        build_elsewhere(request(), tmp_path / "x.engine", "tensorrt-rtx", threading.Event())


def test_without_an_interpreter_to_start_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_process.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(BackendError, match=r"no process to build engines in can be started: .*No such file"):
        build_elsewhere(request(), tmp_path / "x.engine", "tensorrt-rtx", threading.Event())


def test_it_ends_by_itself_when_nobody_holds_it_any_more(tmp_path: Path) -> None:
    """Its standard input is closed when the process that started it is no more, whatever ended that."""
    path = tmp_path / "x.engine"
    message = pickle.dumps((EngineRequest(load_model("espcn", 3), Gpu((8, 9))), path, "tensorrt-rtx"))
    process = build_process._start()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(len(message).to_bytes(build_process.COUNT_BYTES, "big") + message)
    process.stdin.flush()
    while not path.with_name("x.engine.lock").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.stdin.close()
    assert process.wait(20) == 1
    assert process.stdout.read() == b""
    process.stdout.close()
    assert [p.name for p in tmp_path.iterdir()] == ["x.engine.lock"]
