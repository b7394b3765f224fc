"""Names of GPUs."""

from __future__ import annotations

import pytest

from vsr.errors import OptionError
from vsr.gpu.names import ENDINGS, MAKERS, NAMES, Gpu, parse_gpu


@pytest.mark.parametrize(
    ("text", "sm"),
    [
        ("sm_89", "sm_89"),
        ("SM120", "sm_120"),
        ("sm_90a", "sm_90"),
        ("compute_75", "sm_75"),
        ("8.6", "sm_86"),
        ("12.0", "sm_120"),
        ("NVIDIA GeForce RTX 3060 Laptop GPU", "sm_86"),
        ("rtx 4070 ti super", "sm_89"),
        ("RTX4090", "sm_89"),
        ("NVIDIA GeForce GTX 1660 SUPER", "sm_75"),
        ("Tesla T4", "sm_75"),
        ("NVIDIA A100-SXM4-80GB", "sm_80"),
        ("NVIDIA A10", "sm_86"),
        ("A100-PCIE-40GB", "sm_80"),
        ("NVIDIA H100 80GB HBM3", "sm_90"),
        ("NVIDIA L40S", "sm_89"),
        ("NVIDIA RTX A6000", "sm_86"),
        ("Quadro RTX 6000", "sm_75"),
        ("NVIDIA RTX 6000 Ada Generation", "sm_89"),
        ("RTX 5090 D", "sm_120"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "sm_120"),
    ],
)
def test_names_and_capabilities_are_read(text: str, sm: str) -> None:
    assert parse_gpu(text) == Gpu(parse_gpu(sm).capability)
    assert parse_gpu(text).sm == sm


@pytest.mark.parametrize("text", ["", "RTX", "Radeon 7900", "sm_", "8", "rtx 9999", "4090x"])
def test_what_is_no_gpu_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"no GPU is known as .*sm_89"):
        parse_gpu(text)


def test_every_name_of_the_table_is_found_as_it_stands_and_only_once() -> None:
    names = [(name, capability) for capability, listed in NAMES.items() for name in listed.split()]
    assert len({n for n, _ in names}) == len(names)
    for name, capability in names:
        assert parse_gpu(name).capability == capability
        assert not MAKERS.search(name)
        assert not ENDINGS.search(name) or name.endswith("titanrtx") or "ti" not in name[-2:]
