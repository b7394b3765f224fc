"""`vsr eval`: how near models come to the original pictures, computed by the runtime that upscales.

Every model gets the low-resolution luma and goes through its frame graph in an engine, rounding included, so that a
figure here is what `vsr upscale` gives before encoding.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from vsr.engines.engine import PRECISIONS
from vsr.errors import InputError, OptionError
from vsr.evaluation.pairs import PROTOCOL, Item, Pair, TestSet
from vsr.evaluation.sheet import Cell, Row, busiest_window, to_display
from vsr.evaluation.vmaf import VmafMeter
from vsr.frame import PIXEL_FORMATS, Plane, Planes
from vsr.metrics import psnr, ssim
from vsr.model import BICUBIC, shipped_models
from vsr.upscaler import Upscaler

SHEET_ROWS: Final = 4
Say = Callable[[str], None]


@dataclass(frozen=True)
class Score:
    """How near a model came to the original of one file, or the mean over files.

    Attributes:
        psnr_db: of luma; of a video, the mean over the frames that are not identical. Infinite: all are.
        ssim: of luma, the mean over frames.
        vmaf: or None where it was not measured.
        vmaf_neg: likewise.
    """

    psnr_db: float
    ssim: float
    vmaf: float | None = None
    vmaf_neg: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Plain values; an infinite PSNR, for which JSON has no word, is None."""
        finite = None if math.isinf(self.psnr_db) else round(self.psnr_db, 4)
        figures: dict[str, float | None] = {"psnr_db": finite, "ssim": round(self.ssim, 5)}
        if self.vmaf is not None and self.vmaf_neg is not None:
            figures |= {"vmaf": round(self.vmaf, 3), "vmaf_neg": round(self.vmaf_neg, 3)}
        return figures


@dataclass(frozen=True)
class FileScores:
    """One file: its size in the original, how many frames were measured, and the score of each model."""

    name: str
    width: int
    height: int
    frames: int
    scores: dict[str, Score]


@dataclass(frozen=True)
class SetScores:
    """One set of files."""

    name: str
    files: tuple[FileScores, ...]

    def mean(self, model: str) -> Score:
        """The mean over the files, each counting alike."""
        return _mean([file.scores[model] for file in self.files])


@dataclass
class Evaluation:
    """The result.

    Attributes:
        scale: enlargement.
        models: names as they were given, in order.
        engines: what computed each of them.
        sets: the figures.
        rows: of a picture sheet, for the first few files.
    """

    scale: int
    models: tuple[str, ...]
    engines: dict[str, str] = field(default_factory=dict)
    sets: list[SetScores] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "scale": self.scale,
            "protocol": PROTOCOL,
            "engines": self.engines,
            "sets": [
                {
                    "name": one.name,
                    "files": [
                        {
                            "file": file.name,
                            "width": file.width,
                            "height": file.height,
                            "frames": file.frames,
                            "scores": {model: score.to_dict() for model, score in file.scores.items()},
                        }
                        for file in one.files
                    ],
                    "mean": {model: one.mean(model).to_dict() for model in self.models},
                }
                for one in self.sets
            ],
        }

    def to_csv(self) -> str:
        """One line for each file and model, and one for each mean (file `mean`)."""
        names = ["psnr_db", "ssim"]
        if any(s.vmaf is not None for one in self.sets for f in one.files for s in f.scores.values()):
            names += ["vmaf", "vmaf_neg"]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["set", "file", "scale", "frames", "model", *names])
        for one in self.sets:
            for file in one.files:
                for model, score in file.scores.items():
                    figures = score.to_dict()
                    values = ["inf" if figures[name] is None else figures[name] for name in names]
                    table.writerow([one.name, file.name, self.scale, file.frames, model, *values])
            for model in self.models:
                figures = one.mean(model).to_dict()
                values = ["inf" if figures[name] is None else figures[name] for name in names]
                frames = sum(file.frames for file in one.files)
                table.writerow([one.name, "mean", self.scale, frames, model, *values])
        return text.getvalue()


def split_precision(name: str) -> tuple[str, str]:
    """`fast:int8` as model and precision; fp32 where none is given, so that a figure does not depend on the machine."""
    model, _, precision = name.rpartition(":")
    return (model, precision) if model and precision in PRECISIONS else (name, "fp32")


def default_models(scale: int, bits: int = 8) -> tuple[str, ...]:
    """The baseline and every shipped model of the scale; those in int8 too, for 8-bit pictures."""
    full = [name for name, s in shipped_models() if s == scale]
    int8 = [f"{name}:int8" for name, s in shipped_models(quantised=True) if s == scale and bits == 8]
    return (BICUBIC, *sorted([*full, *int8]))


