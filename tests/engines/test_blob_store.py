"""Kept bytes: what comes back is what was kept, or nothing; whatever happens to the folder."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsr.engines.blob_store import DIGEST_BYTES, SUFFIX, BlobStore


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def test_what_was_kept_comes_back_under_its_key_only(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "new" / "folder")
    assert store.get("a") is None
    store.put("a", b"first")
    store.put("b", b"")
    store.put("a", b"second")
    assert (store.get("a"), store.get("b"), store.get("c")) == (b"second", b"", None)
    store.discard("a")
    assert (store.get("a"), store.get("b")) == (None, b"")


@settings(deadline=None, max_examples=25)
@given(st.binary(max_size=40), st.data())
def test_a_file_that_was_changed_or_cut_off_counts_as_none(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("blobs")
    store = BlobStore(folder)
    store.put("key", content)
    (file,) = files(folder)
    whole = file.read_bytes()
    assert len(whole) == DIGEST_BYTES + len(content)
    place = data.draw(st.integers(0, len(whole) - 1))
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert store.get("key") is None
    file.write_bytes(whole[:place])
    assert store.get("key") is None
    file.write_bytes(whole)
    assert store.get("key") == content


def test_beyond_its_limit_what_was_not_used_the_longest_goes(tmp_path: Path) -> None:
    size = DIGEST_BYTES + 100
    store = BlobStore(tmp_path, limit=3 * size)
    for age, key in enumerate(("old", "older", "oldest"), 1):
        store.put(key, key[:1].encode() * 100)
        (newest,) = (f for f in files(tmp_path) if f.stat().st_mtime_ns > 10**18)
        os.utime(newest, ns=(10**18 - age, 10**18 - age))
    assert store.get("oldest") == b"o" * 100  # which makes it the newest
    store.put("new", bytes(100))
    assert [store.get(key) is None for key in ("old", "older", "oldest", "new")] == [False, True, False, False]
    store.put("too large", bytes(4 * size))
    assert store.get("too large") is None
    assert len(files(tmp_path)) == 3


def test_many_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    contents = [bytes([n]) * 200_000 for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: BlobStore(tmp_path).put("key", content), contents))
    assert BlobStore(tmp_path).get("key") in contents
    assert [path.suffix for path in tmp_path.iterdir()] == [SUFFIX]


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = BlobStore(tmp_path / "file" / "folder")
    store.put("key", b"content")
    assert store.get("key") is None
