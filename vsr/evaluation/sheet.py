"""Picture sheets: for each picture the same detail of the original and of what each model made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from vsr.frame import Plane

SIDE: Final = 80  # of the detail, in samples
ZOOM: Final = 2
GAP: Final = 6
LINE: Final = 15  # height of a line of text
TEXT: Final = 12


@dataclass(frozen=True, eq=False)
class Cell:
    """A detail, uint8 [h, w], and the line of text beneath it."""

    detail: npt.NDArray[np.uint8]
    caption: str


@dataclass(frozen=True)
class Row:
    """One picture: the original first, then what each model made of it."""

    name: str
    cells: tuple[Cell, ...]


def busiest_window(luma: Plane, border: int) -> tuple[slice, slice]:
    """Where the detail of `SIDE` samples with the steepest edges lies, `border` samples away from the rim."""
    inner = luma[border : luma.shape[0] - border, border : luma.shape[1] - border].astype(np.float64)
    edges = np.abs(np.diff(inner, axis=0))[:, :-1] + np.abs(np.diff(inner, axis=1))[:-1]
    height, width = (min(SIDE, n) for n in edges.shape)
    sums = np.pad(edges, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    windows = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = (int(i) for i in np.unravel_index(int(windows.argmax()), windows.shape))
    return slice(border + top, border + top + height), slice(border + left, border + left + width)


def to_display(luma: Plane, bits: int) -> npt.NDArray[np.uint8]:
    """Studio-range luma as full-range grey of 8 bits."""
    level = luma.astype(np.float64) / (1 << (bits - 8))
    return np.asarray(np.clip(np.rint((level - 16) * (255 / 219)), 0, 255).astype(np.uint8))


def draw_sheet(rows: list[Row], labels: list[str], path: Path) -> None:
    """Write the sheet as a PNG of grey: one row a picture, `labels` above the columns."""
    from PIL import Image, ImageDraw, ImageFont

    cell = SIDE * ZOOM
    size = (GAP + len(labels) * (cell + GAP), LINE + GAP + len(rows) * (cell + 2 * LINE))
    sheet = Image.new("L", size, 255)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(TEXT)
    for column, label in enumerate(labels):
        draw.text((GAP + column * (cell + GAP), GAP // 2), label, fill=0, font=font)
    for number, row in enumerate(rows):
        top = LINE + GAP + number * (cell + 2 * LINE)
        for column, one in enumerate(row.cells):
            left = GAP + column * (cell + GAP)
            detail = Image.fromarray(one.detail)
            sheet.paste(
                detail.resize((detail.width * ZOOM, detail.height * ZOOM), Image.Resampling.NEAREST), (left, top)
            )
            draw.text((left, top + cell + 1), one.caption, fill=0, font=font)
    sheet.save(path, format="PNG", optimize=True)
