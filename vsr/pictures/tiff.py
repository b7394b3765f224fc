"""Writing TIFF 6.0: 8 and 16 bits a channel, deflated with horizontal differencing, EXIF data in its own directory.

Pillow's writer has no 16-bit colour, and with compression it loses the EXIF and GPS directories.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vsr.errors import OutputError

STRIP_BYTES: Final = 1 << 20  # of samples compressed at once
LARGEST: Final = (1 << 32) - (1 << 24)  # bytes: offsets have 32 bits; some room for what comes along


def write_tiff(array: npt.NDArray[Any], path: Path, tags: dict[int, Any], types: dict[int, int]) -> None:
    """Write [H, W], [H, W, 3] or [H, W, 4] of uint8 or uint16 as TIFF, deflated.

    Args:
        array: the samples.
        path: of the file.
        tags: what comes along with the picture; dictionaries are directories of their own, such as EXIF data.
        types: TIFF types of those tags that Pillow does not know.

    Raises:
        OutputError: it would need more than the 4 GiB that a TIFF file can be.
    """
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    rows = array.reshape(array.shape[0], array.shape[1], -1)
    height, width, channels = rows.shape
    little = rows.dtype.newbyteorder("<")
    per_strip = max(1, STRIP_BYTES // (width * channels * rows.itemsize))
    strips: list[bytes] = []
    for start in range(0, height, per_strip):
        strip = rows[start : start + per_strip].astype(little)
        strip[:, 1:] -= strip[:, :-1].copy()  # horizontal differencing, modulo 2^bits (TIFF 6.0 section 14)
        strips.append(zlib.compress(strip.tobytes()))
    lengths = [len(s) for s in strips]
    if sum(lengths) > LARGEST:
        raise OutputError(f"{path.name} would be larger than the 4 GiB that TIFF can be", "write .png")
    directory = ImageFileDirectory_v2(prefix=b"II")
    for tag, value in tags.items():
        if tag in types:
            directory.tagtype[tag] = types[tag]
        directory[tag] = value
    layout: dict[int, Any] = {
        256: width,
        257: height,
        258: (8 * rows.itemsize,) * channels,
        259: 8,  # deflate as Adobe has it
        262: 1 if channels == 1 else 2,  # black is zero, or RGB
        273: tuple(int(n) for n in np.cumsum([0, *lengths[:-1]])),  # from the end of the directory, as Pillow counts
        277: channels,
        278: per_strip,
        279: tuple(lengths),
        284: 1,
        317: 2,  # predictor
    }
    if channels == 4:
        layout[338] = 2  # unassociated alpha
    for tag in (273, 279):
        directory.tagtype[tag] = 4  # LONG
    for tag, value in layout.items():
        directory[tag] = value
    with path.open("wb") as file:
        directory.save(file)
        file.writelines(strips)
