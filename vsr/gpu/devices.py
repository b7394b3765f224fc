"""Where to compute, as the user says it: `auto`, `cpu`, `cuda:1`, `cuda:0,cuda:1` or `all`."""

from __future__ import annotations

import re
from typing import Final

from vsr.errors import BackendError, OptionError
from vsr.gpu.cuda_driver import count

CPU: Final = "cpu"
Devices = tuple[str, ...]  # of `cpu` and `cuda:N`; none leaves it to the backend


def parse_devices(text: str) -> Devices:
    """Read `auto` (nothing), `cpu`, `cuda` (`cuda:0`), `cuda:N`, several of these with commas, or `all` GPUs.

    Raises:
        OptionError: it is none of them, or names a device twice.
        BackendError: there is no such GPU.
    """
    allowed = "allowed are auto, cpu, cuda:N, several with commas, and all"
    words = [word.strip().lower() for word in text.split(",")]
    if words == ["auto"]:
        return ()
    if words == [CPU]:
        return (CPU,)
    found = [re.fullmatch(r"cuda(?::(\d{1,2}))?", word) for word in words]
    if words != ["all"] and None in found:
        raise OptionError(f"device {text!r}; {allowed}")
    there = count()
    if isinstance(there, str):
        raise BackendError(f"device {text!r}: {there}", "leave it out, or say cpu; vsr doctor tells more")
    numbers = list(range(there)) if words == ["all"] else [int(m.group(1) or 0) for m in found if m is not None]
    if len(set(numbers)) < len(numbers):
        raise OptionError(f"device {text!r} names one twice")
    if max(numbers) >= there:
        raise BackendError(f"device cuda:{max(numbers)}, and the GPUs here are {', '.join(_names(range(there)))}")
    return _names(numbers)


def number_of(device: str) -> int:
    """Which GPU `cuda:N` is."""
    return int(device.partition(":")[2])


def _names(numbers: list[int] | range) -> Devices:
    return tuple(f"cuda:{n}" for n in numbers)
