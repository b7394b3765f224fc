"""Is it the GPU's memory that was too small? CUDA, its libraries, pycuda, torch and TensorRT each say so in words of
their own."""

from __future__ import annotations

import re
from typing import Final

# CUDA_ERROR_OUT_OF_MEMORY, cudaErrorMemoryAllocation, CUDNN_STATUS_ALLOC_FAILED, CUBLAS_STATUS_ALLOC_FAILED; pycuda's
# "cuMemAlloc failed: out of memory", torch's OutOfMemoryError, TensorRT's "Error Code 2: OutOfMemory (Requested size
# was ... bytes.)", Python's MemoryError
_WORDS: Final = re.compile(r"out.?of.?memory|error_?memory_?allocation|alloc_failed|\bMemoryError\b", re.IGNORECASE)
MEMORY_HINT: Final = "close what else uses the GPU, or use --backend openvino"


def lacks_memory(said: BaseException | str) -> bool:
    """Whether an error, or what a runtime logged, is about memory that is not there."""
    return _WORDS.search(said if isinstance(said, str) else f"{type(said).__name__}: {said}") is not None


def first_line(error: BaseException) -> str:
    """Of what an error says, however long (`vsr.errors.first_line` cuts): sizes and addresses come late in it.

    torch goes on about its allocator for many more lines.
    """
    return str(error).splitlines()[0] if str(error) else repr(error)
