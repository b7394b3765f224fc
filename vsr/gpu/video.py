"""What the video units of NVIDIA's GPUs take: NVDEC, which decodes, and NVENC, which encodes.

After the tables "NVDEC Hardware Capabilities" and "NVENC Hardware Capabilities" of the application notes of NVIDIA's
Video Codec SDK 13.0 and its support matrix. Only formats are listed whose decoding is defined to the last bit, so that
a picture is the same whoever decodes it: MPEG-2 and MPEG-4 allow for inverse transforms that differ. A GPU that is not
known here is asked, and may still refuse.
"""

from __future__ import annotations

from typing import Final

from vsr.frame import PIXEL_FORMATS
from vsr.gpu.names import Capability, Gpu

EXACT_CODECS: Final = ("h264", "hevc", "vp8", "vp9", "av1")
AMPERE: Final[Capability] = (8, 6)  # but for A100 and A30, 8.0
BLACKWELL: Final[Capability] = (10, 0)
ADA: Final[Capability] = (8, 9)
HOPPER: Final[Capability] = (9, 0)
WITHOUT_ENCODER: Final[tuple[Capability, ...]] = ((8, 0), (9, 0), (10, 0), (10, 3))  # data-centre GPUs since Ampere


def nvdec_refusal(gpu: Gpu, codec: str, pix_fmt: str) -> str | None:
    """Why `gpu` cannot decode `codec` (FFmpeg's name) of `pix_fmt`, beginning with a noun; None if it may be able to.

    Formats are limited to 4:2:0 of 8 and 10 bits, for which there are surfaces (`vsr.surface`).
    """
    if codec not in EXACT_CODECS:
        return f"NVDEC is not used for {codec}; it is for {', '.join(EXACT_CODECS)}"
    fmt = PIXEL_FORMATS.get(pix_fmt.replace("yuvj", "yuv"))
    if fmt is None or fmt.family != "yuv" or fmt.alpha or (fmt.log2_w, fmt.log2_h) != (1, 1) or fmt.bits not in (8, 10):
        return f"NVDEC is used for 4:2:0 of 8 or 10 bits, and the video is {pix_fmt}"
    if codec in ("h264", "vp8") and fmt.bits > 8 and (codec == "vp8" or gpu.capability < BLACKWELL):
        return f"NVDEC of {gpu.sm} decodes {codec} of 8 bits only"
    if codec == "av1" and (gpu.capability < AMPERE or gpu.capability == HOPPER):
        return f"NVDEC of {gpu.sm} does not decode AV1"
    return None


def nvenc_refusal(gpu: Gpu, codec: str) -> str | None:
    """Why `gpu` cannot encode `codec` (FFmpeg's name), beginning with a noun; None if it may be able to."""
    if gpu.capability in WITHOUT_ENCODER:
        return f"{gpu.name or gpu.sm} has no NVENC"
    if codec == "av1" and gpu.capability < ADA:
        return f"NVENC of {gpu.sm} does not encode AV1"
    return None
