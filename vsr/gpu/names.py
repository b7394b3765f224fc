"""NVIDIA GPUs by name: their compute capability, which is what an engine is built for.

The table follows NVIDIA's own list (developer.nvidia.com/cuda-gpus) for the families that people own; a GPU that is not
in it is named by its capability, as in `sm_89` or `8.9`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from vsr.errors import OptionError

Capability = tuple[int, int]

# Names without "NVIDIA", "GeForce", "Quadro", "Tesla", spaces, and the endings in ENDINGS, which keep the capability.
NAMES: Final[dict[Capability, str]] = {
    (5, 2): "gtx950 gtx960 gtx970 gtx980 gtxtitanx m40 m60",
    (6, 0): "p100",
    (6, 1): "gtx1050 gtx1060 gtx1070 gtx1080 titanxp p4 p40 p1000 p2000 p4000 p5000 p6000",
    (7, 0): "v100 titanv",
    (
        7,
        5,
    ): "gtx1650 gtx1660 rtx2060 rtx2070 rtx2080 titanrtx t4 t400 t600 t1000 rtx3000 rtx4000 rtx5000 rtx6000 rtx8000",
    (8, 0): "a100 a30",
    (8, 6): (
        "rtx3050 rtx3060 rtx3070 rtx3080 rtx3090 a2 a10 a16 a40 rtxa2000 rtxa4000 rtxa4500 rtxa5000 rtxa5500 rtxa6000"
    ),
    (8, 7): "orin agxorin",
    (8, 9): (
        "rtx4050 rtx4060 rtx4070 rtx4080 rtx4090 l4 l40 l40s rtx2000ada rtx4000ada rtx4500ada rtx5000ada rtx6000ada"
    ),
    (9, 0): "h100 h200 gh200",
    (10, 0): "b200 gb200",
    (10, 3): "b300 gb300",
    (12, 0): "rtx5050 rtx5060 rtx5070 rtx5080 rtx5090 rtxpro4000 rtxpro4500 rtxpro5000 rtxpro6000",
    (12, 1): "gb10 dgxspark",
}
MAKERS: Final = re.compile(r"nvidia|geforce|quadro|tesla|graphics|gpu|laptop|[\s_\-()]")
ENDINGS: Final = re.compile(
    r"(ti|super|d|max ?q|maxq|mobile|blackwell|workstationedition|serveredition|generation|(sxm|pcie|nvl)\d*)+$"
)
MEMORY: Final = re.compile(r"\b\d+ ?gb\b|\bhbm\d\w*")


@dataclass(frozen=True)
class Gpu:
    """What an engine is built for.

    Attributes:
        capability: compute capability, major and minor.
        name: of a GPU of this machine as its driver spells it; empty if the capability alone was asked for.
        number: of that GPU, as CUDA counts them; an engine does not depend on it.
    """

    capability: Capability
    name: str = ""
    number: int = field(default=0, compare=False)

    @property
    def sm(self) -> str:
        """The capability as NVIDIA's tools write it: `sm_89`."""
        return f"sm_{self.capability[0]}{self.capability[1]}"


def parse_gpu(text: str) -> Gpu:
    """Read `sm_89`, `8.9`, or a name such as `RTX 4090` or `NVIDIA L40S`.

    Raises:
        OptionError: neither.
    """
    plain = text.strip().lower()
    if match := re.fullmatch(r"(?:sm_?|compute_?)(\d{1,2})(\d)a?|(\d{1,2})\.(\d)", plain):
        major, minor = match.group(1) or match.group(3), match.group(2) or match.group(4)
        return Gpu((int(major), int(minor)))
    name = MAKERS.sub("", MEMORY.sub("", plain))
    for candidate in (name, ENDINGS.sub("", name)):
        for capability, names in NAMES.items():
            if candidate in names.split():
                return Gpu(capability)
    raise OptionError(
        f"no GPU is known as {text!r}",
        "give its compute capability, such as sm_89; developer.nvidia.com/cuda-gpus has it",
    )
