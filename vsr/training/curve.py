"""A picture of a training: loss and validation PSNR over the steps, drawn by Pillow."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont

WIDTH: Final = 900
HEIGHT: Final = 480
LEFT, RIGHT, TOP, BOTTOM = 80, WIDTH - 80, 50, HEIGHT - 50
LOSS_COLOUR: Final = (190, 60, 40)
PSNR_COLOUR: Final = (30, 90, 170)
GREY: Final = (205, 205, 205)
TICKS: Final = 5


def draw_curve(entries: Sequence[dict[str, Any]], title: str, out: Path) -> bool:
    """Draw the log `entries` (`step`, `loss`, `validation_psnr`) as the PNG `out`.

    Loss is on the left, on a logarithmic axis, PSNR in dB on the right. Returns whether it could be drawn and written;
    a training does not end for want of its picture.
    """
    points = [
        (float(e["step"]), math.log10(e["loss"]), float(e["validation_psnr"]))
        for e in entries
        if e["loss"] > 0 and math.isfinite(e["loss"]) and math.isfinite(e["validation_psnr"])
    ]
    if not points:
        return False
    steps, losses, psnrs = (list(column) for column in zip(*points, strict=True))
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(14)
    draw.text((LEFT, 12), f"{title}: validation {psnrs[-1]:.3f} dB at step {int(steps[-1])}", fill="black", font=font)
    _axis(draw, font, losses, LEFT - 8, "rm", LOSS_COLOUR, lambda v: f"{10**v:.4f}")
    _axis(draw, font, psnrs, RIGHT + 8, "lm", PSNR_COLOUR, lambda v: f"{v:.2f}")
    draw.text((LEFT, TOP - 16), "loss", fill=LOSS_COLOUR, font=font, anchor="mm")
    draw.text((RIGHT, TOP - 16), "PSNR, dB", fill=PSNR_COLOUR, font=font, anchor="mm")
    last = max(steps)
    for tick in range(TICKS + 1):
        x = LEFT + (RIGHT - LEFT) * tick / TICKS
        draw.text((x, BOTTOM + 16), f"{last * tick / TICKS:.0f}", fill="black", font=font, anchor="mm")
    for values, colour in ((losses, LOSS_COLOUR), (psnrs, PSNR_COLOUR)):
        low, high = _limits(values)
        line = [
            (LEFT + (RIGHT - LEFT) * step / last, BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low))
            for step, value in zip(steps, values, strict=True)
        ]
        draw.line(line, fill=colour, width=2)
        for x, y in line if len(line) < 40 else line[-1:]:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
    temporary = out.with_name(out.name + ".tmp")
    try:
        image.save(temporary, format="PNG")
        temporary.replace(out)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        return False
    return True


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis: a little beyond the values."""
    room = max((max(values) - min(values)) * 0.05, 1e-3)
    return min(values) - room, max(values) + room


def _axis(
    draw: ImageDraw.ImageDraw,
    font: Any,
    values: Sequence[float],
    x: float,
    anchor: str,
    colour: tuple[int, int, int],
    label: Callable[[float], str],
) -> None:
    low, high = _limits(values)
    for tick in range(TICKS + 1):
        y = BOTTOM - (BOTTOM - TOP) * tick / TICKS
        draw.line(((LEFT, y), (RIGHT, y)), fill=GREY)
        draw.text((x, y), label(low + (high - low) * tick / TICKS), fill=colour, font=font, anchor=anchor)
