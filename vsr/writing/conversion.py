"""From enlarged planes to the pictures that an encoder takes: family, range and depth.

What libswscale would do less exactly, or by another matrix than the stream's, is done here before it.
"""

from __future__ import annotations

from dataclasses import replace

import av

from vsr.frame import UNSPECIFIED, ColorSpec, Planes, Range, VideoInfo
from vsr.pictures.rgb import rgb_planes
from vsr.pixel_formats import frame_from, reformat, with_neutral_chroma
from vsr.writing.color_tags import BT709, GREY_AND_OPEN, RGB, limited, said_color
from vsr.writing.encoder_table import held_format
from vsr.writing.encoders import EncoderPlan


def output_color(info: VideoInfo, plan: EncoderPlan) -> ColorSpec:
    """The tags of the output: the input's own, but for what becomes another kind of picture.

    RGB that is encoded as YUV is BT.709, limited; what is encoded as RGB has no other matrix, and full range. Grey of
    unspecified range counts as full, and would count as limited where decoders give YUV for it, so that is said there.
    """
    encoded = held_format(plan.pix_fmt)
    family = info.format.family if encoded is None else encoded.family
    if info.format.family == "rgb":
        if family == "yuv":
            return replace(info.color, matrix=BT709, range=Range.LIMITED)
        return info.color if info.color.matrix == UNSPECIFIED else replace(info.color, matrix=RGB)
    if family == "rgb":
        return replace(info.color, matrix=RGB, range=Range.FULL)
    color = info.color if plan.encoder.codec in GREY_AND_OPEN and family == "gray" else info.shown_color
    if color.matrix == RGB:  # as PNG decoders tag grey pictures too
        return replace(color, matrix=UNSPECIFIED)
    return said_color(color, plan.encoder.codec)


def encodable(planes: Planes, info: VideoInfo, color: ColorSpec, pix_fmt: str) -> av.VideoFrame:
    """A picture of `pix_fmt`.

    Args:
        planes: the enlarged picture.
        info: of all of them.
        color: as `output_color` gives it.
        pix_fmt: FFmpeg's name of what the encoder takes.
    """
    picture = frame_from(_prepared(planes, info, color, pix_fmt), info.color.range)
    return picture if picture.format.name == pix_fmt else _converted(picture, info, color, pix_fmt)


def _prepared(planes: Planes, info: VideoInfo, color: ColorSpec, pix_fmt: str) -> Planes:
    """`planes` in the family and range of what they become, where that is known here."""
    target = held_format(pix_fmt)
    if target is None or planes.format.family == "rgb":
        return planes
    if target.family == "rgb":
        return rgb_planes(planes, info.shown_color, target)
    if info.shown_color.range is Range.FULL and color.range is Range.LIMITED:
        planes = limited(planes, target.bits)
    grey = planes.format.family == "gray" and target.family == "yuv"
    return with_neutral_chroma(planes, target) if grey else planes


def _converted(picture: av.VideoFrame, info: VideoInfo, color: ColorSpec, pix_fmt: str) -> av.VideoFrame:
    if info.format.family == "rgb" and color.matrix == BT709:
        return reformat(
            picture,
            format=pix_fmt,
            dst_colorspace=color.matrix,
            src_color_range=int(Range.FULL),
            dst_color_range=int(color.range),
        )
    color_range = int(color.range) or None
    return reformat(picture, format=pix_fmt, src_color_range=color_range, dst_color_range=color_range)
