"""Which packets of a copied stream a window lets through, and when they are shown."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import pytest

from vsr.copying.packet_window import PacketWindow
from vsr.trim import Window

MILLISECOND = Fraction(1, 1000)
WINDOW = Window(Fraction(1), Fraction(2), Fraction(1))


def stream(kind: str, codec: str) -> Any:
    return SimpleNamespace(
        type=kind, disposition=0, codec_context=SimpleNamespace(codec=SimpleNamespace(canonical_name=codec))
    )


def packet(pts: int | None, duration: int = 0, *, dts: int | None = None, key: bool = True) -> Any:
    made = av.Packet(b"payload")
    made.pts, made.dts, made.time_base, made.duration = pts, pts if dts is None else dts, MILLISECOND, duration
    made.is_keyframe = key
    return made


def through(window: PacketWindow, *given: Any) -> list[tuple[Fraction, Fraction]]:
    """Time and duration of what comes out, in seconds."""
    out = [p for each in given for p in window.admit(each)] + window.rest()
    return [(p.pts * p.time_base, p.duration * p.time_base) for p in out]


def in_ms(*spans: tuple[int, int]) -> list[tuple[Fraction, Fraction]]:
    return [(Fraction(a, 1000), Fraction(b, 1000)) for a, b in spans]


def test_sound_is_kept_if_it_begins_in_the_window() -> None:
    window = PacketWindow(stream("audio", "aac"), WINDOW)
    given = [packet(t, 20) for t in (980, 999, 1000, 1500, 1999, 2000)]
    assert through(window, *given) == in_ms((0, 20), (500, 20), (999, 20))


def test_text_that_laps_over_an_edge_is_shortened() -> None:
    window = PacketWindow(stream("subtitle", "subrip"), WINDOW)
    given = [packet(100, 900), packet(500, 700), packet(900, 5000), packet(1800, 900), packet(2000, 10)]
    assert through(window, *given) == in_ms((0, 200), (0, 1000), (800, 200))


def test_of_pictures_without_durations_the_one_that_is_shown_at_the_start_is_kept() -> None:
    window = PacketWindow(stream("subtitle", "hdmv_pgs_subtitle"), WINDOW)
    assert through(window, *map(packet, (100, 700, 1400, 2500))) == in_ms((0, 0), (400, 0))
    window = PacketWindow(stream("subtitle", "hdmv_pgs_subtitle"), WINDOW)
    assert through(window, *map(packet, (100, 700))) == in_ms((0, 0))


def test_a_copied_video_begins_at_a_key_frame_and_without_what_needs_an_earlier_one() -> None:
    window = PacketWindow(stream("video", "h264"), WINDOW)
    given = [
        packet(960, dts=900),
        packet(1040, dts=940, key=False),
        packet(1200, dts=1080),
        packet(1160, dts=1120, key=False),
        packet(1240, dts=1160, key=False),
        packet(2040, dts=1960, key=False),
        packet(2080, dts=2000, key=False),
    ]
    assert [t for t, _ in through(window, *given)] == [Fraction(t, 1000) for t in (200, 240, 1040)]


def test_times_move_exactly_whatever_the_ticks() -> None:
    window = PacketWindow(stream("audio", "aac"), Window(Fraction(1), None, Fraction(1001, 24_000) * 23))
    (moved,) = window.admit(packet(1000))
    assert moved.pts * moved.time_base == 1 - Fraction(1001, 24_000) * 23


@pytest.mark.parametrize("window", [Window(), Window(shift=Fraction(-1))])
def test_a_packet_without_a_time_is_kept_where_everything_is(window: Window) -> None:
    assert len(PacketWindow(stream("data", "klv"), window).admit(packet(None))) == 1
    assert PacketWindow(stream("data", "klv"), WINDOW).admit(packet(None)) == []
