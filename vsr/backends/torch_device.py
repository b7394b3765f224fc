"""What the torch backend does on a device besides running operators: surfaces in and out, and recorded work.

All of it runs in the device's default stream, in which FFmpeg's decoder and encoder work too, so that their order needs
no events. The recording of CUDA graphs has not been run on a GPU by this project yet.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

import torch
from torch.utils import dlpack

from vsr.frame import Planes
from vsr.surface import CPU, CUDA, LAYOUTS, Samples, SurfacePlanes, packed, pitch_of

COPIED_BYTES: Final = 1 << 28
COPIES: Final = 5
WARM_RUNS: Final = 3  # before recording: libraries choose their kernels in them
Tensor = torch.Tensor
Run = Callable[[], Sequence[Tensor]]


def surface_inputs(planes: Planes, layout: str, device: torch.device) -> list[Tensor]:
    """The inputs `y` and `uv` of an interleaved frame graph, of a surface or of planes in host memory."""
    if isinstance(planes, SurfacePlanes) and planes.surface.layout == layout:
        # Capsules and not their owners, for torch would name a stream, which PyAV does not take.
        luma, chroma = (dlpack.from_dlpack(capsule).to(device) for capsule in planes.surface.capsules())
    else:
        luma, chroma = (torch.from_numpy(array.copy()).to(device) for array in packed(planes.arrays, layout))
    if LAYOUTS[layout][1]:  # deeper samples go in as pairs of bytes
        luma = luma.view(torch.uint8).view(*luma.shape, 2)
        chroma = chroma.view(torch.uint8).view(*chroma.shape, 2)
    return [luma[None, None], chroma[None]]


class TorchSurface:
    """An enlarged picture on the device, luma and chroma in one piece of memory, as NVENC wants them.

    Args:
        y: output of an interleaved frame graph.
        uv: likewise.
        layout: of the surface.
    """

    def __init__(self, y: Tensor, uv: Tensor, layout: str) -> None:
        luma, chroma = y[0, 0], uv[0]
        if LAYOUTS[layout][1]:
            luma, chroma = (t.contiguous().view(torch.uint16).squeeze(-1) for t in (luma, chroma))
        height, width = luma.shape
        padded = pitch_of(width, layout) // luma.itemsize
        memory = torch.empty((height * 3 // 2, padded), dtype=luma.dtype, device=luma.device)
        self._luma, self._chroma = memory[:height, :width], memory[height:, :width].view(height // 2, -1, 2)
        self._luma.copy_(luma)
        self._chroma.copy_(chroma)
        self.layout = layout
        self.device = (CUDA, luma.device.index or 0) if luma.is_cuda else (CPU, 0)

    def capsules(self) -> tuple[Any, Any]:
        """By torch, whose allocator takes the memory back when the last of them is gone."""
        if self._luma.is_cuda:
            torch.cuda.current_stream(self._luma.device).synchronize()
        return self._luma.__dlpack__(), self._chroma.__dlpack__()

    def download(self) -> tuple[Samples, Samples]:
        """By torch, which waits for the device."""
        return self._luma.cpu().numpy(), self._chroma.cpu().numpy()


class Recorded:
    """A function of fixed inputs, recorded as a CUDA graph and run again as a whole.

    Args:
        run: the function; it reads tensors that stay where they are, and returns tensors.

    Raises:
        RuntimeError: it does something that cannot be recorded.
    """

    def __init__(self, run: Run) -> None:
        here, beside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            for _ in range(WARM_RUNS):
                run()
        here.wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = run()

    def __call__(self) -> list[Tensor]:
        """Run it; the results are copies, for the next run writes over its own."""
        self._graph.replay()
        return [output.clone() for output in self._outputs]


class Marks:
    """Moments in a device's stream, the first one now."""

    def __init__(self, device: torch.device) -> None:
        self._gpu = device.type == "cuda"
        self._moments: list[Any] = []
        self.add()

    def add(self) -> None:
        """Mark where the stream, or on a CPU the program, is now."""
        if self._gpu:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._moments.append(event)
        else:
            self._moments.append(time.perf_counter())

    def milliseconds(self) -> list[float]:
        """Between each mark and the next."""
        if self._gpu:
            self._moments[-1].synchronize()
            return [a.elapsed_time(b) for a, b in pairwise(self._moments)]
        return [(b - a) * 1000 for a, b in pairwise(self._moments)]


def copy_rate(device: torch.device, size: int = COPIED_BYTES) -> float:
    """Bytes a second that a copy within the device's memory reads and writes, the best of a few."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(COPIES):
        marks = Marks(device)
        target.copy_(source)
        marks.add()
        best = max(best, 2 * size / (marks.milliseconds()[0] / 1000))
    return best


def full_fp32(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Convolutions with all bits of fp32 on a GPU (by itself cuDNN takes TF32, which has 10), by the fastest kernel."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    flags: contextlib.AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=True, allow_tf32=False
    )
    return flags
