"""The two ends of a job: a video file or an image sequence to read, and one of them to write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from vsr.copying.selection import Selection
from vsr.errors import ContainerError, OptionError, OutputExistsError
from vsr.fields.deinterlace import ORDERS, Deinterlacer
from vsr.frame import PixelFormat, VideoInfo
from vsr.hardware import hardware_decoder, plan_nvenc
from vsr.options import UpscaleOptions
from vsr.pictures.files import STILL_SUFFIXES, check_memory, refuse_unread
from vsr.pictures.sequence import DEFAULT_RATE, FIRST_NUMBER, Pattern, is_sequence, parse_rate
from vsr.pictures.sequence_sink import SequenceSink, picture_container, plan_pictures
from vsr.pictures.sequence_source import SequenceSource
from vsr.reading.demux import open_input
from vsr.remux import Remux
from vsr.sink import STDOUT, Sink, refuse_terminal, streaming_container
from vsr.source import Source
from vsr.store import check_output_path, remove_abandoned, same_file
from vsr.writing.containers import CONTAINERS, Container, container_of
from vsr.writing.encoder_options import EncoderRequest
from vsr.writing.encoders import EncoderPlan, plan_encoder

LOSSY_420: Final = ("auto", "x264", "libx264", "x265", "libx265", "svtav1", "libsvtav1", "vp9", "libvpx-vp9")

Note = Callable[[str], None]
AnySource = Source | SequenceSource
AnySink = Sink | SequenceSink


@dataclass(frozen=True)
class Destination:
    """What a job writes.

    Attributes:
        name: as given.
        container: of the video, or what takes its place where pictures are written.
        pattern: of the pictures' names; None for a video.
    """

    name: str
    container: Container
    pattern: Pattern | None = None


def check_names(input: str, output: str) -> None:
    """See that there are names at all, of which an empty one would mean the current folder.

    Raises:
        OptionError: one is empty, or no system would have it.
    """
    for what, name in (("input", input), ("output", output)):
        if not name or "\0" in name:
            raise OptionError(f"the name of the {what} is {name!r}; the name of a file or folder is needed")


def check_paths(input: Path, output: str, options: UpscaleOptions) -> Destination:
    """See what is to be written, and that it may be, before anything is opened.

    Raises:
        OptionError, ContainerError, OutputExistsError, OutputError.
        UnsupportedInputError: the input is a picture of a kind that is not read.
    """
    refuse_unread(input)
    if options.fps is not None and not is_sequence(input):
        raise OptionError(
            f"fps {options.fps} is for image sequences, and the frames of {input} have times of their own"
        )
    target = Path(output)
    video = output == STDOUT or target.suffix.lower() in CONTAINERS  # in the name of a video a number means nothing
    pattern = None if video else Pattern.parse(target)
    if pattern is not None:
        return Destination(output, picture_container(pattern), pattern)
    if options.quality is not None:
        raise OptionError(f"quality {options.quality} is for pictures; a video takes --crf")
    if output == STDOUT:
        refuse_terminal()
        return Destination(output, streaming_container())
    if same_file(input, target):
        raise OutputExistsError(f"input and output are the same file, {target}", "write to another name")
    if target.suffix.lower() in STILL_SUFFIXES:
        raise ContainerError(
            f"{input} is read as many pictures, and {target.name} is one",
            f"write a sequence, such as {target.with_name(f'{target.stem}_%05d{target.suffix}')}, or a video",
        )
    if _is_folder(target):
        raise OutputExistsError(f"{target} is a folder, and a file is needed", f"name it, as in {target / 'out.mkv'}")
    container = container_of(target)
    check_output_path(target, overwrite=options.overwrite)
    return Destination(output, container)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long, which the check of the path explains
        return False


def open_source(input: Path, destination: Destination, options: UpscaleOptions, note: Note) -> AnySource:
    """Open the input.

    Raises:
        InputError: as `Source` and `SequenceSource`.
        OptionError: likewise, or streams of a sequence are to be chosen.
        OutputExistsError: a sequence would be written over itself.
    """
    budget = options.error_budget()
    if not is_sequence(input):
        return Source(
            input,
            on_truncated=options.on_truncated,
            budget=budget,
            trim=options.trim(),
            selection=options.selection(),
            note=note,
            hardware=hardware_decoder(options, note),
        )
    if options.selection() != Selection():
        raise OptionError(f"streams are chosen, and {input} is an image sequence", "leave out map and video stream")
    source = SequenceSource(
        input,
        rate=None if options.fps is None else parse_rate(options.fps),
        gaps=options.on_truncated == "keep",
        budget=budget,
        trim=options.trim(),
        upright=destination.pattern is None,
        note=note,
    )
    check_memory(source.kind, options.scale, source.sequence.paths[0])
    if destination.pattern is None:
        if options.fps is None:
            note(f"the pictures are shown at {DEFAULT_RATE} per second; --fps says otherwise")
    else:
        own = {destination.pattern.path(number).resolve() for number in source.sequence.numbers}
        if same := own & {path.resolve() for path in source.sequence.paths}:
            raise OutputExistsError(f"{min(same)} would be both input and output", "write to other names")
    return source


def open_deinterlacer(source: AnySource, options: UpscaleOptions, note: Note) -> Deinterlacer:
    """What makes progressive pictures of those that the source yields.

    Raises:
        OptionError: a sequence is to be searched for interlaced pictures.
        InputError: as `Deinterlacer.for_source`.
    """
    if isinstance(source, Source):
        return Deinterlacer.for_source(source, options.fields(), note)
    if options.deinterlace == "detect":
        raise OptionError("deinterlace 'detect' is for videos", "say --deinterlace bwdif, with --field-order")
    deinterlacer = Deinterlacer(source.info, options.fields(), ORDERS.get(options.field_order))
    if (opening := deinterlacer.opening_note()) is not None:
        note(opening)
    return deinterlacer


def open_remux(
    input: Path, source: AnySource, destination: Destination, options: UpscaleOptions, note: Note
) -> Remux | None:
    """The other streams of a video on their way into another; None where there are none, or nowhere for them to go."""
    if isinstance(source, SequenceSource):
        return None
    if destination.pattern is not None:
        with open_input(input) as container:
            others = len(container.streams) - 1
        if others:
            note(f"only the pictures are written; {others} other streams have no place in them")
        return None
    return Remux(
        input,
        source.stream_index,
        destination.container,
        options.on_unsupported,
        window=source.window,
        selection=options.selection(),
        skipped=round(source.skipped * (source.info.rate or 0)),
    )


def plan_output(
    source: AnySource, destination: Destination, width: int, height: int, options: UpscaleOptions, note: Note
) -> EncoderPlan:
    """In what form pictures of this size are written.

    Raises:
        EncoderError, OptionError, OutputError.
    """
    fmt = source.info.format
    if destination.pattern is not None:
        asked = replace(options.encoder_request(), lossless=False)
        if asked != EncoderRequest():
            raise OptionError(
                f"{destination.container.title} has no video encoder, and one or its options are asked for",
                "leave them out; --quality is for .jpg and .webp",
            )
        return plan_pictures(destination.pattern, fmt, quality=options.quality, lossless=options.lossless)
    request = options.encoder_request()
    if isinstance(source, SequenceSource):
        request, notes = _playable(request, fmt, destination.container)
        plan = plan_encoder(destination.container, fmt, width, height, request)
        return replace(plan, notes=(*notes, *plan.notes))
    request = plan_nvenc(options, destination.container, fmt, width, height, note)
    return plan_encoder(destination.container, fmt, width, height, request)


def open_sink(
    destination: Destination,
    source: AnySource,
    info: VideoInfo,
    plan: EncoderPlan,
    remux: Remux | None,
    options: UpscaleOptions,
    note: Note,
) -> AnySink:
    """Open the output for pictures described by `info`.

    Raises:
        OutputError: as `Sink` and `SequenceSink`.
    """
    if destination.name != STDOUT:
        remove_abandoned(Path(destination.name), note)
    if destination.pattern is None:
        return Sink(
            destination.name,
            destination.container,
            info,
            plan,
            remux,
            overwrite=options.overwrite,
            threads=options.threads,
            hdr=source.hdr,
        )
    numbered = isinstance(source, SequenceSource)
    return SequenceSink(
        destination.pattern,
        info,
        plan,
        quality="lossless" if options.lossless else options.quality,
        overwrite=options.overwrite,
        first_number=source.sequence.numbers[0] if isinstance(source, SequenceSource) else FIRST_NUMBER,
        by_pts=numbered,
        attached=source.attached if isinstance(source, SequenceSource) else None,
        note=note,
    )


def _playable(request: EncoderRequest, fmt: PixelFormat, container: Container) -> tuple[EncoderRequest, list[str]]:
    """A sequence has no form as a video yet: unless one is asked for, it gets the one that players know."""
    asked = request.pix_fmt is not None or request.lossless or request.encoder not in LOSSY_420
    if asked or (fmt.alpha and container.alpha):
        return request, []
    pix_fmt = "yuv420p" if fmt.bits == 8 or request.encoder == "vp9" else "yuv420p10le"
    keep = "--pix-fmt, --encoder x264rgb or --lossless"
    what = "grey" if fmt.family == "gray" else "R'G'B'"
    note = f"{what} pictures are encoded as {pix_fmt}, as players expect; {keep} asks for another form"
    return replace(request, pix_fmt=pix_fmt), [note]
