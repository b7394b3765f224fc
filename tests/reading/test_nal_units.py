"""Cutting packets into NAL units, damaged packets too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsr.reading.nal_units import nal_units

UNITS = st.lists(
    st.binary(min_size=1, max_size=20).map(lambda unit: b"\x65" + unit.replace(b"\0", b"\x01")), max_size=5
)


@given(UNITS)
def test_units_behind_start_codes(units: list[bytes]) -> None:
    assert list(nal_units(b"".join(b"\0\0\x01" + unit for unit in units), 0)) == units


@given(UNITS, st.sampled_from([1, 2, 4]))
def test_units_behind_their_lengths(units: list[bytes], width: int) -> None:
    assert list(nal_units(b"".join(len(unit).to_bytes(width, "big") + unit for unit in units), width)) == units


@given(st.binary(max_size=60), st.sampled_from([0, 1, 2, 4]))
def test_damaged_packets_have_units_or_none(payload: bytes, width: int) -> None:
    for unit in nal_units(payload, width):
        assert unit in payload


@pytest.mark.parametrize("payload", [b"", b"\x65\x88", b"\0\0"])
def test_a_packet_without_a_start_code_has_none(payload: bytes) -> None:
    assert list(nal_units(payload, 0)) == []
