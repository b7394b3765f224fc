"""Which colour tags a coded stream can say.

ProRes (SMPTE RDD 36, frame header) knows few, and limited range only. Some of what it lacks is what it knows by another
code point (ITU-T H.273: transfers 6, 14 and 15 are functionally the same as 1, and matrix 5 as 6). All other encoders
here say everything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from vsr.frame import PIXEL_FORMATS, UNSPECIFIED, ColorSpec, Planes, Range

RGB: Final = 0  # of the matrix coefficients
BT709: Final = 1
GREY_AND_OPEN: Final = ("ffv1",)  # codecs that are decoded as grey of unspecified range if that is what they were given
PRORES_PRIMARIES: Final = frozenset({1, 2, 5, 6, 9, 11, 12})
PRORES_TRANSFERS: Final = frozenset({1, 2, 16, 18})
PRORES_MATRICES: Final = frozenset({1, 2, 6, 9})
SAME_TRANSFER: Final = {6: 1, 14: 1, 15: 1}
SAME_MATRIX: Final = {5: 6}


def said_color(color: ColorSpec, codec: str) -> ColorSpec:
    """`color` as a stream of `codec` says it; what it cannot say is unspecified, and full range becomes limited."""
    if codec != "prores":
        return color
    transfer = SAME_TRANSFER.get(color.transfer, color.transfer)
    matrix = SAME_MATRIX.get(color.matrix, color.matrix)
    return replace(
        color,
        primaries=color.primaries if color.primaries in PRORES_PRIMARIES else UNSPECIFIED,
        transfer=transfer if transfer in PRORES_TRANSFERS else UNSPECIFIED,
        matrix=matrix if matrix in PRORES_MATRICES else UNSPECIFIED,
        range=Range.LIMITED,
    )


def color_notes(color: ColorSpec, codec: str) -> list[str]:
    """What of `color` becomes something else in a stream of `codec`, one line each."""
    said = said_color(color, codec)
    lost = [
        f"{name} {getattr(color, name)} has no place in {codec} and is left unspecified"
        for name in ("primaries", "transfer", "matrix")
        if getattr(said, name) == UNSPECIFIED != getattr(color, name)
    ]
    if color.range is Range.FULL is not said.range:
        lost.append(f"{codec} has limited range only, and the full range is converted to it")
    return lost


def limited(planes: Planes, bits: int) -> Planes:
    """Full range samples as limited range ones (ITU-T H.273, 8.3), of `bits` bits if such planes exist.

    Args:
        planes: grey or YUV, 8 to 16 bits.
        bits: that are wanted; without a format for them, the planes keep their own.
    """
    old = planes.format
    kind = (old.family, old.log2_w, old.log2_h, old.alpha)
    formats = PIXEL_FORMATS.values()
    fmt = next((f for f in formats if (f.family, f.log2_w, f.log2_h, f.alpha) == kind and f.bits == bits), old)
    codes = np.arange(1 << old.bits)
    unit, highest = 1 << (fmt.bits - 8), codes[-1]
    luma = codes / highest * 219 * unit + 16 * unit
    chroma = (codes - (1 << (old.bits - 1))) / highest * 224 * unit + 128 * unit
    alpha = codes / highest * ((1 << fmt.bits) - 1)
    tables = {"y": luma, "u": chroma, "v": chroma, "a": alpha}
    exact = {name: np.rint(table).astype(fmt.dtype) for name, table in tables.items()}
    arrays = tuple(exact[name][array] for name, array in zip(old.plane_names, planes.arrays, strict=True))
    return Planes(arrays, fmt, planes.width, planes.height)
