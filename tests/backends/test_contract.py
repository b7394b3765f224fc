"""What every backend keeps to, whatever its runtime."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.backends import onnx_models, reference
from tests.backends.reference import random_planes, worst_difference
from vsr.engines.compile import open_engine
from vsr.engines.engine import BACKENDS, PRECISIONS, Backend, Engine, EngineSpec, load_backend
from vsr.errors import BackendError, ModelError, OptionError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.model import BICUBIC, Model, load_model, shipped_models

COLOR = ColorSpec()
PACKAGES = {"openvino": "openvino", "torch": "torch", "tensorrt": "tensorrt_rtx"}


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    found = load_backend(request.param)
    reason = found.unavailable_reason()
    if reason:
        pytest.skip(reason)
    return found


def engine_spec(model: Model, planes: Planes, precision: str = "fp32", threads: int = 1) -> EngineSpec:
    graph = FrameGraphSpec(planes.format, COLOR, model.scale, planes.width, planes.height)
    return EngineSpec(model, graph, precision, threads)


@contextlib.contextmanager
def compiled(backend: Backend, model: Model, planes: Planes, **options: Any) -> Iterator[Engine]:
    engine = backend.compile(engine_spec(model, planes, **options))
    try:
        yield engine
    finally:
        engine.close()


def bicubic(scale: int = 2) -> Model:
    return Model(BICUBIC, scale)


def picture(seed: int = 0, name: str = "yuv420p", width: int = 17, height: int = 13) -> Planes:
    return random_planes(PIXEL_FORMATS[name], width, height, seed)


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "scale"), shipped_models())
@pytest.mark.parametrize(("pix_fmt", "size"), [("yuv420p", (17, 13)), ("yuv420p10le", (2, 2)), ("gbrp", (9, 31))])
def test_shipped_models_give_the_same_numbers_in_every_backend(
    backend: Backend, name: str, scale: int, pix_fmt: str, size: tuple[int, int]
) -> None:
    model = load_model(name, scale)
    planes = picture(1, pix_fmt, *size)
    want = reference.frame_graph(planes, COLOR, scale, onnx_models.bare(model))
    with compiled(backend, model, planes) as engine:
        assert worst_difference(engine.submit(planes).result(), want) <= 1


def test_automatic_precision_is_within_one_code_value_of_fp32(backend: Backend) -> None:
    name, scale = shipped_models()[0]
    model, planes = load_model(name, scale), picture(2, width=40, height=30)
    with compiled(backend, model, planes) as exact, compiled(backend, model, planes, precision="auto") as automatic:
        want = [a.astype(float) for a in exact.submit(planes).result().arrays]
        assert worst_difference(automatic.submit(planes).result(), want) <= 1


def test_lower_precisions_stay_close_on_a_smooth_picture(backend: Backend) -> None:
    fmt = PIXEL_FORMATS["gray"]
    y, x = np.mgrid[0:48, 0:64]
    planes = Planes(((120 + 60 * np.sin(x / 6) * np.cos(y / 5)).astype(np.uint8),), fmt, 64, 48)
    with compiled(backend, load_model("fast", 2), planes) as exact:
        want = exact.submit(planes).result().arrays[0].astype(float)
    for precision in backend.precisions:
        with compiled(backend, load_model("fast", 2, precision), planes, precision=precision) as engine:
            error = engine.submit(planes).result().arrays[0].astype(float) - want
        mse = float((error**2).mean())
        assert mse == 0 if precision == "fp32" else 10 * np.log10(255**2 / max(mse, 1e-9)) > 48


# -- frames in flight -------------------------------------------------------------------------------------------------


def test_tickets_in_flight_are_independent_and_keep_their_own_picture(backend: Backend) -> None:
    pictures = [picture(i) for i in range(8)]
    wants = [reference.frame_graph(p, COLOR, 2) for p in pictures]
    with compiled(backend, bicubic(), pictures[0], threads=2) as engine:
        assert engine.depth >= 1
        for start in range(0, len(pictures), engine.depth):
            group = slice(start, start + engine.depth)
            tickets = [engine.submit(p) for p in pictures[group]]
            for ticket, want in reversed(list(zip(tickets, wants[group], strict=True))):  # taken in any order
                assert worst_difference(ticket.result(), want) <= 1


def test_results_belong_to_the_caller(backend: Backend) -> None:
    """What one frame returned does not change when others follow."""
    with compiled(backend, bicubic(), picture()) as engine:
        first = engine.submit(picture(0)).result()
        kept = [a.copy() for a in first.arrays]
        for seed in range(1, 2 * engine.depth + 2):
            engine.submit(picture(seed)).result()
        assert all((a == b).all() for a, b in zip(first.arrays, kept, strict=True))
        first.arrays[0][:] = 0  # writable


def test_more_frames_than_the_depth_are_refused_and_do_no_harm(backend: Backend) -> None:
    planes = picture()
    want = reference.frame_graph(planes, COLOR, 2)
    with compiled(backend, bicubic(), planes) as engine:
        tickets = [engine.submit(planes) for _ in range(engine.depth)]
        with pytest.raises(BackendError, match="in flight"):
            engine.submit(planes)
        for ticket in tickets:
            assert worst_difference(ticket.result(), want) <= 1
        assert worst_difference(engine.submit(planes).result(), want) <= 1


def test_cancelled_tickets_give_their_place_back(backend: Backend) -> None:
    planes = picture()
    want = reference.frame_graph(planes, COLOR, 2)
    with compiled(backend, bicubic(), planes) as engine:
        for _ in range(3):
            tickets = [engine.submit(picture(9)) for _ in range(engine.depth)]
            for ticket in tickets:
                ticket.cancel()
        tickets = [engine.submit(planes) for _ in range(engine.depth)]
        for ticket in tickets:
            assert worst_difference(ticket.result(), want) <= 1


def test_an_engine_runs_in_another_thread_than_it_was_made_in(backend: Backend) -> None:
    from concurrent.futures import ThreadPoolExecutor

    planes = picture()
    with compiled(backend, bicubic(), planes) as engine, ThreadPoolExecutor(1) as pool:
        got = pool.submit(lambda: engine.submit(planes).result()).result()
    assert worst_difference(got, reference.frame_graph(planes, COLOR, 2)) <= 1


# -- what comes in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["padded rows", "every other row", "upside down", "column order", "read-only"])
def test_inputs_may_be_views_of_any_layout_and_are_not_changed(backend: Backend, layout: str) -> None:
    plain = picture(4, "yuv420p10le", 15, 11)
    views = []
    for array in plain.arrays:
        h, w = array.shape
        if layout == "padded rows":
            view = np.full((h, w + 33), 7, array.dtype)[:, :w]
        elif layout == "every other row":
            view = np.zeros((2 * h, w), array.dtype)[::2]
        elif layout == "upside down":
            view = np.zeros((h, w), array.dtype)[::-1]
        elif layout == "column order":
            view = np.zeros((w, h), array.dtype).T
        else:
            view = np.zeros((h, w), array.dtype)
        view[...] = array
        view.flags.writeable = layout != "read-only"
        views.append(view)
    planes = Planes(tuple(views), plain.format, plain.width, plain.height)
    with compiled(backend, bicubic(3), planes) as engine:
        got = engine.submit(planes).result()
    assert worst_difference(got, reference.frame_graph(plain, COLOR, 3)) <= 1
    assert all((v == a).all() for v, a in zip(views, plain.arrays, strict=True))


@pytest.mark.parametrize(
    "wrong", [picture(0, width=16), picture(0, height=12), picture(0, "yuv422p"), picture(0, "yuv420p10le")]
)
def test_planes_of_another_kind_are_refused(backend: Backend, wrong: Planes) -> None:
    with compiled(backend, bicubic(), picture()) as engine:
        with pytest.raises(BackendError, match=r"compiled for 17x13 yuv420p"):
            engine.submit(wrong)
        engine.submit(picture()).result()


# -- what the engine says of itself -----------------------------------------------------------------------------------


def test_the_description_names_runtime_and_precision_in_one_line(backend: Backend) -> None:
    for precision in ("auto", *backend.precisions):
        with compiled(backend, load_model("fast", 2, precision), picture(), precision=precision) as engine:
            text = engine.description
        assert "\n" not in text
        assert backend.name in text.lower()
        assert ("fp32" if precision == "auto" else precision) in text
        assert any(c.isdigit() for c in text)


def test_precisions_are_known_ones_and_fp32_is_among_them(backend: Backend) -> None:
    assert "fp32" in backend.precisions
    assert set(backend.precisions) <= set(PRECISIONS) - {"auto"}


def test_a_precision_that_the_backend_lacks_is_refused_with_those_it_has(backend: Backend) -> None:
    lacking = [p for p in PRECISIONS if p not in ("auto", *backend.precisions)]
    if not lacking:
        pytest.skip("it has them all")
    with pytest.raises(OptionError, match=rf"{backend.name} has no precision {lacking[0]}.*fp32"):
        open_engine(engine_spec(bicubic(), picture(), precision=lacking[0]), backend.name)


def test_close_may_be_called_again(backend: Backend) -> None:
    engine = backend.compile(engine_spec(bicubic(), picture()))
    engine.submit(picture()).result()
    engine.close()
    engine.close()


# -- what is not there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(BACKENDS))
def test_a_missing_package_is_a_reason_with_a_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n.split(".")[0] == PACKAGES[name] else real(n, *a)
    )
    reason = load_backend(name).unavailable_reason()
    assert reason is not None
    assert PACKAGES[name] in reason
    assert "pip install" in reason


@pytest.mark.parametrize("name", list(BACKENDS))
def test_the_adapter_is_imported_without_its_runtime(name: str) -> None:
    module = BACKENDS[name].partition(":")[0]
    code = f"import sys; import {module}; sys.exit('{PACKAGES[name]}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("op", ["Acos", "Hardmax", "GridSample"])
def test_an_operator_that_torch_lacks_is_named_before_the_first_frame(op: str, tmp_path: Path) -> None:
    if load_backend("torch").unavailable_reason():
        pytest.skip("torch is not available")
    proto = onnx_models.nearest(2)
    proto.graph.node[1].output[0] = "before"
    proto.graph.node.append(helper.make_node(op, ["before"] * (2 if op == "GridSample" else 1), ["output"]))
    model = Model("own.onnx", 2, proto.SerializeToString())
    with pytest.raises(ModelError, match=rf"own\.onnx needs operators that the torch backend lacks: {op}") as caught:
        load_backend("torch").compile(engine_spec(model, picture()))
    assert "openvino" in str(caught.value.hint)


def test_a_model_that_the_runtime_refuses_is_an_error_of_ours(backend: Backend) -> None:
    """Valid for the checker, impossible to run: 3 channels of weights for one of input."""
    proto = onnx_models.nearest(2)
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w"))
    planes = picture()
    with (
        pytest.raises((BackendError, ModelError), match=r"own|frame"),
        compiled(backend, Model("own", 2, proto.SerializeToString()), planes) as engine,
    ):
        engine.submit(planes).result()


QUIET_IMPORT = """
import socket, sys, threading
calls = []
def refuse(*args, **kwargs):
    calls.append(args)
    raise OSError("no sockets here")
socket.socket.connect = refuse
socket.create_connection = refuse
socket.getaddrinfo = refuse
opened = []
def audit(event, args):
    if event.startswith("socket."):
        opened.append(event)
sys.addaudithook(audit)
import numpy as np
from vsr.upscaler import Upscaler
with Upscaler(2, "bicubic", backend=sys.argv[1]) as u:
    u.upscale(np.zeros((8, 8), np.uint8))
threads = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
assert not calls and not opened and not threads, (calls, opened, threads)
"""


def test_no_socket_is_opened_and_no_python_thread_stays(backend: Backend) -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUIET_IMPORT, backend.name], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
