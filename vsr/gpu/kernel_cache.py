"""Kernels that TensorRT for RTX compiles on the GPU, kept for the next start.

An engine of TensorRT for RTX holds no kernels for one GPU: they are compiled when an execution context first runs. Its
runtime cache (IRuntimeCache) hands them over as bytes. The runtime itself refuses those of another GPU, driver, version
or compiler; what was kept is then compiled again and replaced, with one line that says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import platformdirs

from vsr.engines.blob_store import BlobStore
from vsr.gpu.tensorrt_api import TensorRt

LIMIT_BYTES: Final = 256 << 20  # of all kernels kept


class Contexts(Protocol):
    """What makes execution contexts: an engine, or `CachedContexts`."""

    def create_execution_context(self) -> Any:
        """A new one; None if the runtime makes none."""


class CachedContexts:
    """Execution contexts of one engine that share a runtime cache. It must outlive them, and the engine outlive it.

    Args:
        api: TensorRT for RTX.
        engine: loaded.
        store: where kernels are kept.
        key: of this engine's.
        on_note: is told if what was kept is refused.
    """

    def __init__(self, api: TensorRt, engine: Any, store: BlobStore, key: str, on_note: Callable[[str], None]) -> None:
        self._api = api
        self._engine = engine
        self._store = store
        self._key = key
        self._cache = engine.create_runtime_config().create_runtime_cache()
        self._configs: list[Any] = []
        self._kept = store.get(key)
        if self._kept is not None and not self._cache.deserialize(self._kept):
            on_note(f"kernels are compiled again: {api.runtime} {api.version} does not take those that were kept")
            store.discard(key)
            self._kept = None

    def create_execution_context(self) -> Any:
        """A new one, with what is in the cache.

        All its kernels are compiled at its first frame, none in the background: pictures have one size, and work that
        is recorded must not change afterwards.
        """
        config = self._engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = self._api.eager_kernels
        config.set_runtime_cache(self._cache)
        self._configs.append(config)  # whether a context copies it, NVIDIA does not say
        return self._engine.create_execution_context(config)

    def keep(self) -> None:
        """Keep what has been compiled so far, if that is more than was kept before."""
        serialised = self._cache.serialize()
        data = None if serialised is None else bytes(serialised)
        if data and data != self._kept:
            self._store.put(self._key, data)
            self._kept = data


def cached_contexts(
    api: TensorRt, engine: Any, data: bytes, gpu: str, on_note: Callable[[str], None]
) -> CachedContexts | None:
    """Contexts of a loaded engine with the kernels that were kept for it; None if the runtime compiles none.

    Args:
        api: the package.
        engine: loaded.
        data: that it was loaded from.
        gpu: name of the GPU.
        on_note: is told if what was kept is refused.
    """
    if not api.compiles_kernels:
        return None
    store = BlobStore(platformdirs.user_cache_path("vsr") / "kernels", LIMIT_BYTES)
    key = "\n".join((api.runtime, api.version, gpu, hashlib.sha256(data).hexdigest()))
    return CachedContexts(api, engine, store, key, on_note)
