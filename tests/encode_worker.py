"""Encodes a few frames for each case on standard input, and says what became of it: a process that may crash.

A line in: JSON [suffix, encoder, format, width, height, pix_fmt, frames]. A line out: "start", then "refused …",
"failed …" or the plan's encoder and format.
"""

from __future__ import annotations

import json
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av

from tests.backends.reference import random_planes
from vsr.errors import EncoderError, VsrError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Frame, VideoInfo
from vsr.sink import Sink
from vsr.writing.containers import container_of
from vsr.writing.encoder_options import EncoderRequest
from vsr.writing.encoders import plan_encoder


def encode(
    folder: Path, suffix: str, encoder: str, name: str, width: int, height: int, pix_fmt: str | None, count: int
) -> str:
    target = folder / f"out{suffix}"
    container, fmt = container_of(target), PIXEL_FORMATS[name]
    try:
        plan = plan_encoder(container, fmt, width, height, EncoderRequest(encoder, pix_fmt))
    except EncoderError as error:
        return f"refused {error}"
    rate = Fraction(25)
    info = VideoInfo(width, height, fmt, name, ColorSpec(), 1 / (rate * 1000), rate=rate)
    sink = Sink(target, container, info, plan, None, threads=1, overwrite=True)
    try:
        frames = (Frame(random_planes(fmt, width, height, i), i * 1000, 1000) for i in range(count))
        for _ in sink.consume(frames):
            pass
        sink.publish()
    except VsrError as error:
        return f"failed {plan.encoder.name} {plan.pix_fmt}: {type(error).__name__} {error}"
    finally:
        sink.discard()
    with av.open(str(target)) as file:
        stream = file.streams.video[0]
        if (stream.width, stream.height) != (width, height):
            return f"failed {plan.encoder.name}: the file says {stream.width}x{stream.height}"
    return f"{plan.encoder.name} {plan.pix_fmt}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            print("start", flush=True)
            print(encode(Path(folder), *json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
