"""Frames that stay on the GPU with TensorRT: a decoder's surfaces in, surfaces out, whose memory lives as long as they.

The GPU is a fake whose memory is this machine's, so libavcodec's NV12 and P010 pictures are surfaces of its own, and
x264, which takes NV12, is the encoder that reads what the engine has made.
"""

from __future__ import annotations

import gc
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends import fake_gpu
from tests.backends.fake_gpu import GPU, FakeDevice
from tests.backends.reference import picture
from tests.backends.test_tensorrt import opened
from tests.clips import make_clip
from tests.reading.test_hardware import Rearranged
from tests.test_hardware import frame_hashes, surface_of
from vsr import endpoints, hardware
from vsr import job as job_module
from vsr.backends.tensorrt import TensorRtBackend
from vsr.backends.torch import TorchEngine
from vsr.engines.engine import EngineSpec
from vsr.errors import BackendError, DeviceMemoryError
from vsr.frame import ColorSpec, Planes
from vsr.gpu.build import ANY_SIZE, EngineRequest
from vsr.gpu.cuda_driver import Driver
from vsr.gpu.engine_store import Profile
from vsr.graphs.frame_graph import FrameGraphSpec
from vsr.job import upscale
from vsr.model import BICUBIC, Model, load_model
from vsr.options import UpscaleOptions
from vsr.pixel_formats import SurfaceFrames, planes_of
from vsr.surface import SurfacePlanes, layout_of


def asked_for(planes: Planes, batch: int = 1, profile: Profile | None = None) -> EngineRequest:
    size = (planes.width, planes.height)
    name = str(layout_of(planes.format)).removesuffix("le")
    profile = profile or Profile(size, size, size, batch)
    return EngineRequest(Model(BICUBIC, 2), GPU, name, ColorSpec(), "fp32", profile)


def of_torch(planes: Planes) -> Planes:
    graph = FrameGraphSpec(planes.format, ColorSpec(), 2, planes.width, planes.height)
    return TorchEngine(EngineSpec(Model(BICUBIC, 2), graph, "fp32", 1), "cpu").submit(planes).result()


def same(got: Planes, want: Planes) -> bool:
    """Within a code value; a surface is looked at again, whatever was read of it before."""
    if isinstance(got, SurfacePlanes):
        got = SurfacePlanes(got.surface, got.width, got.height)
    assert (got.width, got.height, got.format) == (want.width, want.height, want.format)
    pairs = zip(got.arrays, want.arrays, strict=True)
    return max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in pairs) <= 1


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("keep", [True, False])
def test_surfaces_and_planes_give_what_torch_gives(name: str, graphs: bool, keep: bool) -> None:
    pictures = [picture(i, name, 38, 22) for i in range(4)]
    wants = [of_torch(planes) for planes in pictures]
    request = asked_for(pictures[0])
    with opened(pictures[0], request=request, graphs=graphs, keep=keep) as (engine, device, _):
        assert ("no CUDA graphs" in engine.description) != graphs
        device.log.clear()
        results = [engine.submit(surface_of(planes)).result() for planes in pictures]  # all kept, as encoders do
        steps = ["follow", "copy", "copy", "launch" if graphs else "execute", *(["copy"] if keep else ["download"]) * 2]
        assert [what for what, _ in device.log] == [*steps, "record", "wait"] * 4
        results += [engine.submit(planes).result() for planes in pictures]  # as an interlaced one would come
        assert "upload" in {what for what, _ in device.log}
        assert all(isinstance(result, SurfacePlanes) == keep for result in results)
        assert all(same(got, want) for got, want in zip(results, wants * 2, strict=True))
        del results  # the fixture sees that nothing is left


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_delays_and_batches_every_frame_is_its_own(seed: int) -> None:
    rng = random.Random(seed)
    device = FakeDevice(delay=lambda: rng.choice((0, 0, 0.0005, 0.002)))
    pictures = [picture(i, "yuv420p", 4, 4) for i in range(5)]
    wants = [of_torch(planes) for planes in pictures]
    batch, lanes = rng.choice((1, 2, 3)), rng.choice((1, 2))
    request = asked_for(pictures[0], batch)
    with opened(pictures[0], request=request, device=device, lanes=lanes, keep=True, graphs=seed % 2 == 0) as opening:
        engine, kept, waiting = opening[0], list[tuple[int, Planes]](), list[tuple[int, Any]]()
        for step in range(16):
            if len(waiting) == engine.depth or (waiting and rng.random() < 0.3):
                number, ticket = waiting.pop(rng.randrange(len(waiting)))
                if rng.random() < 0.2:
                    ticket.cancel()
                else:
                    kept.append((number, ticket.result()))
            if len(kept) > 3:
                kept.pop(rng.randrange(len(kept)))  # its memory is free for the next
            planes = pictures[step % 5]
            waiting.append((step % 5, engine.submit(planes if rng.random() < 0.3 else surface_of(planes))))
            assert all(same(result, wants[number]) for number, result in kept)
        kept += [(number, ticket.result()) for number, ticket in waiting]
        assert all(same(result, wants[number]) for number, result in kept)
        kept.clear()


def test_an_engine_of_free_sizes_takes_surfaces() -> None:
    planes = picture(1, "yuv420p", 70, 66)
    request = asked_for(planes, profile=ANY_SIZE)
    with opened(planes, request=request, keep=True) as (engine, _, _):
        assert same(engine.submit(surface_of(planes)).result(), of_torch(planes))


