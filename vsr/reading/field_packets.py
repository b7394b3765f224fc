"""H.264 whose fields are coded as pictures of their own (PAFF): which packet is the second field of a frame.

From MPEG-TS, and from files that were copied from there, libavformat gives each field as a packet. The decoder joins
two of them into one frame, so packets are not frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from vsr.reading.nal_units import length_bytes, nal_units

SLICES: Final = (1, 2, 5)  # NAL unit types (ITU-T H.264 table 7-1): of a picture, its partition A, of an IDR picture
SEQUENCE, PICTURE = 7, 8
HEAD: Final = 64  # bytes, in which a slice says what it belongs to
#: Profiles whose sequence parameter sets have a chroma format (section 7.3.2.1.1).
WITH_CHROMA_FORMAT: Final = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)


@dataclass(frozen=True)
class Sequence:
    """What a sequence parameter set says that tells how to read a slice.

    Attributes:
        frames_only: whether there are no fields.
        number_bits: of frame_num.
        separate_planes: whether each slice is of one colour plane.
    """

    frames_only: bool
    number_bits: int
    separate_planes: bool


@dataclass(frozen=True)
class Field:
    """One coded field: its frame's number, and whether it is the bottom one."""

    number: int
    bottom: bool


class FieldPackets:
    """Looks at the packets of one stream, in decoding order.

    Args:
        stream: of an open input.
    """

    def __init__(self, stream: Any) -> None:
        context = stream.codec_context
        self._active = context is not None and context.codec.canonical_name == "h264"
        self._sequences: dict[int, Sequence] = {}
        self._sequence_of: dict[int, int] = {}  # of each picture parameter set
        self._waiting: Field | None = None  # the first field of a frame whose second one has not come
        self._width = 0
        if self._active:
            header = bytes(context.extradata or b"")
            self._width = length_bytes(header, "h264")
            for unit in _parameter_sets(header) if self._width else nal_units(header, 0):
                self._learn(unit)

    def is_second(self, packet: Any) -> bool:
        """Whether `packet` holds the second field of the frame whose first one the packet before it holds."""
        if not self._active or not packet.size:
            return False
        if not packet.is_keyframe and all(s.frames_only for s in self._sequences.values()):
            return False
        fields: list[Field | None] = []
        for unit in nal_units(bytes(packet), self._width):
            self._learn(unit)
            if unit and unit[0] & 31 in SLICES:
                fields.append(self._field(unit[1:HEAD]))
        if not fields:
            return False
        first, last, waiting = fields[0], fields[-1], self._waiting
        if first is not None and waiting is not None and first == Field(waiting.number, not waiting.bottom):
            self._waiting = None
            return True
        self._waiting = first if first == last else None  # else both are in this packet
        return False

    def _learn(self, unit: bytes) -> None:
        """Read a parameter set, if `unit` is one; what cannot be read is left to the decoder."""
        kind = unit[0] & 31 if unit else 0
        try:
            if kind == SEQUENCE:
                number, sequence = _sequence(unit[1:])
                self._sequences[number] = sequence
            elif kind == PICTURE:
                bits = _Bits(unit[1:])
                number = bits.ue()
                self._sequence_of[number] = bits.ue()
        except IndexError:
            return

    def _field(self, slice_head: bytes) -> Field | None:
        """Of which field a slice is; None if it is of a whole frame, or cannot be read (section 7.3.3)."""
        bits = _Bits(slice_head)
        try:
            bits.ue()
            bits.ue()
            sequence = self._sequences.get(self._sequence_of.get(bits.ue(), -1))
            if sequence is None or sequence.frames_only:
                return None
            if sequence.separate_planes:
                bits.u(2)
            number = bits.u(sequence.number_bits)
            return Field(number, bool(bits.u(1))) if bits.u(1) else None
        except IndexError:
            return None


def _parameter_sets(record: bytes) -> list[bytes]:
    """The parameter sets in a configuration record (ISO/IEC 14496-15 section 5.3.3.1)."""
    found, at = [], 5
    for mask in (31, 255):
        count, at = (record[at] & mask if at < len(record) else 0), at + 1
        for _ in range(count):
            end = at + 2 + int.from_bytes(record[at : at + 2], "big")
            found.append(record[at + 2 : end])
            at = end
    return found


def _sequence(payload: bytes) -> tuple[int, Sequence]:
    bits = _Bits(payload)
    profile = bits.u(8)
    bits.u(16)
    number = bits.ue()
    separate = False
    if profile in WITH_CHROMA_FORMAT:
        chroma = bits.ue()
        separate = chroma == 3 and bool(bits.u(1))
        bits.ue()
        bits.ue()
        bits.u(1)
        if bits.u(1):
            for index in range(12 if chroma == 3 else 8):
                if bits.u(1):
                    bits.skip_scaling_list(16 if index < 6 else 64)
    number_bits = bits.ue() + 4
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.u(1)
        bits.ue()
        bits.ue()
        for _ in range(bits.ue()):
            bits.ue()
    bits.ue()
    bits.u(1)
    bits.ue()
    bits.ue()
    return number, Sequence(bool(bits.u(1)), number_bits, separate)


class _Bits:
    """Reads a payload bit by bit; IndexError where it ends."""

    def __init__(self, payload: bytes) -> None:
        plain = payload.replace(b"\0\0\3", b"\0\0")  # without emulation prevention bytes
        self._value, self._left = int.from_bytes(plain, "big"), 8 * len(plain)

    def u(self, width: int) -> int:
        """An unsigned number of `width` bits."""
        if width > self._left:
            raise IndexError
        self._left -= width
        return self._value >> self._left & ((1 << width) - 1)

    def ue(self) -> int:
        """An unsigned Exp-Golomb code (section 9.1)."""
        zeros = 0
        while not self.u(1):
            zeros += 1
        return (1 << zeros) - 1 + self.u(zeros)

    def skip_scaling_list(self, size: int) -> None:
        """Pass over one (section 7.3.2.1.1.1)."""
        last = following = 8
        for _ in range(size):
            if following:
                code = self.ue()
                following = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
            last = following or last
