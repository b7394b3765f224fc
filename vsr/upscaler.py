"""The upscaler: planes or arrays in, enlarged planes or arrays out, through an engine compiled when it is needed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vsr.engines.compile import Opened, open_engine
from vsr.engines.engine import Engine, EngineSpec, Ticket
from vsr.engines.handover import HandoverEngine
from vsr.engines.replenish import ReplenishingEngine
from vsr.errors import OptionError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Frame, PixelFormat, Planes, Range
from vsr.gpu.devices import parse_devices
from vsr.graphs.chain import load_chain, scales_of
from vsr.graphs.frame_graph import SAME, FrameGraphSpec, Target
from vsr.model import Model
from vsr.size import SizeRequest, next_scale, output_size

STILL_COLOR = ColorSpec(matrix=6, range=Range.FULL)  # stills are full range, and their luma is that of BT.601


class Upscaler:
    """Enlarges pictures: luma through a model, chroma bicubic.

    Several threads may share one: their single pictures are computed one after the other.

    >>> import numpy as np
    >>> from vsr import Upscaler
    >>> picture = np.zeros((20, 30, 3), dtype=np.uint8)     # height, width, RGB
    >>> with Upscaler(scale=3) as upscaler:
    ...     upscaler.upscale(picture).shape
    (60, 90, 3)

    Args:
        scale: 2, 3, 4, 6, 8, 9, 12 or 16 (one model applied twice makes those over 4), or whatever a model of your own
            does. Any other number over 1 and up to 16 is made by the next of these, reduced.
        size: instead of a scale: `1920x1080`, `1920x-2`, `4k` and the like, as `vsr.size.SizeRequest` says.
        fit: `exact`, `inside` or `stretch`: what a size means for a picture of another shape.
        model: name of a shipped model, `bicubic`, path of an ONNX file, or None for the default.
        backend: `auto`, `openvino`, `torch` or `tensorrt`.
        precision: `auto`, `fp32`, `bf16`, `fp16` or `int8`.
        threads: of the CPU; 0 for all.
        device: where: `auto` (as the backend chooses), `cpu`, `cuda:0`, several with commas, or `all` GPUs; the frames
            of a stream are dealt to several in turn.
        surfaces: whether pictures may come as surfaces of the device, as `vsr.engines.engine.EngineSpec` says.
        keep: whether enlarged pictures stay on the device.
        reuse: whether the pictures are consecutive frames, of which only what changed is computed; the result has the
            same bits.
        batch: pictures of a stream that a GPU computes at once; only TensorRT takes more than one.
        wait: whether to wait for an engine that has to be built first; if not, the work begins on another backend, on
            torch if that has a GPU and on the CPU else, and goes over between two pictures when the engine is there.
        on_note: is told, a line each, what takes its time and why, such as building an engine.
        on_build: is told while an engine is built how much of it is done, 0 to 1, and answers whether to go on.

    Attributes:
        computed: of the frames of `stream`, how many each engine computed, by its description.

    Raises:
        OptionError, ModelError, BackendError.
    """

    def __init__(
        self,
        scale: float = 3,
        model: str | Path | None = None,
        *,
        size: str | None = None,
        fit: str = "exact",
        backend: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        device: str = "auto",
        surfaces: bool = False,
        keep: bool = False,
        reuse: bool = False,
        batch: int = 1,
        wait: bool = True,
        on_note: Callable[[str], None] = lambda _: None,
        on_build: Callable[[float], bool] = lambda _: True,
    ) -> None:
        self.request = SizeRequest(scale, size, fit)
        self._model_name = model
        self._model: Model | None = None
        if self.request.is_plain:
            self._model = self._load(Fraction(self.request.scale), precision)
        self.backend_reason = ""
        self.precision_reason = ""
        self.computed: dict[str, int] = {}
        self._requested_backend = backend
        self._closed = backend, ""
        self._precision = precision
        self._threads = threads
        self._devices = parse_devices(device)
        self._surfaces, self._keep = surfaces, keep
        self._reuse = reuse
        self._batch = batch
        self._wait = wait
        self._on_note = on_note
        self._on_build = on_build
        self._engine: Engine | None = None
        self._opened: Opened | None = None
        self._graph: FrameGraphSpec | None = None
        self._one_at_a_time = threading.Lock()

    def __enter__(self) -> Upscaler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def model(self) -> Model:
        """The model in use; known from the start for whole factors, else from the first picture.

        Raises:
            OptionError: it depends on the picture, and there was none yet.
        """
        if self._model is None:
            raise OptionError("which scale the model must have depends on the picture, and there was none yet")
        return self._model

    def close(self) -> None:
        """Release the engine."""
        if self._engine is not None:
            self._closed = self.backend, self.description
            self._engine.close()
            self._engine, self._opened, self._graph = None, None, None

    @property
    def reused(self) -> float:
        """Share of the engine's work, 0 to 1, that was spared because frames repeat parts of those before them."""
        return self._engine.reused if isinstance(self._engine, ReplenishingEngine | HandoverEngine) else 0.0

    @property
    def backend(self) -> str:
        """Name of the backend that is or was last at work; before the first picture, the one asked for."""
        return self._closed[0] if self._opened is None else self._opened.backend_at_work

    @property
    def description(self) -> str:
        """Runtime, version, device and precision of the engine that is or was last at work; empty before."""
        return self._closed[1] if self._opened is None else self._opened.engine.description

    def prepare(self, fmt: PixelFormat, color: ColorSpec, width: int, height: int, target: Target = SAME) -> Engine:
        """Compile the engine for pictures of this kind, unless it is the one in use.

        `target` is what is asked of the enlarged pictures; a size in it takes the place of this upscaler's own.

        Raises:
            BackendError, ModelError.
            OptionError: a picture of this kind cannot have the size that is asked for.
        """
        new_width, new_height = target.size or self.output_size(width, height)
        factor = max(Fraction(new_width, width), Fraction(new_height, height))
        if self._model is None or self._model.scale != factor:
            self._model = self._load(factor, self._precision)
        scale = self._model.scale
        whole = (new_width, new_height) == (width * scale, height * scale)
        target = replace(target, size=None if whole else (new_width, new_height))
        graph = FrameGraphSpec(fmt, color, scale, width, height, target)
        if self._engine is None or graph != self._graph:
            self.close()
            spec = EngineSpec(
                self.model,
                graph,
                self._precision,
                self._threads,
                self._devices,
                self._surfaces,
                self._keep,
                batch=self._batch,
                on_note=self._on_note,
                on_build=self._on_build,
            )
            opened = open_engine(spec, self._requested_backend, reuse=self._reuse, wait=self._wait)
            self._engine, self._opened, self._graph = opened.engine, opened, graph
            self.backend_reason, self.precision_reason = opened.backend_reason, opened.precision_reason
        return self._engine

    def output_size(self, width: int, height: int, *, turned: bool = False) -> tuple[int, int]:
        """Width and height of what a picture with square samples becomes.

        Args:
            width: of the picture.
            height: likewise.
            turned: whether it is displayed turned by 90°, which is how sizes are meant.

        Raises:
            OptionError: a picture of this size cannot be made so.
        """
        size = output_size(self.request, width, height, turned=turned)
        return size.width, size.height

    def _load(self, factor: Fraction, precision: str) -> Model:
        """The model that enlarges `factor` times, or the next beyond; the one in use if it does."""
        scales = scales_of(self._model_name)
        own = str(self._model_name).endswith(".onnx")
        exact = factor.denominator == 1 and (factor in scales or (own and self.request.is_plain))
        scale = int(factor) if exact else next_scale(factor, scales)
        if self._model is not None and self._model.scale == scale:
            return self._model
        return load_chain(self._model_name, scale, precision)

    def upscale_planes(self, planes: Planes, color: ColorSpec | None = None) -> Planes:
        """Enlarge one picture given as planes.

        Args:
            planes: of any format in `vsr.frame.PIXEL_FORMATS`.
            color: its matrix, range and siting; default: unspecified.
        """
        with self._one_at_a_time:
            engine = self.prepare(planes.format, color or ColorSpec(), planes.width, planes.height)
            return engine.submit(planes).result()

    def upscale(self, array: npt.NDArray[Any], *, turned: bool = False) -> npt.NDArray[Any]:
        """Enlarge one picture given as an array.

        Args:
            array: [H, W] grey, [H, W, 3] RGB or [H, W, 4] RGBA, uint8 or uint16, full range.
            turned: whether it is displayed turned by 90°, which is how sizes are meant.

        Returns:
            The same kind of array, `scale` times as high and wide, or of the size asked for.

        Raises:
            OptionError: the array has another shape or type.
        """
        kinds = {(2, 1): "gray", (3, 3): "gbrp", (3, 4): "gbrap"}
        kind = (array.ndim, array.shape[2] if array.ndim == 3 else 1) if isinstance(array, np.ndarray) else None
        if kind not in kinds or array.dtype not in (np.uint8, np.uint16) or array.size == 0:
            got = f"an array of {array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise OptionError(f"got {got}; allowed are arrays [H, W], [H, W, 3] and [H, W, 4] of uint8 or uint16")
        fmt = PIXEL_FORMATS[kinds[kind] + ("" if array.dtype == np.uint8 else "16le")]
        height, width = array.shape[:2]
        order = (1, 2, 0, 3)[: array.shape[2]] if array.ndim == 3 else ()  # planes come as G, B, R, A
        arrays = tuple(array[:, :, i] for i in order) if order else (array,)
        target = Target(self.output_size(width, height, turned=turned))
        with self._one_at_a_time:
            engine = self.prepare(fmt, STILL_COLOR, width, height, target)
            result = engine.submit(Planes(arrays, fmt, width, height)).result()
        if not order:
            return result.arrays[0]
        return np.stack([result.arrays[order.index(i)] for i in range(len(order))], axis=2)

    def stream(
        self,
        frames: Iterable[Frame],
        color: ColorSpec,
        stop: Callable[[], bool] = lambda: False,
        target: Target = SAME,
    ) -> Iterator[Frame]:
        """Enlarge frames of one format and size, keeping as many in flight as the engine takes, in order.

        A repeated frame is not computed again. `target` is what is asked of the enlarged pictures besides.
        """
        waiting: deque[tuple[Frame, Ticket | None, str]] = deque()
        in_flight = 0
        last: Planes | None = None
        try:
            for frame in frames:
                if stop():
                    return
                engine = self.prepare(frame.planes.format, color, frame.planes.width, frame.planes.height, target)
                while in_flight >= engine.depth:
                    done, last, finished = self._take(waiting.popleft(), last)
                    in_flight -= finished
                    yield done
                ticket = None
                if not frame.repeated or (last is None and not waiting):
                    ticket = engine.submit(frame.planes)
                    in_flight += 1
                waiting.append((frame, ticket, engine.description))
            while waiting and not stop():
                done, last, _ = self._take(waiting.popleft(), last)
                yield done
        finally:
            for _, ticket, _ in waiting:  # stopped or failed: the runtime must let go of these frames' memory
                if ticket is not None:
                    ticket.cancel()

    def _take(self, item: tuple[Frame, Ticket | None, str], last: Planes | None) -> tuple[Frame, Planes, int]:
        frame, ticket, engine = item
        planes = last if ticket is None else ticket.result()
        assert planes is not None
        if ticket is not None:
            self.computed[engine] = self.computed.get(engine, 0) + 1
        return replace(frame, planes=planes), planes, int(ticket is not None)
