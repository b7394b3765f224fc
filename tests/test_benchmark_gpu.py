"""`vsr bench --device`: what a graph takes is counted right, a fake GPU's parts add up, and without a GPU one line."""

from __future__ import annotations

import json
from math import prod
from typing import Any

import pytest
from click.testing import CliRunner

from tests.backends.reference import random_planes
from tests.end_to_end.command import assert_one_line, vsr
from vsr.backends.torch import TorchEngine, copy_rate
from vsr.benchmark import engines
from vsr.benchmark.engines import EngineFigure, measure_engine, multiplications
from vsr.benchmark.roofline import Layer, Peak, Work, count, least_ms
from vsr.benchmark.run import BenchOptions, BenchReport, bench
from vsr.benchmark.tables import as_markdown
from vsr.cli.bench import command
from vsr.engines.engine import EngineSpec
from vsr.engines.timing import Parts
from vsr.errors import OptionError
from vsr.frame import PIXEL_FORMATS, ColorSpec
from vsr.gpu.cuda_driver import Driver, probe
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.model import BICUBIC, Model, load_model, shipped_models

YUV = PIXEL_FORMATS["yuv420p"]


def graph(scale: int, width: int = 64, height: int = 48) -> FrameGraphSpec:
    return FrameGraphSpec(YUV, ColorSpec(), scale, width, height)


def conv(inputs: int, outputs: int, kernel: tuple[int, int], size: tuple[int, int], cut: tuple[int, int]) -> Layer:
    """A convolution of `size` (height, width) whose output is `cut` smaller, counted by hand, in fp32."""
    height, width = size
    low, narrow = height - cut[0], width - cut[1]
    weights = inputs * outputs * prod(kernel)
    values = inputs * height * width + weights + outputs * low * narrow
    return Layer(2.0 * weights * low * narrow, 4.0 * values)


def test_bicubic_is_counted_as_its_convolutions() -> None:
    """Luma, Cb and Cr, each by rows and then by columns (of every row phase), over a plane with margins."""
    work = count(Model(BICUBIC, 2), graph(2), "fp32")
    assert work.plane_bytes == 64 * 48 * 3 // 2 * 5
    assert len(work.layers) == 6
    rows = [layer for layer in work.layers if layer.flop == max(layer.flop for layer in work.layers)]
    assert 1 <= len(rows) <= 2
    taps = 2.0 * 64 * 48 * 5  # about five taps at every place, each way
    assert taps < work.flop < 40 * taps


@pytest.mark.parametrize(("name", "scale"), [m for m in shipped_models() if m[1] in (2, 3)])
def test_models_are_counted_with_all_their_layers(name: str, scale: int) -> None:
    model = load_model(name, scale)
    work, bicubic = count(model, graph(scale), "fp32"), count(Model(BICUBIC, scale), graph(scale), "fp32")
    chroma = bicubic.flop - 2 * _luma_of(scale)
    assert work.flop == pytest.approx(2 * multiplications(model) * 64 * 48 + chroma)
    half = count(model, graph(scale), "fp16")
    assert (half.flop, half.bytes) == (work.flop, work.bytes / 2)


def _luma_of(scale: int) -> float:
    """Multiplications of luma in the bicubic graph: those of a grey picture."""
    grey = FrameGraphSpec(PIXEL_FORMATS["gray"], ColorSpec(), scale, 64, 48)
    return count(Model(BICUBIC, scale), grey, "fp32").flop / 2


def test_a_known_network_is_counted_to_the_byte() -> None:
    """ESPCN (5-3-3, 64 and 32 channels), as its authors give it."""
    layers = count(load_model("espcn", 3), graph(3), "fp32").layers
    want = [conv(1, 64, (5, 5), (48, 64), (0, 0)), conv(64, 32, (3, 3), (48, 64), (0, 0))]
    want.append(conv(32, 9, (3, 3), (48, 64), (0, 0)))
    assert [layer for layer in layers if layer in want] == want


