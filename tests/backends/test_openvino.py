"""The OpenVINO backend beyond the contract: engines kept between processes, and what it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from vsr.backends.openvino import REQUESTS_BESIDE_STREAMS, OpenVinoBackend, shared_core
from vsr.engines.engine import EngineSpec
from vsr.errors import BackendError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.model import BICUBIC, Model, load_model

WIDTH, HEIGHT = 50, 34


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return platformdirs.user_cache_path("vsr") / "openvino"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each graph that is really compiled."""
    done: list[int] = []
    core = type(shared_core())
    compile_model = core.compile_model
    monkeypatch.setattr(core, "compile_model", lambda *args: (done.append(1), compile_model(*args))[1])
    return done


def spec(name: str = "fast", precision: str = "fp32", pix_fmt: str = "yuv420p", threads: int = 1) -> EngineSpec:
    model = Model(BICUBIC, 2) if name == BICUBIC else load_model(name, 2, precision)
    graph = FrameGraphSpec(PIXEL_FORMATS[pix_fmt], ColorSpec(), 2, WIDTH, HEIGHT)
    return EngineSpec(model, graph, precision, threads)


def enlarged(spec: EngineSpec) -> list[np.ndarray]:
    fmt, rng = spec.graph.format, np.random.default_rng(5)
    sizes = [fmt.plane_size(name, WIDTH, HEIGHT)[::-1] for name in fmt.plane_names]
    planes = tuple(rng.integers(0, 1 << fmt.bits, size).astype(fmt.dtype) for size in sizes)
    engine = OpenVinoBackend().compile(spec)
    try:
        return [a.copy() for a in engine.submit(Planes(planes, fmt, WIDTH, HEIGHT)).result().arrays]
    finally:
        engine.close()


def test_a_forked_process_is_told_instead_of_waiting_for_threads_that_it_has_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = spec(BICUBIC, pix_fmt="gray")
    picture = Planes((np.zeros((HEIGHT, WIDTH), np.uint8),), wanted.graph.format, WIDTH, HEIGHT)
    engine = OpenVinoBackend().compile(wanted)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)  # as in a child
            for use in (lambda: engine.submit(picture), lambda: OpenVinoBackend().compile(wanted)):
                with pytest.raises(BackendError, match=r"before this process was forked.*'spawn'"):
                    use()
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("name", "precision", "pix_fmt"),
    [
        ("fast", "int8", "yuv420p"),
        ("fast", "fp32", "yuv422p10le"),
        ("espcn", "fp32", "gbrp"),
        (BICUBIC, "fp32", "gray"),
    ],
)
def test_a_kept_engine_gives_the_same_bits(
    kept: Path, compilations: list[int], name: str, precision: str, pix_fmt: str
) -> None:
    first, again = (enlarged(spec(name, precision, pix_fmt)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(compilations) == len(list(kept.iterdir())) == 1


def test_another_graph_or_number_of_threads_is_another_engine(kept: Path, compilations: list[int]) -> None:
    for wanted in (spec(), spec(threads=2), spec(pix_fmt="yuv444p"), spec("espcn"), spec()):
        enlarged(wanted)
    assert len(compilations) == len(list(kept.iterdir())) == 4


def test_what_the_runtime_does_not_read_is_compiled_anew(
    kept: Path, compilations: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = enlarged(spec())

    def refuse(*_: object) -> None:
        raise RuntimeError("not of this version")

    with monkeypatch.context() as patch:
        patch.setattr(type(shared_core()), "import_model", refuse)
        again = enlarged(spec())
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(compilations) == 2
    enlarged(spec())
    assert len(compilations) == 2


def test_the_import_leaves_out_telemetry_and_converter_and_hides_neither_for_good() -> None:
    code = """
import sys
from vsr.backends.openvino import import_openvino
openvino = import_openvino()
assert not {m for m in sys.modules if m.startswith(("openvino_telemetry", "openvino.tools.ovc"))}
assert not hasattr(openvino, "no_such_thing")
from openvino import convert_model
assert openvino.tools.ovc.convert_model is convert_model
assert "openvino_telemetry" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_there_are_no_more_streams_than_cores() -> None:
    engine = OpenVinoBackend().compile(spec(BICUBIC, threads=100_000))
    try:
        assert engine.depth <= len(os.sched_getaffinity(0)) + REQUESTS_BESIDE_STREAMS
    finally:
        engine.close()


def test_the_threads_of_an_engine_yield_to_the_others(kept: Path) -> None:
    code = """
import os
from tests.backends.test_openvino import OpenVinoBackend, shared_core, spec
shared_core()
own = os.getpriority(os.PRIO_PROCESS, 0)
for _ in ("compiled", "read from the cache"):
    before = set(os.listdir("/proc/self/task"))
    engine = OpenVinoBackend().compile(spec())
    new = set(os.listdir("/proc/self/task")) - before
    assert any(os.getpriority(os.PRIO_PROCESS, int(t)) > own for t in new), new
"""
    subprocess.run([sys.executable, "-c", code], check=True)
