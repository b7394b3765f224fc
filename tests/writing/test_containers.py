"""Output containers by their extensions."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from vsr.errors import ContainerError
from vsr.writing.containers import CONTAINERS, UNFIT, container_of


@pytest.mark.parametrize("suffix", list(CONTAINERS))
def test_extensions_count_whatever_their_case(suffix: str) -> None:
    assert container_of(Path(f"a.b{suffix}")) is CONTAINERS[suffix]
    assert container_of(Path(f"A{suffix.upper()}")) is CONTAINERS[suffix]


def test_muxers_exist_and_hold_the_codecs_that_are_written_into_them() -> None:
    for container in set(CONTAINERS.values()):
        fmt = av.ContainerFormat(container.muxer, "w")
        assert fmt.is_output
        assert container.video_codecs


@pytest.mark.parametrize("name", ["out", "out.", "out.xyz", ".mp4", "out.mp4.part", "out.mp4 "])
def test_other_names_are_refused_with_the_extensions_that_are_known(name: str) -> None:
    with pytest.raises(ContainerError, match=r"\.mp4, .*\.mkv"):
        container_of(Path(name))


@pytest.mark.parametrize("suffix", list(UNFIT))
def test_containers_that_would_lose_something_say_what(suffix: str) -> None:
    with pytest.raises(ContainerError) as caught:
        container_of(Path(f"out{suffix}"))
    assert UNFIT[suffix].split(" ", 1)[1] in caught.value.message
    assert ".mkv" in str(caught.value)
