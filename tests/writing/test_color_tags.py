"""Every tag through every encoder into every container, as ffprobe reads it; and what ProRes cannot say."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.reference import random_planes
from tests.clips import ffprobe
from vsr.enlarged import enlarged_info
from vsr.errors import EncoderError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Frame, PixelFormat, Planes, Range, Siting, VideoInfo
from vsr.hdr import StaticHdr
from vsr.sink import Sink
from vsr.siting import kept_siting
from vsr.size import OutputSize
from vsr.source import Source
from vsr.writing.color_tags import color_notes, said_color
from vsr.writing.containers import CONTAINERS, Container, container_of
from vsr.writing.conversion import output_color
from vsr.writing.encoder_options import EncoderRequest
from vsr.writing.encoder_table import ENCODERS
from vsr.writing.encoders import EncoderPlan, plan_encoder

SHAPE = Fraction(16, 11)
# A mastering display of DCI-P3 primaries, as most HDR10 releases name it
HDR10 = StaticHdr(((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), (0.3127, 0.329), (0.005, 1000.0), (1000, 400))
SPECS = {
    "nothing": ColorSpec(),
    "709": ColorSpec(1, 1, 1, Range.LIMITED, Siting.LEFT),
    "525": ColorSpec(6, 6, 6, Range.LIMITED, Siting.LEFT),
    "625, full, centre": ColorSpec(5, 5, 6, Range.FULL, Siting.CENTER),
    "PQ": ColorSpec(9, 9, 16, Range.LIMITED, Siting.TOPLEFT),
    "HLG": ColorSpec(9, 9, 18, Range.LIMITED, Siting.TOPLEFT),
    "only a matrix": ColorSpec(1),
    "only full": ColorSpec(range=Range.FULL),
}
OFTEN = ("nothing", "625, full, centre", "PQ")  # in every container; the others in one of each encoder
MATRICES = {0: "gbr", 1: "bt709", 2: None, 5: "bt470bg", 6: "smpte170m", 9: "bt2020nc"}
PRIMARIES = {1: "bt709", 2: None, 5: "bt470bg", 6: "smpte170m", 9: "bt2020"}
TRANSFERS = {1: "bt709", 2: None, 6: "smpte170m", 16: "smpte2084", 18: "arib-std-b67"}
RANGES = {Range.UNSPECIFIED: None, Range.LIMITED: "tv", Range.FULL: "pc"}
SOFTWARE = [encoder for encoder in ENCODERS.values() if encoder.hardware is None]
WAYS = [
    (encoder.name, suffix)
    for encoder in SOFTWARE
    for suffix in (".mp4", ".mov", ".mkv", ".webm", ".ts")
    if encoder.codec in CONTAINERS[suffix].video_codecs
]


def written(target: Path, encoder: str, color: ColorSpec, fmt_name: str, hdr: StaticHdr | None, count: int = 2) -> Path:
    fmt, container = PIXEL_FORMATS[fmt_name], container_of(target)
    plan = plan_encoder(container, fmt, 64, 64, EncoderRequest(encoder))
    shape = replace(
        VideoInfo(64, 64, fmt, fmt.name, color, Fraction(1, 1000), rate=Fraction(25)), sample_aspect_ratio=SHAPE
    )
    sink = Sink(target, container, shape, plan, None, threads=1, hdr=hdr)
    try:
        for _ in sink.consume(Frame(random_planes(fmt, 64, 64, i), 40 * i, 40) for i in range(count)):
            pass
        sink.publish()
    finally:
        sink.discard()
    return target


def may_read_limited(encoder: str, container: Container, color: ColorSpec) -> bool:
    """Where a reader finds limited though nothing was said: one bit says it, and it is what is meant if nothing is."""
    beside = ENCODERS[encoder].codec in ("hevc", "vp9", "av1", "prores")
    return color.range is Range.UNSPECIFIED and (beside or (container.muxer != "matroska" or color.matrix != 2))


@pytest.mark.parametrize(("encoder", "suffix"), WAYS)
def test_every_tag_reaches_the_file(encoder: str, suffix: str, tmp_path: Path) -> None:
    container, codec = CONTAINERS[suffix], ENCODERS[encoder].codec
    everything = suffix == (".webm" if codec in ("vp9", "av1") else ".mov" if codec == "prores" else ".mkv")
    chosen = {k: v for k, v in SPECS.items() if everything or k in OFTEN}
    for number, (label, tags) in enumerate(chosen.items()):
        deep = tags.primaries == 9 and encoder not in ("vp9", "x264rgb")
        fmt_name = "gbrp" if encoder == "x264rgb" else "yuv420p10le" if deep else "yuv420p"
        given = replace(tags, matrix=0, range=Range.FULL, siting=Siting.UNSPECIFIED) if fmt_name == "gbrp" else tags
        fmt = PIXEL_FORMATS[fmt_name]
        # The job moves chroma before; here it is given as it would be then.
        coded = PIXEL_FORMATS["yuv422p10le"] if encoder == "prores" else fmt
        given = replace(given, siting=kept_siting(given.siting, coded, codec, container.muxer))
        hdr = HDR10 if label == "PQ" else None
        path = written(tmp_path / f"{number}{suffix}", encoder, given, fmt_name, hdr)
        answer = ffprobe(path, "-select_streams", "v", "-show_streams", "-show_frames")
        stream, frame = answer["streams"][0], answer["frames"][0]
        want = said_color(given, codec)
        expected = {
            "color_space": MATRICES[want.matrix],
            "color_primaries": PRIMARIES[want.primaries],
            "color_transfer": TRANSFERS[want.transfer],
            "color_range": RANGES[want.range],
        }
        for seen in (stream, frame):
            got = {key: seen.get(key) for key in expected}
            if got["color_range"] == "tv" and may_read_limited(encoder, container, given):
                got["color_range"] = expected["color_range"]
            assert got == expected, label
            assert seen["sample_aspect_ratio"] == "16:11", label
            if fmt.family == "yuv" and given.siting not in (Siting.UNSPECIFIED, Siting.LEFT):
                assert seen["chroma_location"] == given.siting.name.lower(), label
            else:  # left is what nothing means
                assert seen.get("chroma_location", "left") in ("left", "unspecified"), label
        check_hdr(stream, frame, hdr, codec, container)


def check_hdr(stream: dict[str, Any], frame: dict[str, Any], hdr: StaticHdr | None, codec: str, to: Container) -> None:
    """HDR metadata is in the container's header, and in the coded pictures of those that have a place for it."""
    places = [stream] if to.muxer != "mpegts" else []
    places += [frame] if codec in ("hevc", "av1") else []  # of H.264 ffprobe shows none before version 6
    for place in places:
        found = {d["side_data_type"]: d for d in place.get("side_data_list", ()) if "metadata" in d["side_data_type"]}
        if hdr is None:
            assert not {"Mastering display metadata", "Content light level metadata"} & set(found)
            continue
        light = found["Content light level metadata"]
        assert (light["max_content"], light["max_average"]) == hdr.content_light
        display = {k: float(Fraction(v)) for k, v in found["Mastering display metadata"].items() if "/" in str(v)}
        assert hdr.primaries is not None
        assert hdr.white_point is not None
        assert hdr.luminance is not None
        points = (*hdr.primaries, hdr.white_point)
        names = ("red", "green", "blue", "white_point")
        wanted = {f"{n}_{axis}": p[i] for n, p in zip(names, points, strict=True) for i, axis in enumerate("xy")}
        wanted |= {"min_luminance": hdr.luminance[0], "max_luminance": hdr.luminance[1]}
        for name, value in wanted.items():
            assert display[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


# -- ProRes -----------------------------------------------------------------------------------------------------------


def test_other_codecs_say_everything() -> None:
    for color in SPECS.values():
        for codec in ("h264", "hevc", "av1", "vp9", "ffv1"):
            assert said_color(color, codec) == color
            assert color_notes(color, codec) == []


def test_prores_gets_the_same_by_another_code_and_what_is_lost_is_noted() -> None:
    color = ColorSpec(5, 6, 6, Range.LIMITED)
    assert said_color(color, "prores") == ColorSpec(6, 6, 1, Range.LIMITED)
    assert color_notes(color, "prores") == []
    odd = ColorSpec(4, 8, 4, Range.FULL)
    assert said_color(odd, "prores") == ColorSpec(range=Range.LIMITED)
    assert len(color_notes(odd, "prores")) == 4
    assert any("full range is converted" in note for note in color_notes(odd, "prores"))


def through(target: Path, encoder: str, fmt: PixelFormat, color: ColorSpec, values: tuple[int, ...]) -> tuple[Any, Any]:
    """Decoded planes and their description, of a flat picture with one value for each plane."""
    info = VideoInfo(64, 64, fmt, fmt.name, color, Fraction(1, 1000), rate=Fraction(25))
    plan = plan_encoder(container_of(target), fmt, 64, 64, EncoderRequest(encoder))
    sizes = [fmt.plane_size(name, 64, 64) for name in fmt.plane_names]
    flat = tuple(np.full((h, w), v, fmt.dtype) for (w, h), v in zip(sizes, values, strict=True))
    sink = Sink(target, container_of(target), info, plan, None, threads=1)
    try:
        list(sink.consume(iter([Frame(Planes(flat, fmt, 64, 64), 0, 40)])))
        sink.publish()
    finally:
        sink.discard()
    source = Source(target)
    (frame,) = source.frames()
    source.close()
    return frame.planes, source.info


@pytest.mark.parametrize(("value", "limited"), [(0, 64), (255, 940), (128, 64 + 876 * 128 / 255)])
def test_full_range_becomes_limited_in_prores(value: int, limited: float, tmp_path: Path) -> None:
    color = ColorSpec(1, 1, 1, Range.FULL)
    planes, info = through(tmp_path / "out.mov", "prores", PIXEL_FORMATS["yuv420p"], color, (value, 255, 128))
    assert info.color.range is Range.LIMITED
    for plane, want in zip(planes.arrays, (limited, 512 + 896 * 127 / 255, 512), strict=True):
        assert np.abs(plane.astype(float) - want).max() <= 1


@pytest.mark.parametrize("encoder", ["svtav1", "vp9", "prores"])
@pytest.mark.parametrize("color_range", [Range.UNSPECIFIED, Range.LIMITED])
@pytest.mark.parametrize("name", ["gray", "gray10le"])
def test_grey_keeps_its_values_where_it_becomes_yuv(
    name: str, color_range: Range, encoder: str, tmp_path: Path
) -> None:
    fmt = PIXEL_FORMATS[name]
    value = 100 << (fmt.bits - 8)
    planes, info = through(tmp_path / "out.mkv", encoder, fmt, ColorSpec(range=color_range), (value,))
    unit = 1 << (planes.format.bits - 8)
    full = color_range is Range.UNSPECIFIED  # as grey is; ProRes has limited range only
    luma = 16 + 219 * 100 / 255 if full and encoder == "prores" else 100
    assert info.color.range is (Range.FULL if full and encoder != "prores" else Range.LIMITED)
    rounding = 1 if full and (name, encoder) == ("gray10le", "vp9") else 0.5  # 400 of 1023 are 99.7 of 255
    for plane, want in zip(planes.arrays, (luma, 128, 128), strict=True):
        assert np.abs(plane / unit - want).max() <= rounding


def test_a_packed_format_counts_as_the_planar_one_that_it_holds() -> None:
    """NVENC's p010le is 4:2:0 of 10 bits, whatever the pictures before it were."""
    plan = EncoderPlan(ENCODERS["hevc_nvenc"], "p010le", {})
    size, mkv = OutputSize(640, 480, None, Fraction(2)), container_of(Path("a.mkv"))
    centre = ColorSpec(1, siting=Siting.CENTER)  # 4:2:2 has only left to say in HEVC, 4:2:0 any place
    info = VideoInfo(320, 240, PIXEL_FORMATS["yuv422p10le"], "yuv422p10le", centre, Fraction(1, 1000))
    assert enlarged_info(info, size, plan, mkv).color.siting is Siting.CENTER
    rgb = replace(info, format=PIXEL_FORMATS["gbrp10le"], color=ColorSpec(0, range=Range.FULL))
    said = output_color(rgb, plan)
    assert (said.matrix, said.range) == (1, Range.LIMITED)


@pytest.mark.parametrize(("name", "packed"), [("x264rgb", "bgr24"), ("ffv1", "bgra"), ("prores", "yuva444p10le")])
def test_a_refusal_names_every_format_that_is_taken(name: str, packed: str) -> None:
    with pytest.raises(EncoderError, match=rf"encoder {name} does not take yuv410p10le; it takes .*\b{packed}\b"):
        plan_encoder(
            container_of(Path("a.mkv")), PIXEL_FORMATS["yuv420p"], 64, 64, EncoderRequest(name, pix_fmt="yuv410p10le")
        )
