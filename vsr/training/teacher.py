"""What a larger network answers to the pictures of a database: targets with less noise for a smaller one.

Many pictures shrink to the same low-resolution one, and a network can but learn their mean. How far an original lies
from that mean is nine tenths of a trained network's error, and nothing but noise in the gradient of a step. A better
network's answer lies close to the mean, so that the same steps teach as much as ones of several times the batch
(docs/benchmarks.md). Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015. Each answer is
the mean over the eight orientations of the picture, Lim et al., "Enhanced deep residual networks for single image
super-resolution", 2017, and if that is asked for over those of its negative, which a network that never saw one answers
as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vsr.errors import OutputError, TrainingError
from vsr.store import atomic_write
from vsr.training.data import WHITE, PatchData
from vsr.training.evaluate import Enlarge
from vsr.training.export import build_model, runner
from vsr.training.forms import Trained


def take_answers(data: PatchData, teacher: Trained, say: Callable[[str], None], *, negatives: bool = False) -> None:
    """Let `data` give the answers of `teacher`, a network of their scale, to its pictures.

    They are computed once, which takes as long as enlarging each picture eight times, with negatives sixteen times, and
    kept beside the database. Raises `TrainingError` when writing fails.
    """
    text = f"{data.sha256} x{data.scale} {teacher.sha256}" + " with negatives" * negatives
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = data.path.with_name(f"{data.path.stem}-answers-{digest}.npy")
    if not path.exists():
        run = runner(build_model(teacher.network, {}), threads=torch.get_num_threads())
        write_answers(data, lambda low: run(low[None, None])[0, 0], path, say, negatives=negatives)
    data.take_answers(path, digest)


def write_answers(
    data: PatchData, enlarge: Enlarge, path: Path, say: Callable[[str], None], *, negatives: bool = False
) -> None:
    """Write the answers to all pictures that are not held out, one after the other as the database has them.

    The file is an array of uint16, 0 to `WHITE`, with zeros for those that are held out. Raises `TrainingError`
    when writing fails.
    """
    header = {"descr": "<u2", "fortran_order": False, "shape": (data.pixels,)}
    try:
        with atomic_write(path, overwrite=True) as temporary, temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for index in range(len(data)):
                low, high = data.pair(index)
                answer = np.zeros(high.shape, "<u2")
                if not data.held[index]:
                    mean = oriented_mean((low / 255.0).astype(np.float32), enlarge, negatives=negatives)
                    answer[:] = np.rint(mean * WHITE)
                file.write(answer.tobytes())
                if (index + 1) % 10 == 0 or index + 1 == len(data):
                    say(f"the teacher answered to {index + 1} of {len(data)} pictures")
    except OutputError as exc:
        raise TrainingError(f"the teacher's answers: {exc.message}", exc.hint) from exc


def oriented_mean(low: NDArray[np.float32], enlarge: Enlarge, *, negatives: bool = False) -> NDArray[Any]:
    """The mean of what is answered to a picture turned and mirrored in all eight ways, turned back; within [0, 1].

    negatives: its negative counts as much, with the negatives of the answers.
    """
    total: Any = 0.0
    for turn in range(4):
        for flip in (False, True):
            seen = np.rot90(low, turn)
            out = enlarge(np.ascontiguousarray(seen[:, ::-1] if flip else seen))
            total = total + np.rot90(out[:, ::-1] if flip else out, -turn)
    mean: NDArray[Any] = np.clip(total / 8.0, 0.0, 1.0)
    if negatives:
        mean = (mean + (1.0 - oriented_mean(1.0 - low, enlarge))) / 2.0
    return mean
