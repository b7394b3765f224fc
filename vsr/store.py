"""Files that exist under their final name only when they are complete.

Publish = temporary name in the same folder → write → check → fsync → rename → fsync of the folder.

A temporary file is locked as long as its process lives, so that what a killed process left behind can be told from what
is being written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from vsr.errors import DiskFullError, OutputError, OutputExistsError

FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# In the names of temporary files, for some network file systems keep locks within each machine.
MACHINE: Final = hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8]
TEMPORARY: Final = re.compile(rf"\.vsr-{MACHINE}-[0-9a-f]{{12}}\.tmp(\..*)?")

_open_files: set[Path] = set()
_open_files_lock = threading.Lock()
_looked_through: set[Path] = set()


def remove_temporaries() -> None:
    """Delete every temporary file of this process: the last act before it stops at once."""
    with _open_files_lock:
        for path in _open_files:
            with contextlib.suppress(OSError):
                path.unlink()


def remove_abandoned(target: Path, note: Callable[[str], None]) -> None:
    """Delete the temporary files in the folder of `target` that processes of this machine left by being killed.

    Each folder is looked through once in a process. `note` is told of each file, a line each.
    """
    folder = Path(os.path.realpath(target)).parent
    with _open_files_lock:
        if folder in _looked_through:
            return
        _looked_through.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for path in [folder / e.name for e in entries if TEMPORARY.fullmatch(e.name)]:
            with contextlib.suppress(OSError):  # another user's, or its process is at work
                size = _remove_unless_locked(path)
                note(f"deleted {path}, {size / 1e6:.1f} MB left by a run that was killed")


def _remove_unless_locked(path: Path) -> int:
    """Delete a temporary file that nobody writes any more. Answers how many bytes it had."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _create_locked(path: Path) -> int:
    """A new empty file, locked as long as the descriptor is open; where the file system has locks at all."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # another process found it before it was locked, and took it for abandoned


class AtomicFile:
    """A file being written under a temporary name beside its target.

    Args:
        target: the final path. What a symbolic link leads to is replaced, and not the link.
        overwrite: whether an existing target may be replaced.

    Attributes:
        target: the final path, behind whatever links.
        temporary: where to write. It is created empty, so that an unwritable folder shows before any work is done.

    Raises:
        OutputExistsError: the target exists and `overwrite` is off.
        OutputError: the folder does not exist or cannot be written.
    """

    def __init__(self, target: Path, *, overwrite: bool = False) -> None:
        check_output_path(target, overwrite=overwrite)
        self.target = target = Path(os.path.realpath(target)) if target.is_symlink() else target
        self._overwrite = overwrite
        # The extension stays last, because libavformat and encoders look at it.
        self.temporary = target.with_name(f".vsr-{MACHINE}-{secrets.token_hex(6)}.tmp{target.suffix}")
        try:
            self._descriptor: int | None = _create_locked(self.temporary)
        except OSError as exc:
            if exc.errno in FULL_ERRNOS:
                raise DiskFullError(f"no space left to write {target}", "free some, or write elsewhere") from exc
            raise OutputError(f"{target} cannot be written: {_reason(exc, target)}") from exc
        with _open_files_lock:
            _open_files.add(self.temporary)

    def publish(self, name: Path | None = None) -> Path:
        """Make the file durable and give it its final name.

        Args:
            name: another final name, in the same folder, replacing what is there.

        Raises:
            OutputExistsError: the target has come into being meanwhile.
            DiskFullError, OutputError: the system refuses.
        """
        final = name or self.target
        try:
            with self.temporary.open("rb+") as file:
                os.fsync(file.fileno())
            if name is None and not self._overwrite:
                _rename_without_replacing(self.temporary, final)
            else:
                self.temporary.replace(final)
            _sync_folder(final.parent)
        except FileExistsError as exc:
            raise OutputExistsError(f"{final} has come into being meanwhile", "use -y to overwrite it") from exc
        except OSError as exc:
            raise translate_write_error(exc, final) from exc
        self._forget()
        return final

    def discard(self) -> None:
        """Delete the file, if it is still there under its temporary name."""
        with contextlib.suppress(OSError):
            self.temporary.unlink()
        self._forget()

    def _forget(self) -> None:
        with _open_files_lock:
            _open_files.discard(self.temporary)
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def check_output_path(target: Path, *, overwrite: bool) -> None:
    """See that a file may be written at `target`, before any work is done.

    Raises:
        OutputExistsError: it is a folder, or exists and `overwrite` is off.
        OutputError: no file can have this name.
    """
    try:
        mode = target.lstat().st_mode
        with contextlib.suppress(FileNotFoundError):  # of a link that leads nowhere yet
            mode = target.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        raise OutputError(f"{target} cannot be written: {exc.strerror or exc}") from exc
    if stat.S_ISDIR(mode):
        raise OutputExistsError(f"{target} is a folder, and an output file is needed")
    streamed = stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)  # nothing is lost by writing to a pipe or a device
    if not overwrite and not streamed:
        raise OutputExistsError(f"{target} exists already", "use -y to overwrite it, or another name")


def translate_write_error(exc: BaseException, target: Path | str) -> OutputError:
    """The error of this project for one of the operating system or of libav that came while writing."""
    number = getattr(exc, "errno", None)
    reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    if number in FULL_ERRNOS:
        return DiskFullError(f"no space left while writing {target}: {reason}", "free some, or write elsewhere")
    if number == errno.EPIPE:
        return OutputError(f"{target} was closed by its reader before the end")
    return OutputError(f"{target} cannot be written: {reason}")


def same_file(first: Path, second: Path) -> bool:
    """Whether two paths lead to one file, through whatever links and spellings."""
    try:
        if first.samefile(second):
            return True
    except OSError:
        pass
    try:
        return Path(os.path.realpath(first)) == Path(os.path.realpath(second))
    except OSError:
        return False


@contextlib.contextmanager
def atomic_write(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Write a small file: yields the temporary path, publishes it at the end, discards it on any error."""
    file = AtomicFile(target, overwrite=overwrite)
    try:
        yield file.temporary
        file.publish()
    except OSError as exc:
        raise translate_write_error(exc, target) from exc
    finally:
        file.discard()


def _rename_without_replacing(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: the small race is accepted
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        source.rename(target)
    else:
        source.unlink()


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # some network file systems do not open folders
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _reason(exc: OSError, target: Path) -> str:
    if not target.parent.exists():
        return f"the folder {target.parent} does not exist"
    return exc.strerror or str(exc)
