"""`--hw`: frames that stay on a device from decoder to encoder. There is no GPU here: the device is this machine's own
memory, the decoder libavcodec with NV12 pictures, the encoder x264, which takes NV12. All between them is what a GPU
gets too: DLPack capsules, the interleaved frame graph, surfaces whose memory lives as long as somebody needs it.
"""

from __future__ import annotations

import gc
import subprocess
import weakref
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from tests.backends.reference import random_planes
from tests.clips import make_clip
from tests.interlaced import make_interlaced
from tests.reading.test_hardware import Rearranged
from vsr import endpoints, hardware
from vsr import job as job_module
from vsr.backends.torch import TorchBackend, TorchEngine
from vsr.backends.torch_device import TorchSurface, surface_inputs
from vsr.engines.engine import EngineSpec
from vsr.errors import BackendError, OptionError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Planes, Range
from vsr.gpu.cuda_driver import Driver, probe
from vsr.gpu.names import parse_gpu
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.hardware import Route, plan_route
from vsr.job import upscale
from vsr.model import BICUBIC, Model, load_model
from vsr.options import UpscaleOptions
from vsr.pixel_formats import SurfaceFrames, frame_from, planes_of
from vsr.reading.hardware import DecodedSurface
from vsr.surface import LAYOUTS, SurfacePlanes, layout_of

LOSSLESS = {"encoder": "x264", "lossless": True, "precision": "fp32", "backend": "torch", "model": "bicubic"}


def surface_of(planes: Planes) -> SurfacePlanes:
    """The planes as a decoder would hand them over: rows padded, chroma interleaved."""
    layout = layout_of(planes.format)
    picture = frame_from(planes, Range.LIMITED).reformat(format=layout, threads=1)
    return SurfacePlanes(DecodedSurface(picture), planes.width, planes.height)


def engine_for(planes: Planes, model: Model, *, surfaces: bool, keep: bool = False, record: Any = None) -> TorchEngine:
    graph = FrameGraphSpec(planes.format, ColorSpec(), model.scale, planes.width, planes.height)
    return TorchEngine(EngineSpec(model, graph, "fp32", 1, surfaces=surfaces, keep=keep), "cpu", record)


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("model", ["bicubic", "fast"])
def test_surfaces_give_the_numbers_that_planes_give(name: str, model: str) -> None:
    chosen = Model(BICUBIC, 2) if model == "bicubic" else load_model(model, 2)
    planes = random_planes(PIXEL_FORMATS[name], 70, 38)
    want = engine_for(planes, chosen, surfaces=False).submit(planes).result()
    for keep in (False, True):
        engine = engine_for(planes, chosen, surfaces=True, keep=keep)
        for given in (planes, surface_of(planes)):
            got = engine.submit(given).result()
            assert isinstance(got, SurfacePlanes) == keep
            assert (got.width, got.height, got.format) == (140, 76, planes.format)
            assert all(np.array_equal(a, b) for a, b in zip(got.arrays, want.arrays, strict=True))


def test_a_surface_is_one_piece_of_memory_with_padded_rows() -> None:
    """NVENC takes an address and a pitch, and looks for chroma where luma ends."""
    for name, itemsize in (("nv12", 1), ("p010le", 2)):
        pair = (2,) if itemsize == 2 else ()
        y = torch.zeros((1, 1, 6, 300, *pair), dtype=torch.uint8)
        surface = TorchSurface(y, torch.zeros((1, 3, 150, 2, *pair), dtype=torch.uint8), name)
        luma, chroma = (torch.from_dlpack(capsule) for capsule in surface.capsules())
        pitch = luma.stride(0) * itemsize
        assert pitch % 256 == 0
        assert chroma.stride(0) * itemsize == pitch
        assert chroma.data_ptr() == luma.data_ptr() + 6 * pitch
        assert luma.dtype == (torch.uint8 if itemsize == 1 else torch.uint16)


def test_an_encoders_frame_holds_the_memory_and_lets_it_go() -> None:
    """As does what was decoded: whoever drops it first, the samples stay until nobody has them."""
    planes = random_planes(PIXEL_FORMATS["yuv420p"], 32, 16)
    engine = engine_for(planes, Model(BICUBIC, 2), surfaces=True, keep=True)
    result: Any = engine.submit(surface_of(planes)).result()
    want = [array.copy() for array in result.arrays]
    tensor = weakref.ref(result.surface._luma.untyped_storage())
    frame = SurfaceFrames().frame(result)
    assert frame.format.name == "nv12"
    address = result.surface._luma.data_ptr()
    del result
    gc.collect()
    others = [engine.submit(planes).result() for _ in range(4)]  # which take whatever memory is free
    assert all(other.surface._luma.data_ptr() != address for other in others)  # type: ignore[attr-defined]
    again = planes_of(frame, planes.format)
    assert all(np.array_equal(a, b) for a, b in zip(again.arrays, want, strict=True))
    del frame, again
    gc.collect()
    assert tensor() is None


