import json
import os
import signal

import pytest
import torch

from vsr.errors import OptionError, TrainingError
from vsr.networks import create
from vsr.networks.base import LumaNetwork
from vsr.training import checkpoint as checkpoints
from vsr.training import loop
from vsr.training.checkpoint import checkpoint_network, load_checkpoint
from vsr.training.data import PatchData
from vsr.training.loop import LOSSES, TrainOptions, train


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(database):
    return PatchData(database, 2, 12)


def options(**changes):
    return TrainOptions(**{"network": "fast", "scale": 2, "steps": 12, "batch": 2, "patch": 12, **changes})


def quiet(_text):
    pass


def weights(network: LumaNetwork):
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


def test_training_lowers_the_loss_and_logs_it(data, tmp_path):
    result = train(options(steps=60, batch=4), data, tmp_path, say=quiet, report_every=20)
    assert result.finished
    assert result.step == 60
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [20, 40, 60]
    assert log[1]["loss"] < log[0]["loss"]
    assert log[-1]["validation_psnr"] == pytest.approx(result.validation_psnr)


@pytest.mark.parametrize(
    "chosen",
    [
        {"network": "fast"},
        {"network": "fsrcnn"},
        {"network": "fsrcnn", "optimizer": "muon", "contrast": 4.0},
        {"network": "fast", "optimizer": "muon", "precision": "bf16"},
    ],
)
def test_resumed_equals_uninterrupted_bit_for_bit(chosen, data, tmp_path, monkeypatch):
    chosen = options(**chosen)
    whole = train(chosen, data, tmp_path / "whole", say=quiet)

    real, calls = PatchData.batch, []

    def batch(self, seed, step, size, *rest, **named):
        calls.append(step)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, seed, step, size, *rest, **named)

    monkeypatch.setattr(PatchData, "batch", batch)
    first = train(chosen, data, tmp_path / "parts", say=quiet)
    assert not first.finished
    assert first.step == 5
    assert load_checkpoint(tmp_path / "parts" / "checkpoint.pt")["step"] == 5
    second = train(chosen, data, tmp_path / "parts", resume=True, say=quiet)
    assert second.finished
    assert calls == list(range(12))
    assert torch.equal(weights(second.network), weights(whole.network))


def test_resuming_after_the_end_changes_nothing(data, tmp_path):
    first = train(options(), data, tmp_path, say=quiet)
    again = train(options(), data, tmp_path, resume=True, say=quiet)
    assert again.finished
    assert torch.equal(weights(again.network), weights(first.network))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1
    train(options(seed=2), data, tmp_path, say=quiet)  # anew: the old log is of another training
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_a_crash_between_checkpoints_repeats_the_steps_since(data, tmp_path, monkeypatch):
    whole = train(options(), data, tmp_path / "whole", say=quiet)
    real = PatchData.batch

    def crash(self, seed, step, size, *rest, **named):
        if step == 9:
            raise KeyboardInterrupt
        return real(self, seed, step, size, *rest, **named)

    monkeypatch.setattr(PatchData, "batch", crash)
    with pytest.raises(KeyboardInterrupt):
        train(options(), data, tmp_path / "parts", save_every=4, report_every=3, say=quiet)
    monkeypatch.setattr(PatchData, "batch", real)
    with (tmp_path / "parts" / "log.jsonl").open("a") as log_file:
        log_file.write('{"step": 1')  # a line cut short by a kill
    again = train(options(), data, tmp_path / "parts", resume=True, report_every=3, say=quiet)
    assert torch.equal(weights(again.network), weights(whole.network))
    log = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert log == [3, 6, 9, 12]


def test_the_seed_decides(data, tmp_path):
    runs = [train(options(seed=s), data, tmp_path / str(k), say=quiet) for k, s in enumerate((1, 1, 2))]
    assert torch.equal(weights(runs[0].network), weights(runs[1].network))
    assert not torch.equal(weights(runs[0].network), weights(runs[2].network))


