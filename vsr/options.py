"""What a job is asked for: read and checked before anything is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral
from pathlib import Path
from typing import Final

from vsr.copying.selection import Selection
from vsr.errors import OptionError
from vsr.fields.deinterlace import Deinterlace, FieldOptions, FieldOrderOption
from vsr.gpu.devices import parse_devices
from vsr.model import usual_model_name
from vsr.pictures.sequence import parse_rate
from vsr.reading.decode_report import ErrorBudget
from vsr.remux import OnUnsupported
from vsr.size import SizeRequest
from vsr.source import OnTruncated
from vsr.trim import Time, Trim
from vsr.upscaler import Upscaler
from vsr.writing.encoder_options import EncoderRequest, parse_bitrate, parse_options
from vsr.writing.encoder_table import EVERYDAY

MOST_AT_ONCE: Final = 64


@dataclass(frozen=True)
class UpscaleOptions:
    """What a job is asked for; every value has a sensible default.

    Attributes:
        scale: enlargement, any number over 1 and up to 16; 2, 3, 4, 6, 8, 9, 12 and 16 are what models do, others are
            made by the next of these, reduced.
        size: instead of a scale: `1920x1080`, `1920x-2`, `-2x2160`, `4k` and the like, as displayed; None for `scale`.
        fit: what WIDTHxHEIGHT means for a picture of another shape: `exact` refuses it, `inside` takes the largest size
            that fits into it, `stretch` distorts the picture.
        square_pixels: make samples square that are not; silent, their shape is kept.
        model: shipped name, `bicubic`, path of an ONNX file, or None for the default.
        backend: `auto` or a name in `vsr.engines.engine.BACKENDS`.
        precision: `auto` (measured once for the machine; fp32 in an archive), `fp32`, `bf16`, `fp16` or `int8`.
        wait_engine: whether to wait for an engine that has to be built first; if not, the job begins on another backend
            and goes over between two frames when the engine is there.
        threads: CPU threads of the engine and of the encoder; 0 lets each choose.
        device: where the engine computes: `auto` (as the backend chooses), `cpu`, `cuda:N`, several GPUs with commas,
            or `all`; frames are dealt to several in turn.
        batch: frames that a GPU computes at once, for networks so small that one leaves it idle; more than 1 needs the
            backend `tensorrt`. The order of frames stays, and the last batch may be incomplete. Stills go one by one.
        hw: what a GPU's video units do: nothing (`off`); NVDEC decodes, into host memory (`decode`); or pictures stay
            in the GPU's memory from NVDEC through the engine to NVENC, as far as that can be (`full`). `auto` is off
            until the rest has been run on a GPU by this project. What cannot be done so the CPU does, with a note.
        encoder: `auto` or a name in `vsr.writing.encoders.ENCODERS`; those that need a GPU are never chosen by `auto`.
        use: what the result is for: `archive`, `everyday` or `realtime`. Decides what is not said: the encoder's preset
            and crf, and in an archive the model `best` and fp32.
        crf: constant rate factor (NVENC calls it cq); None for the encoder's default for this use.
        preset: of the encoder; None for its default for this use. For ProRes, the profile; None is hq or, with 4:4:4,
            4444.
        tune: of the encoder, as it names them; None for none.
        bitrate: average in bits a second, as a number or as `8M` or `2500k`, in one pass; instead of `crf`.
        lossless: whether the encoder must give back exactly what it is given; instead of `crf`.
        encoder_options: more for the encoder, as `name=value` each or as a mapping. They win over all of the above.
            `x264-params`, `x265-params` and `svtav1-params` are joined with what is in them already. An option that the
            encoder has not is refused before the work starts.
        pix_fmt: of the output; None keeps the input's.
        overwrite: whether an existing output may be replaced.
        on_truncated: `fail` on an input that was cut off, or `keep` what there is.
        max_decode_errors: how many packets may fail to decode: `N` or `N%`.
        on_unsupported: `fail` if the container cannot hold a stream, or `drop` it.
        reuse: whether parts of a frame that equal the frame before are taken from there; the result has the same bits.
        quality: of JPEG and WebP pictures, 1 to 100; None for 95.
        fps: frame rate of an image sequence, such as 24, "23.976" or "30000/1001"; None for 25.
        start: where to begin, counted from where players begin to show the file: seconds, or text such as "1:30.5".
        end: where to stop: what begins at `end` or later is left out. Likewise.
        duration: how much to take from `start` on, instead of `end`. Likewise.
        frames: how many frames to take at most.
        map: which streams to keep, as FFmpeg's stream specifiers such as "a:0", "s:m:language:eng" or "-s"; nothing
            keeps all. `vsr.copying.selection` says how several go together.
        video_stream: which video to upscale where there are several, counted from 0 without covers; None takes the
            default one, else the largest. The others are copied.
        deinterlace: `auto` (pictures marked as interlaced, by bwdif), `detect` (by what the pictures show), `off`, or
            `bwdif` or `yadif` for every picture.
        field_order: `auto` (as marked), or `tff` or `bff` for every picture, whatever it is marked as.
        field_rate: one picture for each field instead of one for each frame, which doubles the frame rate.
    """

    scale: float = 3
    size: str | None = None
    fit: str = "exact"
    square_pixels: bool = False
    model: str | Path | None = None
    backend: str = "auto"
    precision: str = "auto"
    wait_engine: bool = True
    threads: int = 0
    device: str = "auto"
    batch: int = 1
    hw: str = "auto"
    encoder: str = "auto"
    use: str = EVERYDAY
    crf: float | None = None
    preset: str | None = None
    tune: str | None = None
    bitrate: str | float | None = None
    lossless: bool = False
    encoder_options: Sequence[str] | Mapping[str, str] = ()
    pix_fmt: str | None = None
    overwrite: bool = False
    on_truncated: OnTruncated = "fail"
    max_decode_errors: str | int = "10%"
    on_unsupported: OnUnsupported = "fail"
    reuse: bool = True
    quality: int | None = None
    fps: str | float | Fraction | None = None
    start: Time | None = None
    end: Time | None = None
    duration: Time | None = None
    frames: int | None = None
    map: str | Sequence[str] = ()
    video_stream: int | None = None
    deinterlace: Deinterlace = "auto"
    field_order: FieldOrderOption = "auto"
    field_rate: bool = False

    def __post_init__(self) -> None:
        self.size_request()
        if not isinstance(self.threads, Integral) or self.threads < 0:
            raise OptionError(f"threads {self.threads!r}; it must be 0 (automatic) or more")
        for name, value, allowed in (
            ("on_truncated", self.on_truncated, ("fail", "keep")),
            ("on_unsupported", self.on_unsupported, ("fail", "drop")),
            ("hw", self.hw, ("auto", "off", "decode", "full")),
        ):
            if value not in allowed:
                raise OptionError(f"{name} {value!r}; allowed are {', '.join(allowed)}")
        if not isinstance(self.batch, Integral) or not 1 <= self.batch <= MOST_AT_ONCE:
            raise OptionError(f"batch {self.batch!r}; allowed are 1 to {MOST_AT_ONCE} frames at once")
        parse_devices(self.device)
        if self.quality is not None and not (isinstance(self.quality, int) and 1 <= self.quality <= 100):
            raise OptionError(f"quality {self.quality!r}; allowed are 1 to 100")
        if self.fps is not None:
            parse_rate(self.fps)
        self.error_budget()
        self.encoder_request()
        self.trim()
        self.selection()
        self.fields()

    def encoder_request(self) -> EncoderRequest:
        """What is asked of the encoder, read.

        Raises:
            OptionError: it is not to be read, or contradicts itself.
        """
        return EncoderRequest(
            self.encoder,
            self.pix_fmt,
            self.crf,
            self.preset,
            self.tune,
            parse_bitrate(self.bitrate),
            self.lossless,
            parse_options(self.encoder_options),
            self.use,
        )

    def upscaler(
        self,
        *,
        reuse: bool = False,
        surfaces: bool = False,
        keep: bool = False,
        batch: int = 1,
        compressed: bool = False,
        on_note: Callable[[str], None] = lambda _: None,
        on_build: Callable[[float], bool] = lambda _: True,
    ) -> Upscaler:
        """An upscaler as it is asked for; what is left open follows from the use.

        Args:
            reuse: whether the pictures will be consecutive frames, of which only what changed is computed.
            surfaces: whether they may come as surfaces, as `Upscaler` says.
            keep: whether they stay on the device.
            batch: how many are computed at once.
            compressed: whether they come from a codec that predicts pictures and loses detail.
            on_note: is told what takes its time and why.
            on_build: is told how far an engine is built, as `Upscaler` says.

        Raises:
            OptionError, ModelError.
        """
        archive = self.use == "archive"
        return Upscaler(
            self.scale,
            usual_model_name(archive=archive, compressed=compressed) if self.model is None else self.model,
            size=self.size,
            fit=self.fit,
            backend=self.backend,
            precision="fp32" if archive and self.precision == "auto" else self.precision,
            threads=self.threads,
            device=self.device,
            surfaces=surfaces,
            keep=keep,
            reuse=reuse,
            batch=batch,
            wait=self.wait_engine,
            on_note=on_note,
            on_build=on_build,
        )

    def selection(self) -> Selection:
        """`map` and `video_stream`, read.

        Raises:
            OptionError: one is no stream specifier, or the number is negative.
        """
        return Selection.parse(self.map, self.video_stream)

    def size_request(self) -> SizeRequest:
        """What is asked of the output's size.

        Raises:
            OptionError: it makes no sense.
        """
        return SizeRequest(self.scale, self.size, self.fit, self.square_pixels)

    def trim(self) -> Trim:
        """`start`, `end`, `duration` and `frames`, read.

        Raises:
            OptionError: one of them is no time, or they contradict each other.
        """
        return Trim.parse(self.start, self.end, self.duration, self.frames)

    def error_budget(self) -> ErrorBudget:
        """`max_decode_errors`, read.

        Raises:
            OptionError: it is neither a number nor a percentage.
        """
        try:
            return ErrorBudget.parse(str(self.max_decode_errors))
        except ValueError as exc:
            raise OptionError(
                f"max decode errors {self.max_decode_errors!r}; give a number of packets, or a percentage such as 10%"
            ) from exc

    def fields(self) -> FieldOptions:
        """How interlaced pictures are treated."""
        return FieldOptions(self.deinterlace, self.field_order, self.field_rate)
