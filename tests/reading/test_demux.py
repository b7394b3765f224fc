"""Opening inputs: what is wrong with a file is said in plain words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clips import make_clip
from vsr.errors import InputError, MissingInputError, NotMediaError
from vsr.reading.demux import check_input_path, open_input, packets

Clip = Callable[..., Path]


def test_a_missing_file_a_folder_and_an_empty_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"gone\.mp4 does not exist"):
        open_input(tmp_path / "gone.mp4")
    with pytest.raises(MissingInputError, match="is a folder"):
        open_input(tmp_path)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(NotMediaError, match=r"empty \(0 bytes\)"):
        open_input(tmp_path / "empty.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(MissingInputError, match="Permission denied"):
        check_input_path(path)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MissingInputError, match="pipe"):
        open_input(tmp_path / "pipe.mp4")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Dear diary,\n" * 500, "text file"),
        ("Gr\u00fc\u00dfe an alle, " * 300, "text file"),  # a character may lie across the end of the sample looked at
        ("\u00e9" * 3000 + "x", "text file"),
        ("x" + "\u00e9" * 3000, "text file"),
    ],
)
def test_text_is_called_text_whatever_its_name(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(NotMediaError, match=words):
        open_input(path)


def test_noise_is_no_media(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    path.write_bytes(bytes((i * i * 31 + i // 7) % 251 for i in range(20_000)))
    with pytest.raises(NotMediaError, match="cannot be opened as media"):
        open_input(path)


def test_an_mp4_without_its_index_is_named_as_such(clip: Clip, tmp_path: Path) -> None:
    whole = clip("whole.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: whole.index(b"moov") - 4])
    with pytest.raises(NotMediaError, match=r"MP4 file without a moov atom.*cut off"):
        open_input(path)


@pytest.mark.parametrize("name", ["a:b.mp4", "pipe:0.mp4", "50%.mp4", "ä ü?.mp4", "-dash.mp4", "concat:x|y.mp4"])
def test_file_names_are_no_protocols(name: str, clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(clip("whole.mp4").read_bytes())
    with open_input(path) as container:
        assert len(container.streams.video) == 1


def test_packets_of_a_cut_file_end_and_other_read_errors_are_raised(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "cut.mkv"
    data = clip("long.mkv", frames=30).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with open_input(path) as container:
        assert 1 <= sum(1 for p in packets(container, path=path) if p.size) < 30

    class Broken:
        def demux(self, *_: object) -> object:
            raise_at_next = iter([1])

            def generate() -> object:
                for _ in raise_at_next:
                    raise PermissionError(13, "Permission denied")
                yield None

            return generate()

    with pytest.raises(InputError, match="cannot be read any further: Permission denied"):
        list(packets(Broken(), path=path))  # type: ignore[arg-type]


def test_a_stream_that_appeared_while_reading_does_not_break_the_end(tmp_path: Path) -> None:
    """As PyAV 18 ends: it looks for a flag of the new stream behind the end of its array, whatever lies there."""

    class Growing:
        def demux(self, *_: object) -> Iterator[int]:
            yield from (1, 2)
            raise IndexError("list index out of range")

    assert list(packets(Growing(), path=tmp_path)) == [1, 2]  # type: ignore[arg-type,comparison-overlap]


def test_undecodable_tags_are_no_reason_to_refuse_a_file(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "tagged.mkv", metadata={"title": "caf\u00e9 au lait"})
    path.write_bytes(path.read_bytes().replace("caf\u00e9 au lait".encode(), b"caf\xff\xfe au lait"))
    with open_input(path) as container:
        assert "caf" in container.metadata["title"]
