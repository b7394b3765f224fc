"""Measuring a network in training by the protocol of the super-resolution papers, which is that of
`vsr.evaluation.pairs`.

`vsr eval` (`vsr.evaluation.measure`) measures models in the runtime that ships; this measures functions and torch
modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vsr.errors import InputError
from vsr.evaluation.pairs import read_luma, shrink
from vsr.metrics import psnr
from vsr.resample import imresize

Luma = NDArray[np.uint8]
#: Takes low-resolution luma, float32 [H, W] in 0 to 1, and returns the enlarged luma in the same units.
Enlarge = Callable[[NDArray[np.float32]], NDArray[Any]]

TEST_SETS = ("Set5", "Set14")


def picture_psnr(luma: Luma, scale: int, enlarge: Enlarge) -> float:
    """PSNR in dB of one picture, shrunk by `scale` and enlarged again."""
    low, truth = shrink(luma, scale)
    high = enlarge((low / 255.0).astype(np.float32)).astype(np.float64) * 255.0
    return psnr(truth, np.rint(np.clip(high, 0.0, 255.0)), border=scale)


def folder_psnr(folder: Path, scale: int, enlarge: Enlarge) -> dict[str, float]:
    """PSNR in dB of each PNG in `folder`, by file name. Raises `InputError` when there is none."""
    files = sorted(folder.glob("*.png"))
    if not files:
        raise InputError(f"{folder} holds no PNG pictures to measure on")
    return {path.name: picture_psnr(read_luma(path), scale, enlarge) for path in files}


def standard_psnr(folder: Path, scale: int, enlarge: Enlarge) -> dict[str, float]:
    """Mean PSNR in dB on Set5 and Set14 in `folder` or its `test/`; a set that is missing is left out."""
    root = folder / "test" if (folder / "test").is_dir() else folder
    return {
        name: mean(folder_psnr(root / name, scale, enlarge).values()) for name in TEST_SETS if (root / name).is_dir()
    }


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean of some numbers."""
    return float(np.mean(list(values)))


def bicubic(scale: int) -> Enlarge:
    """The baseline: MATLAB's bicubic enlargement."""
    return lambda low: imresize(low, scale)


def from_module(module: torch.nn.Module) -> Enlarge:
    """Enlarging by a torch network that takes [N, 1, H, W]."""

    def enlarge(low: NDArray[np.float32]) -> NDArray[Any]:
        with torch.no_grad():
            out: NDArray[Any] = module(torch.from_numpy(low)[None, None])[0, 0].numpy()
        return out

    return enlarge


def validation_psnr(pairs: Iterable[tuple[Luma, Luma]], scale: int, module: torch.nn.Module) -> float:
    """Mean PSNR in dB over prepared (low, high) pictures."""
    enlarge = from_module(module)
    figures = []
    for low, high in pairs:
        out = enlarge(low.astype(np.float32) / np.float32(255.0)) * 255.0
        figures.append(psnr(high, np.rint(np.clip(out, 0.0, 255.0)), border=scale))
    return mean(figures)
