"""The tones of training patches: contrast raised, or put through a curve, and low resolution made from that.

Photographs are mostly low in contrast and their edges are soft, and a network of ReLUs does not carry over to a sharp
edge of 200 code values what it has learnt of soft ones of 50 (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vsr.resample import taps

Samples = NDArray[np.float32]
Tone = Callable[[Samples], Samples]

#: How far raised contrast moves the brightness, of 1.
BRIGHTNESS: Final = 0.2
#: The largest slope of a curve, and half of its height, of 1: from, to.
STEEPEST: Final = 8.0
HALF_HEIGHT: Final = (0.12, 0.5)
#: Low-resolution pixels around a patch that is degraded anew: more than the antialiased cubic reads.
MARGIN: Final = 4
_WHITE: Final = np.float32(255.0)


def stretch(patch: Samples, most: float, rng: np.random.Generator) -> tuple[float, float]:
    """By which factor the contrast of a patch (0 to 1) shall be raised, and what is added then.

    The result stays within 0 to 1. The factor is drawn between 1 and the largest possible one, at most `most`, evenly
    on a logarithmic scale; then the brightness moves by up to `BRIGHTNESS`, as far as there is room.
    """
    least, span = float(patch.min()), float(np.ptp(patch))
    largest = min(most, 1.0 / max(span, 1e-3))
    if largest <= 1.0:
        return 1.0, 0.0
    factor = float(np.exp(rng.uniform(0.0, np.log(largest))))
    room = 1.0 - span * factor
    middle = least + span / 2 + rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    return factor, min(max(middle - span * factor / 2, 0.0), room) - least * factor


def raise_contrast(low: Samples, high: Samples, most: float, rng: np.random.Generator) -> None:
    """Raise the contrast of a pair of patches, in place: both by the same factor, see `stretch`.

    Shrinking is linear, so the pair still belongs together. But the rounding of the low resolution grows with it.
    """
    factor, offset = stretch(high, most, rng)
    if factor > 1.0:
        for patch in (low, high):
            patch *= np.float32(factor)
            patch += np.float32(offset)


def draw_curve(patch: Samples, rng: np.random.Generator) -> Tone:
    """A hyperbolic tangent around the tone of a random pixel of `patch` (0 to 1): what lies above or below goes flat.

    Soft edges through that tone become sharp ones of high contrast, as in drawings, text and on screens, in the shapes
    of photographs.
    """
    slope = float(np.exp(rng.uniform(0.0, np.log(STEEPEST))))
    half = float(rng.uniform(*HALF_HEIGHT))
    centre = float(rng.choice(patch.reshape(-1)))
    middle = float(rng.uniform(half, 1.0 - half))
    return lambda x: middle + half * np.tanh((x - centre) * (slope / half))


class Degradation:
    """Low-resolution patches from high-resolution ones, as `vsr.training.prepare.degrade` makes pictures.

    patch: side of a low-resolution patch in pixels.
    """

    def __init__(self, scale: int, patch: int) -> None:
        side = patch + 2 * MARGIN
        positions, weights = taps(side * scale, side, 1.0 / scale)
        whole = np.zeros((side, side * scale))
        for row, (at, weight) in enumerate(zip(positions, weights, strict=True)):
            np.add.at(whole[row], at, weight)
        self._rows: Samples = whole[MARGIN:-MARGIN].astype(np.float32)
        self._inner = slice(MARGIN * scale, (MARGIN + patch) * scale)

    def inner(self, patches: Samples) -> Samples:
        """The patches [..., p·scale, p·scale] within those that have `MARGIN` low-resolution pixels around them."""
        return patches[..., self._inner, self._inner]

    def __call__(self, patches: Samples) -> tuple[Samples, Samples]:
        """Patches with their margin, values about 0 to 1, become pairs.

        Returns low [N, 1, p, p] and high resolution [N, 1, p·scale, p·scale], each in whole code values over 255.
        """
        codes = _whole_codes(patches * _WHITE)
        low = _whole_codes(self._rows @ codes @ self._rows.T)
        return low[:, None] / _WHITE, self.inner(codes)[:, None] / _WHITE


def _whole_codes(values: NDArray[Any]) -> Samples:
    codes: Samples = np.rint(np.clip(values, 0.0, _WHITE))
    return codes
