"""Times of pictures: each its own, those of pictures that never came, and AVI, which knows decoding times only."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vsr.frame import PIXEL_FORMATS, Frame, Planes
from vsr.reading.picture_times import PictureTimes, until_next

PICTURE = Frame(Planes((np.zeros((1, 1), np.uint8),), PIXEL_FORMATS["gray"], 1, 1), 0, 0)
TIMES = st.lists(st.integers(-20, 200), min_size=1, max_size=20, unique=True).map(sorted)


def stamped(pts: int | None, dts: int | None, *, discard: bool = False) -> Any:
    """A packet or a picture, as far as its times go."""
    return SimpleNamespace(pts=pts, dts=dts, is_discard=discard)


def given_times(times: PictureTimes, pictures: list[Any], step: int = 1) -> list[tuple[int, list[int]]]:
    found: list[tuple[int, list[int]]] = []
    last: Frame | None = None
    for picture in pictures:
        found.append(times.of(picture, last, step))
        last = replace(PICTURE, pts=found[-1][0])
    return found


@given(TIMES, st.sets(st.integers(0, 19)), st.randoms(use_true_random=False))
def test_every_picture_has_its_own_time_and_the_lost_ones_are_told(
    shown: list[int], gone: set[int], random: Any
) -> None:
    times, order = PictureTimes(by_decoding=False), shown.copy()
    random.shuffle(order)
    for number, pts in enumerate(order):
        assert times.expect(stamped(pts, number)) == pts
    came = [pts for number, pts in enumerate(shown) if number not in gone]
    found = given_times(times, [stamped(pts, None) for pts in came])
    assert [pts for pts, _ in found] == came
    told = [pts for _, lost in found for pts in lost]
    assert told == [pts for pts in shown if pts not in came and came and pts < came[-1]]
    assert sorted([*came, *told, *times.left()]) == shown


@given(TIMES, st.integers(0, 5))
def test_decoding_times_are_taken_without_the_delay_of_the_decoder(stored: list[int], delay: int) -> None:
    times = PictureTimes(by_decoding=True)
    for dts in stored:
        assert times.expect(stamped(None, dts)) == dts
    pictures = [stamped(None, dts + delay) for dts in stored]
    assert times.begin(pictures[0]) == stored[0]
    assert [pts for pts, _ in given_times(times, pictures)] == stored
    assert times.last_gap == (stored[-1] - stored[-2] if len(stored) > 1 else 0)


def test_pictures_without_any_time_follow_the_last_and_hidden_packets_are_not_missed() -> None:
    times = PictureTimes(by_decoding=False)
    for pts in (10, 12):
        times.expect(stamped(pts, pts, discard=True))
    times.expect(stamped(14, 14))
    assert times.begin(stamped(None, None)) == 0
    assert times.begin(stamped(None, 7)) == 7
    assert given_times(times, [stamped(14, 14), stamped(None, None), stamped(None, 20)], 3) == [
        (14, []),
        (17, []),
        (20, []),
    ]
    assert times.left() == []
    held = PictureTimes(by_decoding=True)
    for dts in (0, 4, 8):
        held.expect(stamped(None, dts))
    assert given_times(held, [stamped(None, 0), stamped(None, None), stamped(None, None)], 4) == [
        (0, []),
        (4, []),
        (8, []),
    ]
    assert held.left() == []


def test_where_durations_are_of_decoding_a_picture_lasts_until_the_next() -> None:
    frames = [replace(PICTURE, pts=pts, duration=span) for pts, span in [(0, 90), (7, 1), (20, 5), (20, 4), (33, 2)]]
    assert [f.duration for f in until_next(frames)] == [7, 13, 5, 13, 2]
    assert list(until_next([])) == []
