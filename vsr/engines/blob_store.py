"""Bytes that took time to make, kept for the next process: compiled engines, in the user's cache folder.

A file appears whole or not at all, whoever else writes it at the same moment, and carries a hash of its content; what
does not match, or cannot be read or written, counts as not kept. What was not used the longest goes when the folder
grows beyond its limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Final

from vsr.errors import OutputError
from vsr.store import atomic_write

SUFFIX: Final = ".blob"
LIMIT_BYTES: Final = 64 << 20
DIGEST_BYTES: Final = hashlib.sha256().digest_size


class BlobStore:
    """A folder of such files.

    Args:
        folder: made when something is first kept.
        limit: bytes of all files together.
    """

    def __init__(self, folder: Path, limit: int = LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit = limit

    def get(self, key: str) -> bytes | None:
        """What was kept under `key`; None if there is nothing, or not what was kept."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        digest, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used just now
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep `content` under `key`, in the place of what was there; a folder that cannot be written keeps nothing."""
        if len(content) > self._limit:
            return
        with contextlib.suppress(OSError, OutputError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._path(key), overwrite=True) as temporary:
                temporary.write_bytes(hashlib.sha256(content).digest() + content)
            self._shrink()

    def discard(self, key: str) -> None:
        """Keep nothing under `key` any longer."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{SUFFIX}"

    def _shrink(self) -> None:
        files = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError):  # another process was faster
                found = path.stat()
                files.append((found.st_mtime_ns, found.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._limit:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
