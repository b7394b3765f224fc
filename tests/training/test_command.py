"""`vsr train` and `vsr prepare-data` as users meet them."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from vsr.cli import main
from vsr.cli.train import LOSS
from vsr.model import load_model
from vsr.training.checkpoint import checkpoint_network, load_checkpoint
from vsr.training.loop import LOSSES

SMALL = ["--batch", "2", "--patch", "12", "--threads", "1"]


@pytest.fixture
def vsr(capsys):
    """Run the command line; returns its exit code, what it wrote to stdout and to stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        return ended.value.code, *capsys.readouterr()

    return run


def weights(folder):
    return torch.cat([p.detach().reshape(-1) for p in checkpoint_network(folder / "checkpoint.pt").parameters()])


def test_from_pictures_to_a_model_that_upscales(photographs, tmp_path, vsr):
    model = tmp_path / "mine.onnx"
    arguments = ["train", "--network", "fast", "--scale", 2, "--data", photographs, "--out", tmp_path / "run", *SMALL]
    code, out, err = vsr(*arguments, "--steps", 4, "--report-every", 2, "--export", model)
    assert (code, err) == (0, "")
    assert "trained for 4 steps" in out
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["checkpoint.pt", "curve.png", "log.jsonl"]
    assert (tmp_path / "data.h5").is_file()
    assert load_model(model, 2).metadata["vsr.network"] == "fast"
    Image.new("RGB", (24, 18), "teal").save(tmp_path / "still.png")
    code, _, err = vsr("upscale", tmp_path / "still.png", "-s", 2, "--model", model, "-o", tmp_path / "large.png", "-q")
    assert (code, err) == (0, "")
    assert Image.open(tmp_path / "large.png").size == (48, 36)


def test_one_set_of_weights_for_all_scales(database, tmp_path, vsr):
    arguments = ["--network", "srcnn-9-1-5", "--scale", "all", "--data", database, "--out", tmp_path / "run", *SMALL]
    code, _, err = vsr("train", *arguments, "--steps", 3, "-q", "--export", tmp_path / "m.onnx")
    assert (code, err) == (0, "")
    models = [load_model(tmp_path / f"m_x{scale}.onnx", scale) for scale in (2, 3, 4)]
    assert [m.metadata["vsr.scale"] for m in models] == ["2", "3", "4"]
    assert [m.metadata["vsr.halo"] for m in models] == ["5", "4", "3"]


def test_a_prepared_database_is_trained_on(photographs, tmp_path, vsr):
    code, out, _ = vsr("prepare-data", photographs, "-o", tmp_path / "d.h5", "--degradation", "codec")
    assert code == 0
    assert f"{tmp_path / 'd.h5'}: " in out
    arguments = ["--network", "fast-compressed", "--scale", 3, "--data", tmp_path / "d.h5", "--init", "fast_x3", *SMALL]
    code, _, err = vsr("train", *arguments, "--out", tmp_path / "run", "--steps", 2, "-q")
    assert (code, err) == (0, "")
    assert checkpoint_network(tmp_path / "run" / "checkpoint.pt").name == "fast-compressed"
    vsr("prepare-data", photographs, "-o", tmp_path / "clean.h5", "-q")
    arguments[5] = tmp_path / "clean.h5"
    code, _, err = vsr("train", *arguments, "--out", tmp_path / "other", "--steps", 2)
    assert code == 2
    assert "holds clean pictures; prepare them with --degradation codec" in err


def test_fresh_patches_curves_and_bf16_are_asked_for_by_name(photographs, database, tmp_path, vsr):
    arguments = ["train", "--network", "fast", "--scale", 2, "--data", database, *SMALL, "--steps", 2, "-q"]
    chosen = ["--fresh", "--curves", 0.5, "--precision", "bf16"]
    code, _, err = vsr(*arguments, *chosen, "--out", tmp_path / "run")
    assert (code, err) == (0, "")
    options = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["options"]
    assert (options["fresh"], options["curves"], options["precision"]) == (True, 0.5, "bf16")
    for more in (["--network", "fast-compressed"], ["--degradation", "codec"]):
        given = [*arguments[:6], photographs, *arguments[7:], "--fresh", *more]
        code, _, err = vsr(*given, "--out", tmp_path / "other" / "run")
        assert code == 2
        assert "fresh patches are for clean data alone" in err
        assert err.count("\n") == 1
        assert not (tmp_path / "other").exists(), "refused before data are prepared"


def test_a_teachers_negatives_are_asked_for_by_name(database, tmp_path, vsr):
    arguments = ["train", "--network", "fast", "--scale", 2, "--data", database, *SMALL, "--steps", 2, "-q"]
    code, _, err = vsr(*arguments, "--teacher", "fast", "--teacher-negatives", "--out", tmp_path / "run")
    assert (code, err) == (0, "")
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["options"]["teacher_negatives"]
    code, _, err = vsr(*arguments, "--teacher-negatives", "--out", tmp_path / "other")
    assert code == 2
    assert "need a teacher" in err


