"""Where a picture's time goes on a GPU, by its own clock: the fake's events say when they were passed."""

from __future__ import annotations

import pytest

from tests.backends.fake_gpu import FakeDevice
from tests.backends.reference import random_planes
from vsr.backends.tensorrt import TensorRtBackend
from vsr.engines.engine import EngineSpec
from vsr.engines.timing import PartedEngine
from vsr.errors import BackendError
from vsr.frame import PIXEL_FORMATS, ColorSpec
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.model import BICUBIC, Model


def test_the_parts_of_a_frame_on_a_fake_gpu(machine: list[FakeDevice]) -> None:
    planes = random_planes(PIXEL_FORMATS["gray"], 8, 6)
    spec = EngineSpec(Model(BICUBIC, 2), FrameGraphSpec(planes.format, ColorSpec(), 2, 8, 6), "fp32", lanes=2)
    engine = TensorRtBackend().compile(spec)
    assert engine.depth == 2
    device = machine[-1]
    device.delay = lambda: 0.004
    parts = engine.parts(planes, 2)
    assert isinstance(engine, PartedEngine)
    for ms in (parts.upload_ms, parts.compute_ms, parts.download_ms):  # one copy or run, and the next timer
        assert 8 <= ms < 200
    device.delay = lambda: 0.0
    tickets = [engine.submit(planes)]
    with pytest.raises(BackendError, match="frames are in flight"):
        engine.parts(planes, 1)
    assert tickets.pop().result().width == 16
    engine.close()
