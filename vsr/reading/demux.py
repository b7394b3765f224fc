"""Opening input files with PyAV, and saying in plain words why one cannot be opened.

Everything that libavformat raises on a broken input is translated here, for the source and for the remux alike.
"""

from __future__ import annotations

import codecs
import errno
import stat
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import av
import av.container
import av.error
import av.stream

from vsr.boxes import INDEX, is_mp4, top_level_boxes
from vsr.errors import InputError, MissingInputError, NotMediaError
from vsr.reading.late_streams import bytes_to_probe, undecodable

TEXT_SAMPLE: Final = 4096
ENDLESS_US: Final = 10**12


def check_input_path(path: Path) -> None:
    """See that `path` is a readable file with something in it.

    Raises:
        MissingInputError: it is not there, or cannot be read.
        NotMediaError: it is empty.
    """
    try:
        if path.is_dir():
            raise MissingInputError(f"{path} is a folder, and a file is needed")
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise MissingInputError(f"{path} is a pipe or a device, and a file is needed: it is read more than once")
        with path.open("rb") as file:
            if not file.read(1):
                raise NotMediaError(f"{path} is empty (0 bytes)")
    except FileNotFoundError as exc:
        raise missing_input(path) from exc
    except OSError as exc:
        raise MissingInputError(f"{path} cannot be read: {exc.strerror or exc}") from exc


def missing_input(path: Path) -> MissingInputError:
    """The error for a `path` at which there is nothing."""
    if str(path) == "-":
        return MissingInputError("an input is read more than once, which standard input cannot be", "give a file")
    return MissingInputError(f"{path} does not exist")


def open_input(path: Path, format: str | None = None) -> av.container.InputContainer:
    """Open `path` for demuxing.

    Args:
        path: the file.
        format: libavformat's name of its container; None to find out, for which a file may be too small.

    Raises:
        MissingInputError: it is not there, or cannot be read.
        NotMediaError: libavformat finds no media in it.
    """
    check_input_path(path)
    try:
        # "file:" keeps libavformat from reading a name such as "a:b.mp4" as a protocol; undecodable tags are no reason
        # to refuse a file.
        container = av.open(f"file:{path}", "r", format=format, metadata_errors="replace")
        if container.format.name == "mpegts":
            needed = bytes_to_probe(path, _known_streams(container))
            if needed is not None:
                container.close()
                # Without scan_all_pmts it stops at the first table, whatever the others name.
                how = {"probesize": str(needed), "analyzeduration": str(ENDLESS_US), "scan_all_pmts": "1"}
                container = av.open(f"file:{path}", "r", format=format, metadata_errors="replace", options=how)
        return container
    except (av.error.FFmpegError, OSError, ValueError) as exc:
        raise NotMediaError(f"{path} {_diagnosis(path, exc)}") from exc


def path_of(container: av.container.InputContainer) -> Path:
    """The file that `open_input` has opened."""
    return Path(container.name.removeprefix("file:"))


def codec_name(stream: Any) -> str:
    """FFmpeg's name of a stream's codec, or what the header says of a stream that has no decoder here, or "unknown"."""
    context = stream.codec_context
    if context is not None:
        return str(context.codec.canonical_name)
    container = stream.container
    if stream.type == "subtitle" and container.format.name == "mpegts":
        return undecodable(path_of(container)).get(stream.id, "unknown")
    name = getattr(stream, "name", None)  # PyAV looks for it in the codec context in some cases, which is not there
    return str(stream.metadata.get("mimetype") or name or "unknown")


def packets(container: av.container.InputContainer, *streams: Any, path: Path) -> Iterator[av.Packet[Any]]:
    """Demux `streams`; an input that breaks off ends the iteration, any other read failure raises.

    Raises:
        InputError: reading failed (a disk or network fault, not the end of a cut file).
    """
    iterator = container.demux(*streams)
    while True:
        try:
            packet = next(iterator)
        except (StopIteration, EOFError):
            return
        except IndexError:
            return  # all is read: PyAV 18 then flushes streams too that appeared meanwhile, and does not know them
        except av.error.InvalidDataError:
            return  # the rest is not readable as this container; truncation is judged by what is missing
        except (av.error.FFmpegError, OSError) as exc:
            if getattr(exc, "errno", None) == errno.EIO and path.exists():
                return  # libavformat's word for a file that ends inside an element
            raise InputError(f"{path} cannot be read any further: {exc.strerror or exc}") from exc
        yield packet


def read_only(container: av.container.InputContainer, wanted: Container[int]) -> None:
    """Let the demuxer pass over every stream whose index is not in `wanted`: MP4 does not even read its samples."""
    for stream in container.streams:
        if stream.index not in wanted:
            stream.discard = av.stream.Discard.all


def is_cover(stream: Any) -> bool:
    """Whether `stream` is a cover: one picture that belongs to the file, shown by libavformat as video."""
    return stream.type == "video" and bool(stream.disposition & av.stream.Disposition.attached_pic)


def is_empty_core(stream: Any) -> bool:
    """Whether `stream` is the AC-3 that libavformat expects beside TrueHD in a Blu-ray's stream, and there is none."""
    context = stream.codec_context
    if stream.type != "audio" or context is None or context.name != "ac3" or context.sample_rate:
        return False
    beside: Iterable[Any] = stream.container.streams.audio
    return any(s.id == stream.id and s.codec_context.name == "truehd" for s in beside if s.codec_context)


def _known_streams(container: av.container.InputContainer) -> frozenset[int]:
    """Identifiers of the streams of which libavformat knows enough to copy or decode them."""
    known = set()
    streams: Iterable[Any] = container.streams
    for stream in streams:
        context = stream.codec_context
        if stream.type == "audio":
            complete = context is not None and context.sample_rate > 0
        elif stream.type == "video":
            complete = context is not None and context.width > 0
        else:
            complete = True
        if complete:
            known.add(int(stream.id))
    return frozenset(known)


def _diagnosis(path: Path, exc: BaseException) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(TEXT_SAMPLE)
        if is_mp4(path):
            ends = [offset + size for kind, offset, size in top_level_boxes(path) if kind == INDEX]
            mend = "copy it again from its origin, or mend it with a tool such as untrunc"
            if not ends:
                return (
                    "is an MP4 file without a moov atom: it was cut off, or its recording was never finished; " + mend
                )
            if (size := path.stat().st_size) < ends[-1]:
                return f"was cut off: its index (moov) should end at byte {ends[-1]}, and the file has {size}; {mend}"
        if head and b"\0" not in head:
            codecs.getincrementaldecoder("utf-8")().decode(head)  # the sample may end inside a character
            return "is a text file, not media"
    except (OSError, UnicodeDecodeError):
        pass
    reason = getattr(exc, "strerror", None) or str(exc)
    return f"cannot be opened as media ({reason}); vsr reads what FFmpeg reads: MP4, MKV, WebM, MOV, TS, AVI and more"
