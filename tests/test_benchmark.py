"""`vsr bench`: what is measured is what was asked for, and the figures hang together. How fast it is, is not tested."""

from __future__ import annotations

import itertools
import json
import runpy
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from scripts.marked_block import replaced
from tests.backends.reference import random_planes
from tests.clips import frame_count, make_clip
from vsr.benchmark import alone, loops, peers, repetition
from vsr.benchmark.clip import CONTENTS
from vsr.benchmark.clip import make_clip as make_benchmark_clip
from vsr.benchmark.engines import measure_engine, multiplications, peak_gmac_s
from vsr.benchmark.memory import measure_memory, repeat
from vsr.benchmark.native_model import native_model
from vsr.benchmark.peers import Command, race
from vsr.benchmark.repetition import measure_repetition
from vsr.benchmark.run import BenchOptions, BenchReport, bench
from vsr.benchmark.stages import StageFigure, limit_fps
from vsr.benchmark.tables import as_markdown, as_text, draw_chart
from vsr.cli.bench import command
from vsr.errors import BackendError, MissingInputError, ModelError, OptionError, VsrError
from vsr.frame import PIXEL_FORMATS, Frame
from vsr.job import upscale
from vsr.model import BICUBIC, Model, load_model, shipped_models
from vsr.networks import create
from vsr.networks.base import EnlargedNetwork
from vsr.resample import TAPS

QUICK = BenchOptions(2, ("bicubic", "fast:int8"), (64, 48), frames=12, preset="ultrafast", rounds=1, seconds=0.02)


@pytest.fixture(scope="module")
def report() -> BenchReport:
    return bench(None, QUICK)


def test_every_part_is_measured_for_every_model(report: BenchReport) -> None:
    assert [(e.model, e.precision) for e in report.engines] == [("bicubic", "fp32"), ("fast", "int8")]
    assert [j.model for j in report.jobs] == ["bicubic auto", "fast int8"]
    assert [p.name for p in report.processes] == ["vsr bicubic auto", "vsr fast int8"]
    for job in report.jobs:
        assert [s.name for s in job.stages] == ["decode", "upscale", "encode", "read back"]
        assert {s.frames for s in (*job.stages, job.job)} == {12}
        assert job.limit_fps == pytest.approx(limit_fps(job.stages))
        assert job.efficiency == pytest.approx(job.job.fps / job.limit_fps)
        assert job.limited_by in ("decode", "upscale", "encode", "read back")
    assert all(20 < p.rss_mib < 4000 and p.cpu_s > 0 for p in report.processes)
    assert report.processes[0].beside_baseline == 1


def test_the_limit_is_what_the_cores_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsr.benchmark.stages.usable_cores", lambda: 2)
    stages = [StageFigure("decode", 100, 9.9, 0.1), StageFigure("encode", 50, 9.9, 0.2)]
    assert limit_fps(stages) == pytest.approx(2 / (0.001 + 0.004))


@pytest.mark.parametrize(("name", "scale"), shipped_models())
def test_multiplications_are_those_of_the_network(name: str, scale: int) -> None:
    network = create(name, scale)
    # the enlargement is computed by rows and then by columns, a little of it beside the picture
    enlarging = TAPS * (scale + scale**2) if isinstance(network, EnlargedNetwork) else 0
    assert multiplications(load_model(name, scale)) == pytest.approx(network.macs + enlarging, rel=1e-5)


def test_quantised_models_have_as_many_multiplications_and_bicubic_none() -> None:
    for name, scale in shipped_models(quantised=True):
        assert multiplications(load_model(name, scale, "int8")) == multiplications(load_model(name, scale))
    assert multiplications(Model(BICUBIC, 2)) == 0


def test_the_peak_is_above_what_a_small_network_reaches() -> None:
    figure = measure_engine("fast", 2, "fp32", (160, 90), backend="openvino", threads=1, seconds=0.1)
    peak = peak_gmac_s("fp32", "openvino", 1, (), 0.1)
    assert peak is not None
    assert figure.share_of_peak == pytest.approx(figure.gmac_s / peak)
    assert 0 < figure.share_of_peak < 1.5
    assert figure.gmac_s == pytest.approx(figure.gmac * figure.fps)


