"""Proof that one file is another, larger and otherwise untouched: what `vsr verify` shows.

This knows nothing of the job that made the output, and takes any two files. `vsr.writing.check` is the other check:
the job's own quick look at the file it has just written, against what it meant to write, before the file gets its
name.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final

from vsr.comparison.descriptions import Descriptions
from vsr.comparison.differences import NOTHING, Check, Comparison
from vsr.comparison.facts import HOLDS_NO, StreamFacts, pair_streams, read_facts
from vsr.comparison.field_pairs import FieldPairs
from vsr.comparison.likeness import LEAST_DB, Likeness
from vsr.comparison.lockstep import Item, Pair, Tally, compare_packets, has_packets, seconds
from vsr.comparison.payloads import forms_of
from vsr.copying.selection import Selection
from vsr.copying.timecode import TAG, begun_later
from vsr.enlarged import wanted_size
from vsr.errors import MissingInputError, UnsupportedInputError
from vsr.frame import VideoInfo
from vsr.hdr import StaticHdr
from vsr.pictures.files import is_still
from vsr.reading.decode_report import ErrorBudget
from vsr.reading.demux import open_input
from vsr.size import SizeRequest
from vsr.source import Source
from vsr.trim import Trim, Window, nearest_on_clock

DECODING_TIMES_ONLY: Final = ("avi",)  # formats whose packets do not say when they are shown
PRE_ROLL: Final = 3  # hidden packets that a decoder is fed to be ready for the first that is heard
ZERO: Final = Fraction(0)


def compare(
    input: str | Path,
    output: str | Path,
    *,
    size: SizeRequest | None = None,
    decode: bool = False,
    allow_dropped: bool = False,
    trim: Trim | None = None,
    selection: Selection | None = None,
    field_rate: bool = False,
) -> Comparison:
    """Compare an upscaled video with what it was made from.

    Packets are read, not decoded, where they tell all there is to tell; the pictures are decoded where they do not
    (AVI, elementary streams), or where a difference in the packets might be none in the pictures.

    Args:
        input: the original.
        output: the result.
        size: what size was asked for; None takes any whole factor.
        decode: decode every picture of both, and see that each looks like its original.
        allow_dropped: accept that streams are missing, and what the container of `output` has no place for.
        trim: the part of the original that the result was made from.
        selection: the streams of the original that the result was made from.
        field_rate: expect a second picture halfway to the next one after every picture that is marked as interlaced,
            and accept one after others; all are decoded then.

    Raises:
        MissingInputError, NotMediaError: one of the files cannot be opened.
        UnsupportedInputError: one of them is a still image.
        OptionError: no picture of the original lies within `trim`, no stream is as `selection` says, or its pictures
            cannot be made of the size asked for.
    """
    chosen = selection or Selection()
    paths = Path(input), Path(output)
    return _Comparer(paths, size, decode, allow_dropped, trim or Trim(), chosen, field_rate).run()


class _Comparer:
    def __init__(
        self,
        paths: tuple[Path, Path],
        size: SizeRequest | None,
        decode: bool,
        allow_dropped: bool,
        trim: Trim,
        selection: Selection,
        field_rate: bool,
    ) -> None:
        for path in paths:
            if not path.exists():
                raise MissingInputError(f"{path} does not exist")
            if is_still(path):
                raise UnsupportedInputError(f"{path} is a still image, and videos are compared")
        self._paths = before, after = paths
        self._size = size
        self._decode = decode
        self._allow = allow_dropped
        self._trim = trim
        self._selection = selection
        self._field_rate = field_rate
        self._before, self._after = read_facts(before), read_facts(after)
        self._result = Comparison(str(before), str(after))
        self._unheld = HOLDS_NO.get(self._after.format, ())

    def run(self) -> Comparison:
        """Compare everything."""
        pairs = self._read_first_pictures()
        both = [(a, b) for a, b in pairs if b is not None]
        self._check_list(pairs)
        lined_up = self._line_up(both)
        tallies = compare_packets(*self._paths, lined_up, (self._window, Window(shift=-self._lift)))
        picture = self._picture_tally(tallies)
        described = Descriptions(self._before, self._after, self._add)
        for old, new in both:
            tally = tallies.get(old.index)
            pair = next((p for p in lined_up if p.before == old.index), None)
            if pair is None or tally is None:
                self._check_bytes(old, new)
            elif pair.is_picture:
                self._check_pictures(old, new, picture if old.index == self._picture_index else tally)
            else:
                self._check_copy(old, pair, tally, picture)
                if old.digest or new.digest:
                    same = old.digest == new.digest
                    self._add(f"{old.title}: description", same, old.digest[:16], new.digest[:16] or NOTHING)
            described.check_stream(old, new, self._wanted if old.index == self._picture_index else None)
        described.check_pictures(self._infos, self._hdr)
        described.check_file(self._window)
        return self._result

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read_first_pictures(self) -> list[tuple[StreamFacts, StreamFacts | None]]:
        """Pair the streams, and decode the first picture of both, which tells what headers do not always say."""
        with _Opened(self._paths[0], self._trim, self._selection) as old:
            self._picture_index = old.stream_index
            wanted = {old.stream_index}
            with open_input(self._paths[0]) as container:
                wanted |= self._selection.wanted(container, str(self._paths[0]))
            kept = tuple(s for s in self._before.streams if s.index in wanted)
            self._before = replace(self._before, streams=kept)
            self._begin_later(round(old.skipped * (old.info.rate or 0)), old.info.rate)
            pairs = pair_streams(self._before, self._after)
            copies = [str(b.index) for a, b in pairs if b is not None and a.index == old.stream_index]
            self._copy = Selection.parse(copies)
            self._read_first_of(old)
        return pairs

    def _read_first_of(self, old: Source) -> None:
        with _Opened(self._paths[1], None, self._copy) as new:
            self._infos: tuple[VideoInfo, VideoInfo] = old.info, new.info
            self._wanted = None if self._size is None else wanted_size(self._size, old.info)
            self._hdr: tuple[StaticHdr | None, StaticHdr | None] = old.hdr, new.hdr
            self._window = old.window
            self._lift = Fraction(0)  # added to the output's times, where the clock of MPEG-TS has started anew
            if self._after.format == "mpegts":
                shown, new_shown = (next(s.frames()).pts * s.info.time_base for s in (old, new))
                new_shown += new.window.shift
                self._lift = nearest_on_clock(new_shown, shown) - new_shown

    def _begin_later(self, frames: int, rate: Fraction | None) -> None:
        """Let the time code of what is compared be that of the first wanted picture."""
        streams = [
            replace(s, tags=begun_later(s.tags, frames, rate)) if s.kind in ("video", "data") else s
            for s in self._before.streams
        ]
        tags = begun_later(self._before.tags, frames, rate)
        self._before = replace(self._before, streams=tuple(streams), tags=tags)

    def _line_up(self, both: list[tuple[StreamFacts, StreamFacts]]) -> list[Pair]:
        """What is to be read of which stream."""
        lined_up = []
        with open_input(self._paths[0]) as first, open_input(self._paths[1]) as second:
            for old, new in both:
                if not old.is_track or (TAG in old.tags and old.kind == "data"):  # its packet is what the tag says
                    continue
                forms = forms_of(first.streams[old.index], second.streams[new.index], old.codec, new.codec)
                if old.kind == "video" and (old.index == self._picture_index or old.size != new.size or forms is None):
                    forms = None
                lined_up.append(Pair(old.index, new.index, forms, old.codec))
        return lined_up

    def _picture_tally(self, tallies: dict[int, Tally]) -> Tally | None:
        tally = tallies.get(self._picture_index)
        if tally is None:
            return None
        by_packets = (
            self._before.format not in DECODING_TIMES_ONLY
            and tally.count_before == tally.count_after
            and not tally.untimed
            and not tally.late
        )
        if by_packets and not self._decode and not self._field_rate:
            return tally
        return self._decode_pictures(tally.tick)

    def _decode_pictures(self, tick: Fraction) -> Tally:
        tally = Tally(tick)
        before, after = self._paths
        with _Opened(before, self._trim, self._selection) as old, _Opened(after, None, self._copy) as new:
            moved = new.window.shift + self._lift
            likeness = Likeness()
            pairs = FieldPairs(old, new, moved, field_rate=self._field_rate)
            for a, b in pairs:
                tally.add(*(None if shown is None else shown.item for shown in (a, b)))
                if a is not None and b is not None and a.planes is not None and b.planes is not None:
                    likeness.add(a.planes, b.planes)
            report = new.report
            faults = f"{report.errors} errors, {report.damaged} damaged, {report.rescaled} of another size or format"
            self._add("every picture decodes", not (report.errors or report.damaged or report.rescaled), "all", faults)
        what = f"lowest PSNR when shrunk {likeness.worst_db:.1f} dB, {likeness.misplaced} more like the one before"
        if self._field_rate:
            right = pairs.split > 0 and not pairs.unsplit
            got = f"{pairs.split} pictures have one, {pairs.unsplit} that are marked as interlaced have none"
            self._add("second fields", right, "one for every interlaced picture", got)
        self._add("every picture is its original, larger", likeness.ok, f"{LEAST_DB:g} dB or more", what)
        return tally

    # -- checks -------------------------------------------------------------------------------------------------------

    def _add(self, name: str, ok: bool, expected: object, got: object, *, allowed: bool = False) -> None:
        """Note a result; what is `allowed` passes if the user wants it so."""
        if not ok and allowed and self._allow:
            ok, got = True, f"{got} (allowed)"
        self._result.checks.append(Check(name, bool(ok), str(expected), str(got)))

    def _check_list(self, pairs: list[tuple[StreamFacts, StreamFacts | None]]) -> None:
        # Of a stream of which nothing lies in the part that is compared, containers may keep nothing at all.
        gone = [a for a, b in pairs if b is None and not self._is_empty(a)]
        lost = [a.title for a in gone]
        wanted = len(self._before.streams)
        what = f"{wanted - len(lost)} of them, without {', '.join(lost)}" if lost else "all of them"
        self._add("streams", not lost, f"{wanted} streams", what, allowed=True)
        found = {b.index for _, b in pairs if b is not None}
        # QuickTime's muxer makes a track of a time code.
        made = {tags[TAG] for tags in (self._before.tags, *(a.tags for a, _ in pairs)) if TAG in tags}
        added = [
            s.title
            for s in self._after.streams
            if s.index not in found and not (s.kind == "data" and s.tags.get(TAG) in made)
        ]
        self._add("no stream added", not added, NOTHING, ", ".join(added) or NOTHING)
        for tracks, name in ((True, "order of tracks"), (False, "order of attachments")):
            order = [b.index for a, b in pairs if b is not None and b.is_track is tracks]
            if len(order) > 1:
                self._add(name, order == sorted(order), sorted(order), order)

    def _is_empty(self, stream: StreamFacts) -> bool:
        trimmed = self._window.start is not None or self._window.end is not None
        return stream.is_track and trimmed and not has_packets(self._paths[0], stream.index, self._window)

    def _check_bytes(self, old: StreamFacts, new: StreamFacts) -> None:
        self._add(f"{old.title}: content", old.digest == new.digest, old.digest[:16], new.digest[:16])
        if old.kind == "attachment":
            self._add(f"{old.title}: name", old.name == new.name, old.name, new.name)
            self._add(f"{old.title}: type", old.codec == new.codec, old.codec, new.codec)

    def _check_pictures(self, old: StreamFacts, new: StreamFacts, tally: Tally | None) -> None:
        self._check_size(old, new)
        if tally is None:
            return
        name = old.title
        self._add(f"{name}: frames", tally.count_before == tally.count_after, tally.count_before, tally.count_after)
        if tally.untimed:
            self._add(f"{name}: frame times", False, "a time for each", f"{tally.untimed} without one")
        self._check_times(f"{name}: frame times", tally)
        self._check_last(old, new, tally)

    def _check_size(self, old: StreamFacts, new: StreamFacts) -> None:
        main = old.index == self._picture_index
        sizes = [(i.width, i.height) for i in self._infos] if main else [old.size or (0, 0), new.size or (0, 0)]
        (width, height), (new_width, new_height) = sizes
        if main and self._wanted is not None:
            wanted, found = f"{self._wanted.width}x{self._wanted.height}", f"{new_width}x{new_height}"
            self._add(f"{old.title}: size", wanted == found, wanted, found)
            return
        factor = new_width // width if width else 0
        exact = factor >= 2 and (new_width, new_height) == (width * factor, height * factor)
        if main:
            self._result.scale = factor if exact else None
        same_as_main = main or self._result.scale in (None, factor)
        what = f"{width}x{height}, times a whole number" if main else f"{width}x{height}, as the main pictures"
        got = f"{new_width}x{new_height}" + (f", x{factor}" if exact else "")
        self._add(f"{old.title}: size", exact and same_as_main, what, got)

    def _check_times(self, name: str, tally: Tally) -> None:
        expected = f"to the nearest tick of {tally.tick} s"
        got = f"largest rounding {float(tally.rounding * 1_000_000):.3f} µs"
        if tally.late:
            got += f"; {tally.late} are not: {', '.join(tally.examples)}"
        self._add(name, not tally.late, expected, got)

    def _check_last(self, before: StreamFacts, after: StreamFacts, tally: Tally) -> None:
        """The end of the last picture. Durations of all others are the distances of their times."""
        # MP4 has durations in decoding order, so the last frame shown may have another's: its header says where the
        # track ends. Of an input that was cut without encoding, only the packets are right.
        old, new = _end(tally.last_before), _end(tally.last_after)
        whole = None if before.end is None or self._window.end is not None else before.end - self._window.shift
        ends = [e for e in dict.fromkeys((whole, old)) if e is not None]
        if self._window.end is not None:
            # The last picture that is kept is shown until the next one of the input is, or until the cut.
            tick = self._infos[0].time_base
            shown_until = [math.ceil(self._window.end / tick) * tick, *([] if tally.behind is None else [tally.behind])]
            limit = min(shown_until) - self._window.shift
            ends = [limit] if tally.behind is not None or old is None else [min(limit, old)]
        new_end = new if after.end is None else after.end
        if not ends:
            return
        expected, got = " or ".join(seconds(e) for e in ends), seconds(new_end)
        # Two roundings meet in a duration: that of its start and that of its end.
        slack = tally.tick + max(self._before.tick, self._after.tick)
        same = new_end is not None and any(abs(e - new_end) <= slack for e in ends)
        if "durations" in self._unheld:
            same, got = True, "not stored"
        self._add(f"{before.title}: end of the last frame", same, expected, got)

    def _check_copy(self, old: StreamFacts, pair: Pair, tally: Tally, picture: Tally | None) -> None:
        name = old.title
        assert pair.forms is not None
        exception = pair.forms[0].exception
        same = not tally.changed and tally.count_before == tally.count_after and tally.unhidden <= PRE_ROLL
        expected = f"{tally.count_before} packets, {tally.bytes_before} bytes"
        got = f"{tally.count_after} packets, {tally.bytes_after} bytes, {tally.changed} changed"
        if tally.unhidden or tally.left_out:
            got += f"; {tally.left_out} hidden ones left out, {tally.unhidden} not hidden any more"
        if pair.is_cut_anywhere:
            expected, got = f"{tally.bytes_before} bytes", f"{tally.bytes_after} bytes"
            got += ", changed" if tally.changed else ""
        self._add(f"{name}: packets" + (f" ({exception})" if exception else ""), same, expected, got)
        self._check_times(f"{name}: packet times", tally)
        if picture is None or old.kind == "subtitle":
            return
        starts = tally.first_before, tally.first_after, picture.first_before, picture.first_after
        if None not in starts:
            first_before, first_after, shown_before, shown_after = (s or Fraction(0) for s in starts)
            offset, new_offset = first_before - shown_before, first_after - shown_after
            slack = (tally.tick + picture.tick) / 2
            self._add(
                f"{name}: offset to the pictures",
                abs(offset - new_offset) <= slack,
                f"{float(offset):+.6f} s",
                f"{float(new_offset):+.6f} s",
            )


class _Opened(Source):
    """A source that takes what there is of a file: judging it is the job's business."""

    def __init__(self, path: Path, trim: Trim | None, selection: Selection) -> None:
        super().__init__(path, on_truncated="keep", budget=ErrorBudget(100), trim=trim, selection=selection)

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end(last: Item | None) -> Fraction | None:
    return None if last is None or last.time is None or not last.duration else last.time + last.duration
