"""What is known of the enlarged pictures before there is one."""

from __future__ import annotations

from dataclasses import replace

from vsr.frame import VideoInfo
from vsr.orientation import is_turned, scaled_matrix
from vsr.siting import arithmetic_color, kept_siting
from vsr.size import OutputSize, SizeRequest, output_size
from vsr.writing.containers import Container
from vsr.writing.encoder_table import held_format
from vsr.writing.encoders import EncoderPlan


def wanted_size(request: SizeRequest, info: VideoInfo) -> OutputSize:
    """What `request` means for the pictures that `info` describes.

    Raises:
        OptionError: they cannot be made so.
    """
    turned = is_turned(info.display_matrix)
    return output_size(request, info.width, info.height, info.sample_aspect_ratio, turned=turned)


def enlarged_info(info: VideoInfo, size: OutputSize, plan: EncoderPlan, container: Container) -> VideoInfo:
    """What `info` of the input becomes for the enlarged pictures: chroma sits where the output can say that it does."""
    siting = arithmetic_color(info).siting
    encoded = held_format(plan.pix_fmt) or info.format
    kept = kept_siting(siting, encoded, plan.encoder.codec, container.muxer)
    return replace(
        info,
        width=size.width,
        height=size.height,
        sample_aspect_ratio=size.sample_aspect_ratio,
        display_matrix=scaled_matrix(info, size.width, size.height),
        color=replace(info.color, siting=kept),
    )


def frame_bytes(info: VideoInfo) -> int:
    """Bytes of one picture."""
    sizes = [info.format.plane_size(n, info.width, info.height) for n in info.format.plane_names]
    return sum(w * h for w, h in sizes) * info.format.dtype.itemsize
