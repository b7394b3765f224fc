"""What comes along with a still picture besides its samples, and where each file format puts it.

ICC profile, EXIF data, XMP, comments and Photoshop's resources (with IPTC captions in them) are carried byte by byte.
Only TIFF has EXIF data and the description of the file's own layout in one list; there they are taken apart.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from vsr.pictures.deep import png_chunks

EXIF_MARK: Final = b"Exif\x00\x00"
PHOTOSHOP_MARK: Final = b"Photoshop 3.0\x00"
JPEG_SEGMENT: Final = 65533  # bytes of data that a JPEG segment can hold
JPEG_LIMITS: Final = {"EXIF data": JPEG_SEGMENT, "XMP": JPEG_SEGMENT - 29, "a comment": JPEG_SEGMENT}
ORIENTATION: Final = 274
TURNED: Final = (5, 6, 7, 8)  # orientations in which width and height change places
XMP_TAG: Final = 700
IPTC_TAG: Final = 33723
PHOTOSHOP_TAG: Final = 34377
BYTES: Final = {XMP_TAG: 1, IPTC_TAG: 7, PHOTOSHOP_TAG: 1}  # their TIFF types
# Description, make, model, orientation, software, date, artist, copyright, EXIF and GPS
TIFF_CONTENT_TAGS: Final = frozenset((270, 271, 272, ORIENTATION, 305, 306, 315, 33432, 34665, 34853))
# What a PNG says of its colours, and its texts; whatever else Pillow tells by name
PNG_COLOR_CHUNKS: Final = (b"cICP", b"gAMA", b"cHRM", b"sRGB")
PNG_TEXT_CHUNKS: Final = (b"tEXt", b"zTXt", b"iTXt")
PNG_XMP: Final = b"XML:com.adobe.xmp"


@dataclass(frozen=True)
class Attached:
    """What comes along with a picture. Empty values mean that there is none.

    Attributes:
        icc: colour profile.
        exif: EXIF data, a small TIFF file, without the mark that JPEG puts before it.
        xmp: XMP packet.
        dpi: samples an inch, across and down.
        comment: of a JPEG file.
        photoshop: Photoshop's image resources, IPTC captions among them.
        iptc: IPTC captions of a TIFF file that has them in a tag of their own.
        chunks: PNG chunks on colours and texts, type and data.
    """

    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    comment: bytes = b""
    photoshop: bytes = b""
    iptc: bytes = b""
    chunks: tuple[tuple[bytes, bytes], ...] = ()

    def orientation(self) -> int:
        """How the stored picture is turned for display, 1 to 8 (EXIF 2.32, tag 274)."""
        value = self._exif().get(ORIENTATION, 1) if self.exif else 1
        return value if isinstance(value, int) and 1 <= value <= 8 else 1

    def is_turned(self) -> bool:
        """Whether width and height change places on the screen."""
        return self.orientation() in TURNED

    def upright(self) -> Attached:
        """The same for a picture whose samples have been turned already."""
        if self.orientation() == 1:
            return self
        exif = self._exif()
        del exif[ORIENTATION]
        return replace(self, exif=exif.tobytes().removeprefix(EXIF_MARK))

    def save_arguments(self, suffix: str) -> tuple[dict[str, Any], list[str]]:
        """Arguments of Pillow's `Image.save`, and the names of what the format has no place for.

        TIFF files are not written by Pillow: see `tiff_tags`.
        """
        kind = suffix.lower()
        if kind == ".png":
            return self._for_png()
        if kind in (".jpg", ".jpeg"):
            return self._for_jpeg()
        if kind == ".webp":
            kept = {"icc_profile": self.icc, "exif": self.exif, "xmp": self.xmp}
            return {k: v for k, v in kept.items() if v}, self._names("comment", "photoshop", "iptc", "texts")
        if kind in (".tif", ".tiff"):
            return {}, self._names("comment", "texts")
        return {}, self._names("icc", "exif", "xmp", "comment", "photoshop", "iptc", "texts")

    def tiff_tags(self) -> tuple[dict[int, Any], dict[int, int]]:
        """All of it as TIFF tags, with the types of those that Pillow does not know."""
        tags: dict[int, Any] = {}
        if self.exif:
            exif = self._exif()
            tags.update({tag: dict(exif.get_ifd(tag)) if tag in (34665, 34853) else exif[tag] for tag in exif})
            tags = {tag: value for tag, value in tags.items() if tag in TIFF_CONTENT_TAGS}
        for tag, value in ((34675, self.icc), (XMP_TAG, self.xmp), (PHOTOSHOP_TAG, self.photoshop)):
            if value:
                tags[tag] = value
        if self.iptc:
            tags[IPTC_TAG] = self.iptc
        if self.dpi is not None:
            tags.update({282: self.dpi[0], 283: self.dpi[1], 296: 2})
        return tags, {tag: kind for tag, kind in BYTES.items() if tag in tags}

    def _for_png(self) -> tuple[dict[str, Any], list[str]]:
        from PIL import PngImagePlugin

        info = PngImagePlugin.PngInfo()
        for kind, data in self.chunks:
            info.add(kind, data)
        if self.xmp and not any(data.startswith(PNG_XMP) for _, data in self.chunks):
            info.add_itxt(PNG_XMP.decode(), self.xmp.decode("utf-8", "replace"))
        if self.comment:
            info.add_text("Comment", self.comment.decode("utf-8", "replace"))
        kept = {"icc_profile": self.icc, "exif": self.exif, "dpi": self.dpi}
        return {"pnginfo": info, **{k: v for k, v in kept.items() if v}}, self._names("photoshop", "iptc")

    def _for_jpeg(self) -> tuple[dict[str, Any], list[str]]:
        kept: dict[str, Any] = {"icc_profile": self.icc, "dpi": self.dpi}
        lost = self._names("iptc", "texts")
        for name, key, data in (
            ("EXIF data", "exif", EXIF_MARK + self.exif if self.exif else b""),
            ("XMP", "xmp", self.xmp),
            ("a comment", "comment", self.comment),
        ):
            if len(data) <= JPEG_LIMITS[name]:
                kept[key] = data
            else:
                lost.append(f"{name} of {len(data)} bytes")
        resources = PHOTOSHOP_MARK + self.photoshop
        if self.photoshop and len(resources) <= JPEG_SEGMENT:
            kept["extra"] = b"\xff\xed" + struct.pack(">H", len(resources) + 2) + resources
        elif self.photoshop:
            lost.append(f"captions of {len(self.photoshop)} bytes")
        return {k: v for k, v in kept.items() if v}, lost

    def _names(self, *fields: str) -> list[str]:
        """What people call those of the `fields` that are there."""
        titles = {
            "icc": "the colour profile",
            "exif": "EXIF data",
            "xmp": "XMP",
            "comment": "a comment",
            "photoshop": "captions (IPTC)",
            "iptc": "captions (IPTC)",
        }
        names = [titles[f] for f in fields if f in titles and getattr(self, f)]
        if "texts" in fields and any(k in PNG_TEXT_CHUNKS and not d.startswith(PNG_XMP) for k, d in self.chunks):
            names.append("texts")
        return list(dict.fromkeys(names))

    def _exif(self) -> Any:
        from PIL import Image

        exif = Image.Exif()
        exif.load(EXIF_MARK + self.exif)
        return exif


def read_attached(image: Any) -> Attached:
    """What came along with a picture that Pillow has opened and loaded."""
    info = image.info
    dpi = info.get("dpi")
    common = Attached(
        icc=info.get("icc_profile") or b"",
        exif=(info.get("exif") or b"").removeprefix(EXIF_MARK),
        xmp=_bytes(info.get("xmp")),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(float(d) > 0 for d in dpi) else None,
    )
    if image.format == "TIFF":
        exif = image.getexif()
        for tag in set(exif) - TIFF_CONTENT_TAGS:
            del exif[tag]
        tags = {tag: _bytes(image.tag_v2.get(tag)) for tag in (XMP_TAG, IPTC_TAG, PHOTOSHOP_TAG)}
        return replace(
            common,
            exif=exif.tobytes().removeprefix(EXIF_MARK) if exif else b"",
            xmp=tags[XMP_TAG],
            iptc=tags[IPTC_TAG],
            photoshop=tags[PHOTOSHOP_TAG],
        )
    if image.format in ("JPEG", "MPO"):
        resources = [data for name, data in image.applist if name == "APP13" and data.startswith(PHOTOSHOP_MARK)]
        return replace(
            common,
            comment=_bytes(info.get("comment")),
            photoshop=b"".join(data.removeprefix(PHOTOSHOP_MARK) for data in resources),
        )
    if image.format == "PNG":
        with Path(image.filename).open("rb") as file:
            chunks = tuple(c for c in png_chunks(file) if c[0] in PNG_COLOR_CHUNKS + PNG_TEXT_CHUNKS)
        return replace(common, chunks=chunks)
    return common


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value) if isinstance(value, bytes) else b""
