"""Matroska's elements: what is written is read, and how far a file goes by its own word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsr import ebml
from vsr.ebml import EbmlError, element, elements, segment_end, void

HEAD = element(int.from_bytes(ebml.MAGIC), b"\x42\x86\x81\x01")
SEGMENT = ebml.SEGMENT.to_bytes(4)


@given(st.lists(st.tuples(st.sampled_from([ebml.TRACKS, ebml.TRACK_ENTRY, ebml.VIDEO]), st.binary(max_size=200))))
def test_elements_come_back_as_they_were_written(written: list[tuple[int, bytes]]) -> None:
    data = b"".join(element(*each) for each in written)
    assert [(name, content) for name, content, _ in elements(data)] == written
    assert b"".join(whole for _, _, whole in elements(data)) == data


@given(st.integers(2, 400))
def test_a_void_has_the_length_asked_for(length: int) -> None:
    assert [(name, len(whole)) for name, _, whole in elements(void(length))] == [(ebml.VOID, length)]


@pytest.mark.parametrize(
    ("segment", "length"),
    [
        (SEGMENT + b"\x85", 5),
        (SEGMENT + b"\x08\0\0\x01\0", 1 << 8),
        (SEGMENT + b"\x01\0\0\x01\0\0\0\0", 1 << 32),
    ],
)
def test_a_segment_says_where_it_ends(segment: bytes, length: int) -> None:
    assert segment_end(HEAD + segment) == len(HEAD + segment) + length


@pytest.mark.parametrize("segment", [b"", SEGMENT[:2], SEGMENT, SEGMENT + b"\xff", SEGMENT + b"\x01" + b"\xff" * 7])
def test_a_segment_of_unknown_length_or_cut_off_has_no_end(segment: bytes) -> None:
    assert segment_end(HEAD + segment) is None


def test_damage_is_an_error_of_its_own() -> None:
    with pytest.raises(EbmlError, match="no length"):
        segment_end(HEAD + b"\0\0")
    with pytest.raises(EbmlError, match="how long"):
        list(elements(SEGMENT + b"\xff"))
