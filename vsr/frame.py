"""What a picture is: its sample format, its colour description, its planes, and its place in time.

Everything here is frozen and checked where it is made, so that the stages of the pipeline need no checks of their own.
Code points are those of ITU-T H.273, which FFmpeg uses too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Family = Literal["gray", "yuv", "rgb"]


class Range(IntEnum):
    """Range of the code values (FFmpeg's AVColorRange)."""

    UNSPECIFIED = 0
    LIMITED = 1
    FULL = 2


class Siting(IntEnum):
    """Where a chroma sample sits among its luma samples (FFmpeg's AVChromaLocation)."""

    UNSPECIFIED = 0
    LEFT = 1
    CENTER = 2
    TOPLEFT = 3
    TOP = 4
    BOTTOMLEFT = 5
    BOTTOM = 6


class FieldOrder(Enum):
    """Whether a picture is one moment, or two: its even lines (the top field) and its odd lines (the bottom field)."""

    PROGRESSIVE = "progressive"
    TOP_FIRST = "top field first"
    BOTTOM_FIRST = "bottom field first"


UNSPECIFIED: Final = 2  # of matrix, primaries and transfer in H.273

# Kr, Kb of ITU-T H.273 table 4, by MatrixCoefficients.
LUMA_WEIGHTS: Final[dict[int, tuple[float, float]]] = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.470BG, BT.601 625 lines
    6: (0.299, 0.114),  # SMPTE 170M, BT.601 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020 non-constant luminance
}


@dataclass(frozen=True)
class ColorSpec:
    """Colour description of a stream, exactly as it is tagged: what is unspecified stays so on the way to the output.

    Attributes:
        matrix: MatrixCoefficients (H.273 table 4); 2 is unspecified, 0 is RGB.
        primaries: ColourPrimaries (H.273 table 2); 2 is unspecified.
        transfer: TransferCharacteristics (H.273 table 3); 2 is unspecified.
        range: limited (studio), full or unspecified.
        siting: chroma sample location.
    """

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    range: Range = Range.UNSPECIFIED
    siting: Siting = Siting.UNSPECIFIED

    def luma_weights(self) -> tuple[float, float]:
        """Kr and Kb for arithmetic; BT.601 where the matrix is unspecified or has no fixed weights."""
        return LUMA_WEIGHTS.get(self.matrix, LUMA_WEIGHTS[6])

    def rgb_to_ycc(self) -> npt.NDArray[np.float64]:
        """Matrix [3, 3] from R'G'B' in [0, 1] to Y' in [0, 1] and Cb, Cr in [−½, ½] (H.273, 8.3)."""
        kr, kb = self.luma_weights()
        kg = 1 - kr - kb
        return np.array(
            [
                [kr, kg, kb],
                [-kr / (2 * (1 - kb)), -kg / (2 * (1 - kb)), 0.5],
                [0.5, -kg / (2 * (1 - kr)), -kb / (2 * (1 - kr))],
            ]
        )

    def is_full_range(self) -> bool:
        """Whether code values span the full range; what is unspecified counts as limited."""
        return self.range is Range.FULL


@dataclass(frozen=True)
class PixelFormat:
    """A planar sample format that frames have between source and sink.

    Attributes:
        name: FFmpeg's name of it.
        family: `gray` (Y), `yuv` (Y, Cb, Cr) or `rgb` (planes G, B, R, in FFmpeg's order).
        bits: significant bits of a sample, in the low end of uint8 (8) or uint16 (9 to 16).
        log2_w: log2 of the horizontal chroma subsampling.
        log2_h: log2 of the vertical chroma subsampling.
        alpha: whether a last, unsubsampled alpha plane follows. (FFmpeg packs grey and alpha into one plane.)
    """

    name: str
    family: Family
    bits: int = 8
    log2_w: int = 0
    log2_h: int = 0
    alpha: bool = False

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """Sample type of every plane."""
        return np.dtype(np.uint8) if self.bits == 8 else np.dtype(np.uint16)

    @property
    def plane_names(self) -> tuple[str, ...]:
        """One letter for each plane, in FFmpeg's order."""
        names = {"gray": ("y",), "yuv": ("y", "u", "v"), "rgb": ("g", "b", "r")}[self.family]
        return (*names, "a") if self.alpha else names

    def plane_size(self, name: str, width: int, height: int) -> tuple[int, int]:
        """Width and height of the plane called `name` in a picture of width x height; odd sizes round up."""
        if name in ("u", "v"):
            return -(-width >> self.log2_w), -(-height >> self.log2_h)
        return width, height


