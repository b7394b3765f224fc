"""The encoder plan: what it picks really encodes, what it refuses it refuses with a way out."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from vsr.errors import EncoderError, OptionError
from vsr.frame import PIXEL_FORMATS
from vsr.writing import encoders
from vsr.writing.containers import CONTAINERS, MATROSKA, MOV, MP4, TS, WEBM, Container
from vsr.writing.encoder_options import EncoderRequest
from vsr.writing.encoders import ENCODERS, EncoderPlan, library_formats, plan_encoder

F = PIXEL_FORMATS
ROOT = Path(__file__).resolve().parents[2]
SOFTWARE = [name for name, encoder in ENCODERS.items() if encoder.hardware is None]
TINY = [(1, 1), (2, 2), (1, 2), (3, 3), (4, 4), (5, 7), (4, 11), (7, 12), (6, 6), (8, 8)]
SMALL = [(16, 16), (15, 16), (17, 13), (34, 26), (51, 39), (64, 64), (65, 64), (64, 63), (68, 66), (130, 70)]


def plan(container: Container, name: str, size: tuple[int, int] = (64, 64), **options: object) -> EncoderPlan:
    return plan_encoder(container, F[name], *size, EncoderRequest(**options))  # type: ignore[arg-type]


# -- the plan's promise -----------------------------------------------------------------------------------------------


def encode_all(cases: list[list[object]]) -> list[tuple[list[object], str]]:
    """What became of each case; the process that encodes may crash without taking the tests along."""
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    done = subprocess.run(
        [sys.executable, "-m", "tests.encode_worker"],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=250,
    )
    answers = [line for line in done.stdout.splitlines() if line != "start"]
    crashed = (
        [(cases[len(answers)], f"crashed with {done.returncode}: {done.stderr[-300:]}")] if done.returncode else []
    )
    return [*zip(cases, answers, strict=False), *crashed]


def spread(sizes: list[tuple[int, int]], every: int) -> list[list[object]]:
    """One in `every` of all combinations, the same ones in every run."""
    cases: list[list[object]] = [
        [suffix, encoder, name, *size, None, 5]
        for suffix in (".mp4", ".mov", ".mkv", ".webm", ".ts")
        for encoder in ("auto", *SOFTWARE)
        for name in F
        for size in sizes
        if suffix != ".ts" or min(size) >= 16  # smaller ones are too short for anyone to recognise
    ]
    return [case for case in cases if zlib.crc32(json.dumps(case).encode()) % every == 0]


@pytest.mark.parametrize("sizes", [TINY, SMALL], ids=["tiny", "small"])
def test_what_is_planned_really_encodes(sizes: list[tuple[int, int]]) -> None:
    outcomes = encode_all(spread(sizes, 60))
    assert len(outcomes) > 150
    assert [o for o in outcomes if o[1].startswith(("failed", "crashed"))] == []
    assert sum(not o[1].startswith("refused") for o in outcomes) > 40


def test_combinations_that_once_failed_encode_or_are_refused() -> None:
    cases: list[list[object]] = [
        [".mkv", "x265", "yuv420p", 34, 26, None, 3],
        [".mkv", "x264", "yuv420p", 51, 39, None, 3],
        *([".mkv", "svtav1", "yuv420p", *size, None, 6] for size in ((4, 4), (4, 5), (5, 4))),
        *([".mp4", encoder, "yuv440p", 64, 64, None, 3] for encoder in ("auto", "vp9")),
    ]
    for name in ("yuv420p", "yuv411p", "yuv410p", "yuva420p"):
        cases += [[".mkv", "ffv1", name, *size, None, 2] for size in ((5, 7), (4, 7), (4, 11), (7, 11))]
    for name in ("yuv420p", "yuv420p10le", "gray"):  # fewer frames than x265 delays
        cases += [[".mp4", "x265", name, 64, 64, None, frames] for frames in (1, 2)]
    assert [o for o in encode_all(cases) if o[1].startswith(("failed", "crashed"))] == []


def test_auto_finds_an_encoder_for_every_format_and_size_in_matroska() -> None:
    """Matroska takes FFV1 too: nothing need be refused but what no encoder here holds."""
    for name in F:
        for size in ((64, 64), (51, 39), (640, 480)):
            assert plan(MATROSKA, name, size).pix_fmt


# -- what is picked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "name", "size", "encoder", "pix_fmt"),
    [
        (MP4, "yuv420p", (64, 64), "x264", "yuv420p"),
        (MATROSKA, "yuv420p", (64, 64), "x264", "yuv420p"),
        (WEBM, "yuv420p", (64, 64), "vp9", "yuv420p"),
        (TS, "yuv420p", (64, 64), "x264", "yuv420p"),
        (MP4, "yuv422p", (64, 64), "x264", "yuv422p"),
        (MP4, "yuv420p10le", (64, 64), "x265", "yuv420p10le"),
        (MOV, "yuv420p10le", (64, 64), "x265", "yuv420p10le"),
        (MP4, "yuv420p12le", (64, 64), "x265", "yuv420p12le"),
        (MATROSKA, "yuva420p", (64, 64), "ffv1", "yuva420p"),
        (MATROSKA, "yuv444p16le", (64, 64), "ffv1", "yuv444p16le"),
        (MATROSKA, "gbrp", (64, 64), "x264rgb", "bgr24"),
        (MP4, "gray", (64, 64), "x264", "gray"),
    ],
)
def test_the_format_is_kept_where_an_encoder_holds_it(
    container: Container, name: str, size: tuple[int, int], encoder: str, pix_fmt: str
) -> None:
    chosen = plan(container, name, size)
    assert chosen.encoder.name == encoder
    assert chosen.pix_fmt == pix_fmt or {chosen.pix_fmt, pix_fmt} <= {"bgr24", "bgr0"}


def test_an_encoder_asked_for_gets_chroma_that_holds_an_odd_size_and_the_note_says_so() -> None:
    chosen = plan(MP4, "yuv420p", (51, 39), encoder="x264")
    assert chosen.pix_fmt == "yuv444p"
    assert any("chroma of yuv420p is stored as yuv444p" in note for note in chosen.notes)
    with pytest.raises(EncoderError, match="even sizes in yuv420p, and the output is 51x39") as caught:
        plan(MP4, "yuv420p", (51, 39), encoder="x264", pix_fmt="yuv420p")
    assert "vp9" in str(caught.value.hint)


@pytest.mark.parametrize("container", [MP4, MATROSKA])
def test_an_odd_size_goes_to_an_encoder_that_holds_it_and_the_note_says_why(container: Container) -> None:
    chosen = plan(container, "yuv420p", (51, 39))
    assert chosen.encoder.name in ("vp9", "svtav1")
    assert chosen.pix_fmt == "yuv420p"
    assert any("even sizes" in note and "51x39" in note for note in chosen.notes)


def test_nothing_is_noted_where_everything_is_as_expected() -> None:
    assert plan(MP4, "yuv420p").notes == ()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("yuva420p", {"encoder": "x264"}, "alpha"),
        ("yuv420p16le", {"encoder": "x265"}, "16 to"),
        ("yuv444p", {"pix_fmt": "yuv420p"}, "chroma of yuv444p"),
        ("gbrp", {}, "RGB"),
    ],
)
def test_losses_are_noted(name: str, options: dict[str, str], words: str) -> None:
    assert any(words in note for note in plan(MP4, name, **options).notes)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ["nonesuch", "libx266", ""])
def test_unknown_encoders_are_refused_with_those_there_are(encoder: str) -> None:
    with pytest.raises(EncoderError, match=r"there are auto, x264, .*ffv1"):
        plan(MP4, "yuv420p", encoder=encoder)


@pytest.mark.parametrize(
    ("container", "name", "size", "encoder", "words", "alternative"),
    [
        (MP4, "yuv420p", (32, 32), "x265", "from 64x64", "x264"),
        (MP4, "yuv420p", (64, 64), "ffv1", "MP4", "x264"),
        (WEBM, "yuv420p", (64, 64), "x264", "WebM", "vp9"),
        (TS, "yuv420p", (64, 64), "svtav1", "MPEG-TS", "x264"),
        (MP4, "yuv420p", (20000, 64), "x264", "up to 16384x16384", "vp9"),
        (MP4, "yuv420p", (1, 1), "x264", "from 2x2", "vp9"),
    ],
)
def test_a_refusal_names_the_limit_and_those_that_can(
    container: Container, name: str, size: tuple[int, int], encoder: str, words: str, alternative: str
) -> None:
    with pytest.raises(EncoderError) as caught:
        plan(container, name, size, encoder=encoder)
    assert words in caught.value.message
    assert caught.value.hint is not None
    assert alternative in caught.value.hint
    named = caught.value.hint.replace("--encoder", "").replace("can", "").split(" or ")
    for other in named:  # what is offered works
        if other.strip() in ENCODERS:
            assert plan(container, name, size, encoder=other.strip()).encoder.name == other.strip()


def test_a_pixel_format_that_the_encoder_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(EncoderError, match=r"svtav1 does not take yuv444p; it takes .*yuv420p"):
        plan(MP4, "yuv420p", encoder="svtav1", pix_fmt="yuv444p")


@pytest.mark.parametrize("pix_fmt", ["nonsense", "yuv420", "gbrpf32le", "pal8"])
def test_an_unknown_pixel_format_is_refused(pix_fmt: str) -> None:
    with pytest.raises((EncoderError, OptionError), match=pix_fmt):
        plan(MP4, "yuv420p", pix_fmt=pix_fmt)


def test_an_encoder_missing_from_this_build_is_refused_by_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    real = library_formats
    monkeypatch.setattr(encoders, "library_formats", lambda e: None if e.name == "x264" else real(e))
    with pytest.raises(EncoderError, match=r"x264 is not in this build of FFmpeg \(libx264\)"):
        plan(MP4, "yuv420p", encoder="x264")
    automatic = plan(MP4, "yuv420p")
    assert automatic.encoder.name != "x264"
    assert any("libx264" in note for note in automatic.notes)


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in SOFTWARE if ENCODERS[n].crf])
def test_crf_is_checked_against_the_encoders_own_range(name: str) -> None:
    encoder = ENCODERS[name]
    assert encoder.crf is not None
    low, high, default = encoder.crf
    container, source = MATROSKA, "gbrp" if name == "x264rgb" else "yuv420p"
    assert plan(container, source, encoder=name).options["crf"] == f"{default:g}"
    for value in (low, high, 23.5):
        assert plan(container, source, encoder=name, crf=value).options["crf"] == f"{value:g}"
    for value in (low - 1, high + 0.5, float("nan")):
        with pytest.raises(OptionError, match=rf"encoder {name} takes {low:g} to {high:g}"):
            plan(container, source, encoder=name, crf=value)


@pytest.mark.parametrize(("name", "why"), [("ffv1", "lossless"), ("prores", "quality for each preset")])
def test_encoders_without_a_crf_say_why(name: str, why: str) -> None:
    with pytest.raises(OptionError, match=f"{why} and takes no --crf"):
        plan(MATROSKA, "yuv420p", encoder=name, crf=20)


@pytest.mark.parametrize("name", SOFTWARE)
def test_presets_are_the_encoders_own(name: str) -> None:
    encoder, source = ENCODERS[name], "gbrp" if name == "x264rgb" else "yuv420p"
    for preset in encoder.presets:
        assert plan(MATROSKA, source, encoder=name, preset=preset).options[encoder.preset_option] == preset
    with pytest.raises(OptionError, match=rf"'warp'; encoder {name} has"):
        plan(MATROSKA, source, encoder=name, preset="warp")


def test_encoders_are_called_by_their_librarys_name_too() -> None:
    for name in SOFTWARE:
        source = "gbrp" if name == "x264rgb" else "yuv420p"
        assert plan(MATROSKA, source, encoder=ENCODERS[name].library).encoder is ENCODERS[name]


def test_every_container_has_an_encoder_for_the_most_common_video() -> None:
    for container in set(CONTAINERS.values()):
        assert plan(container, "yuv420p", (1440, 810)).notes == ()
