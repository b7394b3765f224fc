"""Between FFmpeg's formats and ours: every name is handled without loss, or refused by name."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.format import names as ffmpeg_names

from tests.backends.reference import random_planes
from vsr.errors import UnsupportedInputError
from vsr.frame import PIXEL_FORMATS, Planes, Range
from vsr.pixel_formats import SAME_SAMPLES, frame_from, planes_of, working_format

ALL_NAMES = sorted(ffmpeg_names)


def handled(name: str) -> bool:
    try:
        working_format(name)
    except UnsupportedInputError:
        return False
    return True


@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_format_of_ffmpeg_is_handled_or_refused_by_its_name(name: str) -> None:
    if not handled(name):
        with pytest.raises(UnsupportedInputError, match=rf"pixel format {name} is not handled") as caught:
            working_format(name)
        assert caught.value.hint
        return
    fmt = working_format(name)
    assert fmt is PIXEL_FORMATS[fmt.name]
    theirs = av.VideoFormat(name, 16, 16)
    assert fmt.bits >= max(c.bits for c in theirs.components)
    if not theirs.has_palette:
        assert (fmt.family == "rgb") == theirs.is_rgb
        assert fmt.alpha == any(c.is_alpha for c in theirs.components)
    if fmt.family == "yuv":
        chroma = theirs.components[1]
        assert (16 >> fmt.log2_w, 16 >> fmt.log2_h) == (chroma.width, chroma.height)


def test_the_usual_formats_are_all_handled() -> None:
    usual = "yuv420p yuvj420p nv12 nv21 yuv422p yuyv422 uyvy422 p010le p016le yuv420p10le yuv420p12le rgb24 bgr24 rgba"
    usual += " bgra argb pal8 gray gray10le gbrp gbrap16le rgb48le yuv444p16le yuv411p yuv410p rgb565le monob v210"
    for name in usual.split():
        if name in ALL_NAMES:
            assert handled(name), name


@pytest.mark.parametrize("name", [n for n in ALL_NAMES if n.startswith(("bayer_", "xyz")) or "f16" in n or "f32" in n])
def test_float_bayer_and_xyz_are_refused(name: str) -> None:
    assert not handled(name)


def random_frame(name: str, width: int, height: int) -> av.VideoFrame | None:
    """Noise in format `name`, made through the widest format that libswscale takes there; None if it cannot."""
    fmt = working_format(name)
    source = frame_from(random_planes(fmt, width, height, 5), Range.UNSPECIFIED)
    try:
        return source.reformat(format=name, threads=1)
    except (ValueError, av.error.FFmpegError):
        return None


def planes_equal(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    """Whether all samples agree; what lies in the padding of the rows does not count."""
    fmt = one.format
    sample_bytes = 1 if fmt.components[0].bits <= 8 else 2
    for number, (a, b) in enumerate(zip(one.planes, other.planes, strict=True)):
        if not fmt.is_planar:
            used = a.width * fmt.padded_bits_per_pixel // 8
        else:
            pairs = number == 1 and len(fmt.components) == 3 and len(one.planes) == 2  # Cb and Cr in turn, as in NV12
            used = a.width * sample_bytes * (2 if pairs else 1)
        first, second = (np.frombuffer(memoryview(p), np.uint8).reshape(-1, p.line_size)[: p.height] for p in (a, b))
        if not (first[:, :used] == second[:, :used]).all():
            return False
    return True


PACKED = [
    n
    for n in ALL_NAMES
    if handled(n)
    and n not in PIXEL_FORMATS
    and n not in SAME_SAMPLES
    and not av.VideoFormat(n, 16, 16).has_palette
    and av.VideoFormat(n, 16, 16).padded_bits_per_pixel % 8 == 0
    and av.VideoFormat(n, 16, 16).components[0].bits >= 8
    and "msb" not in n  # off by one in the last bit; no decoder yields them
]


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("size", [(16, 12), (34, 6)])
def test_rearranged_formats_lose_nothing_on_the_way_or_are_refused(name: str, size: tuple[int, int]) -> None:
    """frame → planes → frame in its own format again: the same bytes."""
    frame = random_frame(name, *size)
    if frame is None:  # libswscale has no way to it
        with pytest.raises(UnsupportedInputError, match=name):
            planes_of(av.VideoFrame(*size, name), working_format(name))
        return
    fmt = working_format(name)
    back = frame_from(planes_of(frame, fmt), Range.UNSPECIFIED).reformat(format=name, threads=1)
    assert back.format.name == frame.format.name
    assert planes_equal(frame, back)


@pytest.mark.parametrize("name", sorted(PIXEL_FORMATS))
@pytest.mark.parametrize("size", [(1, 1), (17, 13)])
def test_planes_survive_the_way_through_a_frame(name: str, size: tuple[int, int]) -> None:
    planes = random_planes(PIXEL_FORMATS[name], *size)
    got = planes_of(frame_from(planes, Range.LIMITED), PIXEL_FORMATS[name])
    assert all((a == b).all() for a, b in zip(planes.arrays, got.arrays, strict=True))


def test_palettes_become_rgb_with_alpha() -> None:
    frame = av.VideoFrame(8, 4, "pal8")
    indices, palette = np.arange(32, dtype=np.uint8).reshape(4, 8), np.zeros((256, 4), np.uint8)
    palette[:, 0], palette[:, 3] = np.arange(256), 255 - np.arange(256)  # blue … alpha
    rows = np.zeros((4, frame.planes[0].line_size), np.uint8)
    rows[:, :8] = indices
    frame.planes[0].update(rows.tobytes())
    frame.planes[1].update(palette.tobytes())
    fmt = working_format("pal8")
    planes = planes_of(frame, fmt)
    assert fmt.name == "gbrap"
    assert (planes.arrays[1] == indices).all()
    assert (planes.arrays[3] == 255 - indices).all()


def test_planes_are_views_and_keep_the_frame_alive() -> None:
    frame = frame_from(random_planes(PIXEL_FORMATS["yuv420p"], 17, 13), Range.LIMITED)
    first = np.frombuffer(bytes(frame.planes[0]), np.uint8).reshape(13, -1)[:, :17]
    planes = planes_of(frame, PIXEL_FORMATS["yuv420p"])
    del frame
    assert all(array.base is not None for array in planes.arrays)
    assert (planes.arrays[0] == first).all()


def test_a_frame_stored_upside_down_is_read_the_right_way_up() -> None:
    """The vflip filter turns line sizes negative instead of moving samples."""
    planes = random_planes(PIXEL_FORMATS["yuv420p"], 16, 12)
    frame = frame_from(planes, Range.LIMITED)
    graph = av.filter.Graph()
    graph.link_nodes(graph.add_buffer(template=None, width=16, height=12, format=frame.format, time_base="1/25"),
                     graph.add("vflip"), graph.add("buffersink")).configure()  # fmt: skip
    frame.pts = 0
    graph.push(frame)
    flipped = graph.pull()
    got = planes_of(flipped, PIXEL_FORMATS["yuv420p"])
    assert all((a[::-1] == b).all() for a, b in zip(planes.arrays, got.arrays, strict=True))


def test_strided_planes_are_copied_row_by_row() -> None:
    fmt = PIXEL_FORMATS["gray16le"]
    wide = np.arange(12 * 64, dtype=np.uint16).reshape(12, 64)
    for view in (wide[:, 3:20], wide[::-1, :17], wide[::2, ::3]):
        planes = Planes((view,), fmt, view.shape[1], view.shape[0])
        assert (planes_of(frame_from(planes, Range.FULL), fmt).arrays[0] == view).all()


@pytest.mark.parametrize("name", sorted(SAME_SAMPLES))
def test_yuvj_formats_keep_their_samples(name: str) -> None:
    """Not reformatted, which would squeeze full range into limited."""
    fmt = working_format(name)
    assert fmt.name == name.replace("yuvj", "yuv")
    frame = av.VideoFrame(16, 8, name)
    for plane in frame.planes:
        plane.update(bytes(i % 256 for i in range(plane.buffer_size)))
    planes = planes_of(frame, fmt)
    assert planes.arrays[0][0, 0] == 0
    assert (
        planes.arrays[0].max() == bytes(frame.planes[0])[: planes.arrays[0].shape[1]][-1] or planes.arrays[0].max() > 0
    )
    for plane, array in zip(frame.planes, planes.arrays, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        assert (rows[: array.shape[0], : array.shape[1]] == array).all()


@pytest.mark.parametrize("color_range", list(Range))
def test_the_range_is_written_on_the_frame(color_range: Range) -> None:
    frame = frame_from(random_planes(PIXEL_FORMATS["yuv420p"], 4, 4), color_range)
    assert int(frame.color_range) == int(color_range)


@pytest.mark.parametrize("name", ["p010le", "p016le", "p210le", "nv12", "yuyv422", "rgb24", "rgb48le"])
def test_conversion_does_not_depend_on_the_slices_that_libswscale_computes_in_parallel(name: str) -> None:
    """With several threads it writes over the first samples of the next slice, at widths that are no multiple of 16.

    That shows when rows of the input are not as far apart as those of the output, as with a decoder's frames.
    """
    width, height = 854, 48
    fmt = working_format(name)
    same = random_frame(name, width, height)
    assert same is not None
    frame = av.VideoFrame(width, height, name)
    for ours, theirs in zip(frame.planes, same.planes, strict=True):
        assert ours.line_size <= theirs.line_size
        rows = np.frombuffer(memoryview(theirs), np.uint8).reshape(-1, theirs.line_size)[: ours.height]
        ours.update(np.pad(rows[:, : ours.line_size], ((0, ours.buffer_size // ours.line_size - ours.height), (0, 0))))
    want = planes_of(same.reformat(format=fmt.name, threads=1), fmt)
    for _ in range(15):
        got = planes_of(frame, fmt)
        assert all((a == b).all() for a, b in zip(want.arrays, got.arrays, strict=True))
