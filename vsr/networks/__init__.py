"""The networks: architectures to train in torch; `vsr.training.export` makes ONNX models of them.

Nothing here imports torch until a network is made, so that names can be listed without it.
"""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING

from vsr.errors import OptionError

if TYPE_CHECKING:
    from vsr.networks.base import LumaNetwork

_FACTORIES: dict[str, tuple[str, str, dict[str, str]]] = {
    "espcn": ("vsr.networks.espcn", "espcn", {}),
    "espcn-tanh": ("vsr.networks.espcn", "espcn", {"activation": "tanh"}),
    "fsrcnn": ("vsr.networks.fsrcnn", "fsrcnn", {}),
    "fast": ("vsr.networks.fast", "fast", {}),
    "balanced": ("vsr.networks.fast", "balanced", {}),
}

#: Names that `create` knows.
NAMES: tuple[str, ...] = tuple(_FACTORIES)


def create(name: str, scale: int) -> LumaNetwork:
    """A network with its starting weights (random ones from torch's global generator; seed it first).

    Raises `OptionError` for an unknown name or a scale that the network does not have.
    """
    if name not in _FACTORIES:
        raise OptionError(f"got network {name!r}; there are {', '.join(NAMES)}")
    if scale not in (2, 3, 4):
        raise OptionError(f"network {name} got scale {scale}; it has 2, 3, 4")
    module, factory, keywords = _FACTORIES[name]
    make = partial(getattr(importlib.import_module(module), factory), **keywords)
    network: LumaNetwork = make(scale)
    return network
