"""Sound of Windows' codecs in Matroska, whose form for it is the one of WAV, AVI and ASF: a WAVEFORMATEX.

libavformat would write Windows Media Audio, ADPCM, A-law and others so, but only if it is asked to be less strict than
PyAV lets it be. The packets go into a track of another codec then, whose header is exchanged when it has been written.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any, Final

import av
import av.container
import av.error

from vsr.writing.matroska import SoundTrack

STAND_IN: Final = "ac3"  # whose packets the muxer does not look into
FORMAT_CHUNK: Final = b"fmt "
PLAIN_LENGTH: Final = 16  # of a format without the field that says how much follows it


def sound_track(stream: Any) -> SoundTrack | None:
    """What Matroska's header has to say of the copy of `stream`; None if its codec has no number in WAV files.

    libavformat's muxer for those makes the format, and so knows all that PyAV does not show of a stream.
    """
    context = stream.codec_context
    if context is None or not context.sample_rate:
        return None
    file = io.BytesIO()
    scratch = av.open(file, "w", format="wav")
    try:
        scratch.add_stream_from_template(stream, opaque=True)
        scratch.start_encoding()
        head = file.getvalue()
    except (av.error.FFmpegError, ValueError):
        return None
    finally:
        with contextlib.suppress(av.error.FFmpegError, ValueError):  # nobody will read it
            scratch.close()
    at = head.find(FORMAT_CHUNK) + len(FORMAT_CHUNK)
    size = int.from_bytes(head[at : at + 4], "little")
    wave = head[at + 4 : at + 4 + size]
    return SoundTrack(wave + bytes(2) if size == PLAIN_LENGTH else wave, context.sample_rate, context.channels)


def add_stand_in(output: av.container.OutputContainer, stream: Any, track: SoundTrack) -> Any:
    """Create a stream in `output` for the packets of `stream`; `track` has to go into the header afterwards.

    Raises:
        ValueError, av.error.FFmpegError: `output` cannot hold it.
    """
    return output.add_mux_stream(STAND_IN, rate=track.rate, time_base=stream.time_base)


def make_room(created: Any, track: SoundTrack) -> None:
    """Put room for `track` behind the name that the stream `created` has."""
    created.metadata["title"] = created.metadata.get("title", "") + track.room()
