"""Timed metadata of cameras goes from MP4 and QuickTime into both, packet by packet and with its description."""

from __future__ import annotations

from pathlib import Path

import pytest

import vsr
from tests.clips import ffprobe
from tests.odd_inputs import make_with_telemetry
from vsr.boxes import box
from vsr.comparison.compare import compare
from vsr.copying.data_tracks import data_track
from vsr.errors import OutputError
from vsr.writing.quicktime import describe_data

KINDS = ("gpmd", "mebx", "camm")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("telemetry") / "in.mp4"
    make_with_telemetry(path, *KINDS)
    referring(path, 2)
    return path


def referring(path: Path, index: int) -> None:
    """Let a track refer to the pictures, as Apple's do (`cdsc`)."""
    track = data_track(path, index)
    assert track is not None
    object.__setattr__(track, "references", (("cdsc", (0,)),))
    describe_data(path, {index: track})


def packets_of(path: Path) -> list[list[tuple[str, int, str]]]:
    shown = ("-show_packets", "-show_data_hash", "MD5", "-show_entries", "packet=stream_index,pts_time,size,data_hash")
    found = ffprobe(path, "-select_streams", "d", *shown)["packets"]
    indices = sorted({p["stream_index"] for p in found})
    return [[(p["pts_time"], p["size"], p["data_hash"]) for p in found if p["stream_index"] == i] for i in indices]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_packets_and_descriptions_are_the_same(suffix: str, clip: Path, tmp_path: Path) -> None:
    output = tmp_path / f"out{suffix}"
    report = vsr.upscale(clip, output, 2, model="bicubic")
    assert not any("left out" in note for note in report.notes)
    streams = ffprobe(output, "-show_streams")["streams"]
    assert [s["codec_tag_string"] for s in streams[1:]] == list(KINDS)
    assert packets_of(output) == packets_of(clip)
    assert compare(clip, output).differences == []
    for index in (1, 2, 3):
        before, after = (data_track(p, index) for p in (clip, output))
        assert before is not None
        assert after is not None
        assert (after.descriptions, after.media_header) == (before.descriptions, before.media_header)
        assert after.references == before.references == ((("cdsc", (0,)),) if index == 2 else ())


def test_references_follow_the_streams(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    vsr.upscale(clip, output, 2, model="bicubic", map=["-d:0", "-d:2"])
    track = data_track(output, 1)
    assert track is not None
    assert (track.kind, track.references) == ("mebx", (("cdsc", (0,)),))


def test_another_description_is_a_difference(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    vsr.upscale(clip, output, 2, model="bicubic")
    output.write_bytes(output.read_bytes().replace(b"\0\0\0\x14mebx", b"\0\0\0\x14mett"))
    assert [d.name for d in compare(clip, output).differences] == ["stream 2 (data, unknown): description"]


def test_other_containers_leave_it_out_and_say_so(clip: Path, tmp_path: Path) -> None:
    report = vsr.upscale(clip, tmp_path / "out.mkv", 2, model="bicubic")
    assert sum("(data, " in note and "left out" in note for note in report.notes) == 3


def test_a_track_that_is_not_there_is_an_error(clip: Path, tmp_path: Path) -> None:
    track = data_track(clip, 1)
    assert track is not None
    assert data_track(clip, 0) is None
    assert data_track(clip, 9) is None
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes())
    with pytest.raises(OutputError, match="it has 4 tracks"):
        describe_data(other, {4: track})
    other.write_bytes(box("free", b""))
    with pytest.raises(OutputError, match="it has no index"):
        describe_data(other, {1: track})
