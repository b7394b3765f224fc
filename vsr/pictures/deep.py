"""Pictures of 16 bits a channel with colour or alpha, which Pillow's images do not hold.

Reading: Pillow's own decoders (PNG with every filter and interlacing, TIFF through libtiff) deliver such samples as
their high bytes. Asked for the other byte order, they deliver the low ones; the two readings together are the picture,
and whatever Pillow says of broken files holds for these too. Writing: by hand (PNG is ISO/IEC 15948), with the chunks
that Pillow makes of what comes along with the picture; TIFF is in `tiff`.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vsr.errors import UnsupportedInputError

Deep = npt.NDArray[np.uint16]

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
PNG_COLOR_TYPES: Final = {1: 0, 3: 2, 4: 6}  # by number of channels: grey, RGB, RGBA
STRIP_BYTES: Final = 1 << 20  # of samples filtered and compressed at once
IDAT_BYTES: Final = 1 << 20
TIFF_PLANAR: Final = 284
SWAPPED: Final = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def raw_mode(image: Any) -> str:
    """Pillow's name for how the samples lie in an opened file; empty if it has none."""
    if not image.tile:
        return ""
    arguments = image.tile[0].args
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def is_deep_color(image: Any) -> bool:
    """Whether an opened file has 16 bits a channel that Pillow would reduce to 8."""
    if image.format == "PPM":
        return image.mode == "RGB" and _ppm_largest(image) > 255
    return image.mode in ("RGB", "RGBA") and ";16" in raw_mode(image)


def read_deep(path: Path, open_again: Callable[[Path], Any]) -> Deep:
    """The samples of a file for which `is_deep_color` holds.

    Args:
        path: the file.
        open_again: opens it with Pillow.

    Returns:
        [H, W, 3] or [H, W, 4], turned as Pillow turns the 8-bit picture. A transparent colour becomes an alpha channel.

    Raises:
        UnsupportedInputError: a layout that cannot be read exactly.
        OSError, ValueError, SyntaxError: the file is broken.
    """
    with open_again(path) as image:
        if image.format == "PPM":
            return _read_ppm(path, image)
        if image.format == "TIFF" and image.tag_v2.get(TIFF_PLANAR) == 2:
            raise UnsupportedInputError(
                f"{path} has its 16-bit channels in separate planes, which is not read", "save it with interleaved ones"
            )
        mode = raw_mode(image)
        transparent = image.info.get("transparency")
        if mode.startswith("LA;16"):  # 32 bits a pixel, as RGBA has: the four bytes themselves
            _reinterpret(image, "RGBA")
            high_l, low_l, high_a, low_a = np.moveaxis(np.asarray(image).astype(np.uint16), 2, 0)
            grey, alpha = high_l << 8 | low_l, high_a << 8 | low_a
            return np.stack([grey, grey, grey, alpha], axis=2)
        premultiplied = mode.startswith("RGBa")
        if premultiplied:
            mode = mode.replace("RGBa", "RGBA")
            _reinterpret(image, mode)
        high = np.array(image)
    with open_again(path) as image:
        _reinterpret(image, mode[:-1] + SWAPPED[mode[-1]])
        low = np.asarray(image)
    samples: Deep = high.astype(np.uint16) << 8 | low
    if premultiplied:
        samples = _divided(samples)
    if isinstance(transparent, tuple) and samples.shape[2] == 3:
        opaque = (samples != np.array(transparent, dtype=np.uint16)).any(axis=2)
        samples = np.dstack([samples, np.where(opaque, 65535, 0).astype(np.uint16)])
    return samples


def write_deep_png(array: Deep, path: Path, chunks: bytes = b"") -> None:
    """Write [H, W], [H, W, 3] or [H, W, 4] as PNG.

    Args:
        array: the samples.
        path: of the file.
        chunks: complete chunks that belong before the samples.
    """
    rows = array.reshape(array.shape[0], array.shape[1], -1)
    height, width, channels = rows.shape
    header = struct.pack(">IIBBBBB", width, height, 16, PNG_COLOR_TYPES[channels], 0, 0, 0)
    compressor = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_FILTERED)
    with path.open("wb") as file:
        file.write(PNG_SIGNATURE + _chunk(b"IHDR", header) + chunks)
        pending = bytearray()
        for strip in _png_rows(rows):
            pending += compressor.compress(strip)
            if len(pending) >= IDAT_BYTES:
                file.write(_chunk(b"IDAT", bytes(pending)))
                pending.clear()
        pending += compressor.flush()
        file.write(_chunk(b"IDAT", bytes(pending)) + _chunk(b"IEND", b""))


