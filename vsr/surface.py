"""Surfaces: pictures in a device's memory, as the decoders and encoders of GPUs hold them.

A surface is 4:2:0 in two planes: luma [h, w], and Cb and Cr side by side [h/2, w/2, 2], of bytes (NV12) or of 16-bit
words with the sample in the upper bits (P010). It passes from one library to another as DLPack capsules, each of which
keeps the memory alive, and what reads it as ordinary planes gets a copy in host memory: so every stage takes such
pictures, and the copy is only spared by those that know surfaces.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from vsr.frame import PIXEL_FORMATS, PixelFormat, Plane, Planes

CPU: Final = 1  # device types of DLPack (dlpack.h, DLDeviceType)
CUDA: Final = 2
PITCH: Final = 256  # bytes to which rows of surfaces that are made here are padded, as FFmpeg's own are
Samples = npt.NDArray[Any]

# By FFmpeg's names: the planar format of the same samples, and how far these are shifted up
LAYOUTS: Final[dict[str, tuple[str, int]]] = {"nv12": ("yuv420p", 0), "p010le": ("yuv420p10le", 6)}


class Surface(Protocol):
    """One picture in a device's memory.

    Attributes:
        layout: a name in `LAYOUTS`.
        device: DLPack's type and number of the device.
    """

    layout: str
    device: tuple[int, int]

    def capsules(self) -> tuple[Any, Any]:
        """New DLPack capsules of luma [h, w] and chroma [h/2, w/2, 2]; the samples are there when this returns.

        Rows may be padded. The memory is kept, and not written to, while a capsule or what was made of it lives.
        """

    def download(self) -> tuple[Samples, Samples]:
        """Luma and chroma, of the same shapes, in host memory."""


class SurfacePlanes(Planes):
    """The planes of a surface. `arrays` is a copy in host memory, made when it is first asked for.

    Args:
        surface: the picture.
        width: of it in luma samples; even.
        height: likewise.

    Raises:
        ValueError: an odd size, which surfaces do not have.
    """

    surface: Surface

    def __init__(self, surface: Surface, width: int, height: int) -> None:
        if width % 2 or height % 2:
            raise ValueError(f"a surface of {width}x{height}; both must be even")
        fmt = PIXEL_FORMATS[LAYOUTS[surface.layout][0]]
        for name, value in (("surface", surface), ("format", fmt), ("width", width), ("height", height)):
            object.__setattr__(self, name, value)

    @cached_property
    def arrays(self) -> tuple[Plane, ...]:
        """Luma, Cb and Cr."""
        return unpacked(*self.surface.download(), self.surface.layout)


def layout_of(fmt: PixelFormat) -> str | None:
    """The layout that holds the samples of `fmt`; None if there is none."""
    return next((layout for layout, (name, _) in LAYOUTS.items() if name == fmt.name), None)


def pitch_of(width: int, layout: str) -> int:
    """Bytes from row to row of a surface that is made here: luma, and below it chroma, in one piece of memory.

    NVENC takes an address and a pitch, and looks for chroma where luma ends.
    """
    itemsize = PIXEL_FORMATS[LAYOUTS[layout][0]].dtype.itemsize
    return -(-width * itemsize // PITCH) * PITCH


def unpacked(luma: Samples, chroma: Samples, layout: str) -> tuple[Plane, ...]:
    """Luma [h, w], Cb and Cr [h/2, w/2] of a layout's two planes; views where nothing is shifted."""
    shift = LAYOUTS[layout][1]
    planes = luma, chroma[:, :, 0], chroma[:, :, 1]
    if not shift:
        return planes
    return tuple(np.right_shift(plane, shift, dtype=np.uint16) for plane in planes)


def packed(arrays: tuple[Plane, ...], layout: str) -> tuple[Samples, Samples]:
    """The two planes of a layout, from luma, Cb and Cr."""
    shift = LAYOUTS[layout][1]
    luma, chroma = np.asarray(arrays[0]), np.stack(arrays[1:], axis=2)
    if not shift:
        return luma, chroma
    return np.left_shift(luma, shift, dtype=np.uint16), np.left_shift(chroma, shift, dtype=np.uint16)
