"""Crops that a header asks for are seen, whatever else it holds, and a user is told that they are not applied."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clips import ffmpeg
from vsr import ebml
from vsr.job import upscale
from vsr.reading.crop import asked_crop

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


def crop_matroska(data: bytes) -> bytes:
    """Put PixelCrop elements in the place of the name of the video track."""
    start, end = ebml.tracks(data) or (0, 0)
    out = b""
    for name, content, raw in ebml.elements(data[start:end]):
        if name == ebml.TRACK_ENTRY and ROOM.encode() in content:
            body = b""
            for inner, value, whole in ebml.elements(content):
                asked = b"".join(map(ebml.unsigned, PIXEL_CROP, CROP))
                kept = ebml.element(ebml.VIDEO, value + asked) if inner == ebml.VIDEO else whole
                body += b"" if inner == TRACK_NAME else kept
            raw = raw[: len(raw) - len(content)] + body + ebml.void(len(content) - len(body))
        out += raw if name != 0xBF else ebml.void(len(raw))  # its CRC is no longer true
    return data[:start] + out + data[end:]


def crop_mp4(data: bytes) -> bytes:
    """Put a clean aperture into the description of the H.264 track; the index comes last, so nothing else moves."""
    out, at = b"", 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + size]
        head = HEADS.get(name, 0)
        if name in PARENTS or name == b"avc1":
            content = content[:head] + crop_mp4(content[head:])
        if name == b"avc1":
            left, top, right, bottom = CROP
            offsets = (left - right, 2, top - bottom, 2)
            content += struct.pack(">I4s4IiIiI", 40, b"clap", 64 - left - right, 1, 48 - top - bottom, 1, *offsets)
        out += struct.pack(">I4s", len(content) + 8, name) + content
        at += size
    return out


@pytest.mark.parametrize(("suffix", "change"), [(".mkv", crop_matroska), (".mp4", crop_mp4), (".mov", crop_mp4)])
def test_a_crop_that_is_not_applied_is_told(suffix: str, change: object, tmp_path: Path) -> None:
    assert callable(change)
    plain, cropped = make(tmp_path / f"plain{suffix}"), tmp_path / f"cropped{suffix}"
    cropped.write_bytes(change(plain.read_bytes()))
    assert [asked_crop(path, index) for path in (plain, cropped) for index in (0, 1, 2)] == [
        None, None, None, None, CROP, None,
    ]  # fmt: skip
    report = upscale(cropped, tmp_path / "out.mkv", scale=2, model="bicubic", threads=1, preset="ultrafast")
    told = [note for note in report.notes if "asks players to cut" in note]
    assert len(told) == 1
    assert "4 samples at the left, 0 at the top, 6 at the right and 8 at the bottom" in told[0]
    assert asked_crop(tmp_path / "out.mkv", 1) is None


@given(st.binary(max_size=200), st.sampled_from([b"\x1a\x45\xdf\xa3", b"\0\0\0\x14ftypisom", b""]))
def test_a_header_that_is_no_header_asks_for_nothing(tmp_path_factory: pytest.TempPathFactory, rest: bytes,
                                                     begin: bytes) -> None:  # fmt: skip
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(begin + rest)
    crop = asked_crop(path, 0)
    assert crop is None or any(crop)