def evaluate(
    sets: Iterable[TestSet],
    models: Iterable[str],
    scale: int,
    *,
    backend: str = "auto",
    threads: int = 0,
    vmaf: str | None = None,
    sheet: bool = False,
    on_file: Say = lambda _: None,
) -> Evaluation:
    """Measure models on sets of pictures.

    Args:
        sets: from `vsr.evaluation.pairs.find_sets`.
        models: `bicubic`, names of shipped models, or paths of ONNX files; `:int8` and the like after it asks for a
            precision.
        scale: enlargement.
        backend: `auto`, or the name of one.
        threads: of the CPU; 0 for all.
        vmaf: an ffmpeg command that has libvmaf, or None to leave VMAF out.
        sheet: keep details of the first files for a picture sheet.
        on_file: called with the name of each file before it is measured.

    Raises:
        OptionError: a model is named twice.
        ModelError, BackendError: a model is missing, of another scale, or cannot be run.
        InputError: a picture cannot be read.
    """
    names = tuple(models)
    if len(set(names)) != len(names):
        raise OptionError(f"a model is named twice in {', '.join(names)}", "name each once")
    result = Evaluation(scale, names)
    with ExitStack() as stack:
        upscalers = {}
        for name in names:
            model, precision = split_precision(name)
            one = Upscaler(scale, model, backend=backend, precision=precision, threads=threads)
            upscalers[name] = stack.enter_context(one)
        for test_set in sets:
            files = []
            for item in test_set.items:
                on_file(item.name)
                file = _File(item, upscalers, scale, vmaf, sheet and len(result.rows) < SHEET_ROWS)
                files.append(file.measure())
                result.rows.extend(file.rows)
            result.sets.append(SetScores(test_set.name, tuple(files)))
        result.engines = {name: upscaler.description for name, upscaler in upscalers.items()}
    return result


class _File:
    """The measurement of one file."""

    def __init__(self, item: Item, upscalers: dict[str, Upscaler], scale: int, vmaf: str | None, sheet: bool) -> None:
        self._item, self._upscalers, self._scale, self._sheet = item, upscalers, scale, sheet
        self._psnr: dict[str, list[float]] = {name: [] for name in upscalers}
        self._ssim: dict[str, list[float]] = {name: [] for name in upscalers}
        self._meters = {} if vmaf is None else {name: VmafMeter(vmaf, item.bits) for name in upscalers}
        self._details: list[Any] = []
        self.rows: list[Row] = []

    def measure(self) -> FileScores:
        frames = width = height = 0
        try:
            for pair in self._item.pairs():
                frames += 1
                height, width = pair.truth.shape
                results = {name: _enlarge(upscaler, pair) for name, upscaler in self._upscalers.items()}
                for name, result in results.items():
                    self._compare(name, pair, result)
                if self._sheet and frames == 1:
                    window = busiest_window(pair.truth, self._scale)
                    self._details = [to_display(p[window], pair.bits) for p in (pair.truth, *results.values())]
            if not frames:
                raise InputError(f"{self._item.name} has no frames to measure on")
            scores = {name: self._score(name) for name in self._upscalers}
        finally:
            for meter in self._meters.values():
                meter.close()
        if self._sheet:
            captions = [self._item.name, *(f"{score.psnr_db:.2f} dB" for score in scores.values())]
            self.rows = [Row(self._item.name, tuple(map(Cell, self._details, captions)))]
        return FileScores(self._item.name, width, height, frames, scores)

    def _compare(self, name: str, pair: Pair, result: Plane) -> None:
        peak = float(255 << (pair.bits - 8))  # code values of deeper video are those of 8 bits, times a power of two
        self._psnr[name].append(psnr(pair.truth, result, peak=peak, border=self._scale))
        self._ssim[name].append(ssim(pair.truth, result, peak=peak, border=self._scale))
        if self._meters:
            self._meters[name].add(pair.truth, result)

    def _score(self, name: str) -> Score:
        figures = _finite_mean(self._psnr[name]), float(np.mean(self._ssim[name]))
        if not self._meters:
            return Score(*figures)
        measured = self._meters[name].result()
        return Score(*figures, measured.vmaf, measured.neg)


def _enlarge(upscaler: Upscaler, pair: Pair) -> Plane:
    fmt = PIXEL_FORMATS["gray" if pair.bits == 8 else f"gray{pair.bits}le"]
    height, width = pair.low.shape
    return upscaler.upscale_planes(Planes((pair.low,), fmt, width, height), pair.color).arrays[0]


def _finite_mean(values: Iterable[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return float(np.mean(finite)) if finite else math.inf


def _mean(scores: list[Score]) -> Score:
    def over(values: Iterator[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return float(np.mean(known)) if known else None

    return Score(
        _finite_mean(s.psnr_db for s in scores),
        float(np.mean([s.ssim for s in scores])),
        over(s.vmaf for s in scores),
        over(s.vmaf_neg for s in scores),
    )
