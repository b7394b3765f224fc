"""Atomic files: complete under their name or not there, and never over somebody else's."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import av.error
import pytest

from vsr import store
from vsr.errors import DiskFullError, OutputError, OutputExistsError
from vsr.store import AtomicFile, atomic_write, remove_abandoned, remove_temporaries, same_file, translate_write_error


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_the_name_is_taken_at_publication_and_not_before(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    file = AtomicFile(target)
    assert file.temporary.parent == tmp_path
    assert file.temporary.suffix == ".mp4"
    assert file.temporary.name.startswith(".")
    assert not target.exists()
    file.temporary.write_bytes(b"whole")
    assert file.publish() == target
    assert target.read_bytes() == b"whole"
    assert names(tmp_path) == ["out.mp4"]


def test_a_discarded_file_leaves_nothing_and_may_be_discarded_again(tmp_path: Path) -> None:
    file = AtomicFile(tmp_path / "out.mp4")
    file.discard()
    file.discard()
    assert names(tmp_path) == []


def test_discarding_after_publication_keeps_the_file(tmp_path: Path) -> None:
    file = AtomicFile(tmp_path / "out.mp4")
    file.publish()
    file.discard()
    assert names(tmp_path) == ["out.mp4"]


def test_an_existing_file_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="exists already") as caught:
        AtomicFile(target)
    assert "-y" in str(caught.value.hint)
    assert names(tmp_path) == ["out.mp4"]
    assert target.read_bytes() == b"precious"


def test_an_existing_file_is_replaced_when_asked_for_and_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"old")
    file = AtomicFile(target, overwrite=True)
    file.temporary.write_bytes(b"new")
    assert target.read_bytes() == b"old"
    file.publish()
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "no hard links on this file system")

        monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "out.mp4"
    file = AtomicFile(target)
    file.temporary.write_bytes(b"ours")
    target.write_bytes(b"theirs")
    with pytest.raises(OutputExistsError, match="come into being meanwhile"):
        file.publish()
    file.discard()
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out.mp4"]


def test_without_hard_links_files_are_published_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "link", refuse)
    AtomicFile(tmp_path / "out.mp4").publish()
    assert names(tmp_path) == ["out.mp4"]


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    link = tmp_path / "out.mp4"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError):
        AtomicFile(link)


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_replaced(exists: bool, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "real.mp4", tmp_path / "out.mp4"
    if exists:
        real.write_bytes(b"old")
    link.symlink_to("disk/real.mp4")
    file = AtomicFile(link, overwrite=True)
    assert file.temporary.parent == real.parent  # where a rename cannot meet another file system
    file.temporary.write_bytes(b"new")
    file.publish()
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "out.mp4"
    link.symlink_to(link)
    with pytest.raises(OutputError, match="Too many levels of symbolic links"):
        AtomicFile(link, overwrite=True)


WRITER = """
import os, sys
from pathlib import Path
from vsr.store import AtomicFile
file = AtomicFile(Path(sys.argv[1]))
file.temporary.write_bytes(bytes(200_000))
print(file.temporary, flush=True)
os.read(0, 1)
os._exit(9)
"""


def test_what_a_killed_process_left_is_deleted_and_told_and_nothing_else(tmp_path: Path) -> None:
    def writing(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, tmp_path / name]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with writing("a.mp4") as dead, writing("b.mp4") as live:
        assert dead.stdout is not None
        assert live.stdout is not None
        left, at_work = (Path(process.stdout.readline().strip()) for process in (dead, live))
        dead.communicate("x")
        own = AtomicFile(tmp_path / "c.mp4")
        foreign = [tmp_path / ".vsr-0123abcd-0123456789ab.tmp.mp4", tmp_path / ".vsr-notes.tmp"]
        for path in foreign:  # of another machine that shares the folder; somebody else's
            path.touch()
        said: list[str] = []
        remove_abandoned(tmp_path / "d.mp4", said.append)
        assert said == [f"deleted {left}, 0.2 MB left by a run that was killed"]
        assert set(tmp_path.iterdir()) == {at_work, own.temporary, *foreign}
        live.communicate("x")
    for path in (at_work, *foreign):
        path.unlink()
    own.discard()


def test_another_name_in_the_same_folder_may_be_given_at_the_end(tmp_path: Path) -> None:
    file = AtomicFile(tmp_path / "out.mp4")
    file.temporary.write_bytes(b"part")
    assert file.publish(tmp_path / "out.partial.mp4") == tmp_path / "out.partial.mp4"
    assert names(tmp_path) == ["out.partial.mp4"]


def test_content_and_folder_are_synced_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real_sync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_sync(descriptor)

    def link(*arguments: object, **options: object) -> None:
        events.append("name")
        real_link(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    AtomicFile(tmp_path / "out.mp4").publish()
    assert events == ["file", "name", "folder"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fails_at_the_sync_publishes_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    file = AtomicFile(tmp_path / "out.mp4")
    with pytest.raises(OutputError) as caught:
        file.publish()
    assert isinstance(caught.value, DiskFullError) == (number != errno.EIO)
    file.discard()
    assert names(tmp_path) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the folder .*gone does not exist"):
        AtomicFile(tmp_path / "gone" / "out.mp4")


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="is a folder"):
            AtomicFile(tmp_path, overwrite=overwrite)


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        AtomicFile(tmp_path / ("x" * 300 + ".mp4"))


@pytest.mark.parametrize("length", [200, 240, 255])
def test_the_longest_names_work(length: int, tmp_path: Path) -> None:
    name = "x" * (length - 4) + ".mp4"
    AtomicFile(tmp_path / name).publish()
    assert names(tmp_path) == [name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_unwritable_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        AtomicFile(tmp_path / "out.mp4")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_shows_at_the_beginning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError) as caught:
        AtomicFile(tmp_path / "out.mp4")
    assert isinstance(caught.value, DiskFullError) == (number == errno.ENOSPC)


def test_the_last_act_removes_every_temporary_and_nothing_else(tmp_path: Path) -> None:
    files = [AtomicFile(tmp_path / f"{i}.mp4") for i in range(3)]
    files[0].publish()
    files[1].discard()
    remove_temporaries()
    assert names(tmp_path) == ["0.mp4"]
    files[2].discard()
    assert not store._open_files


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFullError, "no space left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), DiskFullError, "quota"),
        (OSError(errno.EFBIG, "File too large"), DiskFullError, "File too large"),
        (av.error.OSError(errno.ENOSPC, "No space left on device"), DiskFullError, "no space left"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), OutputError, "closed by its reader"),
        (OSError(errno.EIO, "Input/output error"), OutputError, "Input/output error"),
        (ValueError("strange"), OutputError, "strange"),
        (RuntimeError(), OutputError, "RuntimeError"),
    ],
)
def test_errors_of_the_system_become_ours(error: BaseException, kind: type[OutputError], words: str) -> None:
    translated = translate_write_error(error, "out.mp4")
    assert type(translated) is kind
    assert words in translated.message
    assert "out.mp4" in translated.message


def test_a_file_is_the_same_through_links_and_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = tmp_path / "a.mp4", tmp_path / "b.mp4"
    first.write_bytes(b"1")
    other.write_bytes(b"1")
    (tmp_path / "soft.mp4").symlink_to(first)
    os.link(first, tmp_path / "hard.mp4")
    (tmp_path / "dir").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for same in ("a.mp4", "./a.mp4", "soft.mp4", "hard.mp4", "dir/a.mp4", f"../{tmp_path.name}/a.mp4"):
        assert same_file(first, Path(same)), same
    assert not same_file(first, other)
    assert not same_file(first, tmp_path / "gone.mp4")
    assert same_file(tmp_path / "gone.mp4", tmp_path / "dir" / "gone.mp4")
    assert not same_file(first, tmp_path / ("x" * 300))


def test_small_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "manifest.json"
    with atomic_write(target) as temporary:
        temporary.write_text("{}")
        assert not target.exists()
    assert target.read_text() == "{}"
    with pytest.raises(ZeroDivisionError), atomic_write(target, overwrite=True) as temporary:
        temporary.write_text(f"half {1 / 0}")
    with pytest.raises(DiskFullError), atomic_write(target, overwrite=True):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert target.read_text() == "{}"
    assert names(tmp_path) == ["manifest.json"]
