"""Two files read side by side, stream by stream, packet by packet.

Both are read once, the one that is behind first, and each packet waits only until its counterpart has come: what is
held is bounded by how differently the two files are interleaved, not by how long they are.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av

from vsr.comparison.payloads import Form, is_cut_anywhere
from vsr.copying.packet_window import PacketWindow
from vsr.reading.demux import open_input, packets, read_only
from vsr.trim import Window

REORDER_DEPTH: Final = 64  # pictures that may be stored before one that is shown earlier; H.264 and HEVC allow 16
EXAMPLES: Final = 3
EQUAL_TIMES_APART: Final = Fraction(1, 1000)  # seconds: the tick of Matroska, in which short packets have equal times
WHOLE: Final = Window()


@dataclass(frozen=True)
class Item:
    """What is compared of a packet or a picture.

    Attributes:
        time: presentation time in seconds, or None if the container says none.
        duration: in seconds; 0 if unknown.
        digest: of the payload's normal form; empty for pictures.
        size: of the payload's normal form, in bytes.
        hidden: whether an edit list keeps it from being played; its time is of no consequence then.
    """

    time: Fraction | None
    duration: Fraction = Fraction(0)
    digest: bytes = b""
    size: int = 0
    hidden: bool = False


@dataclass
class Tally:
    """What was found when the items of one stream were laid beside those of its copy.

    Attributes:
        tick: of the copy's time base, in seconds.
        guessed_before_zero: whether the output has no times before zero, so that readers guess them from durations.
        count_before: items of the input.
        count_after: items of the output.
        late: items whose time is not the nearest tick.
        changed: items whose payload differs.
        untimed: items that have no time in one of the files.
        left_out: items that are hidden in the input and not there in the output.
        unhidden: items that are hidden in the input and not in the output.
        rounding: the largest difference of two times, in seconds.
        first_before: time of the input's first item.
        first_after: of the output's.
        last_before: the input's last item.
        last_after: the output's.
        behind: time of the input's first picture behind the part that is compared; None if there is none.
        examples: the first few differences, in words.
        bytes_before: bytes of all payloads of the input.
        bytes_after: of the output.
    """

    tick: Fraction
    guessed_before_zero: bool = False
    count_before: int = 0
    count_after: int = 0
    late: int = 0
    changed: int = 0
    untimed: int = 0
    left_out: int = 0
    unhidden: int = 0
    rounding: Fraction = Fraction(0)
    first_before: Fraction | None = None
    first_after: Fraction | None = None
    last_before: Item | None = None
    last_after: Item | None = None
    behind: Fraction | None = None
    examples: list[str] = field(default_factory=list)
    bytes_before: int = 0
    bytes_after: int = 0

    def add(self, before: Item | None, after: Item | None) -> None:
        """Lay one item beside its counterpart; None where there is none."""
        number = max(self.count_before, self.count_after)
        previous = self.last_before
        if before is not None and before.hidden and (after is None or after.digest != before.digest):
            self.left_out += 1
            return
        if before is not None:
            self.count_before += 1
            self.bytes_before += before.size
            self.last_before = before
            if self.first_before is None and not before.hidden:
                self.first_before = before.time
        if after is not None:
            self.count_after += 1
            self.bytes_after += after.size
            self.last_after = after
            if self.first_after is None and not (after.hidden or (before is not None and before.hidden)):
                self.first_after = after.time
        if before is None or after is None:
            return
        if before.hidden:
            self.unhidden += not after.hidden
        elif before.time is None or after.time is None:
            self.untimed += 1
        else:
            difference = abs(after.time - before.time)
            self.rounding = max(self.rounding, difference)
            guessed = self.guessed_before_zero and before.time < 0
            slack = self.tick if guessed else self.tick / 2
            if previous is not None and previous.time == before.time:  # which not every container can say
                slack = max(slack, EQUAL_TIMES_APART)
            if difference > slack:
                self.late += 1
                self._example(f"number {number} at {seconds(after.time)}, not {seconds(before.time)}")
        if before.digest != after.digest:
            self.changed += 1
            self._example(f"number {number}: {before.size} bytes became {after.size}, or others")

    def _example(self, text: str) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples.append(text)


@dataclass(frozen=True)
class Pair:
    """A stream of the input and its counterpart in the output.

    Attributes:
        before: index in the input.
        after: index in the output.
        forms: of the packets, or None for a stream of pictures that was made anew.
        codec: FFmpeg's name of the input's codec.
    """

    before: int
    after: int
    forms: tuple[Form, Form] | None
    codec: str = ""

    @property
    def is_picture(self) -> bool:
        """Whether only times are compared, in the order in which they are shown."""
        return self.forms is None

    @property
    def is_cut_anywhere(self) -> bool:
        """Whether all bytes are compared as one, and not packet by packet."""
        return self.forms is not None and (is_cut_anywhere(self.codec) or self.forms[0].decoded is not None)


def compare_packets(
    before: Path, after: Path, pairs: Sequence[Pair], windows: tuple[Window, Window] = (WHOLE, WHOLE)
) -> dict[int, Tally]:
    """Lay the packets of each pair side by side.

    Args:
        before: the input.
        after: the output.
        pairs: the streams to compare.
        windows: the part of each that is compared, and how its times move first.

    Returns:
        What was found, by index of the input's stream.

    Raises:
        InputError: one of the files cannot be read.
    """
    with open_input(before) as first, open_input(after) as second:
        sides = (
            _Side(first, before, {p.before: (i, p) for i, p in enumerate(pairs)}, 0, windows[0]),
            _Side(second, after, {p.after: (i, p) for i, p in enumerate(pairs)}, 1, windows[1]),
        )
        guessed = "matroska" in second.format.name
        tallies = [Tally(Fraction(second.streams[p.after].time_base or 1), guessed) for p in pairs]
        waiting: list[tuple[deque[Item], deque[Item]]] = [(deque(), deque()) for _ in pairs]
        while not all(side.ended for side in sides):
            side = min((s for s in sides if not s.ended), key=lambda s: s.position)
            for number, item in side.read():
                own, other = waiting[number][side.which], waiting[number][1 - side.which]
                own.append(item)
                while own and other:
                    _lay_side_by_side(tallies[number], *waiting[number])
        for tally, (left_before, left_after) in zip(tallies, waiting, strict=True):
            for item in left_before:
                tally.add(item, None)
            for item in left_after:
                tally.add(None, item)
    for number, time in sides[0].behind.items():
        tallies[number].behind = time
    return {p.before: t for p, t in zip(pairs, tallies, strict=True)}


def has_packets(path: Path, index: int, window: Window) -> bool:
    """Whether anything of stream `index` lies in `window`."""
    with open_input(path) as container:
        stream = container.streams[index]
        read_only(container, {index})
        inside = PacketWindow(stream, window)
        if any(p.size and inside.admit(p) for p in packets(container, stream, path=path)):
            return True
        return bool(inside.rest())


def _lay_side_by_side(tally: Tally, before: deque[Item], after: deque[Item]) -> None:
    """Take the next item of both, or of `before` alone if it is hidden and was left out."""
    if before[0].hidden and before[0].digest != after[0].digest:
        tally.add(before.popleft(), None)
    else:
        tally.add(before.popleft(), after.popleft())


class _Side:
    """One of the two files."""

    def __init__(
        self,
        container: av.container.InputContainer,
        path: Path,
        wanted: dict[int, tuple[int, Pair]],
        which: int,
        window: Window,
    ) -> None:
        self.which = which
        self.behind: dict[int, Fraction] = {}  # by number of the pair, when the first picture behind the window is
        self._window = window
        self._packet_windows = {
            i: PacketWindow(container.streams[i], window) for i, (_, pair) in wanted.items() if not pair.is_picture
        }
        self.position = Fraction(-1 << 40)
        self.ended = not wanted
        self._wanted = wanted
        self._shown: dict[int, list[tuple[Fraction, int, Item]]] = {}
        self._whole: dict[int, _Whole] = {}
        self._count = 0
        read_only(container, wanted)
        self._packets = packets(container, *(container.streams[i] for i in wanted), path=path)

    def read(self) -> Iterator[tuple[int, Item]]:
        """Read one packet, and yield what has become ready by it: number of the pair, and item."""
        packet = next(self._packets, None)
        if packet is None:
            self.ended = True
            yield from self._rest()
            return
        if not packet.size:
            return
        number, pair = self._wanted[packet.stream_index]
        at = packet.dts if packet.dts is not None else packet.pts
        if at is not None:
            self.position = max(self.position, at * Fraction(packet.time_base) - self._window.shift)
        if pair.is_picture:
            yield from self._picture(packet, number, Fraction(packet.time_base))
            return
        assert pair.forms is not None
        form = pair.forms[self.which]
        if form.decoded is not None:
            packet = form.decoded(packet)
        if not form.normal(bytes(packet)):
            return
        admitted = self._packet_windows[packet.stream_index].admit(packet)
        if admitted:
            yield from self._kept_back()
        for each in admitted:
            yield from self._copied(each, number, pair)

    def _kept_back(self) -> Iterator[tuple[int, Item]]:
        for index, window in self._packet_windows.items():
            for packet in window.rest():
                yield from self._copied(packet, *self._wanted[index])

    def _copied(self, packet: Any, number: int, pair: Pair) -> Iterator[tuple[int, Item]]:
        assert pair.forms is not None
        payload = pair.forms[self.which].normal(bytes(packet))
        tick = Fraction(packet.time_base)
        time = None if packet.pts is None else packet.pts * tick
        if pair.is_cut_anywhere:
            whole = self._whole.setdefault(number, _Whole(time))
            whole.add(payload)
            return
        duration = (packet.duration or 0) * tick
        digest = hashlib.blake2b(payload, digest_size=16).digest()
        yield number, Item(time, duration, digest, len(payload), bool(packet.is_discard))

    def _picture(self, packet: Any, number: int, tick: Fraction) -> Iterator[tuple[int, Item]]:
        if packet.is_discard:  # cut away by an edit list
            return
        if packet.pts is None:
            yield number, Item(None)
            return
        shown = packet.pts * tick
        if self._window.ends_by(shown):
            self.behind[number] = min(shown, self.behind.get(number, shown))
        if not self._window.holds(shown):
            return
        heap = self._shown.setdefault(number, [])
        time = shown - self._window.shift
        item = Item(time, (packet.duration or 0) * tick)
        self._count += 1
        heapq.heappush(heap, (time, self._count, item))
        if len(heap) > REORDER_DEPTH:
            yield number, heapq.heappop(heap)[2]

    def _rest(self) -> Iterator[tuple[int, Item]]:
        yield from self._kept_back()
        for number, heap in self._shown.items():
            while heap:
                yield number, heapq.heappop(heap)[2]
        for number, whole in self._whole.items():
            yield number, whole.item()


class _Whole:
    """All payloads of a stream as one."""

    def __init__(self, time: Fraction | None) -> None:
        self._time = time
        self._size = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, payload: bytes) -> None:
        self._size += len(payload)
        self._hash.update(payload)

    def item(self) -> Item:
        return Item(self._time, Fraction(0), self._hash.digest(), self._size)


def seconds(time: Fraction | None) -> str:
    """A time as people read it."""
    return "an unknown time" if time is None else f"{float(time):.6f} s"
