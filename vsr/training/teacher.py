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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vsr.errors import OutputError, TrainingError
from vsr.networks.symmetry import VIEWS, Movement, inverse, moved, views
from vsr.store import atomic_write
from vsr.training.data import WHITE, PatchData
from vsr.training.evaluate import Enlarge
from vsr.training.export import build_model, runner
from vsr.training.forms import Trained


def take_answers(data: PatchData, teacher: Trained, say: Callable[[str], None], *, negatives: bool = False) -> None:
    """Let `data` give the answers of `teacher`, a network of their scale, to its pictures.

    They are computed once, which takes as long as enlarging each picture eight times (twice if `teacher` turns with
    the picture, once if it mirrors too), with negatives twice as often, and kept beside the database. Raises
    `TrainingError` when writing fails.
    """
    text = f"{data.sha256} x{data.scale} {teacher.sha256}" + " with negatives" * negatives
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = data.path.with_name(f"{data.path.stem}-answers-{digest}.npy")
    if not path.exists():
        run = runner(build_model(teacher.network, {}), threads=torch.get_num_threads())
        orientations = views(teacher.network.blocks)

        def mean(low: NDArray[np.float32]) -> NDArray[Any]:
            return oriented_mean(low, lambda seen: run(seen[None, None])[0, 0], orientations, negatives=negatives)

        write_answers(data, mean, path, say)
    data.take_answers(path, digest)


def write_answers(data: PatchData, enlarge: Enlarge, path: Path, say: Callable[[str], None]) -> None:
    """Write what `enlarge` answers to all pictures that are not held out, one after the other as the database has them.

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
                    answer[:] = np.rint(enlarge((low / 255.0).astype(np.float32)) * WHITE)
                file.write(answer.tobytes())
                if (index + 1) % 10 == 0 or index + 1 == len(data):
                    say(f"the teacher answered to {index + 1} of {len(data)} pictures")
    except OutputError as exc:
        raise TrainingError(f"the teacher's answers: {exc.message}", exc.hint) from exc


def oriented_mean(
    low: NDArray[np.float32],
    enlarge: Enlarge,
    orientations: Sequence[Movement] = VIEWS[None],
    *,
    negatives: bool = False,
) -> NDArray[Any]:
    """The mean of what is answered to a picture turned and mirrored in all eight ways, turned back; within [0, 1].

    orientations: those of the eight that are enough, where a network moves with the picture. negatives: its negative
    counts as much, with the negatives of the answers.
    """
    answers = (moved(enlarge(moved(low, movement)), inverse(movement)) for movement in orientations)
    mean: NDArray[Any] = np.clip(sum(answers) / len(orientations), 0.0, 1.0)
    if negatives:
        mean = (mean + (1.0 - oriented_mean(1.0 - low, enlarge, orientations))) / 2.0
    return mean
