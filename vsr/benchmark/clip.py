"""The clip that is measured with when none is given: the same bits wherever it is made."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
import numpy.typing as npt

from vsr.pixel_formats import samples_of

RATE: Final = 25
SEED: Final = 1
SQUARES: Final = 3
QUALITY: Final = {"preset": "veryfast", "crf": "20"}


def make_clip(path: Path, width: int, height: int, frames: int) -> None:
    """Write a H.264 MP4 of `frames` pictures in which all of the picture moves.

    The texture has the spectrum of photographs (amplitude falling as 1/f: D. J. Field, "Relations between the
    statistics of natural images and the response properties of cortical cells", JOSA A 4(12), 1987); it pans, and
    squares with hard edges cross it.
    """
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options={**QUALITY})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for number, (luma, u, v) in enumerate(_pictures(width, height, frames)):
            frame = av.VideoFrame(width, height, "yuv420p")
            for plane, samples in zip(frame.planes, (luma, u, v), strict=True):
                samples_of(plane)[:] = samples
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _pictures(width: int, height: int, frames: int) -> Iterator[tuple[npt.NDArray[np.uint8], ...]]:
    rng = np.random.default_rng(SEED)
    textures = [_texture(rng, 2 * height, 2 * width), *(_texture(rng, height + 2, width + 2) for _ in range(2))]
    places = [(rng.integers(0, width), rng.integers(0, height)) for _ in range(SQUARES)]
    steps = [(rng.integers(-5, 6), rng.integers(-3, 4)) for _ in range(SQUARES)]
    side = max(4, height // 8)
    for number in range(frames):
        planes = []
        for texture, shift in zip(textures, (0, 1, 1), strict=True):
            rows, columns = (height + shift) >> shift, (width + shift) >> shift
            picture = np.roll(texture, (-number // 2, -2 * number), axis=(0, 1))[:rows, :columns].copy()
            for index, ((x, y), (dx, dy)) in enumerate(zip(places, steps, strict=True)):
                left, top = (int(x + number * dx) % width) >> shift, (int(y + number * dy) % height) >> shift
                picture[top : top + (side >> shift), left : left + (side >> shift)] = 60 + 60 * index
            planes.append(picture)
        yield tuple(planes)


def _texture(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint8]:
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    radius[0, 0] = 1.0
    spectrum = np.fft.fft2(rng.standard_normal((height, width))) / radius
    field = np.fft.ifft2(spectrum).real
    return np.asarray(np.clip(126 + 40 * field / field.std(), 16, 235), dtype=np.uint8)
