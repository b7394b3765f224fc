"""Text in lines of a given width."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vsr.layout import paragraph, table

WORDS = st.lists(st.text("abc-/–", min_size=1, max_size=30), max_size=30)


@given(WORDS, st.integers(20, 100), st.integers(0, 60))
def test_a_paragraph_keeps_every_word_and_the_width(words: list[str], width: int, indent: int) -> None:
    lines = paragraph(" ".join(words), width, indent).split("\n")
    assert " ".join(lines).split() == words
    for line in lines:
        assert len(line) <= width or len(line.split()) == 1, "only a word that is too long sticks out"


def test_a_paragraph_is_one_line_where_nothing_limits_it() -> None:
    text = "ok      name  " + "word " * 100
    assert paragraph(text, None, 8) == text


def test_the_lines_of_a_paragraph_hang_below_its_first_column() -> None:
    assert paragraph("same    pts  all of 96 are equal", 24, 13) == "same    pts  all of 96\n" + " " * 4 + "are equal"
    assert paragraph("same    pts  all of 96 are equal", 26, 13) == "same    pts  all of 96 are\n" + " " * 13 + "equal"


CELLS = st.text("0123456789.–", min_size=1, max_size=8)


@given(st.lists(st.lists(CELLS, min_size=4, max_size=4), min_size=1, max_size=5), st.integers(20, 60))
def test_a_table_keeps_every_cell_and_the_width(rows: list[list[str]], width: int) -> None:
    text = table(["", "fps", "wall s", "MiB"], rows, width)
    assert all(len(line) <= width for line in text.split("\n"))
    assert sorted(c for row in rows for c in row) == sorted(
        word.rstrip(",") for word in text.split() if word.rstrip(",") not in ("fps", "wall", "s", "MiB")
    )


def test_a_table_comes_closer_and_becomes_a_list_as_the_width_shrinks() -> None:
    heads, rows = ["", "fps", "CPU ms"], [["decode", "6895.2", "0.15"], ["job", "93.5", "6.51"]]
    wide = "           fps  CPU ms\ndecode  6895.2    0.15\njob       93.5    6.51"
    assert table(heads, rows, None) == table(heads, rows, 22) == wide
    assert table(heads, rows, 20) == "          fps CPU ms\ndecode 6895.2   0.15\njob      93.5   6.51"
    long = [["decode and more", *rows[0][1:]]]
    assert table(heads, long, 24) == "decode and more\n    fps 6895.2, CPU ms\n    0.15"
