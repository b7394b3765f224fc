"""Chroma stays where it is, and where the output cannot say where that is, it moves to where readers take it to be."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vsr
from tests.backends import reference
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes, Siting
from vsr.graphs.frame_graph import Target
from vsr.siting import kept_siting
from vsr.source import Source
from vsr.upscaler import Upscaler

Clip = Callable[..., Path]
SITINGS = list(Siting)
SUBSAMPLED = ("yuv420p", "yuv422p", "yuv440p", "yuv411p", "yuv410p")
SITED = [s for s in Siting if s is not Siting.UNSPECIFIED]


@settings(deadline=None, max_examples=15)
@given(
    old=st.sampled_from(SITINGS),
    new=st.sampled_from(SITINGS),
    name=st.sampled_from(SUBSAMPLED),
    scale=st.sampled_from([2, 3, 4]),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_chroma_moves_between_any_two_sitings(
    old: Siting, new: Siting, name: str, scale: int, size: tuple[int, int]
) -> None:
    fmt = PIXEL_FORMATS[name]
    planes = reference.random_planes(fmt, *size)
    with Upscaler(scale, "bicubic", threads=1) as upscaler:
        engine = upscaler.prepare(fmt, ColorSpec(siting=old), *size, Target(siting=new))
        got = engine.submit(planes).result()
    (dx, dy), (new_dx, new_dy) = (reference.chroma_offsets(s, fmt) for s in (old, new))
    for plane, result in zip(planes.arrays[1:], got.arrays[1:], strict=True):
        height, width = result.shape
        rows = reference.sample_positions(height, scale, fmt.log2_h, dy, new_dy)
        columns = reference.sample_positions(width, scale, fmt.log2_w, dx, new_dx)
        want = reference.interpolate(reference.interpolate(plane.astype(float), rows, 0), columns, 1)
        assert np.abs(result - np.rint(np.clip(want, 0, 255))).max() <= 1


def edge_clip(path: Path, pix_fmt: str, siting: str, at: int) -> Path:
    """Three pictures whose chroma steps up between samples `at` - 1 and `at` of every row; FFV1."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25, options={"chroma_sample_location": siting})
        stream.width, stream.height, stream.pix_fmt = 64, 32, pix_fmt
        for index in range(3):
            frame = av.VideoFrame(64, 32, pix_fmt)
            for number, plane in enumerate(frame.planes):
                row = np.full(plane.line_size, 100, np.uint8)
                row[at:] = 100 if number == 0 else 180
                plane.update(row.tobytes() * plane.height)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def edge_in_luma_samples(path: Path) -> tuple[float, Siting, Planes]:
    """Where the chroma edge of the first picture is, by the area under the plane and what the file says of siting."""
    source = Source(path)
    try:
        planes = next(iter(source.frames())).planes
        siting = source.info.color.siting
    finally:
        source.close()
    row = planes.arrays[1][planes.arrays[1].shape[0] // 2].astype(float)
    middle = (180 - row).sum() / 80 - 0.5  # of the edge, in chroma samples
    offset, _ = reference.chroma_offsets(siting, planes.format)
    return 2 * middle + offset, siting, planes


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize(
    ("pix_fmt", "siting", "encoder", "suffix", "said"),
    [
        ("yuv420p", "left", "x264", ".mkv", (Siting.LEFT,)),
        ("yuv420p", "center", "x264", ".mp4", (Siting.CENTER,)),
        ("yuv420p", "topleft", "x264", ".mp4", (Siting.TOPLEFT,)),
        ("yuv420p", "center", "vp9", ".mp4", (Siting.UNSPECIFIED, Siting.LEFT)),
        ("yuv420p", "topleft", "vp9", ".webm", (Siting.TOPLEFT,)),
        ("yuv422p", "center", "x264", ".mkv", (Siting.LEFT,)),
        ("yuv422p", "center", "ffv1", ".mkv", (Siting.CENTER,)),
    ],
)
def test_a_chroma_edge_keeps_its_place_to_an_eighth_of_a_sample(
    pix_fmt: str, siting: str, encoder: str, suffix: str, said: tuple[Siting, ...], scale: int, tmp_path: Path
) -> None:
    """Through the encoder and back, by what the output says of itself."""
    source = edge_clip(tmp_path / "in.mkv", pix_fmt, siting, at=15)
    result = tmp_path / f"out{suffix}"
    crf = {} if encoder == "ffv1" else {"crf": 1}
    vsr.upscale(source, result, scale=scale, model="bicubic", encoder=encoder, **crf)
    before, _, _ = edge_in_luma_samples(source)
    after, new_siting, _ = edge_in_luma_samples(result)
    assert new_siting in said
    assert abs(after - ((before + 0.5) * scale - 0.5)) < 1 / 8


@given(
    siting=st.sampled_from(SITED),
    name=st.sampled_from([*SUBSAMPLED, "yuv444p", "gray", "gbrp"]),
    codec=st.sampled_from(["h264", "hevc", "av1", "vp9", "ffv1", "prores"]),
    muxer=st.sampled_from(["matroska", "webm", "mp4", "mov", "mpegts", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"]),
)
def test_what_is_said_is_what_is_read(siting: Siting, name: str, codec: str, muxer: str) -> None:
    """Kept once is kept for good, and left and what is unspecified always are."""
    fmt = PIXEL_FORMATS[name]
    kept = kept_siting(siting, fmt, codec, muxer)
    assert kept_siting(kept, fmt, codec, muxer) is kept
    assert kept_siting(Siting.LEFT, fmt, codec, muxer) is Siting.LEFT
    assert kept_siting(Siting.UNSPECIFIED, fmt, codec, muxer) is Siting.UNSPECIFIED
    if fmt.log2_w or fmt.log2_h:
        assert kept is Siting.LEFT or "matroska" in muxer or muxer == "webm" or codec in ("h264", "hevc", "av1")
    else:
        assert kept is siting


def test_every_siting_of_420_is_written_by_h264(clip: Clip, tmp_path: Path) -> None:
    for siting in SITED:
        name = siting.name.lower()
        options = {"preset": "ultrafast", "chroma_sample_location": name}
        source = clip("a.mkv", size=(32, 16), frames=1, options=options)
        result = tmp_path / f"{name}.mp4"
        vsr.upscale(source, result, scale=2, model="bicubic")
        assert edge_in_luma_samples(result)[1] is siting
