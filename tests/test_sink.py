"""The sink: times, durations and colours reach the file; its name is taken last."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.backends.reference import random_planes
from tests.clips import probe, video_times
from vsr.errors import EncoderError, OutputError, OutputExistsError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Frame, Range, Siting, VideoInfo
from vsr.sink import Sink, refuse_terminal
from vsr.source import Source
from vsr.writing.containers import container_of
from vsr.writing.encoder_options import EncoderRequest
from vsr.writing.encoders import plan_encoder

Clip = Callable[..., Path]
MILLISECOND = Fraction(1, 1000)


def info(**changes: Any) -> VideoInfo:
    values: dict[str, Any] = {
        "width": 64,
        "height": 48,
        "format": PIXEL_FORMATS["yuv420p"],
        "pix_fmt_from_header": "yuv420p",
        "color": ColorSpec(),
        "time_base": MILLISECOND,
        "rate": Fraction(25),
    }
    return VideoInfo(**{**values, **changes})


def make_sink(target: Path, about: VideoInfo | None = None, *, encoder: str = "auto", **options: Any) -> Sink:
    about = about or info()
    container = container_of(target)
    plan = plan_encoder(container, about.format, about.width, about.height, EncoderRequest(encoder))
    return Sink(target, container, about, plan, None, threads=1, **options)


def frames(times: list[int], about: VideoInfo | None = None, durations: list[int] | None = None) -> list[Frame]:
    about = about or info()
    lengths = durations or [b - a for a, b in zip(times, [*times[1:], times[-1] + 40], strict=True)]
    return [
        Frame(random_planes(about.format, about.width, about.height, i), pts, duration)
        for i, (pts, duration) in enumerate(zip(times, lengths, strict=True))
    ]


def written(target: Path, given: list[Frame], about: VideoInfo | None = None, **options: Any) -> Path:
    sink = make_sink(target, about, **options)
    try:
        progress = list(sink.consume(iter(given)))
        assert [p.frames for p in progress] == list(range(1, len(given) + 1))
        assert not target.exists()
        sink.publish()
    finally:
        sink.discard()
    assert target.exists()
    return target


VFR = [0, 40, 80, 200, 240, 241, 400, 1000, 1040, 1080, 1500, 1540]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm", ".ts"])
def test_times_reach_the_file_exactly(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"out{suffix}", frames(VFR))
    assert [round(t * 1000) for t in video_times(path)] == VFR


@pytest.mark.parametrize("start", [5000, 83])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_start_other_than_zero_is_kept(suffix: str, start: int, tmp_path: Path) -> None:
    path = written(tmp_path / f"out{suffix}", frames([start + t for t in VFR]))
    assert [round(t * 1000) for t in video_times(path)] == [start + t for t in VFR]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_last_picture_is_shown_as_long_as_in_the_input(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"out{suffix}", frames([0, 40, 80], durations=[40, 40, 700]))
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        last = max(packets, key=lambda p: p.pts)
        end = (last.pts + last.duration) * last.time_base if last.duration else 0
        whole = Fraction(container.duration, av.time_base)
    assert max(end, whole) == pytest.approx(0.78, abs=0.002)


@pytest.mark.parametrize("denominator", [1000, 12800, 90000, 30000, 1200000])
def test_odd_time_bases_do_not_round_in_mp4(denominator: int, tmp_path: Path) -> None:
    base = Fraction(1, denominator)
    about = info(time_base=base)
    step = denominator // 25 + 1
    path = written(tmp_path / "out.mp4", frames([7 + i * step for i in range(6)], about), about)
    times = video_times(path)
    assert [t - times[0] for t in times] == [i * step * base for i in range(6)]
    assert times[0] == 7 * base


@pytest.mark.parametrize("encoder", ["x264", "x265", "svtav1", "vp9"])
def test_colour_tags_reach_the_stream(encoder: str, tmp_path: Path) -> None:
    color = ColorSpec(9, 9, 16, Range.LIMITED, Siting.LEFT)
    about = info(color=color, width=128, height=96)
    path = written(tmp_path / "out.mkv", frames([0, 40, 80, 120, 160], about), about, encoder=encoder)
    video = probe(path).video
    assert (video["color_space"], video["color_primaries"], video["color_transfer"], video["color_range"]) == (
        "bt2020nc",
        "bt2020",
        "smpte2084",
        "tv",
    )


@pytest.mark.parametrize("encoder", ["x264", "x265"])
@pytest.mark.parametrize("siting", [Siting.TOPLEFT, Siting.CENTER, Siting.LEFT])
def test_chroma_siting_reaches_the_stream(encoder: str, siting: Siting, tmp_path: Path) -> None:
    about = info(color=ColorSpec(siting=siting), height=64)
    path = written(tmp_path / "out.mkv", frames([0, 40, 80, 120, 160], about), about, encoder=encoder)
    source = Source(path)
    found = source.info.color.siting
    source.close()
    assert found in (siting, Siting.UNSPECIFIED if siting is Siting.LEFT else siting)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_is_unspecified_stays_unspecified(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"out{suffix}", frames([0, 40]))
    source = Source(path)
    color = source.info.color
    source.close()
    assert (color.matrix, color.primaries, color.transfer) == (2, 2, 2)
    assert color.range in (Range.UNSPECIFIED, Range.LIMITED)


def test_lossless_encoding_keeps_every_sample(tmp_path: Path) -> None:
    for name in ("yuv420p", "yuv422p10le", "gray16le", "gbrp", "yuva444p16le"):
        about = info(format=PIXEL_FORMATS[name], width=33, height=17)
        given = frames([0, 40, 80], about)
        path = written(tmp_path / f"{name}.mkv", given, about, encoder="ffv1")
        source = Source(path)
        for before, after in zip(given, source.frames(), strict=True):
            assert after.planes.format.name == name
            for a, b in zip(before.planes.arrays, after.planes.arrays, strict=True):
                assert (a == b).all()
        source.close()


def test_pixel_shape_and_rotation_reach_the_file(tmp_path: Path) -> None:
    matrix = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    about = info(sample_aspect_ratio=Fraction(16, 15), display_matrix=matrix)
    for suffix in (".mp4", ".mkv", ".mov"):
        path = written(tmp_path / f"out{suffix}", frames([0, 40, 80], about), about)
        assert probe(path).video["sample_aspect_ratio"] == "16:15"
        source = Source(path)
        found = source.info.display_matrix
        source.close()
        assert found is not None
        assert found[:2] == matrix[:2]


# -- what is left behind ----------------------------------------------------------------------------------------------


def test_an_existing_target_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        make_sink(target)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_a_discarded_sink_leaves_nothing(tmp_path: Path) -> None:
    sink = make_sink(tmp_path / "out.mp4")
    running = sink.consume(iter(frames([0, 40, 80])))
    next(running)
    running.close()  # type: ignore[attr-defined]
    sink.discard()
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_no_frames_make_no_partial_file(tmp_path: Path) -> None:
    sink = make_sink(tmp_path / "out.mp4")
    assert list(sink.consume(iter([]))) == []
    assert sink.publish_partial() is None
    assert sink.seconds_written == 0
    assert list(tmp_path.iterdir()) == []


def test_a_partial_file_says_how_long_it_is(tmp_path: Path) -> None:
    sink = make_sink(tmp_path / "out.mkv")
    taken = 0

    def stop() -> bool:
        return taken >= 6

    for _ in sink.consume(iter(frames([40 * i for i in range(30)])), stop):
        taken += 1
    path = sink.publish_partial()
    assert path == tmp_path / "out.partial.mkv"
    assert sink.packets_written == 6
    assert sink.seconds_written == pytest.approx(0.24)
    assert len(video_times(path)) == 6
    sink.discard()


def test_an_encoder_that_refuses_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    from dataclasses import replace

    about = info()
    target = tmp_path / "out.mp4"
    plan = plan_encoder(container_of(target), about.format, 64, 48)
    wrong = replace(plan, options={**plan.options, "preset": "warp"})
    sink = Sink(target, container_of(target), about, wrong, None)
    with pytest.raises((EncoderError, OutputError)):
        list(sink.consume(iter(frames([0, 40]))))
    sink.discard()
    assert list(tmp_path.iterdir()) == []


TO_STANDARD_OUTPUT = """
from tests.test_sink import frames, info
from vsr.writing.encoder_options import EncoderRequest
from vsr.writing.encoders import plan_encoder
from vsr.sink import Sink, streaming_container
about, container = info(), streaming_container()
sink = Sink("-", container, about, plan_encoder(container, about.format, 64, 48), None)
for _ in sink.consume(iter(frames([0, 40, 80]))):
    pass
sink.publish()
"""


def test_standard_output_gets_matroska(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", TO_STANDARD_OUTPUT], capture_output=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "got.mkv"
    path.write_bytes(done.stdout)
    assert [round(t * 1000) for t in video_times(path)] == [0, 40, 80]


def test_a_terminal_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with pytest.raises(OutputError, match="standard output is a terminal"):
        refuse_terminal()
