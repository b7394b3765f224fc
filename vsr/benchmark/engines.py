"""Engines alone: milliseconds a frame, multiplications a second, and the share of what the machine can reach.

The peak is measured and not looked up: a network of the same kind, but so wide that only the arithmetic counts, through
the same runtime at the same precision.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any, Final

import numpy as np

from vsr.benchmark.roofline import Peak, count, least_ms
from vsr.engines.compile import open_engine
from vsr.engines.engine import Engine, EngineSpec
from vsr.engines.shrinking import ShrinkingEngine
from vsr.engines.timing import PartedEngine, Parts, PictureTime, time_engine
from vsr.errors import ModelError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.graphs.nodes import GraphNodes
from vsr.graphs.shapes import infer_shapes
from vsr.model import Model, load_model

PEAK_CHANNELS: Final = 256
PEAK_SIZE: Final = (160, 90)
PEAK_SCALE: Final = 2
MEASURED_SIDE: Final = 64  # of the picture whose shapes are inferred to count multiplications


@dataclass(frozen=True)
class EngineFigure:
    """One engine, measured with as many frames in flight as it takes.

    Attributes:
        model, scale, precision, backend, width, height: what was measured; the size is the input's.
        ms: wall milliseconds a frame.
        cpu_ms: of the processor, all threads together, a frame.
        gmac: thousand million multiplications a frame, in the model.
        gmac_s: of these a second.
        share_of_peak: of what the widest network reaches at this precision, 0 to 1; None where that cannot be measured.
        lanes: pictures in flight.
        parts: where the time of a picture alone goes, by the device's own clock; None where the engine cannot say.
        flop: operations a frame, counted from the frame graph, chroma included.
        bytes: that its convolutions read and write a frame.
        batch: pictures that the GPU computes at once.
        least_ms: the roofline (`vsr.benchmark.roofline`); None without a GPU whose memory torch can measure.
    """

    model: str
    scale: int
    precision: str
    backend: str
    width: int
    height: int
    ms: float
    cpu_ms: float
    gmac: float
    gmac_s: float
    share_of_peak: float | None
    lanes: int = 0
    parts: Parts | None = None
    flop: float = 0.0
    bytes: float = 0.0
    least_ms: float | None = None
    batch: int = 1

    @property
    def share_of_roofline(self) -> float | None:
        """Of the roofline, what computing alone reaches, 0 to 1; None where either is not known."""
        known = self.least_ms is not None and self.parts is not None
        return self.least_ms / self.parts.compute_ms if known and self.least_ms and self.parts else None

    @property
    def fps(self) -> float:
        """Frames a second."""
        return 1000 / self.ms


def measure_engine(
    name: str,
    scale: int,
    precision: str,
    size: tuple[int, int],
    *,
    backend: str = "auto",
    threads: int = 0,
    devices: tuple[str, ...] = (),
    lanes: int = 0,
    batch: int = 1,
    seconds: float = 1.0,
) -> EngineFigure:
    """Measure the frame graph of model `name` on 4:2:0 pictures of `size` (width, height) for about `seconds`.

    Raises:
        VsrError: as `compile.open_engine` and `model.load_model`.
    """
    model = load_model(name, scale, precision)
    spec = replace(_spec(model, precision, size, threads, devices), lanes=lanes, batch=batch)
    opened = open_engine(spec, backend)
    try:
        engine = opened.engine.engine if isinstance(opened.engine, ShrinkingEngine) else opened.engine
        spent = _time(engine, spec, seconds)
        depth, pictures = engine.depth, max(3, round(seconds * 100 / max(spent.ms, 1)))
        parts = engine.parts(_picture(spec), pictures) if isinstance(engine, PartedEngine) else None
    finally:
        opened.engine.close()
    settled = opened.precision_reason.partition(":")[0]
    gmac = multiplications(model) * size[0] * size[1] / 1e9
    peak = peak_gmac_s(settled, opened.backend, threads, devices, seconds) if gmac else None
    work, rate_of_copy = count(model, spec.graph, settled), _copy_rate(devices)
    least = None if not peak or rate_of_copy is None else least_ms(work, Peak(2e9 * peak, rate_of_copy))
    rate = gmac / spent.ms * 1000
    share = None if not peak else rate / peak
    return EngineFigure(
        model.name,
        scale,
        settled,
        opened.backend,
        *size,
        spent.ms,
        spent.cpu_ms,
        gmac,
        rate,
        share,
        depth,
        parts,
        work.flop,
        work.bytes,
        least,
        batch,
    )


@cache
def _copy_rate(devices: tuple[str, ...]) -> float | None:
    """Bytes a second of the GPU's memory; None on a CPU, or where torch cannot measure it."""
    if not devices or devices == ("cpu",) or importlib.util.find_spec("torch") is None:
        return None
    from vsr.backends.torch import copy_rate

    return copy_rate(devices[0])