def metadata_chunks(**arguments: Any) -> bytes:
    """The PNG chunks that Pillow writes before the samples for these arguments of `Image.save`."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG", **arguments)
    return b"".join(_chunk(kind, data) for kind, data in png_chunks(buffer) if kind not in (b"IHDR", b"IEND"))


def png_chunks(file: Any) -> Iterator[tuple[bytes, bytes]]:
    """Type and data of each chunk of an open PNG file but for its samples; what is broken ends them."""
    file.seek(len(PNG_SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"fdAT"):
            file.seek(length + 4, 1)
            continue
        data = file.read(length)
        if len(data) < length:
            return
        file.seek(4, 1)
        yield kind, data


def write_deep_ppm(array: Deep, path: Path) -> None:
    """Write [H, W, 3] as binary PPM."""
    with path.open("wb") as file:
        file.write(f"P6\n{array.shape[1]} {array.shape[0]}\n65535\n".encode())
        file.write(array.astype(">u2").tobytes())


def _reinterpret(image: Any, mode: str) -> None:
    """Let Pillow unpack the samples of an opened file in another way."""
    image.tile = [
        tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode) for tile in image.tile
    ]


def _divided(samples: Deep) -> Deep:
    """Colour that was multiplied with alpha, without it."""
    alpha = np.maximum(samples[:, :, 3:], 1).astype(np.float64)
    color = np.minimum(np.rint(samples[:, :, :3] * (65535.0 / alpha)), 65535)
    return np.dstack([color.astype(np.uint16), samples[:, :, 3]])


def _ppm_largest(image: Any) -> int:
    """The largest code value that the header of a PNM file declares."""
    arguments = image.tile[0].args if image.tile else ()
    last = arguments[-1] if isinstance(arguments, tuple) and arguments else 0
    return last if isinstance(last, int) else 0


def _read_ppm(path: Path, image: Any) -> Deep:
    if image.tile[0].codec_name != "ppm":
        raise UnsupportedInputError(f"{path} is a PPM file written as text, which is read with 8 bits only")
    count = image.width * image.height * 3
    with path.open("rb") as file:
        file.seek(image.tile[0].offset)
        data = file.read(count * 2)
    if len(data) < count * 2:
        raise OSError(f"it ends after {len(data) // 6} of {count // 3} pixels")
    codes = np.frombuffer(data, dtype=">u2").reshape(image.height, image.width, 3)
    largest = _ppm_largest(image)
    if largest == 65535:
        return codes.astype(np.uint16)
    scaled: Deep = np.rint(np.minimum(codes, largest) * (65535 / largest)).astype(np.uint16)
    return scaled


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _png_rows(rows: npt.NDArray[np.uint16]) -> Iterator[bytes]:
    """Filtered rows, some at a time; for each the filter with the smallest sum of differences (ISO/IEC 15948, 12.8)."""
    height, width, channels = rows.shape
    pixel = 2 * channels
    per_strip = max(1, STRIP_BYTES // (width * pixel))
    above = np.zeros((1, width * pixel), dtype=np.uint8)
    for start in range(0, height, per_strip):
        x = rows[start : start + per_strip].astype(">u2").reshape(-1, width * channels).view(np.uint8)
        up = np.concatenate([above, x[:-1]])
        above = x[-1:]
        left, corner = (np.pad(v[:, :-pixel], ((0, 0), (pixel, 0))) for v in (x, up))
        filtered = np.stack([x, x - left, x - up, x - ((left.astype(np.uint16) + up) >> 1).astype(np.uint8)])
        candidates = np.concatenate([filtered, (x - _paeth(left, up, corner))[None]])
        costs = np.abs(candidates.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
        best = costs.argmin(axis=0)
        chosen = candidates[best, np.arange(len(x))]
        yield np.hstack([best[:, None].astype(np.uint8), chosen]).tobytes()


def _paeth(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8], c: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Whichever of left, above and above left is nearest to left + above − above left."""
    left, up, corner = (v.astype(np.int16) for v in (a, b, c))
    p_left, p_up, p_corner = np.abs(up - corner), np.abs(left - corner), np.abs(left + up - 2 * corner)
    nearest: npt.NDArray[np.uint8] = np.where(
        (p_left <= p_up) & (p_left <= p_corner), a, np.where(p_up <= p_corner, b, c)
    )
    return nearest
