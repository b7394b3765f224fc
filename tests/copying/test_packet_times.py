"""The times of copied packets, where a muxer would lose one of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.clips import make_clip
from vsr.copying.packet_times import PacketTimes
from vsr.writing.containers import MATROSKA, MP4, Container

SHOWN = (3600, 90000)  # ticks of 1/90000 s


@pytest.mark.parametrize("container", [MP4, MATROSKA], ids=["mp4", "mkv"])
def test_a_last_subtitle_without_a_duration_can_be_read_again(container: Container, tmp_path: Path) -> None:
    """As MPEG-PS gives them: MP4's edit list would end where the last one begins."""
    source, target = make_clip(tmp_path / "in.mkv", frames=30, rate=25), tmp_path / f"out.{container.muxer}"
    times = PacketTimes("subtitle", container)
    with av.open(str(source)) as pictures, av.open(str(target), "w", format=container.muxer) as output:
        video = output.add_stream_from_template(pictures.streams.video[0], opaque=True)
        text = output.add_mux_stream("dvd_subtitle", time_base=Fraction(1, 90000))
        for packet in pictures.demux(video=0):
            if packet.size:
                packet.stream = video
                output.mux(packet)
        for pts in SHOWN:
            packet = av.Packet(bytes((0, 8, 0, 4, 0, 0, 0, 0)))
            packet.pts = packet.dts = pts
            packet.time_base = Fraction(1, 90000)
            for ready in times.admit(packet):
                ready.stream = text
                output.mux(ready)
    with av.open(str(target)) as again:
        found = [p.pts * p.time_base for p in again.demux(subtitles=0) if p.size]
    assert found == [Fraction(pts, 90000) for pts in SHOWN]
