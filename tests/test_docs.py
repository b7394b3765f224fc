"""What the documents show is true: examples run, and commands use options that exist."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from vsr.cli import COMMANDS, cli
from vsr.model import BICUBIC, shipped_models
from vsr.networks import COMPRESSED_ENDING

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
]


def doctested_modules() -> list[str]:
    found = []
    for path in sorted((ROOT / "vsr").rglob("*.py")):
        if ">>> " in path.read_text() and not {"training", "networks"} & set(path.parts):
            found.append(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    return found


def test_some_modules_have_examples() -> None:
    assert "vsr.upscaler" in doctested_modules()


@pytest.mark.parametrize("module", doctested_modules())
def test_examples_in_docstrings_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module), verbose=False)
    assert result.attempted > 0
    assert result.failed == 0


def commands_in(text: str) -> list[str]:
    """Every `vsr …` command in code blocks, one line each, and in `inline code`."""
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL) + re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(vsr [^`]+)`", text)
    return [line for line in lines if re.match(r"vsr\s", line)]


def all_commands() -> list[tuple[str, str]]:
    found = [(path.name, line) for path in DOCUMENTS if path.exists() for line in commands_in(path.read_text())]
    helps = [("vsr --help", cli.epilog or "")]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        helps.append((name, "" if command is None else command.epilog or ""))
    for name, text in helps:
        found += [(name, line.strip()) for line in text.splitlines() if line.strip().startswith("vsr ")]
    return list(dict.fromkeys(found))


def test_the_readme_shows_how_to_upscale() -> None:
    assert any("vsr upscale" in line for where, line in all_commands() if where == "README.md")


@pytest.mark.parametrize(("where", "line"), all_commands())
def test_commands_in_documents_use_commands_and_options_that_exist(where: str, line: str) -> None:
    words = shlex.split(re.split(r"\s[|>&#]|\s#", line)[0].replace("…", "").replace("[", "").replace("]", ""))
    options = [w for w in words[1:] if w.startswith("-") and w != "-"]
    names = [w for w in words[1:] if not w.startswith("-")]
    if not names:
        known = {o for p in cli.params for o in p.opts} | {"-h", "--help"}
        assert set(options) <= known, line
        return
    assert names[0] in COMMANDS, f"{where}: no command {names[0]} in: {line}"
    command = cli.get_command(click.Context(cli), names[0])
    assert command is not None
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"-h", "--help", "--debug"}
    for option in options:
        for one in option.split("=")[0].split("/"):
            assert one in known, f"{where}: no option {one} in: {line}"


def test_the_readme_names_every_option_of_upscale() -> None:
    command = cli.get_command(click.Context(cli), "upscale")
    assert command is not None
    named = set(re.findall(r"`?(--?[a-z][a-z-]*)", (ROOT / "README.md").read_text()))
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert named & {*parameter.opts, *parameter.secondary_opts}, parameter.name


def test_every_option_of_upscale_is_explained() -> None:
    command = cli.get_command(click.Context(cli), "upscale")
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_links_between_documents_lead_somewhere() -> None:
    for path in DOCUMENTS:
        if not path.exists():
            continue
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target and not target.startswith("mailto:"):
                assert (path.parent / target).exists(), f"{path.name} → {target}"


def test_files_that_the_readme_names_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"`((?:scripts|docs|samples|vsr|engines)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


def test_the_tables_of_models_say_what_the_models_do() -> None:
    pytest.importorskip("torch")  # counts what older models do not state
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "model-docs", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_chart_shows_the_models_that_are_shipped() -> None:
    times = json.loads((ROOT / "docs" / "models.json").read_text())["ms"]
    clean = {name for name, scale in shipped_models() if scale == 3 and not name.endswith(COMPRESSED_ENDING)}
    assert {name.partition(":")[0] for name in times} == clean | {BICUBIC}
    for name in ("models.png", "models-sheet.png"):
        assert 1000 < (ROOT / "docs" / name).stat().st_size < 100_000
