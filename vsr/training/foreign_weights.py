"""Files of weights that others trained, and the package that knows what they belong to.

Files are read here, not by spandrel: a .pth is a pickle, which torch's own restricted reader takes apart without
running anything in it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import pickle
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from vsr.errors import ModelError, OptionError, first_line
from vsr.model import MAX_FILE_BYTES


def import_spandrel() -> Any:
    """Import spandrel.

    It imports torchvision for two networks that restore faces and fill holes. torchvision's package-index build is for
    CUDA, and does not import beside a torch for CPUs; then the three names that are asked for are set to nothing.

    Raises:
        OptionError: it is not installed.
    """
    if importlib.util.find_spec("spandrel") is None:
        raise OptionError("spandrel is not installed", "pip install 'vsr[spandrel]'")
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError):
        _forget("torchvision")
        functional = types.ModuleType("torchvision.transforms.functional")
        for name in ("InterpolationMode", "rotate", "normalize"):
            setattr(functional, name, None)
        for name in ("torchvision", "torchvision.transforms"):
            sys.modules[name] = types.ModuleType(name)
        sys.modules[functional.__name__] = functional
        try:
            return _imported()
        finally:
            _forget("torchvision")
    return _imported()


def _imported() -> Any:
    try:
        return importlib.import_module("spandrel")
    except ImportError as exc:
        raise OptionError(f"spandrel cannot be imported: {first_line(exc)}", "pip install 'vsr[spandrel]'") from exc


def _forget(package: str) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == package]:
        del sys.modules[name]


def read_weights(path: Path) -> dict[str, Any]:
    """The tensors of a .pth, .ckpt or .safetensors, by name, perhaps inside dictionaries such as `params_ema`.

    Raises:
        ModelError: the file cannot be read, is damaged, or holds none, or objects besides them.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(f"{path} has {size} bytes; an ONNX model has at most {MAX_FILE_BYTES}")
        with path.open("rb"):
            pass
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    try:
        if path.suffix.lower() == ".safetensors":
            weights: Any = importlib.import_module("safetensors.torch").load_file(str(path))
        else:
            with quiet():
                weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        if "global" in str(exc).lower():
            raise ModelError(
                f"{path} holds Python objects besides weights, which may be programs and are not loaded",
                "save the weights alone, best as .safetensors",
            ) from exc
        raise ModelError(f"{path} is damaged, or is no weights file") from exc
    except Exception as exc:  # zip errors, EOFError, SafetensorError, whatever a damaged file makes of a reader
        raise ModelError(f"{path} is damaged, or is no weights file: {first_line(exc)}") from exc
    if not isinstance(weights, dict) or not _tensors(weights):
        raise ModelError(f"{path} holds no weights, but {type(weights).__name__}")
    return weights


def _tensors(value: dict[Any, Any]) -> bool:
    """Whether there is a tensor in a dictionary of weights, or in those inside it (`params_ema` and the like)."""
    return any(isinstance(v, torch.Tensor) or (isinstance(v, dict) and _tensors(v)) for v in value.values())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of torch and of the networks' code, of which the user can change nothing."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)
