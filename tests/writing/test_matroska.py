"""What is put into the header of Matroska: exact shapes, sizes that do not move, and nothing left of the room."""

from __future__ import annotations

import subprocess
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clips import ffprobe
from vsr import ebml
from vsr.errors import OutputError
from vsr.hdr import StaticHdr
from vsr.writing import matroska
from vsr.writing.matroska import Header, VideoTrack, display_size, fit_file

SHAPES = st.fractions(min_value=Fraction(1, 8), max_value=8, max_denominator=300)
HDR = StaticHdr(((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), (0.3127, 0.329), (0.005, 1000.0), (1000, 400))


@given(st.integers(1, 16384), st.integers(1, 16384), SHAPES)
def test_the_displayed_size_has_the_very_ratio(width: int, height: int, shape: Fraction) -> None:
    size = display_size(width, height, shape)
    if shape == 1:
        assert size is None
        return
    assert size is not None
    assert Fraction(size[0], size[1]) == Fraction(width, height) * shape


def test_the_displayed_size_is_near_the_pictures_own() -> None:
    assert display_size(1440, 1152, Fraction(16, 11)) == (2100, 1155)
    assert display_size(1440, 1080, Fraction(4, 3)) == (1920, 1080)
    assert display_size(64, 48, None) is display_size(64, 48, Fraction(1)) is None


def unfitted(path: Path, track: VideoTrack, title: str = "", **tags: int) -> Path:
    """A small VP9 file whose header has room."""
    with av.open(str(path), "w", format="matroska") as output:
        stream: Any = output.add_stream("libvpx-vp9", rate=25, options={"cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        stream.metadata["title"] = title + track.room()
        for pts in range(3):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts = pts
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def video(path: Path) -> dict[str, Any]:
    stream: dict[str, Any] = ffprobe(path, "-show_streams")["streams"][0]
    return stream


@pytest.mark.parametrize("title", ["", "A title", "Ein schöner Titel (room) "])
@pytest.mark.parametrize(
    "tags", [{}, {"color_primaries": 9, "color_trc": 16, "colorspace": 9}], ids=["plain", "tagged"]
)
@pytest.mark.parametrize(
    "track", [VideoTrack((20, 11)), VideoTrack(hdr=HDR), VideoTrack((64000, 48001), HDR)], ids=["shape", "hdr", "both"]
)
def test_the_elements_are_there_and_nothing_has_moved(
    track: VideoTrack, tags: dict[str, int], title: str, tmp_path: Path
) -> None:
    path = unfitted(tmp_path / "out.mkv", track, title, **tags)
    before = path.read_bytes()
    fit_file(path, Header(track))
    after = path.read_bytes()
    assert len(after) == len(before)
    assert b"....." not in after
    start, end = ebml.tracks(after) or (0, 0)
    assert before[:start] == after[:start]
    assert before[end:] == after[end:]
    (first, crc, _), *_ = ebml.elements(after[start:end])
    assert first == matroska.CRC
    assert int.from_bytes(crc, "little") == zlib.crc32(after[start + 6 : end])
    seen = video(path)
    assert seen.get("tags", {}).get("title", "") == title
    kinds = {d["side_data_type"] for d in seen.get("side_data_list", ())}
    assert kinds == ({"Mastering display metadata", "Content light level metadata"} if track.hdr else set())
    if track.display is not None:
        assert Fraction(seen["display_aspect_ratio"].replace(":", "/")) == Fraction(*track.display)
    assert seen.get("color_transfer") == ("smpte2084" if tags else None)
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-f", "null", "-"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("chunk", [1, 7, 300, 100_000])
def test_a_stream_is_fitted_on_its_way_however_it_is_cut(chunk: int, tmp_path: Path) -> None:
    track = VideoTrack((20, 11))
    path = unfitted(tmp_path / "out.mkv", track)
    data, target = path.read_bytes(), tmp_path / "streamed.mkv"
    stream = matroska.FittedStream(target, Header(track))
    for at in range(0, len(data), chunk):
        assert stream.write(data[at : at + chunk]) == len(data[at : at + chunk])
    stream.close()
    fit_file(path, Header(track))
    assert target.read_bytes() == path.read_bytes()


def test_a_header_without_room_is_refused(tmp_path: Path) -> None:
    path = unfitted(tmp_path / "out.mkv", VideoTrack((20, 11)))
    path.write_bytes(path.read_bytes().replace(b"(room)", b"(else)"))
    with pytest.raises(OutputError, match="a track has no room"):
        fit_file(path, Header(VideoTrack((20, 11))))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(OutputError, match="it has no tracks"):
        fit_file(path, Header(VideoTrack((20, 11))))


@given(st.integers(2, 400))
def test_padding_has_every_length(length: int) -> None:
    void = ebml.void(length)
    assert len(void) == length
    ((identifier, _, raw),) = ebml.elements(void)
    assert (identifier, raw) == (ebml.VOID, void)


def test_no_room_is_made_where_nothing_is_to_be_said() -> None:
    assert not Header()
    assert not VideoTrack()
    assert not VideoTrack(hdr=StaticHdr(dynamic=("HDR10+",)))
    assert VideoTrack(hdr=StaticHdr(content_light=(1, 1)))
