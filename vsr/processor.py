"""The processor that this process runs on."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """The processor's cores that this process may use: in a container, or under taskset, fewer than there are."""
    return len(os.sched_getaffinity(0))
