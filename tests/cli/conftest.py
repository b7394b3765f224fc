"""Running the command line inside the test's own process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from vsr.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """`run("info", path)`: the exit code and what was printed. Signal handlers are put back afterwards."""
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        shown = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Outcome(code, shown.out, shown.err)

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
