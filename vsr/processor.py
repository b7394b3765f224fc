"""The processor that this process runs on."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
SHARE_OF_MEMORY: Final = 8  # of the machine's memory, what computing may take
YIELDING: Final = 5  # steps of niceness; each is a quarter less of a core that others want too
NICEST: Final = 19


def usable_cores() -> int:
    """The processor's cores that this process may use: in a container, or under taskset, fewer than there are."""
    return len(os.sched_getaffinity(0))


def memory_size() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def yielding(work: Callable[[], T]) -> T:
    """Do `work` in a thread that yields to this process' others, as will all threads that it starts.

    On Linux priorities are of threads, and a new one has that of the thread that starts it.

    Raises:
        Exception: whatever `work` raises.
    """
    with ThreadPoolExecutor(1, "vsr-yielding", initializer=_yield) as thread:
        return thread.submit(work).result()


def _yield() -> None:
    own = threading.get_native_id()
    with contextlib.suppress(OSError):  # a sandbox may forbid it; then all threads are equal
        os.setpriority(os.PRIO_PROCESS, own, min(NICEST, os.getpriority(os.PRIO_PROCESS, own) + YIELDING))
