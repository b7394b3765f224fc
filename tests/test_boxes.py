"""MP4's boxes: in a file, inside one another, and where they are damaged."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsr.boxes import box, boxes, index_of, is_mp4, top_level_boxes

Clip = Callable[..., Path]
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=4)


def test_boxes_of_an_mp4_follow_each_other_to_the_end(clip: Clip, tmp_path: Path) -> None:
    path = clip("whole.mp4")
    boxes = list(top_level_boxes(path))
    assert boxes[0][0] == "ftyp"
    assert {"moov", "mdat"} <= {b[0] for b in boxes}
    end = 0
    for _, offset, size in boxes:
        assert offset == end
        end = offset + size
    assert end == path.stat().st_size


def test_boxes_of_odd_headers_end_and_do_not_loop(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    large = (1).to_bytes(4, "big") + b"mdat" + (32).to_bytes(8, "big") + bytes(16)
    path.write_bytes(large + (0).to_bytes(4, "big") + b"free" + bytes(5))
    assert list(top_level_boxes(path)) == [("mdat", 0, 32), ("free", 32, 13)]
    for bad in (b"\0\0\0\4moov" * 4, b"\0\0\0\1mdat" + bytes(8), b"\0\0\0"):
        path.write_bytes(bad)
        assert len(list(top_level_boxes(path))) <= 1


def test_only_mp4_is_taken_for_mp4(clip: Clip) -> None:
    assert is_mp4(clip("whole.mp4"))
    assert is_mp4(clip("whole.mov"))
    assert not is_mp4(clip("whole.mkv"))
    assert not is_mp4(clip("whole.ts"))


@given(st.lists(st.tuples(NAMES, st.binary(max_size=40)), max_size=5), st.integers(1, 60))
def test_what_is_written_is_read_and_what_is_cut_off_is_not(written: list[tuple[str, bytes]], cut: int) -> None:
    data = b"".join(box(*each) for each in written)
    assert list(boxes(data)) == written
    assert list(boxes(data + bytes(4))) == written  # as QuickTime ends some lists
    left = list(boxes(data[:-cut]))
    assert left == written[: len(left)]
    assert sum(8 + len(content) for _, content in left) <= max(0, len(data) - cut)


def test_large_sizes_and_none_are_sizes_too() -> None:
    large = struct.pack(">I4sQ", 1, b"free", 19) + b"abc"
    assert list(boxes(large + struct.pack(">I4s", 0, b"mdat") + b"rest")) == [("free", b"abc"), ("mdat", b"rest")]


@pytest.mark.parametrize("size", [2, 7, 1 << 20])
def test_an_index_that_is_not_whole_is_none(size: int, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(box("ftyp", b"isom") + box("moov", box("mvhd", bytes(4))))
    assert list(boxes(index_of(path))) == [("mvhd", bytes(4))]
    path.write_bytes(box("ftyp", b"isom") + struct.pack(">I4s", size, b"moov") + box("mvhd", bytes(4)))
    assert index_of(path) == b""