@cache
def peak_gmac_s(precision: str, backend: str, threads: int, devices: tuple[str, ...], seconds: float) -> float | None:
    """The most multiplications a second that this runtime reaches here, in thousand millions; None where it refuses."""
    model = Model("peak", PEAK_SCALE, _wide_network(quantised=precision == "int8").SerializeToString())
    spec = _spec(model, precision, PEAK_SIZE, threads, devices)
    try:
        engine = open_engine(spec, backend).engine
    except ModelError:
        return None
    try:
        ms = _time(engine, spec, seconds).ms
    finally:
        engine.close()
    return multiplications(model) * PEAK_SIZE[0] * PEAK_SIZE[1] / 1e9 / ms * 1000


def multiplications(model: Model) -> float:
    """Multiplications per input sample in the convolutions of `model`; 0 for bicubic."""
    if model.is_bicubic:
        return 0.0
    import onnx

    proto = onnx.load_model_from_string(model.onnx_bytes)
    weights = {w.name for w in proto.graph.initializer}
    source = next(i for i in proto.graph.input if i.name not in weights)
    for axis, length in zip((0, 2, 3), (1, MEASURED_SIDE, MEASURED_SIDE), strict=True):
        source.type.tensor_type.shape.dim[axis].dim_value = length
    del proto.graph.value_info[:]
    shapes = infer_shapes(proto)
    total = 0
    for node in proto.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            # one multiplication for each weight and place: of the output, or of what a transposed one spreads
            place = node.output[0] if node.op_type == "Conv" else node.input[0]
            total += prod(shapes[node.input[1]]) * prod(shapes[place][2:])
    return total / MEASURED_SIDE**2


def _spec(
    model: Model, precision: str, size: tuple[int, int], threads: int, devices: tuple[str, ...] = ()
) -> EngineSpec:
    graph = FrameGraphSpec(PIXEL_FORMATS["yuv420p"], ColorSpec(), model.scale, *size)
    return EngineSpec(model, graph, precision, threads, devices)


def _picture(spec: EngineSpec) -> Planes:
    graph, rng = spec.graph, np.random.default_rng(0)
    arrays = []
    for name in graph.format.plane_names:
        width, height = graph.format.plane_size(name, graph.width, graph.height)
        arrays.append(rng.integers(16, 236, (height, width), dtype=np.uint8))
    return Planes(tuple(arrays), graph.format, graph.width, graph.height)


def _time(engine: Engine, spec: EngineSpec, seconds: float) -> PictureTime:
    planes = _picture(spec)
    time_engine(engine, planes, seconds=seconds / 5)  # the first frames allocate
    return time_engine(engine, planes, seconds=seconds)


def _wide_network(*, quantised: bool) -> Any:
    """1 → 256 → 256 → 256 → s² channels of 3x3 (the last 1x1) with ReLU, and a pixel shuffle."""
    graph, rng = GraphNodes(), np.random.default_rng(0)

    def rounded(x: str) -> str:
        if not quantised:
            return x
        step = [graph.constant(np.float32(1 / 255)), graph.constant(np.uint8(0))]
        return graph.node("DequantizeLinear", [graph.node("QuantizeLinear", [x, *step]), *step])

    def weight(*shape: int) -> str:
        values, step = rng.integers(-127, 128, shape).astype(np.int8), np.float32(1 / 127 / shape[1])
        if not quantised:
            return graph.constant(values * step)
        return graph.node("DequantizeLinear", [graph.constant(values), graph.constant(step)])

    x, channels = "y", 1
    for _ in range(3):
        x = graph.node("Conv", [rounded(x), weight(PEAK_CHANNELS, channels, 3, 3)], pads=[1, 1, 1, 1])
        x, channels = graph.node("Relu", [x]), PEAK_CHANNELS
    x = graph.node("Conv", [rounded(x), weight(PEAK_SCALE**2, channels, 1, 1)])
    x = graph.node("DepthToSpace", [x], blocksize=PEAK_SCALE, mode="CRD")
    value, kind = graph.onnx.helper.make_tensor_value_info, graph.onnx.TensorProto.FLOAT
    graph.inputs.append(value("y", kind, ["N", 1, "h", "w"]))
    graph.outputs.append(value(x, kind, ["N", 1, "H", "W"]))
    return graph.build({"y": 0, x: 0}, "peak")
