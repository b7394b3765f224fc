"""Video super-resolution streaming pipeline.

    import vsr
    report = vsr.upscale("input.mp4", "output.mp4", scale=3)

`Upscaler` enlarges single pictures; `vsr.errors` holds every exception. Names are loaded when they are first used, so
that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vsr._version import __version__

if TYPE_CHECKING:
    from vsr.errors import VsrError
    from vsr.job import upscale
    from vsr.options import UpscaleOptions
    from vsr.report import JobProgress, JobReport
    from vsr.upscaler import Upscaler

_HOMES = {
    "JobProgress": "vsr.report",
    "JobReport": "vsr.report",
    "UpscaleOptions": "vsr.options",
    "Upscaler": "vsr.upscaler",
    "VsrError": "vsr.errors",
    "upscale": "vsr.job",
}

__all__ = ["JobProgress", "JobReport", "UpscaleOptions", "Upscaler", "VsrError", "__version__", "upscale"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vsr' has no attribute {name!r}")