def _formats() -> dict[str, PixelFormat]:
    found: list[PixelFormat] = []
    for bits in (8, 9, 10, 12, 14, 16):
        suffix = "" if bits == 8 else f"{bits}le"
        found.append(PixelFormat(f"gray{suffix}", "gray", bits))
        found.append(PixelFormat(f"gbrp{suffix}", "rgb", bits))
        if bits != 9:
            found.append(PixelFormat(f"gbrap{suffix}", "rgb", bits, alpha=True))
        for layout, log2_w, log2_h in (("420", 1, 1), ("422", 1, 0), ("444", 0, 0)):
            found.append(PixelFormat(f"yuv{layout}p{suffix}", "yuv", bits, log2_w, log2_h))
            if bits in (8, 9, 10, 16) or (bits == 12 and layout != "420"):  # FFmpeg has no yuva420p12le
                found.append(PixelFormat(f"yuva{layout}p{suffix}", "yuv", bits, log2_w, log2_h, alpha=True))
    for bits, name in ((8, "ya8"), (16, "ya16le")):
        found.append(PixelFormat(name, "gray", bits, alpha=True))
    for layout, log2_w, log2_h in (("411", 2, 0), ("410", 2, 2), ("440", 0, 1)):
        found.append(PixelFormat(f"yuv{layout}p", "yuv", 8, log2_w, log2_h))
    return {f.name: f for f in found}


PIXEL_FORMATS: Final[dict[str, PixelFormat]] = _formats()
"""Every format a frame may have, by FFmpeg's name. A source converts others losslessly to one of these."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video stream before it is decoded. Names tell where a figure comes from.

    Attributes:
        width: of the coded picture after cropping, in samples.
        height: likewise.
        format: sample format of the frames that the source yields.
        pix_fmt_from_header: FFmpeg's name of the format in the file, which may differ from `format`.
        color: colour tags.
        time_base: unit of `pts`, in seconds.
        rate: average frame rate in 1/s, or None if unknown.
        sample_aspect_ratio: width of a sample over its height, or None if unknown.
        start_from_header: first pts, in seconds, or None.
        duration_from_header: of the video stream (else of the file), in seconds, or None.
        num_frames_from_header: or None.
        codec: FFmpeg's name of the codec.
        bit_rate: bits per second, or None.
        compressed: whether pictures were predicted from each other and have lost detail, as in H.264 and its like.
        display_matrix: the nine integers of the rotation side data, or None.
        field_order: of the first picture; others of the stream may differ.
    """

    width: int
    height: int
    format: PixelFormat
    pix_fmt_from_header: str
    color: ColorSpec
    time_base: Fraction
    rate: Fraction | None = None
    sample_aspect_ratio: Fraction | None = None
    start_from_header: Fraction | None = None
    duration_from_header: Fraction | None = None
    num_frames_from_header: int | None = None
    codec: str = ""
    bit_rate: int | None = None
    compressed: bool = False
    display_matrix: tuple[int, ...] | None = None
    field_order: FieldOrder = FieldOrder.PROGRESSIVE

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a picture of {self.width}x{self.height}; both must be at least 1")
        if self.time_base <= 0:
            raise ValueError(f"time base {self.time_base}; it must be positive")

    @property
    def shown_color(self) -> ColorSpec:
        """The tags as readers understand them: FFmpeg takes grey of unspecified range for full, YUV for limited."""
        if self.format.family == "gray" and self.color.range is Range.UNSPECIFIED:
            return replace(self.color, range=Range.FULL)
        return self.color


@dataclass(frozen=True, eq=False)
class Planes:
    """The samples of one picture.

    Attributes:
        arrays: one 2-D array a plane, in the order of `format.plane_names`, each [height, width] of `format.dtype`;
            rows may be padded (strided views are fine).
        format: their format.
        width: of the picture in luma samples.
        height: likewise.
    """

    arrays: tuple[Plane, ...]
    format: PixelFormat
    width: int
    height: int

    def __post_init__(self) -> None:
        names = self.format.plane_names
        if len(self.arrays) != len(names):
            raise ValueError(f"{len(self.arrays)} planes for {self.format.name}, which has {len(names)}")
        for name, array in zip(names, self.arrays, strict=True):
            width, height = self.format.plane_size(name, self.width, self.height)
            if array.shape != (height, width) or array.dtype != self.format.dtype:
                raise ValueError(
                    f"plane {name} of {self.format.name} {self.width}x{self.height} is {array.dtype} {array.shape}; "
                    f"it must be {self.format.dtype} {(height, width)}"
                )


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture at its time.

    Attributes:
        planes: the samples.
        pts: presentation time in units of the stream's time base.
        duration: in the same units; 0 if unknown.
        repeated: whether this stands in for a picture that could not be decoded.
        field_order: whether the planes hold two fields, and which of them comes first.
        uncut: what the duration was before the wanted part of the input ended within it; None if it did not.
    """

    planes: Planes
    pts: int
    duration: int = 0
    repeated: bool = False
    field_order: FieldOrder = FieldOrder.PROGRESSIVE
    uncut: int | None = None

    def __post_init__(self) -> None:
        if self.duration < 0:
            raise ValueError(f"duration {self.duration}; it must not be negative")
