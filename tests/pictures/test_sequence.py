"""Names of image sequences, and frame rates."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsr.errors import ContainerError, MissingInputError, OptionError, TruncatedInputError, UnsupportedInputError
from vsr.pictures.sequence import Pattern, find_sequence, is_sequence, natural_order, parse_rate


@pytest.mark.parametrize(
    ("text", "number", "name"),
    [
        ("a_%05d.png", 7, "a_00007.png"),
        ("a_%05d.png", 1234567, "a_1234567.png"),
        ("%d.png", 7, "7.png"),
        ("x/100%%_%03d%%.tif", 0, "x/100%_000%.tif"),
    ],
)
def test_patterns_make_names(text: str, number: int, name: str) -> None:
    pattern = Pattern.parse(Path(text))
    assert pattern is not None
    assert pattern.path(number) == Path(name)


@pytest.mark.parametrize("text", ["a.png", "100%.png", "%%d.png", "%s.png", "%5d.png", "-", "a/b"])
def test_other_names_are_no_patterns(text: str) -> None:
    assert Pattern.parse(Path(text)) is None


@pytest.mark.parametrize("text", ["%d_%d.png", "%02d/a.png", "shot%d/%d.png"])
def test_two_numbers_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="more than one number"):
        Pattern.parse(Path(text))


@given(
    digits=st.integers(1, 6),
    number=st.integers(0, 10**7),
    before=st.text("ab_%0123456789", max_size=4),
    after=st.text("xy%", max_size=3),
)
def test_a_number_is_found_again_in_the_name_it_made(digits: int, number: int, before: str, after: str) -> None:
    place = "%d" if digits == 1 else f"%0{digits}d"
    text = f"{before.replace('%', '%%')}{place}{after.replace('%', '%%')}.png"
    pattern = Pattern.parse(Path("folder") / text)
    assert pattern is not None
    assert pattern.path(number).name == f"{before}{number:0{digits}d}{after}.png"


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"x")


def test_the_first_number_is_found_and_other_files_are_left_alone(tmp_path: Path) -> None:
    put(tmp_path, "a_0098.png", "a_0099.png", "a_0100.png", "a_99.png", "a_00099.png", "b_0097.png", "a_0101.png.bak")
    found = find_sequence(tmp_path / "a_%04d.png")
    assert found.numbers == (98, 99, 100)
    assert [p.name for p in found.paths] == ["a_0098.png", "a_0099.png", "a_0100.png"]
    assert find_sequence(tmp_path / "a_%d.png").numbers == (99,)


def test_missing_numbers_are_named(tmp_path: Path) -> None:
    put(tmp_path, *(f"{n}.png" for n in (3, 4, 7, 8, 12)))
    with pytest.raises(TruncatedInputError, match=r"from 3 to 12, and 5 .* missing: 5, 6, 9, ….*--on-truncated keep"):
        find_sequence(tmp_path / "%d.png")
    kept = find_sequence(tmp_path / "%d.png", gaps=True)
    assert kept.numbers == (3, 4, 7, 8, 12)
    assert kept.missing_count == 5


def test_globs_are_ordered_by_their_numbers(tmp_path: Path) -> None:
    put(tmp_path, "f1.png", "f10.png", "f9.png", "g2.png")
    (tmp_path / "f3.png").mkdir()
    found = find_sequence(tmp_path / "f*.png")
    assert [p.name for p in found.paths] == ["f1.png", "f9.png", "f10.png"]
    assert found.numbers == (1, 2, 3)


def test_the_name_of_a_file_that_exists_is_that_file(tmp_path: Path) -> None:
    put(tmp_path, "a%d.png", "b[1].mp4")
    assert not is_sequence(tmp_path / "a%d.png")
    assert not is_sequence(tmp_path / "b[1].mp4")
    assert not is_sequence(tmp_path / "gone.mp4")
    assert is_sequence(tmp_path / "c%d.png")
    assert is_sequence(tmp_path / "*.png")


def test_what_is_no_sequence_of_pictures_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "1.mp4", "1.heic")
    for text in ("%d.png", "*.png", "gone/%d.png"):
        with pytest.raises(MissingInputError, match="no file is called like"):
            find_sequence(tmp_path / text)
    with pytest.raises(ContainerError, match=r"1\.mp4 is not called like a picture"):
        find_sequence(tmp_path / "%d.mp4")
    with pytest.raises(UnsupportedInputError, match="HEIC"):
        find_sequence(tmp_path / "%d.heic")


def test_natural_order() -> None:
    names = ["a10b2", "a2b10", "a2b9", "b1", "a"]
    assert sorted(names, key=lambda n: natural_order(Path(n))) == ["a", "a2b9", "a2b10", "a10b2", "b1"]


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("24", Fraction(24)),
        (25, Fraction(25)),
        ("30000/1001", Fraction(30000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("0.1", Fraction(1, 10)),
    ],
)
def test_rates(text: str | float, rate: Fraction) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["0", "-1", "1001", "fast", "1/0", "nan", ""])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="fps"):
        parse_rate(text)
