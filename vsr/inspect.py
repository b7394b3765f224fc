"""What `vsr info` tells of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from vsr.errors import NotMediaError
from vsr.pictures.files import CHANNEL_NAMES, is_still, read_kind
from vsr.pictures.sequence import find_sequence, is_sequence
from vsr.reading.demux import codec_name, open_input
from vsr.reading.truncation import cut_off_by_structure
from vsr.source import Source
from vsr.stills import describe_still


def describe(path: Path) -> dict[str, Any]:
    """Facts of a media file, still image or image sequence, as plain values.

    Raises:
        InputError: the file is missing or is no media.
    """
    if is_sequence(path):
        return {"file": str(path), **_sequence_facts(path)}
    if is_still(path):
        return {"file": str(path), **describe_still(path)}
    with open_input(path) as container:
        facts: dict[str, Any] = {
            "file": str(path),
            "container": container.format.long_name or container.format.name,
            "size_bytes": path.stat().st_size,
            "duration_s": None if container.duration is None else container.duration / av.time_base,
            "bit_rate": container.bit_rate or None,
            "chapters": len(container.chapters()) or None,
            "cut_off": cut_off_by_structure(path),
            "tags": dict(container.metadata) or None,
            "streams": [_stream_facts(s) for s in container.streams],
        }
    try:
        source = Source(path, on_truncated="keep")
    except NotMediaError:
        return facts  # audio only: still worth describing
    try:
        info = source.info
        picture = facts["streams"][source.stream_index]
        picture.update(
            size=f"{info.width}x{info.height}",
            crop=str(source.crop) if source.crop else None,
            pixel_format=info.pix_fmt_from_header,
            bits=info.format.bits,
            rate=None if info.rate is None else str(info.rate),
            frames_from_header=info.num_frames_from_header,
            matrix=info.color.matrix,
            primaries=info.color.primaries,
            transfer=info.color.transfer,
            range=info.color.range.name.lower(),
            chroma_location=info.color.siting.name.lower(),
            sample_aspect_ratio=None if info.sample_aspect_ratio is None else str(info.sample_aspect_ratio),
            field_order=info.field_order.value,
            rotated=info.display_matrix is not None,
            upscaled=True,
        )
    finally:
        source.close()
    return facts


def _sequence_facts(path: Path) -> dict[str, Any]:
    """Of an image sequence; what its pictures are is that of the first."""
    sequence = find_sequence(path, gaps=True)
    kind = read_kind(sequence.paths[0])
    return {
        "format": f"sequence of {kind.format}",
        "pictures": len(sequence.paths),
        "first": sequence.paths[0].name,
        "last": sequence.paths[-1].name,
        "missing": sequence.missing_count,
        "first_missing": sequence.missing()[0] if sequence.missing_count else None,
        "size": f"{kind.width}x{kind.height}",
        "channels": CHANNEL_NAMES[kind.channels],
        "bits": kind.bits,
        "size_bytes": sum(p.stat().st_size for p in sequence.paths),
        "streams": [],
    }


def _stream_facts(stream: Any) -> dict[str, Any]:
    return {
        "index": stream.index,
        "type": stream.type,
        "codec": codec_name(stream),
        "language": stream.language,
        "time_base": None if stream.time_base is None else str(stream.time_base),
        "start_s": None if stream.start_time is None else float(stream.start_time * stream.time_base),
        "duration_s": None if stream.duration is None else float(stream.duration * stream.time_base),
        "disposition": [flag.name for flag in type(stream.disposition) if flag & stream.disposition] or None,
    }
