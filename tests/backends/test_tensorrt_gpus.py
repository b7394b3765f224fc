"""Several GPUs in one machine: each gets an engine and a context of its own, and the frames go round."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from tests.backends.fake_gpu import FakeDevice
from tests.backends.reference import random_planes
from vsr.backends.tensorrt import TensorRtBackend
from vsr.engines.compile import open_engine
from vsr.engines.engine import EngineSpec
from vsr.frame import PIXEL_FORMATS, ColorSpec
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.model import BICUBIC, Model


def test_frames_are_dealt_to_the_gpus_and_come_back_in_order(machine: list[FakeDevice]) -> None:
    pictures = [random_planes(PIXEL_FORMATS["gray"], 8, 6, seed) for seed in range(12)]
    graph = FrameGraphSpec(pictures[0].format, ColorSpec(), 2, 8, 6)
    spec = EngineSpec(Model(BICUBIC, 2), graph, "fp32", devices=("cuda:0", "cuda:1"))
    one = TensorRtBackend().compile(EngineSpec(Model(BICUBIC, 2), graph, "fp32"))
    want = [one.submit(planes).result().arrays[0] for planes in pictures]
    one.close()
    engine = open_engine(spec, "tensorrt").engine
    assert [device.number for device in machine] == [0, 0, 1]
    waiting, results = deque[Any](), []
    for planes in pictures:
        if len(waiting) == engine.depth:
            results.append(waiting.popleft().result())
        waiting.append(engine.submit(planes))
    results += [ticket.result() for ticket in waiting]
    engine.close()
    assert all(np.array_equal(a, result.arrays[0]) for a, result in zip(want, results, strict=True))
    for device in machine[1:]:
        assert sum(what == "wait" for what, _ in device.log) >= 4
