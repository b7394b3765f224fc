"""The clips that are measured with when none is given: the same bits wherever they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
WINDOW: Final = (0.25, 0.2)  # of the screen's width and height that change: 5 % of the picture
LINE: Final = 12  # rows that a line of the screen's text takes
NOISE: Final = 1.0  # of the camera that films the head: standard deviation in codes
SLIDE_S: Final = 2  # that each slide is shown
CRF: Final = {"motion": 20, "screen": 20, "head": 28, "slides": 20}
PRESET: Final = "veryfast"

Plane = npt.NDArray[np.uint8]
Picture = tuple[Plane, ...]


def make_clip(path: Path, width: int, height: int, frames: int, content: str = "motion") -> None:
    """Write a H.264 MP4 of `frames` pictures.

    Textures have the spectrum of photographs (amplitude falling as 1/f: D. J. Field, "Relations between the statistics
    of natural images and the response properties of cortical cells", JOSA A 4(12), 1987).

    Args:
        path: to write.
        width, height: of the pictures; even.
        frames: how many.
        content: `motion`, where all of the picture moves: a texture pans, and squares with hard edges cross it;
            `screen`, a recording of a screen full of text with a window of 5 % of its size in which everything
            changes; `head`, where a textured ellipse moves and changes before a background that is still but for
            the camera's noise; `slides`, where a picture stands for two seconds and gives way to another.
    """
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options={"preset": PRESET, "crf": str(CRF[content])})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for number, picture in enumerate(CONTENTS[content](width, height, frames)):
            frame = av.VideoFrame(width, height, "yuv420p")
            for plane, samples in zip(frame.planes, picture, strict=True):
                samples_of(plane)[:] = samples
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _motion(width: int, height: int, frames: int) -> Iterator[Picture]:
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


def _screen(width: int, height: int, frames: int) -> Iterator[Picture]:
    rng = np.random.default_rng(SEED)
    text = np.where(rng.random((height, width // 2)) < 0.35, 40, 235).repeat(2, axis=1).astype(np.uint8)
    text[np.arange(height) % LINE >= LINE // 2 + 1] = 235  # between the lines
    across, down = int(width * WINDOW[0]) & ~1, int(height * WINDOW[1]) & ~1
    left, top = (width // 3) & ~1, (height // 3) & ~1
    window = _motion(across, down, frames)
    for moving in window:
        planes = [text.copy(), *(np.full((height // 2, width // 2), 128, np.uint8) for _ in range(2))]
        for plane, part, shift in zip(planes, moving, (0, 1, 1), strict=True):
            plane[top >> shift : (top + down) >> shift, left >> shift : (left + across) >> shift] = part
        yield tuple(planes)


def _head(width: int, height: int, frames: int) -> Iterator[Picture]:
    rng = np.random.default_rng(SEED)
    room = [_texture(rng, height >> shift, width >> shift) for shift in (0, 1, 1)]
    face = [_texture(rng, height >> shift, width >> shift) for shift in (0, 1, 1)]
    for number in range(frames):
        x = width / 2 + 0.02 * width * np.sin(2 * np.pi * number / 40)
        y = height * 0.6 + 0.02 * height * np.sin(2 * np.pi * number / 23)
        planes = []
        for still, moving, shift in zip(room, face, (0, 1, 1), strict=True):
            rows, columns = np.ogrid[: still.shape[0], : still.shape[1]]
            across, down = (columns * (1 << shift) - x) / (0.15 * width), (rows * (1 << shift) - y) / (0.33 * height)
            shown = np.roll(moving, (int(y) >> shift, (int(x) + number) >> shift), axis=(0, 1))
            picture = np.where(across**2 + down**2 < 1, shown, still) + rng.normal(0, NOISE, still.shape)
            planes.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
        yield tuple(planes)


def _slides(width: int, height: int, frames: int) -> Iterator[Picture]:
    rng = np.random.default_rng(SEED)
    for number in range(frames):
        if number % (SLIDE_S * RATE) == 0:
            slide = tuple(_texture(rng, height >> shift, width >> shift) for shift in (0, 1, 1))
        yield slide


CONTENTS: Final[dict[str, Callable[[int, int, int], Iterator[Picture]]]] = {
    "motion": _motion,
    "screen": _screen,
    "head": _head,
    "slides": _slides,
}
"""What a clip may show."""


def _texture(rng: np.random.Generator, height: int, width: int) -> Plane:
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    radius[0, 0] = 1.0
    spectrum = np.fft.fft2(rng.standard_normal((height, width))) / radius
    field = np.fft.ifft2(spectrum).real
    return np.asarray(np.clip(126 + 40 * field / field.std(), 16, 235), dtype=np.uint8)
