"""Decoders besides libavcodec's own. There is no NVDEC here: its place is taken by libavcodec in NVDEC's form."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.codec.hwaccel import hwdevices_available
from hypothesis import given
from hypothesis import strategies as st

from tests.backends.reference import random_planes
from tests.clips import make_clip
from tests.faults.damage import spoil_packets
from tests.interlaced import make_interlaced
from vsr.errors import BackendError
from vsr.frame import PIXEL_FORMATS, FieldOrder, Frame, PixelFormat, Planes, Range
from vsr.gpu.cuda_driver import Driver, probe
from vsr.gpu.names import parse_gpu
from vsr.gpu.video import EXACT_CODECS, nvdec_refusal, nvenc_refusal
from vsr.pixel_formats import frame_from, planes_of
from vsr.reading.hardware import ON_DEVICE, DecodedSurface, Decoder, Nvdec, bare_context, two_planes
from vsr.source import Source
from vsr.surface import CPU, SurfacePlanes, layout_of, packed, unpacked
from vsr.trim import Trim

NVDEC_FORMS = {"yuv420p": "nv12", "yuv420p10le": "p010le"}


class Rearranged:
    """Libavcodec in the form of NVDEC: a decoder beside the file's, whose pictures are NV12 or P010.

    Args:
        keep: whether they are surfaces, whose device is this machine's memory.
        spoil: changes the samples of pictures.
    """

    name = "NVDEC"

    def __init__(self, *, keep: bool = False, spoil: Callable[[Any], None] | None = None) -> None:
        self.keep, self.spoil = keep, spoil
        self.surfaces = 0

    def refusal(self, codec: str, pix_fmt: str) -> str | None:
        return nvdec_refusal(parse_gpu("sm_89"), codec, pix_fmt)

    def decoder(self, stream: Any) -> Decoder:
        context, outer = bare_context(stream, None), self

        class Converter:
            def decode(self, packet: Any) -> Iterable[av.VideoFrame]:
                for picture in context.decode(packet):
                    new = picture.reformat(format=NVDEC_FORMS[picture.format.name], threads=1)
                    new.duration = picture.duration
                    if outer.spoil is not None:
                        outer.spoil(new)
                    yield new

        return Converter()

    def planes(self, picture: av.VideoFrame, fmt: PixelFormat) -> Planes:
        if not self.keep or layout_of(fmt) is None or picture.interlaced_frame:
            return planes_of(picture, fmt)
        self.surfaces += 1
        return SurfacePlanes(DecodedSurface(picture), picture.width, picture.height)


def decoded(path: Path, hardware: Any, **options: Any) -> tuple[Source, list[Frame], list[str]]:
    notes: list[str] = []
    source = Source(path, hardware=hardware, note=notes.append, **options)
    try:
        return source, list(source.frames()), notes
    finally:
        source.close()


def assert_same(path: Path, *, keep: bool, **options: Any) -> list[Frame]:
    """Another decoder gives the same frames, description, account and notes."""
    hardware = Rearranged(keep=keep)
    plain, want, plain_notes = decoded(path, None, **options)
    source, got, notes = decoded(path, hardware, **options)
    assert (source.info, source.window, source.hdr) == (plain.info, plain.window, plain.hdr)
    assert vars(source.report) == vars(plain.report)
    assert notes == plain_notes
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert (a.pts, a.duration, a.repeated, a.field_order, a.uncut) == (
            (b.pts, b.duration, b.repeated, b.field_order, b.uncut)
        )
        for x, y in zip(a.planes.arrays, b.planes.arrays, strict=True):
            assert x.dtype == y.dtype
            assert np.array_equal(x, y)
    progressive = [f for f in got if f.field_order.value == "progressive"]
    if keep and progressive:
        assert any(isinstance(f.planes, SurfacePlanes) for f in progressive)
    return got


CLIPS = {
    "b-frames.mp4": {"bframes": 3, "frames": 20, "vfr": True},
    "b-frames.mkv": {"bframes": 3, "frames": 20, "start_offset": 1},
    "deep.mkv": {"codec": "libx265", "size": (64, 64), "pix_fmt": "yuv420p10le", "video_tags": {"colorspace": 9}},
    "plain.ts": {"bframes": 2},
    "small.webm": {"codec": "libvpx-vp9"},
    "one.mkv": {"codec": "libsvtav1"},
}


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("keep", [False, True])
def test_frames_are_the_same_whoever_decodes(name: str, keep: bool, tmp_path: Path) -> None:
    assert_same(make_clip(tmp_path / name, **CLIPS[name]), keep=keep)


@pytest.mark.parametrize("keep", [False, True])
def test_a_part_of_a_file_is_the_same_part(keep: bool, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=40, bframes=2, options={"g": "10"})
    frames = assert_same(clip, keep=keep, trim=Trim.parse("0.7", None, None, 9))
    assert len(frames) == 9


def test_lost_pictures_are_repeated_and_interlaced_ones_are_in_host_memory(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=30, options={"g": "5", "x264-params": "scenecut=0"})
    frames = assert_same(spoil_packets(clip, tmp_path / "spoilt.mkv", {10, 12}), keep=True)
    assert len(frames) == 30
    assert any(frame.repeated for frame in frames)
    frames = assert_same(make_interlaced(tmp_path / "fields.mp4", "h264"), keep=True)
    assert {frame.field_order for frame in frames} == {FieldOrder.TOP_FIRST}
    assert not any(isinstance(frame.planes, SurfacePlanes) for frame in frames)


def test_odd_sizes_have_no_surfaces(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "odd.webm", codec="libvpx-vp9", size=(65, 49))
    with pytest.raises(ValueError, match="both must be even"):
        SurfacePlanes(DecodedSurface(av.VideoFrame(65, 49, "nv12")), 65, 49)
    assert assert_same(clip, keep=False)


@pytest.mark.parametrize("keep", [False, True])
def test_a_decoder_whose_first_picture_differs_in_one_bit_is_not_used(keep: bool, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")

    def spoil(picture: Any) -> None:
        np.frombuffer(memoryview(picture.planes[1]), np.uint8)[5] ^= 1

    source, frames, notes = decoded(clip, Rearranged(keep=keep, spoil=spoil))
    _, want, _ = decoded(clip, None)
    assert notes == ["the first picture of NVDEC differs from libavcodec's; the CPU decodes"]
    assert len(frames) == len(want) == source.report.frames
    assert all(np.array_equal(a.planes.arrays[1], b.planes.arrays[1]) for a, b in zip(frames, want, strict=True))


@pytest.mark.parametrize(
    ("clip", "pictures", "said"),
    [
        ({"pix_fmt": "yuv422p"}, "frames", "NVDEC is used for 4:2:0 of 8 or 10 bits, and the video is yuv422p"),
        ({"pix_fmt": "yuv420p10le"}, "frames", "NVDEC of sm_89 decodes h264 of 8 bits only"),
        ({"codec": "mpeg4"}, "frames", "NVDEC is not used for mpeg4; it is for h264, hevc, vp8, vp9, av1"),
        ({}, "none", "NVDEC decodes no picture"),
        ({}, "software", "NVDEC was refused by the driver"),
        ({}, "absent", "NVDEC cannot be opened (Operation not permitted)"),
    ],
)
def test_what_cannot_be_decoded_so_is_decoded_by_the_cpu(
    clip: dict[str, Any], pictures: str, said: str, tmp_path: Path
) -> None:
    class Failing(Rearranged):
        def decoder(self, stream: Any) -> Decoder:
            if pictures == "absent":
                raise BackendError("NVDEC cannot be opened (Operation not permitted)")
            if pictures == "software":
                return bare_context(stream, None)
            decoder: Any = SimpleNamespace(decode=lambda _: ())
            return super().decoder(stream) if pictures == "frames" else decoder

    path = make_clip(tmp_path / "clip.mkv", **clip)
    source, frames, notes = decoded(path, Failing())
    assert notes == [f"{said}; the CPU decodes"]
    assert len(frames) == source.report.frames == 12
    assert source.report.errors == 0


@pytest.mark.skipif(isinstance(probe(), Driver), reason="NVDEC may be here")
@pytest.mark.parametrize("keep", [False, True])
def test_without_a_driver_nvdec_says_so_and_the_cpu_decodes(keep: bool, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mkv")
    source, frames, notes = decoded(path, Nvdec(parse_gpu("sm_89"), keep=keep))
    assert notes == ["NVDEC cannot be opened (Operation not permitted); the CPU decodes"]
    assert len(frames) == source.report.frames == 12


def test_nvdec_is_asked_for_with_names_that_this_ffmpeg_has() -> None:
    for codec in EXACT_CODECS:
        configs = av.Codec(codec, "r").hardware_configs
        assert any(c.is_supported and c.format.name == ON_DEVICE for c in configs), codec
    assert "cuda" in hwdevices_available()


@pytest.mark.parametrize(
    ("gpu", "codec", "pix_fmt", "said"),
    [
        ("T4", "h264", "yuv420p", None),
        ("T4", "h264", "yuvj420p", None),
        ("T4", "hevc", "yuv420p10le", None),
        ("T4", "av1", "yuv420p", "does not decode AV1"),
        ("A100", "av1", "yuv420p", "does not decode AV1"),
        ("H100", "av1", "yuv420p", "NVDEC of sm_90 does not decode AV1"),
        ("RTX 3060", "av1", "yuv420p10le", None),
        ("RTX 4090", "h264", "yuv420p10le", "8 bits only"),
        ("RTX 5090", "h264", "yuv420p10le", None),
        ("RTX 5090", "vp8", "yuv420p10le", "8 bits only"),
        ("RTX 4090", "hevc", "yuv422p10le", "4:2:0 of 8 or 10 bits"),
        ("RTX 4090", "hevc", "yuv420p12le", "4:2:0 of 8 or 10 bits"),
        ("RTX 4090", "hevc", "gbrp", "4:2:0 of 8 or 10 bits"),
        ("RTX 4090", "mpeg2video", "yuv420p", "is not used for mpeg2video"),
    ],
)
def test_what_a_gpus_decoder_takes(gpu: str, codec: str, pix_fmt: str, said: str | None) -> None:
    refusal = nvdec_refusal(parse_gpu(gpu), codec, pix_fmt)
    assert refusal is None if said is None else refusal is not None and said in refusal


@pytest.mark.parametrize(
    ("gpu", "codec", "said"),
    [
        ("H100", "h264", "sm_90 has no NVENC"),
        ("H200", "hevc", "sm_90 has no NVENC"),
        ("A100", "h264", "sm_80 has no NVENC"),
        ("B200", "av1", "sm_100 has no NVENC"),
        ("RTX 3060", "av1", "NVENC of sm_86 does not encode AV1"),
        ("RTX 3060", "hevc", None),
        ("L4", "av1", None),
    ],
)
def test_what_a_gpus_encoder_takes(gpu: str, codec: str, said: str | None) -> None:
    assert nvenc_refusal(parse_gpu(gpu), codec) == said


@given(name=st.sampled_from(list(NVDEC_FORMS)), seed=st.integers(0, 99), width=st.integers(1, 9))
def test_packing_and_unpacking_change_no_sample(name: str, seed: int, width: int) -> None:
    fmt = PIXEL_FORMATS[name]
    planes = random_planes(fmt, 2 * width, 6, seed)
    layout = layout_of(fmt)
    assert layout is not None
    luma, chroma = packed(planes.arrays, layout)
    assert chroma.shape == (3, width, 2)
    assert all(np.array_equal(a, b) for a, b in zip(unpacked(luma, chroma, layout), planes.arrays, strict=True))
    by_ffmpeg = frame_from(planes, Range.LIMITED).reformat(format=layout, threads=1)
    assert all(np.array_equal(a, b) for a, b in zip(two_planes(by_ffmpeg), (luma, chroma), strict=True))


def test_the_capsules_of_a_surface_outlive_it() -> None:
    picture = av.VideoFrame(32, 16, "nv12")
    samples = np.frombuffer(memoryview(picture.planes[0]), np.uint8)
    samples[:] = 7
    surface = DecodedSurface(picture)
    assert surface.device == (CPU, 0)
    luma, chroma = (torch.from_dlpack(capsule) for capsule in surface.capsules())
    assert luma.data_ptr() == samples.ctypes.data
    del samples, picture, surface
    gc.collect()
    others = [av.VideoFrame(32, 16, "nv12") for _ in range(20)]  # which would take the memory if it were free
    for other in others:
        np.frombuffer(memoryview(other.planes[0]), np.uint8)[:] = 9
    assert luma.shape == (16, 32)
    assert chroma.shape == (8, 16, 2)
    assert (luma == 7).all()
