"""Tracks of timed metadata in MP4 and QuickTime files: what cameras record beside the pictures.

GoPro's telemetry (`gpmd`), Apple's (`mebx`), Google's (`camm`), Sony's (`rtmd`) and others have no codec that
libavformat knows. Their packets are copied like all others; what says how to read them is the sample description, which
goes from the one header into the other as it is (ISO/IEC 14496-12 sections 8.5.2 and 12.3).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vsr.boxes import boxes, index_of

HANDLER_AT: Final = 8  # in hdlr, after version, flags and a reserved word
HANDLERS: Final = (b"meta", b"fdsc", b"camm", b"data")  # of tracks whose samples refer to nothing else in the file
MEDIA_HEADERS: Final = ("nmhd", "gmhd")  # the first says nothing, the second is QuickTime's
DESCRIPTIONS_HEAD: Final = 8  # version, flags and count, before the sample entries of stsd


@dataclass(frozen=True)
class DataTrack:
    """What a header says of a track of timed metadata.

    Attributes:
        handler: content of its `hdlr` box.
        media_header: type and content of its media header box.
        descriptions: content of its `stsd` box.
        references: type of each reference to other tracks, and the indices of their streams.
    """

    handler: bytes
    media_header: tuple[str, bytes]
    descriptions: bytes
    references: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def kind(self) -> str:
        """The four letters that name the format of the samples."""
        return self.descriptions[DESCRIPTIONS_HEAD + 4 : DESCRIPTIONS_HEAD + 8].decode("latin-1")


def data_track(path: Path, index: int) -> DataTrack | None:
    """The description of stream `index` of the file at `path`; None if it is no track of timed metadata."""
    tracks = [dict(boxes(content)) for name, content in boxes(index_of(path)) if name == "trak"]
    if index >= len(tracks):
        return None
    media = dict(boxes(tracks[index].get("mdia", b"")))
    information = dict(boxes(media.get("minf", b"")))
    handler, descriptions = media.get("hdlr", b""), dict(boxes(information.get("stbl", b""))).get("stsd", b"")
    header = next(((name, information[name]) for name in MEDIA_HEADERS if name in information), None)
    entries = list(boxes(descriptions[DESCRIPTIONS_HEAD:]))
    if handler[HANDLER_AT : HANDLER_AT + 4] not in HANDLERS or header is None or len(entries) != 1:
        return None
    index_of_id = {track_id(track.get("tkhd", b"")): number for number, track in enumerate(tracks)}
    references = []
    for name, content in boxes(tracks[index].get("tref", b"")):
        ids = struct.unpack(f">{len(content) // 4}I", content[: len(content) // 4 * 4])
        references.append((name, tuple(index_of_id[i] for i in ids if i in index_of_id)))
    return DataTrack(handler, header, descriptions, tuple(references))


def track_id(header: bytes) -> int:
    """The number that other tracks refer to, in the content of a `tkhd` box."""
    at = 20 if header[:1] == b"\1" else 12
    return int.from_bytes(header[at : at + 4], "big")


def add_data_track(output: Any, stream: Any) -> Any:
    """Create a stream in `output` (MP4 or QuickTime) for the packets of a data track.

    Its description is put in at the end (`vsr.writing.quicktime`); until then MP4 takes it for GoPro's.
    """
    if output.format.name == "mp4":  # which knows no other
        return output.add_mux_stream("bin_data", time_base=stream.time_base)
    return output.add_stream_from_template(stream)
