"""How far a job's pictures stay on a GPU: what decodes, whether they stay in its memory, and what encodes.

Whatever cannot be done on the GPU is done as always, with one line that says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from vsr.engines.engine import choose_backend
from vsr.errors import VsrError
from vsr.frame import PixelFormat, VideoInfo
from vsr.gpu.cuda_driver import Driver, probe
from vsr.gpu.devices import number_of, parse_devices
from vsr.gpu.video import nvenc_refusal
from vsr.reading.hardware import ON_DEVICE, Hardware, Nvdec
from vsr.surface import layout_of
from vsr.writing.containers import Container
from vsr.writing.encoder_options import EncoderRequest
from vsr.writing.encoder_table import ENCODERS, held_format
from vsr.writing.encoders import EncoderPlan, plan_encoder

if TYPE_CHECKING:
    from vsr.options import UpscaleOptions

AUTO: Final = "off"
"""What `auto` is until the rest has been run on a GPU by this project."""
NVENC: Final = {8: "h264_nvenc", 10: "hevc_nvenc"}  # by bits, where no encoder is named
Note = Callable[[str], None]


@dataclass(frozen=True)
class Route:
    """Where pictures are between the stages.

    Attributes:
        surfaces: decoded ones come to the engine as surfaces.
        keep: enlarged ones go to the encoder as surfaces.
    """

    surfaces: bool = False
    keep: bool = False


def hardware_decoder(options: UpscaleOptions, note: Note) -> Hardware | None:
    """The decoder that `options.hw` asks for; None where libavcodec's own is to be used.

    Raises:
        BackendError: the backend asked for is not available.
    """
    mode = AUTO if options.hw == "auto" else options.hw
    if mode == "off":
        return None
    found = _gpu(options)
    if isinstance(found, str):
        note(f"hw {mode}: {found}; the CPU decodes")
        return None
    refusal = _keep_refusal(options) if mode == "full" else None
    if refusal is not None:
        note(f"hw full: {refusal}; pictures go through host memory")
    return Nvdec(found.gpu, found.gpu.number, keep=mode == "full" and refusal is None)


def plan_nvenc(
    options: UpscaleOptions, container: Container, fmt: PixelFormat, width: int, height: int, note: Note
) -> EncoderRequest:
    """What to ask of the encoder: NVENC where `options.hw` is full, none is named, and it can be opened."""
    request = options.encoder_request()
    if options.hw != "full" or request.encoder != "auto":
        return request
    found, name = _gpu(options), NVENC.get(fmt.bits)
    if isinstance(found, str):
        refusal: str | None = found
    elif name is None or fmt.alpha or fmt.family == "rgb":
        refusal = f"NVENC is not used for {fmt.name}"
    else:
        refusal = nvenc_refusal(found.gpu, ENCODERS[name].codec)
    if refusal is None and name is not None:
        asked = replace(request, encoder=name)
        try:
            plan_encoder(container, fmt, width, height, asked)
            return asked
        except VsrError as error:
            refusal = error.message
    note(f"hw full: {refusal}; the CPU encodes")
    return request


def plan_route(
    hardware: Hardware | None, info: VideoInfo, plan: EncoderPlan, size: tuple[int, int], *, whole: bool
) -> Route:
    """Where pictures are on their way.

    Args:
        hardware: the decoder in use, if it is not libavcodec's.
        info: of the pictures that the engine gets.
        plan: of the encoder.
        size: of the enlarged pictures.
        whole: whether the stages between decoder and engine leave pictures as they are.
    """
    if hardware is None or not hardware.keep or not whole or layout_of(info.format) is None:
        return Route()
    width, height = size
    if any(n % 2 for n in (info.width, info.height, *size)) or width % info.width or height % info.height:
        return Route()
    return Route(surfaces=True, keep=device_format(plan) is not None and held_format(plan.pix_fmt) == info.format)


def device_format(plan: EncoderPlan) -> str | None:
    """FFmpeg's name of the format in which the encoder takes surfaces; None if it takes none."""
    return ON_DEVICE if plan.encoder.library.endswith("_nvenc") else None


def _gpu(options: UpscaleOptions) -> Driver | str:
    devices = [device for device in parse_devices(options.device) if device != "cpu"]
    return probe(number_of(devices[0]) if devices else 0)


def _keep_refusal(options: UpscaleOptions) -> str | None:
    """Why the engine cannot take pictures from the GPU's memory; None if it can."""
    devices = parse_devices(options.device)
    if len(devices) > 1:
        return "a picture is on one GPU, and the frames are dealt to several"
    backend, _ = choose_backend(options.backend, devices)
    if not backend.takes_surfaces:
        return f"backend {backend.name} takes none that are in a GPU's memory"
    if backend.gpu_name() is None or devices == ("cpu",):
        return f"backend {backend.name} computes on the CPU"
    return None
