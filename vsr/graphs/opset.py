"""Versions of ONNX's standard operators."""

from __future__ import annotations

from typing import Any, Final

from vsr.errors import ModelError

OPSET: Final = 17
"""What graphs are written in."""

PRESENT_OPSET: Final = 13
"""The first in which the operators that are written here have their present form."""


def opset_of(proto: Any) -> int:
    """Version of the standard operators that a model declares."""
    return next((int(o.version) for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)


def convert_opset(proto: Any, version: int, name: str) -> Any:
    """The model in another opset.

    Raises:
        ModelError: ONNX's converter cannot do it.
    """
    import onnx.version_converter

    try:
        return onnx.version_converter.convert_version(proto, version)
    except Exception as exc:  # the converter raises bare RuntimeErrors
        raise ModelError(
            f"model {name} has opset {opset_of(proto)} and cannot be converted to {version}: {exc}",
            "export it again with opset 17",
        ) from exc
