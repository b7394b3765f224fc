"""Crops that a header asks for are seen, whatever else it holds, and applied before anything is enlarged."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clips import ffmpeg
from vsr import ebml
from vsr.comparison.compare import compare
from vsr.frame import PIXEL_FORMATS, Planes
from vsr.inspect import describe
from vsr.job import upscale
from vsr.reading.crop import NO_CROP, Crop, asked_crop, cut
from vsr.source import Source

CROP = (4, 0, 6, 8)
PIXEL_CROP = (0x54CC, 0x54BB, 0x54DD, 0x54AA)  # RFC 9559: left, top, right, bottom
TRACK_NAME = 0x536E
PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
HEADS = {b"stsd": 8, b"avc1": 78}  # bytes before the boxes within
ROOM = "x" * 60


def make(path: Path) -> Path:
    """A clip of 64x48 whose picture is the second stream."""
    sound = ("-f", "lavfi", "-i", "sine=d=0.2")
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.2")
    ffmpeg(*sound, *picture, "-map", "0", "-map", "1", "-c:v", "libx264", "-pix_fmt", "yuv420p",
           "-metadata:s:v", f"title={ROOM}", "-c:a", "aac", path)  # fmt: skip
    return path


def crop_matroska(data: bytes, crop: tuple[int, ...] = CROP) -> bytes:
    """Put PixelCrop elements in the place of the name of the video track."""
    start, end = ebml.tracks(data) or (0, 0)
    out = b""
    for name, content, raw in ebml.elements(data[start:end]):
        if name == ebml.TRACK_ENTRY and ROOM.encode() in content:
            body = b""
            for inner, value, whole in ebml.elements(content):
                asked = b"".join(map(ebml.unsigned, PIXEL_CROP, crop))
                kept = ebml.element(ebml.VIDEO, value + asked) if inner == ebml.VIDEO else whole
                body += b"" if inner == TRACK_NAME else kept
            raw = raw[: len(raw) - len(content)] + body + ebml.void(len(content) - len(body))
        out += raw if name != 0xBF else ebml.void(len(raw))  # its CRC is no longer true
    return data[:start] + out + data[end:]


def crop_mp4(data: bytes, crop: tuple[int, ...] = CROP) -> bytes:
    """Put a clean aperture into the description of the H.264 track; the index comes last, so nothing else moves."""
    out, at = b"", 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + size]
        head = HEADS.get(name, 0)
        if name in PARENTS or name == b"avc1":
            content = content[:head] + crop_mp4(content[head:], crop)
        if name == b"avc1":
            left, top, right, bottom = crop
            offsets = (left - right, 2, top - bottom, 2)
            content += struct.pack(">I4s4IiIiI", 40, b"clap", 64 - left - right, 1, 48 - top - bottom, 1, *offsets)
        out += struct.pack(">I4s", len(content) + 8, name) + content
        at += size
    return out


def planes_of(path: Path) -> list[tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], ...]]:
    """Copies of all planes of all pictures."""
    source = Source(path)
    try:
        return [tuple(np.array(a) for a in frame.planes.arrays) for frame in source.frames()]  # type: ignore[misc]
    finally:
        source.close()


@pytest.mark.parametrize(("suffix", "change"), [(".mkv", crop_matroska), (".mp4", crop_mp4), (".mov", crop_mp4)])
def test_what_the_header_asks_to_be_cut_off_is_cut_off(suffix: str, change: object, tmp_path: Path) -> None:
    assert callable(change)
    plain, cropped = make(tmp_path / f"plain{suffix}"), tmp_path / f"cropped{suffix}"
    cropped.write_bytes(change(plain.read_bytes()))
    assert [asked_crop(path, index) for path in (plain, cropped) for index in (0, 1, 2)] == [
        NO_CROP, NO_CROP, NO_CROP, NO_CROP, Crop(*CROP), NO_CROP,
    ]  # fmt: skip
    # The same pictures by FFmpeg's filter.
    filtered = tmp_path / "filtered.mkv"
    ffmpeg("-i", plain, "-vf", "crop=54:40:4:0", "-c:v", "ffv1", filtered)
    for got, wanted in zip(planes_of(cropped), planes_of(filtered), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))
    picture = describe(cropped)["streams"][1]
    assert picture["size"] == "54x40"
    assert picture["crop"] == "4 at the left, 0 at the top, 6 at the right, 8 at the bottom"


def test_an_output_has_nothing_left_to_cut_off(tmp_path: Path) -> None:
    plain, cropped, output = make(tmp_path / "plain.mkv"), tmp_path / "cropped.mkv", tmp_path / "out.mkv"
    cropped.write_bytes(crop_matroska(plain.read_bytes()))
    report = upscale(cropped, output, scale=2, model="bicubic", threads=1, preset="ultrafast")
    told = [note for note in report.notes if "are cut off" in note]
    assert len(told) == 1
    assert "64x48" in told[0]
    assert told[0].endswith("4 at the left, 0 at the top, 6 at the right, 8 at the bottom")
    assert (report.width, report.height) == (108, 80)
    assert asked_crop(output, 1) == NO_CROP
    assert compare(cropped, output).ok


@pytest.mark.parametrize(("suffix", "crop", "told", "left"), [
    (".mkv", (3, 5, 1, 1), "but to keep chroma in place, it is 2 at the left, 4 at the top, 1 at the right", (61, 43)),
    (".mp4", (40, 0, 24, 0), "more samples", (64, 48)),
])  # fmt: skip
def test_a_crop_that_cannot_be_made_as_asked_is_told(suffix: str, crop: tuple[int, ...], told: str,
                                                     left: tuple[int, int], tmp_path: Path) -> None:  # fmt: skip
    cropped = make(tmp_path / f"cropped{suffix}")
    change = crop_matroska if suffix == ".mkv" else crop_mp4
    cropped.write_bytes(change(cropped.read_bytes(), crop))
    notes: list[str] = []
    source = Source(cropped, note=notes.append)
    source.close()
    assert len(notes) == 1
    assert told in notes[0]
    assert (source.info.width, source.info.height) == left


edges = st.integers(0, 9)


@given(st.sampled_from(sorted(PIXEL_FORMATS)), st.builds(Crop, edges, edges, edges, edges), st.booleans())
def test_nothing_moves_against_anything_else(name: str, asked: Crop, fields: bool) -> None:
    fmt = PIXEL_FORMATS[name]
    crop = asked.on_grid(fmt, fields=fields)
    for rounded, whole in zip((crop.left, crop.top, crop.bottom), (asked.left, asked.top, asked.bottom), strict=True):
        assert whole - 8 < rounded <= whole
    assert crop.right == asked.right
    width, height = 34, 36
    arrays = []
    for plane in fmt.plane_names:  # each sample says where in the picture it is
        across, down = fmt.plane_size(plane, width, height)
        step = (fmt.log2_w, fmt.log2_h) if plane in "uv" else (0, 0)
        arrays.append(((np.arange(down)[:, None] << step[1]) * 6 + (np.arange(across) << step[0])).astype(fmt.dtype))
    planes = cut(Planes(tuple(arrays), fmt, width, height), crop)
    assert (planes.width, planes.height) == (width - crop.left - crop.right, height - crop.top - crop.bottom)
    corner = planes.arrays[0][0, 0]
    assert corner == crop.top * 6 + crop.left
    assert all(array[0, 0] == corner for array in planes.arrays)
    if fields:
        assert crop.top % (2 << fmt.log2_h) == crop.bottom % (2 << fmt.log2_h) == 0


@given(st.binary(max_size=200), st.sampled_from([b"\x1a\x45\xdf\xa3", b"\0\0\0\x14ftypisom", b""]))
def test_a_header_that_is_no_header_asks_for_nothing(tmp_path_factory: pytest.TempPathFactory, rest: bytes,
                                                     begin: bytes) -> None:  # fmt: skip
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(begin + rest)
    assert asked_crop(path, 0) == NO_CROP
