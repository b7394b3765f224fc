"""What holds for every test: it ends with no thread, no temporary file and no half-written output left."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import clips

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
DATA_VARIABLE = "VSR_TEST_DATA"
CACHES_OF_OTHERS = ("torchinductor", "pytest-")
TEMPORARY_MARKS = (".tmp", "~")

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


# A shell switches SIGINT off for what it starts in the background, and `nohup` SIGHUP: commands that tests start would
# inherit that, and rightly heed it.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept between runs goes to a folder of the session's own; commands that tests start find it there too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Every Python thread that a test starts has ended shortly after it. Runtimes' own pools do not count."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while leaked := [t for t in threading.enumerate() if t not in before and t.is_alive()]:
        leaked = [t for t in leaked if not isinstance(t, threading._DummyThread)]
        if not leaked or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    assert not leaked, f"threads still running after the test: {', '.join(t.name for t in leaked)}"


@pytest.fixture(autouse=True)
def no_leaked_temporary_files(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Nothing stays in the system's temporary folder, no temporary name in the test's own folder."""
    system = tmp_path_factory.mktemp("TMPDIR")
    monkeypatch.setenv("TMPDIR", str(system))
    monkeypatch.setattr(tempfile, "tempdir", str(system))
    own: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    left = [path for path in system.iterdir() if not path.name.startswith(CACHES_OF_OTHERS)]
    if own is not None:
        left += [path for path in own.rglob("*") if looks_temporary(path)]
    assert not left, f"temporary files left behind: {', '.join(map(str, left))}"


def looks_temporary(path: Path) -> bool:
    return path.name.startswith(".") or any(mark in path.name for mark in TEMPORARY_MARKS)


@pytest.fixture
def test_data() -> Path:
    """The folder of real stills and clips named by VSR_TEST_DATA. Without it the test is left out."""
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        pytest.skip(f"{DATA_VARIABLE} is not set")
    folder = Path(value)
    assert folder.is_dir(), f"{DATA_VARIABLE}={value} is not a folder"
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what an unset VSR_TEST_DATA left out."""
    skipped = terminalreporter.stats.get("skipped", [])
    left_out = [report.nodeid for report in skipped if DATA_VARIABLE in str(report.longrepr)]
    if left_out:
        terminalreporter.section("left out", yellow=True)
        terminalreporter.line(f"{len(left_out)} tests on real data, because {DATA_VARIABLE} is not set:")
        for node in left_out:
            terminalreporter.line(f"  {node}")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`clip("name.mkv", codec=…)`: a generated clip, made once a session for each set of arguments."""
    folder = tmp_path_factory.mktemp("clips")
    made: dict[str, Path] = {}

    def get(name: str, **arguments: Any) -> Path:
        key = f"{name} {sorted(arguments.items())}"
        if key not in made:
            (folder / str(len(made))).mkdir()
            made[key] = clips.make_clip(folder / str(len(made)) / name, **arguments)
        return made[key]

    return get


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of the sample clips."""
    return SAMPLES
