"""HDR boxes in MP4: read back by ffprobe, in the right track, and a file that still plays."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from tests.clips import ffmpeg, ffprobe
from vsr.errors import OutputError
from vsr.hdr import StaticHdr
from vsr.writing.quicktime import add_hdr, hdr_boxes

HDR = StaticHdr(((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), (0.3127, 0.329), (0.005, 1000.0), (1000, 400))
SMALL = ("-f", "lavfi", "-i", "testsrc2=s=64x48:d=0.2")
LARGE = ("-f", "lavfi", "-i", "testsrc2=s=96x64:d=0.2")
SOUND = ("-f", "lavfi", "-i", "sine=d=0.2")


def side_data(path: Path) -> list[list[str]]:
    streams = ffprobe(path, "-show_streams", "-select_streams", "v")["streams"]
    return [sorted(d["side_data_type"] for d in s.get("side_data_list", ())) for s in streams]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_track_of_the_pictures_gets_them_and_the_file_decodes(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    ffmpeg(*SOUND, *SMALL, *LARGE, "-map", "0", "-map", "1", "-map", "2", "-c:v", "mpeg4", path)
    add_hdr(path, HDR, 1)
    assert side_data(path) == [[], ["Content light level metadata", "Mastering display metadata"]]
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-map", "0", "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_boxes_are_as_the_standard_has_them() -> None:
    boxes = hdr_boxes(HDR)
    assert boxes[:8] == struct.pack(">I4s", 32, b"mdcv")
    points = (13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450)  # green, blue, red, white
    assert struct.unpack(">8H2I", boxes[8:32]) == (*points, 10_000_000, 50)
    assert boxes[32:] == struct.pack(">I4s2H", 12, b"clli", 1000, 400)
    assert hdr_boxes(StaticHdr(dynamic=("HDR10+",))) == b""


def test_other_files_are_refused(tmp_path: Path) -> None:
    early = tmp_path / "early.mp4"
    ffmpeg(*SMALL, "-c:v", "mpeg4", "-movflags", "faststart", early)
    with pytest.raises(OutputError, match="index does not come last"):
        add_hdr(early, HDR)
    late = tmp_path / "late.mp4"
    ffmpeg(*SMALL, "-c:v", "mpeg4", late)
    with pytest.raises(OutputError, match="it has 1 video tracks"):
        add_hdr(late, HDR, 1)
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    with pytest.raises(OutputError, match="no index"):
        add_hdr(empty, HDR)
