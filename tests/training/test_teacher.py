"""Learning from a larger network's answers."""

import numpy as np
import pytest
import torch

from vsr.errors import InputError, ModelError, OptionError, TrainingError
from vsr.networks import create
from vsr.networks.base import PlainNetwork
from vsr.networks.symmetry import views
from vsr.training import teacher
from vsr.training.checkpoint import load_checkpoint
from vsr.training.data import PatchData
from vsr.training.evaluate import from_module
from vsr.training.loop import TrainOptions, train
from vsr.training.session import WEIGHTS, check_start, run_training


@pytest.fixture
def data(database):
    return PatchData(database, 2, 12)


def quiet(_text):
    pass


def twice(low):
    """A teacher that repeats every pixel, so that its answer to a patch is known."""
    return low.repeat(2, axis=0).repeat(2, axis=1)


def test_answers_stand_where_the_originals_stood(data, tmp_path):
    path = tmp_path / "answers.npy"
    teacher.write_answers(data, twice, path, quiet)
    data.take_answers(path, "of twice")
    low, high = data.batch(3, 4, 12, taught=True)
    for small, large in zip(low[:, 0], high[:, 0], strict=True):
        assert np.abs(twice(small) - large).max() <= 1 / 65535
    assert np.array_equal(data.batch(3, 4, 12, taught=True)[0], data.batch(3, 4, 12)[0])
    assert not np.array_equal(data.batch(3, 4, 12)[1], high)


def test_what_is_held_out_is_not_answered(data, tmp_path):
    teacher.write_answers(data, twice, tmp_path / "answers.npy", quiet)
    answers, begin = np.load(tmp_path / "answers.npy"), 0
    for index in range(len(data)):
        size = data.pair(index)[1].size
        assert answers[begin : begin + size].any() != data.held[index]
        begin += size
    assert begin == len(answers)


def test_pictures_too_small_for_this_patch_are_answered_too(database, tmp_path):
    """The answers are kept, and the next training's patches may be smaller."""
    least = min(min(PatchData(database, 2, 4).pair(i)[0].shape) for i in range(len(PatchData(database, 2, 4))))
    large, small = PatchData(database, 2, least + 1), PatchData(database, 2, least)
    assert len(large.training) < len(small.training)
    teacher.write_answers(large, twice, tmp_path / "large.npy", quiet)
    teacher.write_answers(small, twice, tmp_path / "small.npy", quiet)
    assert (tmp_path / "large.npy").read_bytes() == (tmp_path / "small.npy").read_bytes()