def test_a_training_is_not_overwritten_but_resumed(database, tmp_path, vsr):
    arguments = ["train", "--network", "fast", "--scale", 2, "--data", database, "--out", tmp_path, *SMALL, "-q"]
    assert vsr(*arguments, "--steps", 2)[0] == 0
    before = weights(tmp_path)
    code, _, err = vsr(*arguments, "--steps", 2)
    assert code == 2
    assert "holds a checkpoint already; --resume" in err
    assert vsr(*arguments, "--steps", 2, "--resume")[0] == 0
    for more, message in (
        (["--steps", 3], "is of another training: steps 2, not 3"),
        (["--steps", 2, "--loss", "l2"], "is of another training: loss l1, not l2"),
        (["--steps", 2, "--network", "espcn"], "is of another training: network fast x2, not espcn x2"),
    ):
        code, _, err = vsr(*arguments, *more, "--resume")
        assert code == 1
        assert message in err
        assert err.count("\n") == 1
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 2
    assert torch.equal(weights(tmp_path), before)


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--network", "edsr"], 2, "got network 'edsr'; there are espcn,"),
        (["--scale", "5"], 2, "network fast got scale 5; it has 2, 3, 4"),
        (["--scale", "all"], 2, "other weights for each scale"),
        (["--steps", "0"], 2, "got steps 0"),
        (["--lr", "0"], 2, "got lr 0"),
        (["--save-every", "0"], 2, "--save-every"),
        (["--init", "espcn_x2"], 1, "not those of a network fast"),
        (["--init", "nothing"], 1, "no checkpoint or model 'nothing'"),
        (["--export", "m.pt"], 2, "ends in .onnx"),
        (["--curves", "0.1"], 2, "curves need fresh patches"),
        (["--data", "/nonexistent"], 1, "does not exist"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(photographs, tmp_path, vsr, more, code, message):
    given = {"--network": "fast", "--scale": "2", "--data": str(photographs), "--steps": "2"}
    given |= dict(zip(more[::2], more[1::2], strict=True))
    done, out, err = vsr("train", *(word for pair in given.items() for word in pair), "--out", tmp_path / "run")
    assert (done, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_bad_data_gives_one_line(tmp_path, vsr):
    def refused(*more):
        code, _, err = vsr(
            "train", "--network", "fast", "--scale", 2, "--data", folder, "--out", tmp_path / "run", *more
        )
        assert code == 1
        assert err.count("\n") == 1
        return err

    folder = tmp_path / "in"
    folder.mkdir()
    assert "holds no pictures or clips" in refused()
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 255, (240, 300, 3), np.uint8))
    whole.save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:900])
    assert "cut.jpg" in refused()
    (folder / "cut.jpg").unlink()
    whole.save(folder / "whole.png")
    assert "smaller than a patch of 1000 pixels" in refused("--patch", "500")
    code, _, err = vsr("prepare-data", folder, "-o", tmp_path / "d.txt")
    assert (code, err.count("\n")) == (2, 1)


def command(database, out, *more):
    arguments = ["--network", "fast", "--scale", "2", "--data", str(database), "--out", str(out), *SMALL]
    return [sys.executable, "-m", "vsr", "train", *arguments, *more]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_a_later_command_goes_on(database, tmp_path, vsr, sent, code):
    more = ["--steps", "4000", "--report-every", "5", "--save-every", "100000"]
    with subprocess.Popen(
        command(database, tmp_path, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        log = tmp_path / "log.jsonl"
        deadline = time.monotonic() + 120
        while not (log.exists() and log.read_text()) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(sent)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.decode().count("\n") == 1
    assert b"--resume goes on from there" in err
    step = load_checkpoint(tmp_path / "checkpoint.pt")["step"]
    assert 0 < step < 4000
    assert all(json.loads(line)["step"] <= step for line in log.read_text().splitlines())


# every file may grow to 100 kB: a log can, a checkpoint or database cannot
FULL = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"


def on_a_full_disk(*arguments):
    script = f"{FULL}; from vsr.cli import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(database, tmp_path, vsr):
    out = tmp_path / "run"
    arguments = command(database, out, "--steps", "8", "--save-every", "4")[3:]
    assert vsr(*arguments, "-q")[0] == 0
    state = load_checkpoint(out / "checkpoint.pt")
    state["step"] = 4  # as if it had been stopped there
    torch.save(state, out / "checkpoint.pt")
    good = (out / "checkpoint.pt").read_bytes()
    assert "cannot save the checkpoint" in on_a_full_disk(*arguments, "--resume")
    assert (out / "checkpoint.pt").read_bytes() == good
    assert not list(out.glob("*.tmp"))


def test_a_disk_that_fills_up_while_preparing_leaves_nothing(photographs, tmp_path):
    error = on_a_full_disk("prepare-data", str(photographs), "-o", str(tmp_path / "d.h5"), "-q")
    assert "cannot write the patch database" in error
    assert list(tmp_path.iterdir()) == []


def test_the_command_offers_the_losses_that_there_are():
    assert tuple(LOSS.choices) == tuple(LOSSES)
