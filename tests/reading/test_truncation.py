"""Cut files: never a false alarm on a whole one, always found where a container says how long it is."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clips import ffmpeg, make_clip
from vsr.boxes import top_level_boxes
from vsr.errors import NotMediaError, TruncatedInputError
from vsr.reading.truncation import cut_off_by_structure, missing_seconds
from vsr.source import Source

Clip = Callable[..., Path]

# name: (extension, muxer options)
WHOLE: dict[str, tuple[str, dict[str, str]]] = {
    "mp4": (".mp4", {}),
    "mp4 faststart": (".mp4", {"movflags": "faststart"}),
    "mp4 fragmented": (".mp4", {"movflags": "frag_keyframe+empty_moov"}),
    "mp4 dash": (".mp4", {"movflags": "dash+delay_moov"}),
    "mp4 default base": (".mp4", {"movflags": "frag_every_frame+default_base_moof+skip_trailer"}),
    "mp4 hybrid": (".mp4", {"movflags": "hybrid_fragmented"}),
    "mov": (".mov", {}),
    "mkv": (".mkv", {}),
    "mkv live": (".mkv", {"live": "1"}),
    "mkv cues first": (".mkv", {"cues_to_front": "1"}),
    "mkv reserved": (".mkv", {"reserve_index_space": "4096"}),
    "mkv many clusters": (".mkv", {"cluster_time_limit": "100"}),
    "webm": (".webm", {}),
    "webm dash": (".webm", {"dash": "1"}),
    "ts": (".ts", {}),
    "m2ts": (".m2ts", {"mpegts_m2ts_mode": "1"}),
    "avi": (".avi", {}),
    "flv": (".flv", {}),
    "nut": (".nut", {}),
    "mpg": (".mpg", {}),
    "y4m": (".y4m", {}),
    "h264": (".h264", {}),
    "mxf": (".mxf", {}),
}
CODECS = {".webm": "libvpx-vp9", ".mpg": "mpeg2video", ".y4m": "wrapped_avframe", ".mxf": "mpeg2video"}
AUDIO = {".mp4": "aac", ".mkv": "aac", ".ts": "aac", ".mov": "aac", ".webm": "libopus"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folder = tmp_path_factory.mktemp("whole")
    made: dict[tuple[str, bool, int], Path] = {}

    def get(name: str, sound: bool = False, frames: int = 30) -> Path:
        suffix, options = WHOLE[name]
        key = (name, sound, frames)
        if key not in made:
            made[key] = make_clip(
                folder / f"{len(made)}{suffix}",
                codec=CODECS.get(suffix, "libx264"),
                rate=25,
                frames=frames,
                bframes=2 if suffix in (".mp4", ".mkv", ".mov", ".ts") else 0,
                audio=AUDIO.get(suffix) if sound else None,
                options={"g": "6"} if suffix not in (".y4m",) else None,
                container_options=options,
            )
        return made[key]

    return get


def assert_whole(path: Path, frames: int) -> None:
    source = Source(path)
    try:
        assert sum(1 for _ in source.frames()) == frames
        assert source.report.missing_s is None
    finally:
        source.close()


@pytest.mark.parametrize(
    ("name", "sound"),
    [(n, s) for n in WHOLE for s in (False, True) if not s or (WHOLE[n][0] in AUDIO and n != "webm dash")],
)
def test_a_whole_file_is_never_called_cut(name: str, sound: bool, whole: Callable[..., Path]) -> None:
    path = whole(name, sound)
    assert cut_off_by_structure(path) is None
    assert_whole(path, 30)


@pytest.mark.parametrize("mux", ["sound shorter than the picture", "sound longer than the picture"])
def test_streams_of_unequal_length_are_no_cut(mux: str, clip: Clip, tmp_path: Path) -> None:
    video = clip("v.mkv", rate=25, frames=30)
    for suffix in (".mkv", ".mp4", ".ts"):
        path = tmp_path / f"{mux}{suffix}"
        length = "0.3" if mux == "sound shorter than the picture" else "5"
        ffmpeg("-i", video, "-f", "lavfi", "-i", f"sine=d={length}", "-c:v", "copy", "-c:a", "aac", path)
        assert_whole(path, 30)


DECLARING = ["mp4 faststart", "mkv", "mkv cues first", "webm"]


def test_sound_may_go_on_after_the_last_change_of_a_screen(tmp_path: Path) -> None:
    path = tmp_path / "screen.mkv"  # libavformat gives its video the length of the file
    picture = "testsrc2=s=32x32:r=10,trim=end_frame=6,settb=1/1000,setpts=N*100+10000*gt(N\\,3)"
    sources = ("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=d=13:r=8000")
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-c:a", "libopus")
    ffmpeg(*sources, "-vsync", "passthrough", "-enc_time_base", "1/1000", *codecs, path)
    assert_whole(path, 6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(DECLARING), sound=st.booleans(), share=st.floats(0.05, 0.97))
def test_a_cut_in_the_media_data_is_found_before_any_work(
    name: str, sound: bool, share: float, whole: Callable[..., Path], tmp_path: Path
) -> None:
    path = whole(name, sound, 60)
    data = path.read_bytes()
    start = 0
    if path.suffix == ".mp4":
        start = next(offset + 16 for kind, offset, _ in top_level_boxes(path) if kind in ("mdat", "moof"))
    else:
        start = data.index(b"\x1f\x43\xb6\x75") + 12  # the first cluster
    cut = tmp_path / f"cut{path.suffix}"
    cut.write_bytes(data[: start + int((len(data) - start) * share)])
    if not (path.suffix == ".mp4" and _at_a_box_border(cut)):
        assert cut_off_by_structure(cut) is not None
    with pytest.raises((TruncatedInputError, NotMediaError)):
        read_all(cut)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.6, 0.95])
def test_a_cut_in_the_index_is_called_so_whatever_still_can_be_read(
    share: float, whole: Callable[..., Path], tmp_path: Path
) -> None:
    data = whole("mp4", True, 60).read_bytes()
    start = data.rindex(b"moov") + 4
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: start + int((len(data) - start) * share)])
    with pytest.raises((TruncatedInputError, NotMediaError), match=r"was cut off: .*moov.* should end at byte"):
        read_all(cut)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["ts", "m2ts"]), share=st.floats(0.1, 0.95), rest=st.integers(1, 187))
def test_a_transport_stream_cut_inside_a_packet_is_found(
    name: str, share: float, rest: int, whole: Callable[..., Path], tmp_path: Path
) -> None:
    path = whole(name, False, 60)
    data = path.read_bytes()
    length = 192 if name == "m2ts" else 188
    cut = tmp_path / f"cut{path.suffix}"
    cut.write_bytes(data[: int(len(data) * share) // length * length + rest])
    assert cut_off_by_structure(cut) == f"it ends {rest} bytes into a packet of {length}"


def _at_a_box_border(path: Path) -> bool:
    return sum(size for _, _, size in top_level_boxes(path)) == path.stat().st_size


def read_all(path: Path) -> None:
    source = Source(path)
    try:
        for _ in source.frames():
            pass
    finally:
        source.close()


@pytest.mark.parametrize("name", ["mp4 faststart", "mkv", "webm"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_keeping_a_cut_file_tells_what_is_missing(
    name: str, share: float, whole: Callable[..., Path], tmp_path: Path
) -> None:
    path = whole(name, False, 60)
    data = path.read_bytes()
    cut = tmp_path / f"cut{path.suffix}"
    cut.write_bytes(data[: int(len(data) * share)])
    notes: list[str] = []
    source = Source(cut, on_truncated="keep", note=notes.append)
    try:
        frames = list(source.frames())
    finally:
        source.close()
    assert 1 <= len(frames) < 60
    assert len(notes) == 1
    assert "was cut off" in notes[0]
    lost = 2.4 - float((frames[-1].pts + 1) * source.info.time_base)
    assert source.report.missing_s is not None
    if source.report.missing_s == source.report.missing_s:  # not NaN
        assert source.report.missing_s == pytest.approx(lost, abs=0.1)


def test_missing_seconds_are_tolerant_of_roundings() -> None:
    path = Path("unused")
    frame = Fraction(1, 25)
    near = Fraction(10) - Fraction(19, 100)
    assert missing_seconds(path, near, Fraction(10), frame, of_stream=True) is None
    assert missing_seconds(path, Fraction(8), Fraction(10), frame, of_stream=True) == 2
    assert missing_seconds(path, Fraction(12), Fraction(10), frame, of_stream=True) is None
    assert missing_seconds(path, Fraction(1), None, frame, of_stream=True) is None
    assert missing_seconds(path, Fraction(8), Fraction(10), Fraction(1), of_stream=True) is None  # 1 frame a second


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_a_file_that_is_still_being_written_is_told(suffix: str, tmp_path: Path) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"in{suffix}"
    make_clip(whole, frames=8, container_options={"live": "1"} if suffix == ".mkv" else None)
    data = whole.read_bytes()
    for on_truncated in ("fail", "keep"):
        path.write_bytes(data)
        notes: list[str] = []
        source = Source(path, on_truncated=on_truncated, note=notes.append)  # type: ignore[arg-type]
        frames = source.frames()
        next(frames)
        with path.open("ab") as file:
            file.write(data[-376:])
        words = f"from {len(data)} to {len(data) + 376} bytes while it was read, so it is still being written"
        if on_truncated == "fail":
            with pytest.raises(TruncatedInputError, match=words):
                list(frames)
        else:
            assert len(list(frames)) == 7
            assert any(words in note for note in notes)
        source.close()


def test_a_file_that_is_deleted_while_it_is_read_is_no_obstacle(tmp_path: Path) -> None:
    source = Source(make_clip(tmp_path / "in.ts", frames=8))
    (tmp_path / "in.ts").unlink()
    assert len(list(source.frames())) == 8
    source.close()
