"""The networks: architectures to train in torch; `vsr.training.export` makes ONNX models of them.

Nothing here imports torch until a network is made, so that names can be listed without it.
"""

from __future__ import annotations

import importlib
import re
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
_LAYOUT = re.compile(r"residual-(\d+)x(\d+)-(\d+)-(\d+)(?:-(leaky|prelu|p4m?))?")


def check_name(name: str) -> None:
    """Raises `OptionError` if `create` does not know a network of this name."""
    _recipe(name)


def create(name: str, scale: int) -> LumaNetwork:
    """A network with its starting weights (random ones from torch's global generator; seed it first).

    name: one of `ALL_NAMES`, or a layout of the own family, as residual-16x5-5-1 (that of `fast`): 16 channels, 5
    layers in the body, a kernel of 5 at the start and of 1 at the end; -leaky or -prelu puts LeakyReLU or PReLU in
    place of ReLU; with -p4 the network turns with the picture, with -p4m it mirrors too (`vsr.networks.symmetry`).

    Raises `OptionError` for an unknown name or a scale that the network does not have.
    """
    module, factory, keywords = _recipe(name)
    if scale not in (2, 3, 4):
        raise OptionError(f"network {name} got scale {scale}; it has 2, 3, 4")
    network: LumaNetwork = getattr(importlib.import_module(module), factory)(scale=scale, **keywords)
    network.name = name
    return network


def _recipe(name: str) -> tuple[str, str, dict[str, Any]]:
    """Module and function that make a network, and their keywords but for the scale."""
    plain = name.removesuffix(COMPRESSED_ENDING)
    if plain in _FACTORIES:
        return _FACTORIES[plain]
    layout = _LAYOUT.fullmatch(plain)
    if layout is None:
        raise OptionError(
            f"got network {name!r}; there are {', '.join(NAMES)}, and residual-16x5-5-1 for another layout of `fast` "
            "(channels, body layers, first and last kernel, then -leaky, -prelu, -p4 or -p4m if wanted), each also "
            f"with {COMPRESSED_ENDING}"
        )
    channels, body, first, last = map(int, layout.groups()[:4])
    variant = {"symmetry" if layout[5] in ("p4", "p4m") else "activation": layout[5]} if layout[5] else {}
    sizes = {"widths": [channels] * (body + 1), "first_kernel": first, "last_kernel": last}
    return "vsr.networks.fast", "residual_net", {"name": name, **sizes, **variant}
