"""NAL units, of which packets of H.264 and HEVC consist (ITU-T H.264 section 7.3.1 and annex B, ISO/IEC 14496-15)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

START_CODE: Final = re.compile(rb"\x00\x00\x01")
LENGTH_AT: Final = {"h264": 4, "hevc": 21}  # in the configuration record


def length_bytes(header: bytes, codec: str) -> int:
    """Bytes of the length before each NAL unit, as a stream's configuration record says; 0 for Annex B.

    Args:
        header: the record, or the parameter sets in Annex B.
        codec: h264 or hevc.
    """
    at = LENGTH_AT[codec]
    if len(header) <= at or header[0] != 1:
        return 0
    return (header[at] & 3) + 1


def nal_units(payload: bytes, width: int) -> Iterator[bytes]:
    """The NAL units of a packet.

    Args:
        payload: of the packet.
        width: bytes of the length before each; 0 if there are start codes instead.
    """
    return _prefixed(payload, width) if width else _annex_b(payload)


def _prefixed(payload: bytes, width: int) -> Iterator[bytes]:
    at = 0
    while at + width <= len(payload):
        end = at + width + int.from_bytes(payload[at : at + width], "big")
        yield payload[at + width : end].rstrip(b"\0")
        at = end


def _annex_b(payload: bytes) -> Iterator[bytes]:
    starts = [m.end() for m in START_CODE.finditer(payload)]
    for start, following in pairwise([*starts, len(payload) + 3]):
        yield payload[start : following - 3].rstrip(b"\0")