def test_all_eight_orientations_count(data):
    """A teacher that moves its picture to the right moves it, on the mean, nowhere."""
    low = np.zeros((9, 12), np.float32)
    low[4, 5] = 1.0
    seen = []

    def to_the_right(picture):
        seen.append(picture.shape)
        return twice(np.roll(picture, 1, axis=1))

    mean = teacher.oriented_mean(low, to_the_right)
    assert sorted(seen) == [(9, 12)] * 4 + [(12, 9)] * 4
    y, x = np.mgrid[:18, :24]
    assert (mean * y).sum() / mean.sum() == pytest.approx(8.5)
    assert (mean * x).sum() / mean.sum() == pytest.approx(10.5)
    assert len(np.unique(np.argwhere(mean > 0) // 2, axis=0)) == 4


@pytest.mark.parametrize(
    ("network", "seen"), [("residual-8x2-3-3", 8), ("residual-8x2-3-3-p4", 2), ("residual-8x2-3-3-p4m", 1)]
)
def test_a_teacher_that_moves_with_the_picture_is_asked_as_often_as_its_answers_differ(network, seen):
    torch.manual_seed(0)
    asked = create(network, 2)
    orientations = views(asked.blocks)
    assert len(orientations) == seen
    enlarge = from_module(PlainNetwork(asked))
    low = np.random.default_rng(0).random((9, 12)).astype(np.float32)
    assert teacher.oriented_mean(low, enlarge, orientations) == pytest.approx(
        teacher.oriented_mean(low, enlarge), abs=1e-6
    )


def test_answers_to_negatives_count_as_much():
    """Of x² they make x: half of x² + 1 - (1 - x)²."""
    low = np.random.default_rng(0).random((5, 4)).astype(np.float32)
    assert teacher.oriented_mean(low, lambda x: twice(x**2)) == pytest.approx(twice(low**2))
    assert teacher.oriented_mean(low, lambda x: twice(x**2), negatives=True) == pytest.approx(twice(low), abs=1e-6)


def test_a_full_disk_leaves_nothing_half_written(data, tmp_path):
    def enlarge(_low):
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainingError, match="No space left"):
        teacher.write_answers(data, enlarge, tmp_path / "answers.npy", quiet)
    assert list(tmp_path.iterdir()) == []


def test_answers_to_other_pictures_are_refused(data, tmp_path):
    np.save(tmp_path / "short.npy", np.zeros(7, np.uint16))
    (tmp_path / "text.npy").write_text("no array")
    for name in ("short.npy", "text.npy", "missing.npy"):
        with pytest.raises(InputError, match="answers"):
            data.take_answers(tmp_path / name, "x")


def options(**changes):
    return TrainOptions(
        **{"network": "fast", "scale": 2, "steps": 6, "batch": 2, "patch": 12, "teacher": "fsrcnn", **changes}
    )


def weights(result):
    return torch.cat([p.detach().reshape(-1) for p in result.network.parameters()])


def test_a_training_learns_from_its_teacher_and_then_from_originals(database, tmp_path, monkeypatch):
    asked = []
    real = PatchData.batch

    def batch(self, *args, taught, **named):
        asked.append(taught)
        return real(self, *args, taught=taught, **named)

    monkeypatch.setattr(PatchData, "batch", batch)
    chosen = options(mse_share=0.34)
    taught = run_training(chosen, database, tmp_path / "taught", device="cpu", say=quiet)
    assert asked == [True] * 4 + [False] * 2
    alone = run_training(options(teacher=None, mse_share=0.34), database, tmp_path / "alone", device="cpu", say=quiet)
    assert not torch.equal(weights(taught), weights(alone))
    # the answers are kept: a second training finds them, and ends with the same bits
    monkeypatch.setattr(teacher, "write_answers", None)
    again = run_training(chosen, database, tmp_path / "again", device="cpu", say=quiet)
    assert torch.equal(weights(taught), weights(again))


def test_a_teacher_of_negatives_too_teaches_something_else(database, tmp_path):
    ends = [
        run_training(options(teacher_negatives=asked), database, tmp_path / str(asked), device="cpu", say=quiet)
        for asked in (False, True)
    ]
    assert not torch.equal(*map(weights, ends))


def test_another_teacher_is_another_training(database, data, tmp_path):
    run_training(options(), database, tmp_path / "run", device="cpu", say=quiet)
    with pytest.raises(TrainingError, match="teacher fsrcnn, not None"):
        train(options(teacher=None), data, tmp_path / "run", resume=True, say=quiet)
    # the same name, but other answers
    teacher.write_answers(data, twice, tmp_path / "answers.npy", quiet)
    data.take_answers(tmp_path / "answers.npy", "other")
    with pytest.raises(TrainingError, match="another training: data"):
        train(options(), data, tmp_path / "run", resume=True, say=quiet)


@pytest.mark.parametrize("name", ["nobody", "missing.onnx", "missing.pt", "bicubic"])
def test_a_teacher_that_is_not_there_is_named_before_data_are_prepared(name, tmp_path):
    with pytest.raises((ModelError, TrainingError), match=name):
        check_start(options(teacher=name), tmp_path, False)


def test_a_training_beside_can_be_the_teacher(database, tmp_path):
    run_training(options(teacher=None, network="fsrcnn"), database, tmp_path / "fsrcnn_x2.1", device="cpu", say=quiet)
    run_training(options(teacher="fsrcnn_x2.1"), database, tmp_path / "fast_x2.1", device="cpu", say=quiet)
    assert load_checkpoint(tmp_path / "fast_x2.1" / "checkpoint.pt")["data"] != PatchData(database, 2, 12).identity


def test_a_teacher_of_another_scale_is_refused(tmp_path):
    with pytest.raises(OptionError, match="scale 3"):
        check_start(options(teacher=str(WEIGHTS / "fast_x3.onnx")), tmp_path, False)
