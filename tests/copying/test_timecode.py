"""A part of a video has the time code of its own first picture."""

from __future__ import annotations

import functools
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clips import ffmpeg, ffprobe
from vsr.comparison.compare import compare
from vsr.copying.timecode import advanced, begun_later
from vsr.job import upscale
from vsr.trim import Trim

NTSC = Fraction(30000, 1001)


@functools.cache
def numbers(nominal: int, dropped: int) -> list[str]:
    """All numbers of the first 12 minutes, as SMPTE ST 12-1 has them."""
    return [
        f"00:{minute:02}:{second:02}{';' if dropped else ':'}{number:02}"
        for minute in range(12)
        for second in range(60)
        for number in range(nominal)
        if second or number >= dropped or minute % 10 == 0
    ]


@pytest.mark.parametrize(("rate", "dropped"), [(NTSC, 2), (NTSC * 2, 4), (NTSC, 0), (Fraction(25), 0)])
@settings(deadline=None)
@given(st.data())
def test_numbers_follow_each_other(rate: Fraction, dropped: int, data: st.DataObject) -> None:
    known = numbers(round(rate), dropped)
    first = data.draw(st.integers(0, len(known) - 1))
    last = data.draw(st.integers(first, len(known) - 1))
    assert advanced(known[first], last - first, rate) == known[last]


@pytest.mark.parametrize(("timecode", "rate", "following"), [
    ("01:00:59;29", NTSC, "01:01:00;02"),
    ("01:09:59;29", NTSC, "01:10:00;00"),
    ("23:59:59;29", NTSC, "00:00:00;00"),
    ("23:59:59:24", Fraction(25), "00:00:00:00"),
    ("01:00:00.29", NTSC, "01:00:01.00"),
    ("no time code", NTSC, "no time code"),
])  # fmt: skip
def test_the_next_picture_has_the_next_number(timecode: str, rate: Fraction, following: str) -> None:
    assert advanced(timecode, 1, rate) == following
    assert begun_later({"TIMECODE": timecode, "title": "x"}, 1, rate) == {"TIMECODE": following, "title": "x"}
    assert begun_later({"timecode": timecode}, 0, rate) == begun_later({"timecode": timecode}, 1, None)


@pytest.mark.parametrize(("suffix", "result"), [(".mov", ".mp4"), (".mov", ".mkv"), (".mkv", ".mov")])
def test_a_part_begins_with_the_time_code_of_its_first_picture(suffix: str, result: str, tmp_path: Path) -> None:
    source, made = tmp_path / f"in{suffix}", tmp_path / f"out{result}"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=30000/1001:d=1", "-c:v", "libx264", "-preset", "ultrafast",
           "-pix_fmt", "yuv420p", "-timecode", "01:00:59;20", source)  # fmt: skip
    upscale(source, made, 2, model="bicubic", threads=1, preset="ultrafast", start="0.45", frames=5)
    streams = ffprobe(made, "-show_streams")["streams"]
    tags = {key.lower(): value for key, value in streams[0]["tags"].items()}
    assert tags["timecode"] == "01:01:00;06"  # the picture with number 14, after four numbers at the change of minutes
    assert compare(source, made, trim=Trim.parse(start="0.45", frames=5)).differences == []
