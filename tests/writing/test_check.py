"""Verification: a file that is not what was written into it is found out."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.clips import make_clip
from vsr.errors import VerificationError
from vsr.writing import check as check_module
from vsr.writing.check import check_output

Clip = Callable[..., Path]
RATE = Fraction(25)
COUNT = 30


def check(path: Path, **changes: Any) -> None:
    facts: dict[str, Any] = {
        "frames": COUNT,
        "size": (64, 48),
        "first": Fraction(0),
        "last": (COUNT - 1) / RATE,
    }
    check_output(path, "out", **{**facts, **changes})


@pytest.fixture(params=[".mp4", ".mkv", ".mov", ".ts"])
def whole(request: pytest.FixtureRequest, clip: Clip) -> Path:
    return clip(f"whole{request.param}", rate=RATE, frames=COUNT, bframes=2, options={"g": "10"})


def start_of(path: Path) -> Fraction:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return min(p.pts for p in container.demux(stream) if p.pts is not None) * stream.time_base


def test_a_right_file_passes(whole: Path) -> None:
    start = start_of(whole)
    check(whole, first=start, last=start + (COUNT - 1) / RATE)


@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1, 0])
def test_another_number_of_pictures_is_found(count: int, clip: Clip) -> None:
    path = clip("whole.mp4", rate=RATE, frames=COUNT)
    with pytest.raises(VerificationError, match=rf"out holds {COUNT} pictures, and {count} were encoded"):
        check(path, frames=count)


@pytest.mark.parametrize("size", [(64, 50), (128, 96), (48, 64)])
def test_another_size_is_found(size: tuple[int, int], clip: Clip) -> None:
    path = clip("whole.mp4", rate=RATE, frames=COUNT)
    with pytest.raises(VerificationError, match=rf"no video of {size[0]}x{size[1]}"):
        check(path, size=size)


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize("shift", [Fraction(1, 25), Fraction(-1, 25), Fraction(1, 10000)])
def test_a_shifted_picture_is_found(which: str, shift: Fraction, clip: Clip) -> None:
    path = clip("whole.mp4", rate=RATE, frames=COUNT)
    right = {"first": Fraction(0), "last": (COUNT - 1) / RATE}[which]
    if abs(shift) < Fraction(1, 12800):
        check(path, **{which: right + shift})
    else:
        with pytest.raises(VerificationError, match=rf"the {which} picture of out is at"):
            check(path, **{which: right + shift})


def test_rounding_to_the_ticks_of_the_container_passes(tmp_path: Path) -> None:
    rate = Fraction(24000, 1001)
    path = make_clip(tmp_path / "ms.mkv", rate=rate, frames=COUNT)  # Matroska counts milliseconds
    check(path, last=(COUNT - 1) / rate)


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_picture_that_cannot_be_decoded_is_found(where: str, clip: Clip, tmp_path: Path) -> None:
    source = clip("intra.mkv", rate=RATE, frames=COUNT, codec="ffv1")
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    packet = packets[0 if where == "first" else -1]
    at = data.index(packet)
    data[at : at + len(packet)] = b"\xff" * len(packet)
    path = tmp_path / "spoiled.mkv"
    path.write_bytes(data)
    with pytest.raises(VerificationError, match=rf"the {where} picture"):
        check(path)


@pytest.mark.parametrize(("place", "which"), [("key", "last key"), ("end", "last")])
def test_the_last_key_picture_stands_for_one_far_behind_it(
    place: str, which: str, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clip("long.mkv", rate=RATE, frames=COUNT, bframes=2, options={"g": "10", "sc_threshold": "0"})
    monkeypatch.setattr(check_module, "LONGEST_TAIL", 5 if place == "key" else 10)
    looked: set[Fraction] = set()

    def look(container: Any, stream: Any, start: Fraction, at: Fraction, *_: Any) -> bool:
        looked.add(at)
        return False

    monkeypatch.setattr(check_module, "_reaches", look)
    with pytest.raises(VerificationError, match=rf"the {which} picture"):
        check(path)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.pts is not None]
        keys = [p.pts * p.time_base for p in packets if p.is_keyframe]
        end = max(p.pts * p.time_base for p in packets)
    assert looked == {keys[-1] if place == "key" else end}


@pytest.mark.parametrize("bframes", [0, 2])
def test_only_what_follows_the_last_key_picture_is_decoded(
    bframes: int, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"g": "10", "sc_threshold": "0"}
    for suffix in (".mkv", ".ts"):
        path = clip(f"long{suffix}", rate=RATE, frames=2 * COUNT, bframes=bframes, options=options)
        start = start_of(path)
        shown: list[int] = []
        reaches = check_module._reaches

        def look(container: Any, *rest: Any, shown: list[int] = shown, reaches: Any = reaches) -> bool:
            class Counting:
                seek = container.seek

                def decode(self, stream: Any) -> Any:
                    for frame in container.decode(stream):
                        shown.append(frame.pts)
                        yield frame

            return bool(reaches(Counting(), *rest))

        monkeypatch.setattr(check_module, "_reaches", look)
        check(path, frames=2 * COUNT, first=start, last=start + (2 * COUNT - 1) / RATE)
        monkeypatch.undo()
        assert 0 < len(shown) <= COUNT + 10  # from MPEG-TS, without an index, from a second before on


@pytest.mark.parametrize("share", [0.2, 0.7, 0.95])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cut_file_is_found(share: float, suffix: str, clip: Clip, tmp_path: Path) -> None:
    data = clip(f"whole{suffix}", rate=RATE, frames=COUNT).read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(VerificationError):
        check(path)


@pytest.mark.parametrize("content", [b"", b"no media at all" * 100])
def test_what_cannot_be_opened_is_found(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(VerificationError, match="out was written, but cannot be read back"):
        check(path)


def test_sound_alone_is_found(tmp_path: Path, clip: Clip) -> None:
    from tests.clips import ffmpeg

    path = tmp_path / "sound.m4a"
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.3", "-c:a", "aac", path)
    with pytest.raises(VerificationError, match="holds no video"):
        check(path)
