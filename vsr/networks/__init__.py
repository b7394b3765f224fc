"""The networks: architectures to train in torch; `vsr.training.export` makes ONNX models of them.

Nothing here imports torch until a network is made, so that names can be listed without it.
"""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

from vsr.errors import OptionError

if TYPE_CHECKING:
    from vsr.networks.base import LumaNetwork

_FACTORIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "espcn": ("vsr.networks.espcn", "espcn", {}),
    "espcn-tanh": ("vsr.networks.espcn", "espcn", {"activation": "tanh"}),
    "fsrcnn": ("vsr.networks.fsrcnn", "fsrcnn", {}),
    "fsrcnn-s": ("vsr.networks.fsrcnn", "fsrcnn_s", {}),
    "fast": ("vsr.networks.fast", "fast", {}),
    "balanced": ("vsr.networks.fast", "balanced", {}),
    "best": ("vsr.networks.fast", "best", {}),
    "srcnn": ("vsr.networks.srcnn", "srcnn", {}),
    "srcnn-9-1-5": ("vsr.networks.srcnn", "srcnn", {"middle": 1}),
    "autoencoder": ("vsr.networks.autoencoder", "autoencoder", {}),
}

#: The architectures that `create` knows.
NAMES: tuple[str, ...] = tuple(_FACTORIES)
COMPRESSED_ENDING = "-compressed"
"""With this after its name, an architecture is one to be trained on compressed footage."""
#: All names that `create` knows.
ALL_NAMES: tuple[str, ...] = (*NAMES, *(f"{name}{COMPRESSED_ENDING}" for name in NAMES))


def create(name: str, scale: int) -> LumaNetwork:
    """A network with its starting weights (random ones from torch's global generator; seed it first).

    Raises `OptionError` for an unknown name or a scale that the network does not have.
    """
    if name not in ALL_NAMES:
        raise OptionError(f"got network {name!r}; there are {', '.join(NAMES)}, each also with {COMPRESSED_ENDING}")
    if scale not in (2, 3, 4):
        raise OptionError(f"network {name} got scale {scale}; it has 2, 3, 4")
    module, factory, keywords = _FACTORIES[name.removesuffix(COMPRESSED_ENDING)]
    make = partial(getattr(importlib.import_module(module), factory), **keywords)
    network: LumaNetwork = make(scale)
    network.name = name
    return network