def test_the_clip_is_the_same_each_time_and_all_of_it_moves(tmp_path: Path) -> None:
    import av

    for name in ("a.mp4", "b.mp4"):
        make_benchmark_clip(tmp_path / name, 66, 50, 6)
    assert frame_count(tmp_path / "a.mp4") == 6

    def frames(name: str) -> list[np.ndarray]:
        with av.open(str(tmp_path / name)) as container:
            return [f.to_ndarray(format="yuv420p").copy() for f in container.decode(video=0)]

    first, second = frames("a.mp4"), frames("b.mp4")
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    for before, after in itertools.pairwise(first):
        assert (before != after).mean() > 0.5


def test_processes_take_turns_and_the_first_turn_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def run(name: str, command: list[str]) -> tuple[float, float, float]:
        order.append(name)
        seconds = {"a": [9.0, 1.0, 2.0, 4.0], "b": [9.0, 2.0, 2.0, 2.0]}[name][order.count(name) - 1]
        return seconds, 2 * seconds, 10.0

    monkeypatch.setattr(peers, "_run", run)
    idle = Command((), (), "")
    figures = race({"a": idle, "b": idle}, 100, 3)
    assert order == ["a", "b"] * 4
    assert [(f.wall_s, f.cpu_s, f.fps) for f in figures] == [(2.0, 4.0, 50.0), (2.0, 4.0, 50.0)]
    assert [f.beside_baseline for f in figures] == [1.0, 1.0]


def test_a_process_that_fails_ends_the_benchmark_with_its_last_line() -> None:
    failing = [sys.executable, "-c", "import sys; print('first', file=sys.stderr); sys.exit('no such thing')"]
    with pytest.raises(VsrError, match=r"^broken ended with exit code 1: no such thing$"):
        race({"broken": Command(tuple(failing[:-1]), (), failing[-1])}, 1, 1)


def test_memory_is_that_of_the_process_and_not_of_this_one() -> None:
    hold = np.ones(200 << 20, np.uint8)
    waiting = Command((sys.executable, "-c"), (), "import time; time.sleep(0.1)")
    (figure,) = race({"small": waiting}, 1, 1)
    assert figure.rss_mib < 100 < hold.nbytes / 2**20