def test_the_handler_of_sigterm_is_put_back(data, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    train(options(steps=1), data, tmp_path, say=quiet)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_checkpoint_of_another_training_is_refused(data, tmp_path):
    train(options(steps=2), data, tmp_path, say=quiet)
    with pytest.raises(TrainingError, match="another training"):
        train(options(steps=2, network="espcn"), data, tmp_path, resume=True, say=quiet)


def test_a_checkpoint_of_a_network_that_has_changed_since_is_refused(data, tmp_path):
    """Weights of a network with ReLU fit the same one with LeakyReLU, and would compute something else."""
    train(options(steps=2), data, tmp_path, say=quiet)
    path = tmp_path / "checkpoint.pt"
    state = load_checkpoint(path)
    state["layers"] = [layer.replace("relu", "leaky") for layer in state["layers"]]
    torch.save(state, path)
    with pytest.raises(TrainingError, match="other layers"):
        train(options(steps=2), data, tmp_path, resume=True, say=quiet)
    with pytest.raises(TrainingError, match="other layers"):
        checkpoint_network(path)


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    for content in (b"", b"text", b"\x80\x04"):
        path.write_bytes(content)
        with pytest.raises(TrainingError, match="cannot read"):
            load_checkpoint(path)
    torch.save({"a": 1}, path)
    with pytest.raises(TrainingError, match="not a checkpoint"):
        load_checkpoint(path)
    with pytest.raises(TrainingError, match="cannot read"):
        load_checkpoint(tmp_path / "nothing.pt")


def test_a_full_disk_leaves_the_last_good_checkpoint(data, tmp_path, monkeypatch):
    train(options(steps=4), data, tmp_path, say=quiet)
    good = (tmp_path / "checkpoint.pt").read_bytes()

    def full(_state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(TrainingError, match="No space left"):
        train(options(steps=4, seed=9), data, tmp_path, say=quiet)
    assert (tmp_path / "checkpoint.pt").read_bytes() == good
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "curve.png", "log.jsonl"]


def test_a_loss_that_is_no_number_stops_the_training(data, tmp_path):
    start = create("fast", 2).plain()
    start[0].weight[:] = float("inf")
    with pytest.raises(TrainingError, match="loss is"):
        train(options(), data, tmp_path, start=start, say=quiet, report_every=3)


def test_learning_rate_warms_up_and_ends_low():
    chosen = options(steps=10_000, lr=1e-3, warm_up=500)
    rates = [chosen.learning_rate(step) for step in range(10_000)]
    assert rates[0] == pytest.approx(2e-6)
    assert max(rates) == rates[499] == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-6, rel=0.1)
    assert rates[500:] == sorted(rates[500:], reverse=True)
    assert chosen.first_mse_step == 9000


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"batch": 0},
        {"lr": 0.0},
        {"ema": 1.0},
        {"mse_share": 2.0},
        {"precision": "fp8"},
        {"curves": 1.5, "fresh": True},
        {"curves": 0.1},
        {"loss": "psnr"},
        {"last_loss": "psnr"},
    ],
)
def test_bad_options_are_refused(bad):
    with pytest.raises(OptionError, match=next(iter(bad)).removeprefix("last_")):
        options(**bad)


def test_a_teachers_negatives_need_a_teacher():
    with pytest.raises(OptionError, match="teacher negatives need a teacher"):
        options(teacher_negatives=True)


def test_the_averaged_weights_are_the_ones_of_the_checkpoint(data, tmp_path):
    result = train(options(), data, tmp_path, say=quiet)
    network = checkpoint_network(tmp_path / "checkpoint.pt")
    assert torch.equal(weights(network), weights(result.network))


def test_options_that_came_later_do_not_shut_out_old_checkpoints(data, tmp_path):
    whole = train(options(), data, tmp_path, say=quiet)
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    for name in ("loss", "last_loss", "all_scales", "patience", "precision", "fresh", "curves", "teacher_negatives"):
        del state["options"][name]
    torch.save(state, tmp_path / "checkpoint.pt")
    again = train(options(), data, tmp_path, resume=True, say=quiet)
    assert torch.equal(weights(again.network), weights(whole.network))
    with pytest.raises(TrainingError, match="loss l1, not l2"):
        train(options(loss="l2"), data, tmp_path, resume=True, say=quiet)


def test_losses_are_what_they_say():
    got, wanted = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.0, 0.25, 0.0])
    assert float(LOSSES["l1"](got, wanted)) == pytest.approx(1.25 / 3)
    assert float(LOSSES["l2"](got, wanted)) == pytest.approx(1.0625 / 3)
    by_hand = (1e-3 + (0.0625 + 1e-6) ** 0.5 + (1 + 1e-6) ** 0.5) / 3
    assert float(LOSSES["charbonnier"](got, wanted)) == pytest.approx(by_hand)
    patches = torch.zeros(2, 1, 1, 2), torch.tensor([0.0, 0.5, 0.0, 0.0]).reshape(2, 1, 1, 2)
    assert float(LOSSES["rms"](*patches)) == pytest.approx(((0.125 + 1e-6) ** 0.5 + 1e-3) / 2)