def test_an_int8_model_has_the_same_operations_in_a_quarter_of_the_bytes() -> None:
    plain, quantised = (count(load_model("fast", 2, p), graph(2), p) for p in ("fp32", "int8"))
    assert quantised.flop == plain.flop
    assert quantised.bytes == plain.bytes / 4


def test_the_roofline_takes_the_slower_of_both_for_each_layer() -> None:
    work = Work((Layer(1e9, 1e6), Layer(1e6, 1e9)), 0)
    assert (work.flop, work.bytes) == (1.001e9, 1.001e9)
    assert least_ms(work, Peak(1e12, 1e12)) == pytest.approx(2.0)
    assert least_ms(work, Peak(1e13, 1e12)) == pytest.approx(1.1)


def test_the_torch_backend_says_where_the_time_goes() -> None:
    planes = random_planes(YUV, 16, 12)
    spec = EngineSpec(Model(BICUBIC, 2), graph(2, 16, 12), "fp32", 1)
    engine = TorchEngine(spec, "cpu")
    parts = engine.parts(planes, 3)
    assert min(parts.upload_ms, parts.compute_ms, parts.download_ms) > 0
    assert engine.submit(planes).result().width == 32  # and goes on as before
    assert 1e8 < copy_rate("cpu") < 1e12


def test_every_combination_is_measured_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(name: str, scale: int, precision: str, size: tuple[int, int], **how: Any) -> EngineFigure:
        parts = Parts(0.1, 0.5, 0.2)
        lanes = how["lanes"] or 3
        return EngineFigure(
            name, scale, precision, "fake", *size, 1.0, 0.1, 2.0, 9.0, 0.5, lanes, parts, 4e9, 5e6, 0.25, how["batch"]
        )

    monkeypatch.setattr("vsr.benchmark.run.measure_engine", measure)
    sizes, models = ((640, 480), (1280, 720)), ("fast:fp16", "espcn:fp32")
    options = BenchOptions(
        models=models,
        engine_sizes=sizes,
        engine_scales=(2, 3),
        lanes=(1, 3),
        batch=(1, 2),
        parts=("engines",),
        device="cpu",
    )
    report = bench(None, options)
    got = {(e.model, e.precision, e.width, e.scale, e.lanes, e.batch) for e in report.engines}
    assert len(report.engines) == len(got) == 2 * 2 * 2 * 2 * 2
    text = as_markdown(report)
    assert "| fast fp16 x2 1280x720, 3 in flight | 0.100 | 0.500 | 0.200 | 4.00 | 5.0 | 0.250 | 50% |" in text
    assert "| fast fp16 x2 1280x720, 3 in flight, 2 at once | 0.100 |" in text
    plain = json.loads(json.dumps(report.to_dict()))["engines"][0]
    assert (plain["parts"]["compute_ms"], plain["share_of_roofline"], plain["flop"]) == (0.5, 0.5, 4e9)
    assert isinstance(report, BenchReport)


def test_on_a_cpu_the_graph_is_counted_and_nothing_is_said_of_a_roofline() -> None:
    figure = measure_engine("bicubic", 2, "fp32", (64, 48), devices=("cpu",), seconds=0.01)
    assert figure.flop == count(Model(BICUBIC, 2), graph(2), "fp32").flop
    assert (figure.parts, figure.least_ms, figure.share_of_roofline) == (None, None, None)
    assert figure.lanes >= 1
    assert engines._copy_rate(("cpu",)) is None


@pytest.mark.skipif(isinstance(probe(), Driver), reason="there is a GPU")
def test_without_a_gpu_there_is_one_line() -> None:
    assert_one_line(vsr("bench", "--device", "cuda:0"), "device 'cuda:0': no NVIDIA driver is installed", "say cpu")


def test_sizes_that_are_none_are_refused() -> None:
    result = CliRunner().invoke(command, ["--engine-size", "large"])
    assert isinstance(result.exception, OptionError)
    with pytest.raises(OptionError, match="must be even"):
        BenchOptions(engine_sizes=((63, 48),))
    with pytest.raises(OptionError, match="must be"):
        BenchOptions(lanes=(0,))
    with pytest.raises(OptionError, match="must be"):
        BenchOptions(batch=(0,))
