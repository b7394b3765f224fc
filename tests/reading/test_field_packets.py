"""Second fields that come as packets of their own, in streams written by hand and in those of x264."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

import vsr
from tests.clips import ffmpeg, ffprobe
from tests.odd_inputs import FRAMES, make_paff
from vsr.frame import FieldOrder
from vsr.reading.field_packets import FieldPackets
from vsr.source import Source
from vsr.trim import Trim

PICTURES = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=0.4", "-c:v", "libx264", "-preset", "ultrafast")


def seconds(path: Path) -> list[bool]:
    """Of each packet, in the order of the file, whether it is taken for a second field."""
    with av.open(str(path)) as container:
        fields = FieldPackets(container.streams.video[0])
        return [fields.is_second(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_every_other_packet_is_a_second_field(suffix: str, tmp_path: Path) -> None:
    clip = tmp_path / f"in{suffix}"
    make_paff(clip, pairs=False)
    assert seconds(clip) == [False, True] * FRAMES


def test_pictures_coded_as_frames_and_pairs_in_a_packet_have_none(tmp_path: Path) -> None:
    mixed, pairs = tmp_path / "mixed.ts", tmp_path / "pairs.mp4"
    make_paff(mixed, pairs=False, whole=(3, 4, 7))
    expected = [second for n in range(FRAMES) for second in ([False] if n in (3, 4, 7) else [False, True])]
    assert seconds(mixed) == expected
    make_paff(pairs, pairs=True)
    assert seconds(pairs) == [False] * FRAMES


@pytest.mark.parametrize(
    "options", ["tff=1:keyint=5", "tff=1:bframes=3:cqm=jvt", "bframes=3:b-pyramid=normal:slices=3"]
)
@pytest.mark.parametrize("suffix", [".ts", ".mp4"])
def test_streams_of_x264_have_none(options: str, suffix: str, tmp_path: Path) -> None:
    # It codes interlaced pictures as frames, macroblock by macroblock (MBAFF).
    clip = tmp_path / f"in{suffix}"
    ffmpeg(*PICTURES, "-pix_fmt", "yuv444p", "-x264-params", options, clip)
    assert seconds(clip) == [False] * 10


@pytest.mark.parametrize(("start", "frames"), [(None, 5), (Fraction(2, 25), 3)])
def test_a_number_of_frames_counts_pictures(start: Fraction | None, frames: int, tmp_path: Path) -> None:
    clip, output = tmp_path / "in.ts", tmp_path / "out.mkv"
    make_paff(clip, pairs=False)
    report = vsr.upscale(clip, output, 2, model="bicubic", frames=frames, start=start)
    assert report.frames_out == frames
    shown = ffprobe(output, "-count_frames", "-show_entries", "stream=nb_read_frames")["streams"]
    assert [int(s["nb_read_frames"]) for s in shown] == [frames]
    assert not any("frames are asked for" in note for note in report.notes)


def test_a_picture_lasts_as_long_as_both_of_its_fields(tmp_path: Path) -> None:
    clip = tmp_path / "in.ts"
    make_paff(clip, pairs=False)
    source = Source(clip, trim=Trim())
    pictures = list(source.frames())
    source.close()
    assert [p.duration for p in pictures] == [3600] * FRAMES
    assert {p.field_order for p in pictures} == {FieldOrder.TOP_FIRST}
