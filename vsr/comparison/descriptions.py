"""What two files say of themselves: tags, flags, languages, chapters, and how pictures are to be shown."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, Final, Protocol

from vsr.comparison.appearance import colors, hdr_fields, rotation
from vsr.comparison.differences import NOTHING
from vsr.comparison.facts import HOLDS_NO, FileFacts, StreamFacts
from vsr.comparison.lockstep import seconds
from vsr.copying.timecode import TAG
from vsr.frame import VideoInfo
from vsr.hdr import StaticHdr
from vsr.size import OutputSize
from vsr.trim import Window

#: ISO 6709: latitude, longitude, and perhaps height, each with its sign. libavformat writes four decimals into MP4.
PLACE: Final = re.compile(r"([+-]\d+(\.\d+)?){2,3}/")
NUMBER: Final = re.compile(r"[+-][\d.]+")
PLACE_TOLERANCE: Final = 1e-4
HDR_TOLERANCE: Final = 1 / 4096  # encoders store chromaticities and luminances in steps of their own


class Add(Protocol):
    """Notes a result; what is `allowed` passes if the user wants it so."""

    def __call__(self, name: str, ok: bool, expected: object, got: object, *, allowed: bool = False) -> None:
        """Note the result of the check called `name`."""


class Descriptions:
    """The descriptions of two files.

    Args:
        before: of the input, as much of it as is compared.
        after: of the output.
        add: called with each result.
    """

    def __init__(self, before: FileFacts, after: FileFacts, add: Add) -> None:
        self._before, self._after = before, after
        self._add = add
        self._unheld = HOLDS_NO.get(after.format, ())

    def check_stream(self, old: StreamFacts, new: StreamFacts, wanted: OutputSize | None) -> None:
        """Language, flags, shape of a sample and tags of a stream.

        Args:
            old: of the input.
            new: of the output.
            wanted: what its pictures were to become; None if they were to keep their shape.
        """
        name = old.title
        if old.is_track:
            allowed = old.kind == "video" and "picture language" in self._unheld
            self._add(f"{name}: language", old.language == new.language, old.language, new.language, allowed=allowed)
        unheld = "dispositions" in self._unheld
        flags, new_flags = (", ".join(sorted(f)) or NOTHING for f in (old.disposition, self._flags(old, new)))
        if old.kind != "attachment":
            self._add(f"{name}: disposition", flags == new_flags, flags, new_flags, allowed=unheld)
        if old.kind == "video":
            shape = old.shape if wanted is None else wanted.sample_aspect_ratio or Fraction(1)
            self._add(f"{name}: sample aspect ratio", shape == new.shape, shape, new.shape)
        unheld = "tags" in self._unheld or "stream tags" in self._unheld
        self._check_tags(f"{name}: tags", old.tags, new.tags, unheld)

    def _flags(self, old: StreamFacts, new: StreamFacts) -> frozenset[str]:
        """The output's flags, less that of the default stream if the input leaves the choice open.

        Players take the first stream of a kind then, and that is the one that muxers give the flag to.
        """
        same_kind = [s for s in self._before.streams if s.kind == old.kind]
        if old is same_kind[0] and not any("default" in s.disposition for s in same_kind):
            return new.disposition - {"default"}
        return new.disposition

    def _check_tags(self, name: str, old: dict[str, str], new: dict[str, str], unheld: bool) -> None:
        lost = {k: v for k, v in old.items() if k not in new}
        changed = {k: new[k] for k, v in old.items() if k in new and not _same_tag(v, new[k])}
        expected = {k: old[k] for k in (*lost, *changed)} or f"{len(old)} tags"
        if not old:
            return
        got = "; ".join(f"{what} {found}" for what, found in (("lost", ", ".join(lost)), ("changed", changed)) if found)
        self._add(name, not lost and not changed, expected, got or "the same", allowed=unheld and not changed)

    def check_pictures(
        self, infos: tuple[VideoInfo, VideoInfo], hdr: tuple[StaticHdr | None, StaticHdr | None]
    ) -> None:
        """Samples, colours, rotation and HDR metadata, each of input and output."""
        old, new = infos
        self._check_samples(old, new)
        # x264 says nothing of a limited range alone, and of all containers only Matroska has a place for it.
        says_limited = new.codec != "h264" or "matroska" in self._after.format
        for name, a, b in colors(old, new, self._after.format, says_limited=says_limited):
            self._add(f"picture: {name}", a == b, a, b)
        turned, new_turned = (rotation(i.display_matrix) for i in infos)
        self._add("picture: rotation", turned == new_turned, turned, new_turned, allowed="rotation" in self._unheld)
        for name, one, other in hdr_fields(*hdr):
            same = len(one) == len(other) and all(abs(x - y) <= HDR_TOLERANCE for x, y in zip(one, other, strict=True))
            self._add(f"picture: {name}", same, one or NOTHING, other or NOTHING)

    def _check_samples(self, old: VideoInfo, new: VideoInfo) -> None:
        a, b = old.format, new.format
        held = (
            b.bits >= a.bits
            and b.log2_w <= a.log2_w
            and b.log2_h <= a.log2_h
            and b.alpha >= a.alpha
            and (b.family == a.family or (a.family, b.family) == ("gray", "yuv"))
        ) or (a.family == "gray" and b.family in ("gray", "yuv") and b.bits >= a.bits)
        self._add("picture: samples", held, f"{a.name} or what holds it", b.name, allowed=True)

    def check_file(self, window: Window) -> None:
        """Tags of the file, and the chapters that lie in `window`."""
        old, new = self._before, self._after
        covered = any(s.kind == "cover" for s in new.streams) and "free tags beside a cover" in self._unheld
        codes = {k: v for s in new.streams for k, v in s.tags.items() if k == TAG}  # QuickTime has a file's there
        self._check_tags("file: tags", old.tags, {**codes, **new.tags}, covered or "tags" in self._unheld)
        chapters = window.chapters(list(old.chapters))
        count, new_count = len(chapters), len(new.chapters)
        if count or new_count:
            unheld = "chapters" in self._unheld
            self._add("chapters", count == new_count, count, new_count, allowed=unheld and not new_count)
        for number, (a, b) in enumerate(zip(chapters, new.chapters, strict=False), 1):
            self._check_chapter(f"chapter {number}", a, b)

    def _check_chapter(self, name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        tick = Fraction(new["time_base"])
        for edge in ("start", "end"):
            time, new_time = (Fraction(c[edge] * c["time_base"]) for c in (old, new))
            same = abs(time - new_time) <= tick / 2
            if edge == "start" or "chapter ends" not in self._unheld:
                self._add(f"{name}: {edge}", same, seconds(time), seconds(new_time))
        titles = [{k.lower(): v for k, v in c["metadata"].items()} for c in (old, new)]
        self._add(f"{name}: title", titles[0].get("title") == titles[1].get("title"), *(t.get("title") for t in titles))


def _same_tag(old: str, new: str) -> bool:
    """Whether two values are the same; containers write times of day and places in their own precision."""
    if old.strip() == new.strip() or (len(old) > 18 and "T" in old and old[:19] == new[:19]):
        return True
    if not (PLACE.fullmatch(old) and PLACE.fullmatch(new)):
        return False
    one, other = ([float(number) for number in NUMBER.findall(text)] for text in (old, new))
    return len(one) == len(other) and all(abs(a - b) <= PLACE_TOLERANCE for a, b in zip(one, other, strict=True))