class Rerun:
    """A CUDA graph as the engine sees it: the same inputs, results in the same place every time."""

    made = 0

    def __init__(self, run: Any) -> None:
        type(self).made += 1
        self.run, self.outputs = run, [output.clone() for output in run()]

    def __call__(self) -> list[Any]:
        for place, output in zip(self.outputs, self.run(), strict=True):
            place.copy_(output)
        return [output.clone() for output in self.outputs]


@pytest.mark.parametrize("surfaces", [False, True])
def test_a_recorded_run_gives_every_frame_its_own_numbers(surfaces: bool) -> None:
    pictures = [random_planes(PIXEL_FORMATS["yuv420p10le"], 16, 12, seed) for seed in range(4)]
    plain = engine_for(pictures[0], Model(BICUBIC, 2), surfaces=False)
    made = Rerun.made
    engine = engine_for(pictures[0], Model(BICUBIC, 2), surfaces=surfaces, keep=surfaces, record=Rerun)
    results = [engine.submit(planes).result() for planes in pictures]  # kept, as an encoder keeps them
    for planes, result in zip(pictures, results, strict=True):
        want = plain.submit(planes).result()
        assert all(np.array_equal(a, b) for a, b in zip(result.arrays, want.arrays, strict=True))
    assert Rerun.made == made + 1
    assert "CUDA graph" in engine.description


