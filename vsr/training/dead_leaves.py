"""Pictures of random shapes that cover each other: sharp edges and corners of every contrast, as photographs have few.

The dead leaves model: Lee, Mumford, Huang, "Occlusion Models for Natural Images", 2001; as training data: Achddou,
Gousseau, Ladjal, "Synthetic Images as a Regularity Prior for Image Restoration Neural Networks", 2021. Here the shapes
are ellipses, polygons, rectangles, strokes and blobs; small ones lie mostly, not always, above large ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from vsr.training.sources import Luma

#: Height and width of a picture in pixels; 12 divides it, as all scales must.
SIDE: Final = 1008
#: Shapes are drawn this many times larger and averaged, so that their edges are smooth.
OVERSAMPLING: Final = 2
#: Radii in pixels, from and to (the last a third of the side), and what share of the picture such shapes about cover.
SIZES: Final = ((60.0, SIDE / 3, 1.5), (20.0, 60.0, 0.7), (7.0, 20.0, 0.4), (2.0, 7.0, 0.1))
#: Smaller shapes, in drawn pixels, are of one brightness.
SMALLEST_TEXTURED: Final = 6.0
#: The standard deviation of the blur in pixels lies between 0 and the first; below the second there is none.
BLUR: Final = (0.7, 0.25)

Random = np.random.Generator


def pictures(seed: int = 1) -> Iterator[Luma]:
    """Pictures without end, uint8 [SIDE, SIDE] each; the same ones for the same seed."""
    number = 0
    while True:
        yield picture(np.random.default_rng((seed, number)))
        number += 1


def picture(rng: Random) -> Luma:
    """One picture, uint8 [SIDE, SIDE]."""
    side = SIDE * OVERSAMPLING
    image = Image.fromarray(_texture(rng, side))
    for radius in _radii(rng) * OVERSAMPLING:
        shape = _shape(rng, float(radius))
        reach = shape.width // 2
        textured = radius > SMALLEST_TEXTURED
        inside = Image.fromarray(_texture(rng, shape.width)) if textured else int(rng.uniform(0, 256))
        x, y = (int(v) for v in rng.integers(-reach, side - reach, 2))
        image.paste(inside, (x, y, x + shape.width, y + shape.height), shape)
    image = image.reduce(OVERSAMPLING)
    blur = rng.uniform(0, BLUR[0])
    return np.asarray(image.filter(ImageFilter.GaussianBlur(blur)) if blur > BLUR[1] else image)


def _radii(rng: Random) -> NDArray[np.float64]:
    """The sizes of the shapes in the order in which they are drawn."""
    found = []
    for least, most, cover in SIZES:
        radii = np.exp(rng.uniform(math.log(least), math.log(most), 4000))
        covered = np.cumsum(2 * radii**2)
        found.append(radii[: max(int(np.searchsorted(covered, cover * SIDE**2 * rng.uniform(0.4, 1.3))), 1)])
    radii = np.concatenate(found)
    return radii[np.argsort(-radii * np.exp(rng.normal(0, 0.6, len(radii))))]


def _shape(rng: Random, radius: float) -> Image.Image:
    """A mask of a random shape about its middle."""
    middle = math.ceil(1.6 * radius)
    mask = Image.new("L", (2 * middle + 1, 2 * middle + 1), 0)
    draw = ImageDraw.Draw(mask)
    kind = rng.integers(5)
    if kind == 3:  # a stroke of some straight pieces
        ends = [(middle + a, middle + b) for a, b in rng.uniform(-radius, radius, (rng.integers(2, 6), 2)).tolist()]
        draw.line(ends, fill=255, width=int(rng.uniform(1.5, 6) * OVERSAMPLING), joint="curve")
        return mask
    if kind == 0:
        outline = _ellipse(rng)
    elif kind == 1:
        turns = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(3, 8)))
        outline = rng.uniform(0.4, 1.3, len(turns)) * np.exp(1j * turns)
    elif kind == 2:
        thin = rng.uniform(0.1, 1)
        outline = np.array([1 + 1j * thin, 1 - 1j * thin, -1 - 1j * thin, -1 + 1j * thin]) * _turn(rng)
    else:
        turns = np.linspace(0, 2 * math.pi, 64)
        waves = sum(rng.normal(0, 0.25 / k) * np.cos(k * turns + rng.uniform(0, 2 * math.pi)) for k in range(1, 5))
        outline = np.clip(1 + waves, 0.2, 1.5) * np.exp(1j * turns)
    draw.polygon([(middle + radius * p.real, middle + radius * p.imag) for p in outline.tolist()], fill=255)
    return mask


def _ellipse(rng: Random) -> NDArray[Any]:
    turns = np.linspace(0, 2 * math.pi, 48)
    return (np.cos(turns) + 1j * rng.uniform(0.3, 1) * np.sin(turns)) * _turn(rng)


def _turn(rng: Random) -> complex:
    angle = rng.uniform(0, 2 * math.pi)
    return complex(math.cos(angle), math.sin(angle))


def _texture(rng: Random, side: int) -> Luma:
    """What is inside of a shape: one brightness (half of them), a slope, stripes, or noise of several sizes."""
    out = np.full((side, side), rng.uniform(10, 245), np.float32)
    kind = rng.choice(4, p=[0.45, 0.25, 0.15, 0.15])
    angle = rng.uniform(0, 2 * math.pi)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    along = x * math.cos(angle) + y * math.sin(angle)
    if kind == 1:
        out += rng.normal(0, 40) * along / side
    elif kind == 2:
        period = OVERSAMPLING * math.exp(rng.uniform(math.log(2.5), math.log(24)))
        stripes = np.sin(2 * math.pi * along / period + rng.uniform(0, 2 * math.pi))
        if rng.random() < 0.5:
            stripes = np.clip(stripes * rng.uniform(1, 6), -1, 1)
        out += rng.uniform(5, 80) * stripes
    elif kind == 3:
        noise = np.zeros_like(out)
        for size in (2, 4, 8, 16, 32):
            coarse = rng.normal(0, 1, (side // size + 2, side // size + 2)).astype(np.float32)
            fine = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
            noise += np.asarray(fine) * size ** rng.uniform(0.3, 1)
        out += noise / max(float(noise.std()), 1e-6) * rng.uniform(3, 30)
    return np.clip(out, 0, 255).astype(np.uint8)
