import json
import os
import signal
import subprocess
import sys
import time
from graphlib import TopologicalSorter
from pathlib import Path

import onnx
import pytest
import torch

from vsr.networks import COMPRESSED_ENDING, NAMES, create
from vsr.training import zoo
from vsr.training.checkpoint import checkpoint_network
from vsr.training.manifest import manifest, manifest_stages
from vsr.training.session import WEIGHTS

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_zoo"


@pytest.fixture(autouse=True)
def _no_data_from_outside(monkeypatch):
    monkeypatch.delenv("VSR_TRAIN_DATA", raising=False)
    monkeypatch.delenv("VSR_TEST_DATA", raising=False)


def arguments(photographs, tmp_path, *more):
    chosen = [
        "--network",
        "fast",
        "--scale",
        "2",
        "--batch",
        "2",
        "--patch",
        "12",
        "--threads",
        "1",
        "--save-every",
        "50",
    ]
    return [*chosen, "--data", str(photographs), "--out", str(tmp_path / "run"), *more]


def weights(folder):
    return torch.cat([p.detach().reshape(-1) for p in checkpoint_network(folder / "checkpoint.pt").parameters()])


def test_trains_and_exports(photographs, tmp_path, capsys):
    model = tmp_path / "fast_x2.onnx"
    assert zoo.main(arguments(photographs, tmp_path, "--steps", "3", "--export", str(model))) == 0
    assert model.is_file()
    assert "step 3/3" in capsys.readouterr().out
    # what was exported can be started from, by path
    more = arguments(photographs, tmp_path, "--steps", "1", "--init", str(model))
    assert zoo.main(more) == 0


@pytest.mark.slow
def test_killed_and_resumed_ends_with_the_same_weights(photographs, tmp_path):
    steps = "120"
    assert zoo.main([*arguments(photographs, tmp_path / "a", "--steps", steps)]) == 0
    command = [sys.executable, str(SCRIPT), *arguments(photographs, tmp_path / "b", "--steps", steps)]
    log = tmp_path / "b" / "run" / "log.jsonl"
    checkpoint = tmp_path / "b" / "run" / "checkpoint.pt"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL)
    assert json.loads(log.read_text().splitlines()[-1])["step"] == int(steps)
    assert torch.equal(weights(tmp_path / "a" / "run"), weights(tmp_path / "b" / "run"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--steps", "0"], "steps 0"),
        (["--steps", "2", "--lr", "0"], "lr 0"),
        (["--steps", "2", "--init", "nothing_x9"], "no checkpoint or model 'nothing_x9'"),
        (["--steps", "2", "--patch", "900"], "smaller than a patch"),
        (["--steps", "2", "--network", "fast-compressed", "--fresh"], "fresh patches are for clean data alone"),
        (["--steps", "2", "--data", "/nonexistent"], "does not exist"),
    ],
)
def test_bad_arguments_give_one_line(photographs, tmp_path, capsys, more, message):
    assert zoo.main(arguments(photographs, tmp_path, *more)) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_no_data_is_named(tmp_path, capsys):
    arguments = ["--network", "fast", "--scale", "2", "--steps", "1", "--out", str(tmp_path / "run")]
    assert zoo.main(arguments) == 2
    assert "VSR_TRAIN_DATA" in capsys.readouterr().err


def test_stages_follow_each_other(photographs, tmp_path, monkeypatch, capsys):
    small = {"batch": 2, "patch": 12}
    first = {"options": {"steps": 2, "network": "residual-16x5-3-1", **small}, "shrink": "sharp"}
    entry = {"stages": [first, {"options": {"steps": 3, "init": "run.1", **small}, "shrink": "soft"}]}
    monkeypatch.setattr(zoo, "manifest", lambda: {"fast_x2": entry})
    assert zoo.main(arguments(photographs, tmp_path)) == 0
    assert (tmp_path / "run.1" / "checkpoint.pt").exists()
    assert (tmp_path / "run.2" / "checkpoint.pt").exists()
    assert "stage 2/2" in capsys.readouterr().out
    kernels = [checkpoint_network(tmp_path / f"run.{n}" / "checkpoint.pt").plans[0].kernel for n in (1, 2)]
    assert kernels == [3, 5]


def test_a_model_has_its_entrys_name_whatever_layout_its_stage_was_of(photographs, tmp_path, monkeypatch):
    options = {"steps": 1, "network": "residual-16x5-3-1", "batch": 2, "patch": 12}
    monkeypatch.setattr(zoo, "manifest", lambda: {"fast_x2": {"stages": [{"options": options, "shrink": "soft"}]}})
    model = tmp_path / "fast_x2.onnx"
    assert zoo.main(arguments(photographs, tmp_path, "--export", str(model))) == 0
    metadata = {p.key: p.value for p in onnx.load(model).metadata_props}
    assert (metadata["vsr.network"], metadata["vsr.scale"]) == ("fast", "2")


def test_a_model_outside_the_manifest_needs_steps(photographs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(zoo, "manifest", dict)
    assert zoo.main(arguments(photographs, tmp_path)) == 2
    assert "--steps" in capsys.readouterr().err


def test_the_manifest_holds_what_ships():
    entries = manifest()
    shipped = {path.stem for path in WEIGHTS.glob("*_x?.onnx")}
    assert shipped == set(entries)
    for name, entry in entries.items():
        network, _, scale = name.rpartition("_x")
        assert network.removesuffix(COMPRESSED_ENDING) in NAMES
        assert len(entry["data_sha256"]) == 64
        one_for_all = any(stage["options"].get("all_scales") for stage in entry["stages"])
        assert entry["command"] == f"scripts/train_zoo --network {network} --scale {'all' if one_for_all else scale}"
        assert all(stage.options.steps > 0 for stage in manifest_stages(network, int(scale), entry))
        assert all(stage["minutes"] > 0 for stage in entry["stages"])
        last = manifest_stages(network, int(scale), entry)[-1].options
        assert create(last.network, last.scale).plans == create(network, int(scale)).plans


def test_the_manifests_stages_can_be_run_one_after_another():
    needs = {
        f"{name}.{number}": {stage["options"].get(key) for key in ("init", "teacher")} - {None}
        for name, entry in manifest().items()
        for number, stage in enumerate(entry["stages"], 1)
    }
    for name, needed in needs.items():
        entry, _, number = name.rpartition(".")
        if number != "1":  # the stages of an entry come in turn
            needed.add(f"{entry}.{int(number) - 1}")
    assert set(TopologicalSorter(needs).static_order()) == set(needs)