def test_pictures_outlive_their_engine_and_the_gpu_is_let_go_with_the_last() -> None:
    planes, device = picture(2, "yuv420p10le", 20, 10), FakeDevice()
    want = of_torch(planes)
    with opened(planes, request=asked_for(planes), device=device, keep=True) as (engine, _, _):
        one, other = (engine.submit(surface_of(planes)).result() for _ in range(2))
        engine.close()
        assert len(device.memories) == 2  # theirs
        assert not device.closed
        assert isinstance(one, SurfacePlanes)
        frame = SurfaceFrames().frame(one)
        del one
        gc.collect()
        assert same(other, want)
        assert same(planes_of(frame, planes.format), want)  # the encoder's own reference is enough
        del frame, other
        gc.collect()
        assert device.memories == {}
        assert device.closed


def test_what_nobody_takes_goes_back_to_the_pool() -> None:
    planes = picture(3, "yuv420p", 8, 6)
    with opened(planes, request=asked_for(planes, batch=2), keep=True, graphs=False) as (engine, device, api):
        pool: Any = engine._pool
        pieces = len(pool._idle)
        for _ in range(3):
            first, second = engine.submit(surface_of(planes)), engine.submit(surface_of(planes))
            first.cancel()
            second.cancel()
        first, second = engine.submit(surface_of(planes)), engine.submit(planes)
        device.failures.append(fake_gpu.FakeError("illegal address"))
        for ticket in (first, second):
            with pytest.raises(BackendError, match="illegal address"):
                ticket.result()
        assert api.engine is not None
        api.engine.refuses = True
        engine.submit(planes)
        with pytest.raises(BackendError, match="does not enqueue"):
            engine.submit(planes)
        assert (len(pool._idle), pool._out) == (pieces, 0)


def test_memory_that_ends_in_the_middle_is_told_as_that() -> None:
    planes = picture(4, "yuv420p", 8, 6)
    with opened(planes, request=asked_for(planes), lanes=1, keep=True) as (engine, device, _):
        device.left = 0
        kept = [engine.submit(planes).result()]
        with pytest.raises(DeviceMemoryError, match=r"^TensorRT failed on a frame: cuMemAlloc failed: out of memory"):
            kept.append(engine.submit(planes).result())
        kept.clear()
        assert same(engine.submit(planes).result(), of_torch(planes))


def test_a_surface_of_another_gpu_comes_through_host_memory() -> None:
    planes = picture(5, "yuv420p", 8, 6)
    with opened(planes, request=asked_for(planes), keep=True) as (engine, device, _):
        given = surface_of(planes)
        given.surface.device = (2, 1)
        device.log.clear()
        assert same(engine.submit(given).result(), of_torch(planes))
        assert "follow" not in {what for what, _ in device.log}


# -- from file to file ------------------------------------------------------------------------------------------------


def test_a_job_with_surfaces_writes_the_same_pictures(
    machine: list[FakeDevice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, notes = make_clip(tmp_path / "clip.mkv", frames=5, size=(32, 24), bframes=2, vfr=True), list[str]()
    decoder = Rearranged(keep=True)
    for module in (hardware, job_module):
        monkeypatch.setattr(module, "device_format", lambda plan: "nv12" if plan.encoder.name == "x264" else None)
    options: Any = {"encoder": "x264", "lossless": True, "precision": "fp32", "model": "bicubic"}
    upscale(clip, tmp_path / "host.mkv", 2, backend="tensorrt", **options)
    with monkeypatch.context() as patch:
        patch.setattr(endpoints, "hardware_decoder", lambda *_: decoder)
        report = upscale(clip, tmp_path / "gpu.mkv", 2, backend="tensorrt", on_note=notes.append, **options)
    assert decoder.surfaces >= 5
    assert report.frames_out == 5
    assert any("building bicubic_x2_nv12_" in note for note in notes)
    work = [what for what, _ in machine[-1].log]
    assert work.count("follow") == 5
    assert not {"upload", "download"} & set(work[work.index("follow") :])  # before it the engine was measured
    assert frame_hashes(tmp_path / "gpu.mkv") == frame_hashes(tmp_path / "host.mkv")


def test_hw_full_keeps_pictures_for_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "probe", lambda number=0: Driver(GPU, 1 << 34, (13, 0)))
    monkeypatch.setattr(TensorRtBackend, "unavailable_reason", lambda _: None)
    monkeypatch.setattr(TensorRtBackend, "gpu_name", lambda _: "NVIDIA Something")
    decoder = hardware.hardware_decoder(UpscaleOptions(hw="full", backend="tensorrt"), pytest.fail)
    assert decoder is not None
    assert decoder.keep


def test_an_engine_for_surfaces_is_another_than_one_for_planes(machine: list[FakeDevice]) -> None:
    planes, names = picture(6, "yuv420p10le", 8, 6), list[str]()
    graph = FrameGraphSpec(planes.format, ColorSpec(), 2, 8, 6)
    for surfaces in (False, True):
        spec = EngineSpec(load_model("fast", 2), graph, "fp16", surfaces=surfaces, on_note=names.append)
        engine = TensorRtBackend().compile(spec)
        assert engine.submit(surface_of(planes)).result().width == 16
        engine.close()
    assert [name.split("_")[2] for name in names] == ["yuv420p10le", "p010"]