def test_the_tables_and_the_chart_show_every_figure(report: BenchReport, tmp_path: Path) -> None:
    for text in (as_text(report), as_markdown(report)):
        for title in ("Engine alone, 64x48 x2", "stages alone and together", "Whole processes, 12 frames"):
            assert title in text
        assert text.count("fast int8") >= 3
    draw_chart(report, tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as image:
        assert image.format == "PNG"
        assert (46, 110, 180) in {colour for _, colour in image.getcolors(1 << 20) or []}


def test_the_command_prints_json_and_writes_what_it_is_told_to(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=5)
    options = f"{clip} -s 2 -m bicubic --encoder null --only stages --frames 5 -q --json"
    files = ["-o", str(tmp_path / "f.json"), "--chart", str(tmp_path / "c.png")]
    result = CliRunner().invoke(command, [*options.split(), *files])
    assert result.exit_code == 0, result.output
    plain = json.loads(result.stdout)
    assert plain == json.loads((tmp_path / "f.json").read_text())
    assert [s["name"] for s in plain["jobs"][0]["stages"]] == ["decode", "upscale"]
    assert plain["jobs"][0]["job"]["frames"] == 5
    assert plain["jobs"][0]["job"]["fps"] > 0
    assert (tmp_path / "c.png").stat().st_size > 500


def test_without_an_encoder_there_are_no_whole_processes() -> None:
    report = bench(None, BenchOptions(2, ("bicubic",), (32, 32), 2, encoder="null", parts=("processes",)))
    assert report.processes == []
    assert report.notes == ["no whole processes: they need an encoder"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoder": "xvid"},
        {"parts": ("engine",)},
        {"parts": ()},
        {"size": (65, 48)},
        {"size": (8, 8)},
        {"frames": 1},
        {"rounds": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=r"allowed are|must be"):
        BenchOptions(**wrong)  # type: ignore[arg-type]


def test_a_missing_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="does not exist"):
        bench(tmp_path / "none.mp4", QUICK)


def test_a_loop_writes_every_frame_enlarged_at_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nearest(_model: Path) -> Any:
        return lambda luma: luma.repeat(2, axis=2).repeat(2, axis=3)

    monkeypatch.setitem(loops.NETWORKS, "onnxruntime", nearest)
    clip = make_clip(tmp_path / "clip.mp4", frames=7, size=(50, 34))
    lossless = {"preset": "ultrafast", "qp": "0"}
    assert loops.upscale("onnxruntime", Path(), clip, tmp_path / "out.mp4", 2, "libx264", lossless) == 7
    assert loops.upscale("onnxruntime", Path(), clip, tmp_path / "few.mp4", 2, "libx264", lossless, 3) == 3
    small, large = pictures(clip), pictures(tmp_path / "out.mp4")
    assert [time for time, _ in small] == [time for time, _ in large]
    for (_, a), (_, b) in zip(small, large, strict=True):
        assert np.array_equal(a[:34].repeat(2, axis=0).repeat(2, axis=1), b[:68])
        assert abs(int(a[34:].mean()) - int(b[68:].mean())) <= 1
    other = make_clip(tmp_path / "444.mp4", frames=1, pix_fmt="yuv444p")
    with pytest.raises(ValueError, match="yuv444p"):
        loops.upscale("onnxruntime", Path(), other, tmp_path / "no.mp4", 2, "libx264", lossless)


@pytest.mark.parametrize(("runtime", "name"), [("opencv", "espcn"), ("onnxruntime", "fast")])
def test_a_loop_computes_the_same_luma(runtime: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip(loops.PACKAGES[runtime])  # peers of the benchmark, which nothing else needs
    (tmp_path / "model.onnx").write_bytes(load_model(name, 2).onnx_bytes)
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    lossless = {"preset": "ultrafast", "qp": "0"}
    loops.upscale(runtime, tmp_path / "model.onnx", clip, tmp_path / "loop.mp4", 2, "libx264", lossless)
    Path(tempfile.gettempdir(), ".ses").unlink(missing_ok=True)  # which ONNX Runtime leaves behind
    upscale(clip, tmp_path / "ours.mp4", 2, model=name, precision="fp32", lossless=True, encoder="x264")
    for (_, a), (_, b) in zip(pictures(tmp_path / "loop.mp4"), pictures(tmp_path / "ours.mp4"), strict=True):
        assert np.abs(a[:96].astype(int) - b[:96]).max() <= 1


def pictures(path: Path) -> list[tuple[float, np.ndarray]]:
    import av

    with av.open(str(path)) as container:
        return [(float(f.time or 0), f.to_ndarray(format="yuv420p").copy()) for f in container.decode(video=0)]


def test_peers_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(peers, "PACKAGES", dict.fromkeys(peers.PACKAGES, "no_package_of_this_name"))
    report = bench(None, replace(QUICK, models=("bicubic",), frames=4, parts=("processes",), compare=True))
    assert [p.name for p in report.processes] == ["vsr bicubic auto"]
    assert [note.partition(" is ")[0] for note in report.notes] == [
        "ffmpeg lanczos",
        "OpenCV dnn espcn fp32",
        "ONNX Runtime fast fp32",
        "ffmpeg sr espcn fp32",
    ]


def test_the_script_has_a_block_for_each_of_its_tables_and_rewrites_nothing_else() -> None:
    script = runpy.run_path(str(Path(__file__).parent.parent / "scripts" / "bench"))
    page = Path(script["PAGE"]).read_text()
    for name in script["TABLES"]:
        begin, end = script["marks"](name)
        new = replaced(page, begin, end, "figures")
        before, _, rest = page.partition(begin)
        assert new == f"{before}{begin}\nfigures\n{end}{rest.partition(end)[2]}"
        assert replaced(new, begin, end, "figures") == new
    for wrong in ("no marks", end + begin, page + begin):
        with pytest.raises(ValueError, match="once each"):
            replaced(wrong, begin, end, "figures")


def test_repetition_is_compared_and_measured_for_every_content() -> None:
    figures = measure_repetition("bicubic", 2, "fp32", (160, 96), 4, 1)
    assert [f.content for f in figures] == list(CONTENTS)
    assert all(f.frames == 4 and f.whole_ms > 0 and f.ratio > 0 and f.cpu_ratio > 0 for f in figures)
    shares = {f.content: f.reused for f in figures}
    assert shares["motion"] == 0
    assert shares["slides"] > 0.5


def test_a_sample_that_differs_ends_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Frame(random_planes(PIXEL_FORMATS["gray"], 16, 16), 0)
    other = Frame(random_planes(PIXEL_FORMATS["gray"], 16, 16, seed=9), 0)
    with pytest.raises(BackendError, match="frame 1 of the content screen differs"):
        repetition._compare("screen", iter([frame, frame]), iter([frame, other]))


def test_what_changes_in_the_clips_is_what_they_say(tmp_path: Path) -> None:
    shares = {}
    for content in CONTENTS:
        pairs = itertools.pairwise(CONTENTS[content](160, 96, 4))
        shares[content] = [float((a[0] != b[0]).mean()) for a, b in pairs]
    assert min(shares["motion"]) > 0.5
    assert max(shares["screen"]) == pytest.approx(0.05, abs=0.01)
    assert max(shares["slides"]) == 0
    assert all(share > 0.1 for share in shares["head"])


def test_a_repeated_clip_goes_on_where_it_ended(tmp_path: Path) -> None:
    import av

    make_benchmark_clip(tmp_path / "part.mp4", 64, 48, 5)
    repeat(tmp_path / "part.mp4", tmp_path / "whole.mp4", 3)
    with av.open(str(tmp_path / "whole.mp4")) as container:
        times = [float(frame.time or 0) for frame in container.decode(video=0)]
    assert times == pytest.approx([n / 25 for n in range(15)], abs=0.002)


def test_memory_is_read_early_and_late_in_a_process_of_its_own() -> None:
    early, late = measure_memory("bicubic", 2, (16, 16), 1000)
    assert 20 < early <= late < 4000


def test_networks_alone_are_beside_the_engine_and_those_not_installed_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alone, "PACKAGES", {"opencv": "no_package_of_this_name", "onnxruntime": "numpy"})
    monkeypatch.setattr(alone, "_in_a_process", lambda *_: 1000.0)
    pairs = [("onnxruntime", "fast"), ("opencv", "fast")]
    own, rival = alone.measure_beside(pairs, 2, (64, 48), 1, 0.01)
    assert (own.name, own.ratio) == ("vsr fast int8", 1.0)
    assert (rival.name, rival.ms) == ("ONNX Runtime fast fp32", 1000.0)
    assert rival.ratio == pytest.approx(own.ms / 1000)


def test_a_network_is_timed_and_sizes_by_the_megapixel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loops.NETWORKS, "opencv", lambda _model: lambda luma: luma)
    assert alone.time_network("opencv", Path(), 32, 16, 0.01) > 0
    small, large = alone.measure_sizes("bicubic", 2, "fp32", [(64, 48), (128, 96)], 1, 0.01)
    assert small.ms_per_megapixel == pytest.approx(small.ms / 0.003072)
    assert (large.width, large.height) == (128, 96)


