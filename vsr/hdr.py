"""Static HDR metadata: read from the first picture, handed to the encoders and containers that can write it.

FFmpeg's encoders do not take it from frames, so it goes in through their own parameters; `matroska` and `quicktime` put
it into their containers. Dynamic metadata (HDR10+,
Dolby Vision) describes each picture of the original size and is not carried.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import av
from av.sidedata.sidedata import Type

from vsr.side_data import side_data_of

MASTERING_STRUCT: Final = struct.Struct("<20i2i")  # AVMasteringDisplayMetadata: ten rationals and two flags
LIGHT_STRUCT: Final = struct.Struct("<2I")  # AVContentLightMetadata
CONTAINERS_THAT_SAY: Final = ("mp4", "mov", "matroska", "webm")  # besides what the coded pictures say
DYNAMIC: Final = {
    Type.DYNAMIC_HDR_PLUS: "HDR10+",
    Type.DOVI_RPU_BUFFER: "Dolby Vision",
    Type.DOVI_METADATA: "Dolby Vision",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid",
}


@dataclass(frozen=True)
class StaticHdr:
    """Mastering display (SMPTE ST 2086) and content light level (CTA-861.3).

    Attributes:
        primaries: x, y of red, green and blue in CIE 1931, or None.
        white_point: x, y, or None.
        luminance: of the mastering display, lowest and highest, in cd/m², or None.
        content_light: highest light level of a sample, and of a picture's average, in cd/m², or None.
        dynamic: names of dynamic metadata that is there too.
    """

    primaries: tuple[tuple[float, float], ...] | None = None
    white_point: tuple[float, float] | None = None
    luminance: tuple[float, float] | None = None
    content_light: tuple[int, int] | None = None
    dynamic: tuple[str, ...] = ()


def read_static_hdr(frame: av.VideoFrame) -> StaticHdr | None:
    """What `frame` says of itself; None if nothing."""
    side_data = side_data_of(frame)
    mastering, light = side_data.get(Type.MASTERING_DISPLAY_METADATA), side_data.get(Type.CONTENT_LIGHT_LEVEL)
    dynamic = tuple(sorted({name for kind, name in DYNAMIC.items() if side_data.get(kind) is not None}))
    primaries = white = luminance = content_light = None
    if mastering is not None and len(bytes(mastering)) >= MASTERING_STRUCT.size:
        # The two flags at the end are FFmpeg's opinion of whether the values make sense. They are carried all the same.
        *numbers, _, _ = MASTERING_STRUCT.unpack(bytes(mastering)[: MASTERING_STRUCT.size])
        values = [n / d if d else 0.0 for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
        if any(values[:8]):
            primaries = tuple((values[i], values[i + 1]) for i in (0, 2, 4))
            white = (values[6], values[7])
        if any(values[8:]):
            luminance = (values[8], values[9])
    if light is not None and len(bytes(light)) >= LIGHT_STRUCT.size:
        content_light = LIGHT_STRUCT.unpack(bytes(light)[: LIGHT_STRUCT.size])
    if mastering is None and light is None and not dynamic:
        return None
    return StaticHdr(primaries, white, luminance, content_light, dynamic)


def encoder_parameters(hdr: StaticHdr, option: str | None) -> str | None:
    """What to give to an encoder's `option` for parameters of its library, so that it writes `hdr`.

    None if it has nothing to say, or the encoder no such option.
    """
    parts = []
    if option in ("x265-params", "x264-params"):
        if hdr.primaries and hdr.white_point and hdr.luminance:
            low, high = (round(v * 10000) for v in hdr.luminance)
            points = "".join(
                f"{name}({round(x * 50000)},{round(y * 50000)})"
                for name, (x, y) in _points(hdr.primaries, hdr.white_point)
            )
            name = "master-display" if option == "x265-params" else "mastering-display"
            parts.append(f"{name}={points}L({high},{low})")
        if hdr.content_light:
            name = "max-cll" if option == "x265-params" else "cll"
            parts.append(f"{name}={hdr.content_light[0]},{hdr.content_light[1]}")
        if parts and option == "x265-params":
            parts.insert(0, "hdr10=1")
    elif option == "svtav1-params":
        if hdr.primaries and hdr.white_point and hdr.luminance:
            points = "".join(f"{name}({x:.5f},{y:.5f})" for name, (x, y) in _points(hdr.primaries, hdr.white_point))
            parts.append(f"mastering-display={points}L({hdr.luminance[1]:.4f},{hdr.luminance[0]:.4f})")
        if hdr.content_light:
            parts.append(f"content-light={hdr.content_light[0]},{hdr.content_light[1]}")
    return ":".join(parts) or None


def _points(
    primaries: tuple[tuple[float, float], ...], white_point: tuple[float, float]
) -> tuple[tuple[str, tuple[float, float]], ...]:
    """Named as the encoders want them, in their order."""
    red, green, blue = primaries
    return ("G", green), ("B", blue), ("R", red), ("WP", white_point)


def notes(hdr: StaticHdr, option: str | None, muxer: str) -> list[str]:
    """What of `hdr` is lost with an encoder that has `option` for parameters and in a container of `muxer`."""
    lost = [f"{name} metadata is left out: it describes pictures of the original size" for name in hdr.dynamic]
    there = hdr.primaries or hdr.luminance or hdr.content_light
    if there and encoder_parameters(hdr, option) is None and muxer not in CONTAINERS_THAT_SAY:
        lost.append(f"HDR metadata is left out: neither this encoder nor {muxer} has it; --encoder x265 does, or .mkv")
    return lost
