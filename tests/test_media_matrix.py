"""The fast tier of the media matrix; `scripts/media-matrix` runs all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.matrix_cell import Cell
from tests.matrix_cells import all_cells
from tests.matrix_run import run_cell

CELLS = all_cells()
FAST = [cell for cell in CELLS if cell.fast]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matrix")


@pytest.mark.parametrize("cell", FAST, ids=[cell.name for cell in FAST])
def test_cell(cell: Cell, folder: Path) -> None:
    outcome = run_cell(cell, folder)
    assert outcome.result == ("refused" if cell.refusal else "pass"), outcome.detail


def test_cells_are_many_and_have_names_of_their_own() -> None:
    assert len(CELLS) >= 150
    assert len({cell.name for cell in CELLS}) == len(CELLS)
    sources = {cell.source for cell in CELLS}
    assert len({source.name for source in sources}) == len(sources)