def test_a_command_that_does_a_few_frames_only_runs_once_and_is_compared_by_the_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []

    def run(name: str, _: list[str]) -> tuple[float, float, float]:
        order.append(name)
        return {"all": 10.0, "few": 6.0}[name], 1.0, 10.0

    monkeypatch.setattr(peers, "_run", run)
    _, few = race({"all": Command((), (), ""), "few": Command((), (), "", 3)}, 100, 2)
    assert order == ["all", "all", "few", "all"]
    assert (few.frames, few.fps, few.beside_baseline) == (3, 0.5, pytest.approx(20))


def test_the_native_model_computes_the_same_luma_in_ffmpegs_own_code(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=1, size=(32, 24), codec="ffv1")
    (tmp_path / "espcn.model").write_bytes(native_model(load_model("espcn", 2).onnx_bytes))
    encoding = peers.Encoding("x264", "ultrafast", 0)
    sr = peers.sr_command(tmp_path / "espcn.model", clip, tmp_path / "sr.mkv", (720, 576), encoding)
    if sr is None:
        pytest.skip("this ffmpeg has no filter sr with a backend of its own")  # which FFmpeg 6.1 took out
    peers._run("sr", sr.line())
    upscale(clip, tmp_path / "ours.mkv", 2, model="espcn", precision="fp32", encoder="ffv1")
    for (_, a), (_, b) in zip(pictures(tmp_path / "sr.mkv"), pictures(tmp_path / "ours.mkv"), strict=True):
        assert np.abs(a[:48].astype(int) - b[:48]).max() <= 1


def test_a_model_that_ffmpegs_own_code_has_not_is_refused() -> None:
    with pytest.raises(ModelError, match="no Add"):
        native_model(load_model("fast", 2).onnx_bytes)