def test_bf16_trains_as_fp32_does_within_its_rounding(data, tmp_path):
    """The same steps; weights stay in fp32, and only what convolutions multiply is rounded to 8 bits."""
    ends = {}
    for precision in ("fp32", "bf16"):
        chosen = options(steps=40, batch=4, optimizer="muon", precision=precision)
        ends[precision] = train(chosen, data, tmp_path / precision, say=quiet)
    assert {p.dtype for p in ends["bf16"].network.parameters()} == {torch.float32}
    assert not torch.equal(*(weights(end.network) for end in ends.values())), "bf16 was not used"
    assert ends["bf16"].validation_psnr == pytest.approx(ends["fp32"].validation_psnr, abs=0.3)


def test_fresh_patches_and_curves_reach_the_training(database, data, tmp_path):
    fresh = PatchData(database, 2, 12, fresh=True)
    ends = [
        train(options(fresh=True, curves=curves), fresh, tmp_path / str(curves), say=quiet) for curves in (0.0, 0.5)
    ]
    assert not torch.equal(*(weights(end.network) for end in ends))


@pytest.mark.parametrize("loss", ["l2", "charbonnier", "rms"])
def test_other_losses_train_too(loss, data, tmp_path):
    train(options(steps=60, batch=4, loss=loss, mse_share=0.0), data, tmp_path, say=quiet, report_every=20)
    log = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[1] < log[0]


def test_the_last_loss_is_that_of_the_last_steps(data, tmp_path):
    ends = [
        weights(train(options(mse_share=share, last_loss=loss), data, tmp_path / f"{share}{loss}", say=quiet).network)
        for share, loss in ((0.0, "l2"), (0.0, "rms"), (0.5, "l2"), (0.5, "rms"))
    ]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[2], ends[3])


def test_patience_ends_a_training_and_keeps_its_best(data, tmp_path, monkeypatch):
    figures = iter([30.0, 31.0, 30.5, 30.9, 40.0])
    monkeypatch.setattr(loop, "validation_psnr", lambda *_: next(figures))
    chosen = options(steps=50, patience=2)
    result = train(chosen, data, tmp_path, say=quiet, report_every=4)
    assert result.finished
    assert (result.step, result.validation_psnr) == (16, 31.0)
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 8
    assert torch.equal(weights(result.network), weights(checkpoint_network(tmp_path / "best.pt")))
    again = train(chosen, data, tmp_path, resume=True, say=quiet)  # there is nothing left to do
    assert (again.step, again.validation_psnr) == (16, 31.0)


def test_all_scales_in_turn_resume_bit_for_bit(database, tmp_path, monkeypatch):
    datas = [PatchData(database, scale, 24 // scale) for scale in (2, 3, 4)]
    chosen = options(network="srcnn-9-1-5", steps=7, all_scales=True)
    whole = train(chosen, datas, tmp_path / "whole", say=quiet)
    seen = []
    real = PatchData.batch

    def batch(self, seed, step, size, *rest, **named):
        seen.append((step, self.scale))
        if step == 3 and len(seen) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, seed, step, size, *rest, **named)

    monkeypatch.setattr(PatchData, "batch", batch)
    first = train(chosen, datas, tmp_path / "parts", say=quiet)
    assert (first.step, first.signal, first.finished) == (4, signal.SIGINT, False)
    second = train(chosen, datas, tmp_path / "parts", resume=True, say=quiet)
    assert seen == [(step, 2 + step % 3) for step in range(7)]
    assert torch.equal(weights(second.network), weights(whole.network))


def test_the_autoencoder_trains_under_its_regulariser(database, tmp_path):
    data = PatchData(database, 2, 8)
    start = train(options(network="autoencoder", patch=8, steps=1, lr=1e-6), data, tmp_path / "a", say=quiet)
    trained = train(options(network="autoencoder", patch=8, steps=12, lr=1e-4), data, tmp_path / "b", say=quiet)
    assert trained.validation_psnr > start.validation_psnr
