"""Static HDR metadata: through an encoder and back without loss, and a word on what is lost."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.backends.reference import random_planes
from vsr.frame import PIXEL_FORMATS, ColorSpec, Frame, Range, Siting, VideoInfo
from vsr.hdr import StaticHdr, encoder_parameters, notes, read_static_hdr
from vsr.pixel_formats import frame_from
from vsr.sink import Sink
from vsr.source import Source
from vsr.writing.containers import container_of
from vsr.writing.encoder_options import EncoderRequest
from vsr.writing.encoders import plan_encoder

# A mastering display of DCI-P3 primaries, 1000 cd/m², as most HDR10 releases name it
HDR10 = StaticHdr(
    primaries=((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    white_point=(0.3127, 0.329),
    luminance=(0.005, 1000.0),
    content_light=(1000, 400),
)
HLG_LIGHT = StaticHdr(content_light=(203, 100))
FMT = PIXEL_FORMATS["yuv420p10le"]


def through(folder: Path, hdr: StaticHdr, encoder: str, suffix: str) -> StaticHdr | None:
    """Encode five frames with `hdr` and read it back from the file."""
    color = ColorSpec(9, 9, 16, Range.LIMITED, Siting.TOPLEFT)
    info = VideoInfo(128, 96, FMT, FMT.name, color, Fraction(1, 1000), rate=Fraction(25))
    target = folder / f"out{suffix}"
    container = container_of(target)
    plan = plan_encoder(container, FMT, 128, 96, EncoderRequest(encoder))
    sink = Sink(target, container, info, plan, None, threads=1, hdr=hdr)
    try:
        for _ in sink.consume(Frame(random_planes(FMT, 128, 96, i), 40 * i, 40) for i in range(5)):
            pass
        sink.publish()
    finally:
        sink.discard()
    source = Source(target)
    source.close()
    return source.hdr


WAYS = [
    *itertools.product(["x264", "x265", "svtav1", "ffv1"], [".mkv"]),
    *itertools.product(["x265", "svtav1"], [".mp4"]),
]


# MPEG-TS has no place for it, so there it is in the coded pictures.
@pytest.mark.parametrize(("encoder", "suffix"), [*WAYS, ("x264", ".ts"), ("x265", ".ts")])
@pytest.mark.parametrize("hdr", [HDR10, HLG_LIGHT], ids=["mastering and light", "light"])
def test_what_goes_in_comes_out(hdr: StaticHdr, encoder: str, suffix: str, tmp_path: Path) -> None:
    found = through(tmp_path, hdr, encoder, suffix)
    assert found is not None
    assert found.content_light == hdr.content_light
    if hdr.primaries is None:
        return
    assert found.primaries is not None
    assert found.white_point is not None
    assert found.luminance is not None
    for got, want in zip((*found.primaries, found.white_point), (*hdr.primaries, hdr.white_point or ()), strict=True):
        assert got == pytest.approx(want, abs=2e-5)
    assert found.luminance == pytest.approx(hdr.luminance, rel=1e-3, abs=2e-4)


def test_what_carries_none_says_so() -> None:
    assert encoder_parameters(HDR10, None) is None  # as of NVENC, VP9 and FFV1
    (note,) = notes(HDR10, None, "mpegts")
    assert "--encoder x265 does" in note


def test_nothing_is_noted_where_all_is_carried() -> None:
    for muxer in ("matroska", "mp4", "mov", "webm"):
        assert notes(HDR10, None, muxer) == []
    for option in ("x264-params", "x265-params", "svtav1-params"):
        assert notes(HDR10, option, "mpegts") == []
    assert notes(StaticHdr(), None, "mpegts") == []


def test_dynamic_metadata_is_named_as_lost() -> None:
    hdr = StaticHdr(content_light=(1, 1), dynamic=("Dolby Vision", "HDR10+"))
    lost = notes(hdr, "x265-params", "mp4")
    assert len(lost) == 2
    assert "Dolby Vision" in lost[0]


def test_an_ordinary_picture_has_none() -> None:
    frame = frame_from(random_planes(PIXEL_FORMATS["yuv420p"], 8, 8), Range.LIMITED)
    assert isinstance(frame, av.VideoFrame)
    assert read_static_hdr(frame) is None
    assert encoder_parameters(StaticHdr(), "x265-params") is None
