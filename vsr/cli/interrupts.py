"""Signals while a job runs: the first asks it to end well, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

INTERRUPTED: Final = 130
SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # SIGHUP: the terminal is gone


class Interrupts:
    """What has come in so far.

    Args:
        stop: set by the first signal.
        on_first: called after the first signal, unless it ends the process.
        last_words: called before the first signal ends the process.
    """

    def __init__(self, stop: threading.Event, on_first: Callable[[], None], last_words: Callable[[], None]) -> None:
        self.stop = stop
        self._on_first = on_first
        self._last_words = last_words
        self._at_once = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let already the first signal end the process, even if it has come: what is done in here leaves nothing
        unless it is complete.
        """
        self._at_once = True
        if self.stop.is_set():
            self._end()
        try:
            yield
        finally:
            self._at_once = False

    def heard(self) -> None:
        """A signal has come."""
        if self._at_once or self.stop.is_set():
            self._end()
        self.stop.set()
        self._on_first()

    def _end(self) -> None:
        from vsr.store import remove_temporaries

        remove_temporaries()
        if self._at_once:
            self._last_words()
        os._exit(INTERRUPTED)  # whatever the threads are doing, the user wants out


@contextmanager
def interrupts(
    stop: threading.Event, on_first: Callable[[], None], last_words: Callable[[], None]
) -> Iterator[Interrupts]:
    """Listen for signals; what was done about them before holds again afterwards.

    Python calls its handlers between two of the main thread's own instructions, which may be minutes away while a
    runtime computes a large picture. So a thread listens instead, to the numbers of the signals as the interpreter
    passes them on at once. Signals that the parent has switched off, as `nohup` does, stay so.

    After a signal the process is meant to end, and the next one still ends it at once.

    Args:
        stop, on_first, last_words: as in `Interrupts`; they are called in that thread.
    """
    heard = Interrupts(stop, on_first, last_words)
    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield heard
        return
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    numbers = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def listen() -> None:
        while number := os.read(ours, 1):
            if number[0] in numbers:
                heard.heard()

    listener = threading.Thread(target=listen, name="vsr-signals", daemon=True)
    listener.start()
    wakeup = signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda _number, _frame: None) for number in numbers}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, _leave if stop.is_set() else handler)
        signal.set_wakeup_fd(wakeup)
        os.close(theirs)
        listener.join()
        os.close(ours)


def _leave(_number: int, _frame: Any) -> None:
    os._exit(INTERRUPTED)
