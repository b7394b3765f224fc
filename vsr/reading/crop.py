"""What a file's header asks to be cut off the edges of its pictures, and cutting it off.

libavformat reads that into side data of the stream that PyAV does not show, so the header is looked at here. (What
H.264 and HEVC say of their own pictures, their conformance window, is cut off by the decoder.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vsr import ebml
from vsr.boxes import boxes, index_of, is_mp4
from vsr.frame import PixelFormat, Planes, VideoInfo

PIXEL_CROP: Final = (0x54CC, 0x54BB, 0x54DD, 0x54AA)  # RFC 9559: PixelCropLeft, Top, Right, Bottom
LARGEST_HEADER: Final = 1 << 22  # bytes
ON_THE_WAY: Final = ("mdia", "minf", "stbl", "stsd")
DESCRIPTIONS_HEAD: Final = 8  # version, flags and count, before the sample entries of stsd
SIZE_AT: Final = 24  # width and height in a visual sample entry
ENTRY_HEAD: Final = 78  # before the boxes in a visual sample entry


@dataclass(frozen=True)
class Crop:
    """How many samples are cut off each edge of a picture."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __bool__(self) -> bool:
        return self != NO_CROP

    def __str__(self) -> str:
        return f"{self.left} at the left, {self.top} at the top, {self.right} at the right, {self.bottom} at the bottom"

    def size_of(self, info: VideoInfo) -> tuple[int, int]:
        """Width and height of what is left of a picture."""
        return info.width - self.left - self.right, info.height - self.top - self.bottom

    def on_grid(self, fmt: PixelFormat, *, fields: bool) -> Crop:
        """The largest crop within this one that moves no sample against another of its picture.

        What is left has to begin with a chroma sample, and in an interlaced picture with the first line of both fields,
        in luma and chroma, and end with a line of both.
        """
        across, down = 1 << fmt.log2_w, (2 if fields else 1) << fmt.log2_h
        bottom = self.bottom // down * down if fields else self.bottom
        return Crop(self.left // across * across, self.top // down * down, self.right, bottom)


NO_CROP: Final = Crop()


def find_crop(path: Path, index: int, info: VideoInfo, *, fields: bool, note: Callable[[str], None]) -> Crop:
    """What is to be cut off the pictures of a stream.

    Args:
        path: of the file.
        index: of the stream.
        info: of its pictures as they are coded.
        fields: whether some of them may be interlaced.
        note: called with one line if there is something to cut.
    """
    asked = asked_crop(path, index)
    if not asked:
        return NO_CROP
    if min(asked.size_of(info)) < 1:
        note(f"{path} asks to cut more samples ({asked}) off its {info.width}x{info.height} pictures than there are")
        return NO_CROP
    crop = asked.on_grid(info.format, fields=fields)
    text = f"samples are cut off the {info.width}x{info.height} pictures, as {path} asks: {asked}"
    if crop != asked:
        text += f"; but to keep {'fields and chroma' if fields else 'chroma'} in place, it is {crop}"
    note(text)
    return crop


def cut(planes: Planes, crop: Crop) -> Planes:
    """Views of what `crop`, which lies on the grid of the samples, leaves of `planes`."""
    if not crop:
        return planes
    fmt = planes.format
    width, height = planes.width - crop.left - crop.right, planes.height - crop.top - crop.bottom
    arrays = []
    for name, array in zip(fmt.plane_names, planes.arrays, strict=True):
        chroma = name in ("u", "v")
        left, top = (crop.left >> fmt.log2_w, crop.top >> fmt.log2_h) if chroma else (crop.left, crop.top)
        across, down = fmt.plane_size(name, width, height)
        arrays.append(array[top : top + down, left : left + across])
    return Planes(tuple(arrays), fmt, width, height)


def asked_crop(path: Path, index: int) -> Crop:
    """What the header of `path` asks to be cut off a stream's pictures; nothing if it cannot be read.

    Matroska's PixelCrop elements (RFC 9559), and MP4's and QuickTime's clean aperture (`clap`, ISO/IEC 14496-12).

    Args:
        path: of the file.
        index: of the stream.
    """
    try:
        if is_mp4(path):
            return _in_mp4(path, index)
        with path.open("rb") as file:
            head = file.read(LARGEST_HEADER) if file.read(4) == ebml.MAGIC else b""
        return _in_matroska(ebml.MAGIC + head, index) if head else NO_CROP
    except (ValueError, struct.error, ArithmeticError):
        return NO_CROP  # what cannot be read here may be readable for libavformat, and is no reason to stop


def _in_matroska(head: bytes, index: int) -> Crop:
    found = ebml.tracks(head)
    if found is None:
        return NO_CROP
    entries = [content for name, content, _ in ebml.elements(head[slice(*found)]) if name == ebml.TRACK_ENTRY]
    for name, content, _ in ebml.elements(entries[index] if index < len(entries) else b""):
        if name == ebml.VIDEO:
            values = {name: int.from_bytes(value) for name, value, _ in ebml.elements(content)}
            return Crop(*(values.get(name, 0) for name in PIXEL_CROP))
    return NO_CROP


def _in_mp4(path: Path, index: int) -> Crop:
    tracks = [content for name, content in boxes(index_of(path)) if name == "trak"]
    return _of_track(tracks[index]) if index < len(tracks) else NO_CROP


def _of_track(content: bytes) -> Crop:
    for step in ON_THE_WAY:
        content = next((inner for name, inner in boxes(content) if name == step), b"")
    entry = next((inner for _, inner in boxes(content[DESCRIPTIONS_HEAD:])), b"")
    for name, inner in boxes(entry[ENTRY_HEAD:]):
        if name == "clap":
            whole = struct.unpack_from(">2H", entry, SIZE_AT)
            numbers = struct.unpack(">4I", inner[:16]) + struct.unpack(">iIiI", inner[16:32])
            width, height, right, down = (a / b for a, b in zip(numbers[::2], numbers[1::2], strict=True))
            across, along = whole[0] - width, whole[1] - height  # what is cut of both edges together
            edges = (across / 2 + right, along / 2 + down, across / 2 - right, along / 2 - down)
            return Crop(*(max(0, round(edge)) for edge in edges))
    return NO_CROP