def test_what_cannot_be_recorded_is_run_piece_by_piece_and_no_memory_is_an_error() -> None:
    def refuse(_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    def exhaust(_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    planes = random_planes(PIXEL_FORMATS["yuv420p"], 16, 12)
    engine = engine_for(planes, Model(BICUBIC, 2), surfaces=False, record=refuse)
    assert engine.submit(planes).result().width == 32
    assert "CUDA graph" not in engine.description
    with pytest.raises(BackendError, match="memory does not hold what one frame needs"):
        engine_for(planes, Model(BICUBIC, 2), surfaces=False, record=exhaust)


def test_torch_has_what_recording_uses() -> None:
    """Names and parameters of torch.cuda, which has them without a GPU too."""
    import inspect

    assert {"cuda_graph", "stream"} <= set(inspect.signature(torch.cuda.graph.__init__).parameters)
    assert {"replay", "reset"} <= set(dir(torch.cuda.CUDAGraph))
    assert {"wait_stream", "synchronize"} <= set(dir(torch.cuda.Stream))
    assert {"enabled", "benchmark", "allow_tf32"} <= set(inspect.signature(torch.backends.cudnn.flags).parameters)
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        assert not torch.backends.cudnn.allow_tf32
    assert surface_inputs(random_planes(PIXEL_FORMATS["yuv420p"], 4, 4), "nv12", torch.device("cpu"))[1].shape == (
        (1, 2, 2, 2)
    )


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Rearranged:
    """This machine as a GPU: pictures are decoded to NV12, stay so, and x264 takes them."""
    decoder = Rearranged(keep=True)
    monkeypatch.setattr(endpoints, "hardware_decoder", lambda *_: decoder)
    for module in (hardware, job_module):
        monkeypatch.setattr(module, "device_format", lambda plan: "nv12" if plan.encoder.name == "x264" else None)
    return decoder


def jobs(clip: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Path, Path, list[str]]:
    """The same job on the device and without it; the notes of the first."""
    notes: list[str] = []
    arguments: Any = {**LOSSLESS, **options}
    upscale(clip, folder / "device.mkv", 2, on_note=notes.append, **arguments)
    with monkeypatch.context() as patch:
        patch.setattr(endpoints, "hardware_decoder", lambda *_: None)
        upscale(clip, folder / "host.mkv", 2, **arguments)
    return folder / "device.mkv", folder / "host.mkv", notes


def frame_hashes(path: Path) -> list[str]:
    """Time and hash of every picture, by the ffmpeg command."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v", "-f", "framemd5", "-"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("encoder", ["x264", "ffv1"])
def test_a_job_on_the_device_writes_the_same_pictures(
    encoder: str, device: Rearranged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=20, bframes=2, vfr=True, audio="aac")
    on_device, host, notes = jobs(clip, tmp_path, monkeypatch, encoder=encoder)
    assert notes == []
    assert device.surfaces == 20 + 1  # and the one that is compared with libavcodec's
    assert frame_hashes(on_device) == frame_hashes(host)


def test_a_part_of_a_video_and_an_interlaced_one(
    device: Rearranged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=30, options={"g": "8"})
    on_device, host, _ = jobs(clip, tmp_path, monkeypatch, start=0.5, frames=7, overwrite=True)
    assert len(frame_hashes(host)) == 7
    assert frame_hashes(on_device) == frame_hashes(host)
    device.surfaces = 0
    on_device, host, _ = jobs(make_interlaced(tmp_path / "fields.mkv", "h264"), tmp_path, monkeypatch, overwrite=True)
    assert device.surfaces == 0  # the filters are FFmpeg's, in host memory
    assert frame_hashes(on_device) == frame_hashes(host)


def test_sizes_that_surfaces_do_not_have_go_through_host_memory(
    device: Rearranged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=3)
    on_device, host, _ = jobs(clip, tmp_path, monkeypatch, size="100x-2")
    assert frame_hashes(on_device) == frame_hashes(host)


@pytest.mark.skipif(isinstance(probe(), Driver), reason="there is a GPU")
@pytest.mark.parametrize("mode", ["decode", "full"])
def test_without_a_gpu_the_cpu_does_it_all_and_one_line_each_says_why(mode: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3)
    notes: list[str] = []
    report = upscale(clip, tmp_path / "out.mp4", 2, model="bicubic", hw=mode, on_note=notes.append)
    why = "no NVIDIA driver is installed (libcuda.so.1 is missing)"
    said = [f"hw {mode}: {why}; the CPU decodes", f"hw {mode}: {why}; the CPU encodes"]
    assert notes == (said if mode == "full" else said[:1])
    assert (report.frames_out, report.encoder) == (3, "x264")
    notes.clear()
    for quiet in ("auto", "off"):
        upscale(clip, tmp_path / f"{quiet}.mp4", 2, model="bicubic", hw=quiet, on_note=notes.append)
    assert notes == []


def test_what_full_needs_of_backend_devices_and_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu = parse_gpu("H200")
    monkeypatch.setattr(hardware, "probe", lambda number=0: Driver(gpu, 1 << 34, (13, 0)))
    notes: list[str] = []

    def decoder(**options: Any) -> Any:
        notes.clear()
        return hardware.hardware_decoder(UpscaleOptions(**options), notes.append)

    assert decoder(hw="full", backend="openvino").keep is False
    assert notes == ["hw full: backend openvino takes none that are in a GPU's memory; pictures go through host memory"]
    monkeypatch.setattr(TorchBackend, "gpu_name", lambda _: None)
    assert decoder(hw="full", backend="torch").keep is False
    assert "computes on the CPU" in notes[0]
    monkeypatch.setattr(TorchBackend, "gpu_name", lambda _: "NVIDIA H200")
    assert decoder(hw="full", backend="torch").keep is True
    assert decoder(hw="decode", backend="torch").keep is False
    assert notes == []
    assert decoder(hw="auto") is None
    container = endpoints.container_of(tmp_path / "out.mp4")
    fmt = PIXEL_FORMATS["yuv420p"]
    notes.clear()
    options = UpscaleOptions(hw="full")
    assert hardware.plan_nvenc(options, container, fmt, 640, 480, notes.append).encoder == "auto"
    assert notes == ["hw full: sm_90 has no NVENC; the CPU encodes"]
    gpu = parse_gpu("L4")
    notes.clear()
    assert hardware.plan_nvenc(options, container, fmt, 640, 480, notes.append).encoder == "auto"  # no driver here
    assert "encoder h264_nvenc cannot be opened" in notes[0]
    with pytest.raises(OptionError, match="allowed are auto, off, decode, full"):
        UpscaleOptions(hw="cuda")


def test_only_what_stays_as_it_is_stays_on_the_device(device: Rearranged, tmp_path: Path) -> None:
    from vsr.source import Source
    from vsr.writing.containers import container_of
    from vsr.writing.encoders import plan_encoder

    source = Source(make_clip(tmp_path / "clip.mkv", frames=2))
    source.close()
    plan = plan_encoder(container_of(tmp_path / "o.mkv"), source.info.format, 128, 96)
    both = Route(surfaces=True, keep=True)
    assert plan_route(device, source.info, plan, (128, 96), whole=True) == both
    assert plan_route(device, source.info, plan, (128, 96), whole=False) == Route()
    assert plan_route(None, source.info, plan, (128, 96), whole=True) == Route()
    assert plan_route(Rearranged(), source.info, plan, (128, 96), whole=True) == Route()
    assert plan_route(device, source.info, plan, (100, 76), whole=True) == Route()
    ten = plan_encoder(container_of(tmp_path / "o.mkv"), PIXEL_FORMATS["yuv420p10le"], 128, 96)
    assert plan_route(device, source.info, ten, (128, 96), whole=True) == Route(surfaces=True)
    assert set(LAYOUTS) == {"nv12", "p010le"}
    assert av.VideoFrame(2, 2, "nv12").format.name == "nv12"
