"""Which model a job takes when none is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import vsr
from tests.clips import ffmpeg
from vsr.model import BEST, BEST_COMPRESSED, COMPRESSED, default_model_name, shipped_for_every_scale
from vsr.options import UpscaleOptions
from vsr.source import Source

Clip = Callable[..., Path]


@pytest.mark.parametrize("name", [COMPRESSED, BEST, BEST_COMPRESSED])
def test_what_is_taken_unasked_is_shipped_for_every_scale(name: str) -> None:
    assert shipped_for_every_scale(name)


@pytest.mark.parametrize(
    ("name", "options", "compressed"),
    [
        ("a.mp4", ("-c:v", "libx264"), True),
        ("a.mkv", ("-c:v", "libx265", "-x265-params", "log-level=error"), True),
        ("a.webm", ("-c:v", "libvpx-vp9"), True),
        ("a.mpg", ("-c:v", "mpeg2video"), True),
        ("a.mkv", ("-c:v", "libx264", "-qp", "0"), False),
        ("a.mkv", ("-c:v", "ffv1"), False),
        ("a.mov", ("-c:v", "prores_ks"), False),
        ("a.avi", ("-c:v", "mjpeg"), False),
        ("a.y4m", (), False),
    ],
)
def test_video_that_lost_detail_to_prediction_is_known(
    name: str, options: tuple[str, ...], compressed: bool, tmp_path: Path
) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.2", *options, tmp_path / name)
    source = Source(tmp_path / name)
    assert source.info.compressed == compressed
    source.close()


@pytest.mark.parametrize(("codec", "compressed"), [("h264", True), ("ffv1", False)])
def test_compressed_video_gets_the_weights_for_it(codec: str, compressed: bool, clip: Clip, tmp_path: Path) -> None:
    source = clip("a.mkv", codec=codec, size=(64, 48), frames=3)
    usual = COMPRESSED if compressed else default_model_name(2)
    assert vsr.upscale(source, tmp_path / "usual.mkv", scale=2).model == usual
    assert vsr.upscale(source, tmp_path / "named.mkv", scale=2, model="espcn").model == "espcn"


@pytest.mark.parametrize(("compressed", "name"), [(False, BEST), (True, BEST_COMPRESSED)])
def test_an_archive_gets_the_best_model(compressed: bool, name: str) -> None:
    with UpscaleOptions(use="archive", scale=2).upscaler(compressed=compressed) as upscaler:
        assert upscaler.model.name == name


def test_enlargements_in_two_steps_take_the_weights_for_compressed_video_twice() -> None:
    with UpscaleOptions(scale=6).upscaler(compressed=True) as upscaler:
        assert [part.name for part in upscaler.model.parts] == [COMPRESSED] * 2
