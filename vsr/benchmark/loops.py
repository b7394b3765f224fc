"""What one would write with a general runtime: decode, network, encode, one frame after the other.

A peer for `vsr bench --compare`, run as a process of its own: `python -m vsr.benchmark.loops RUNTIME MODEL CLIP OUT`.
The network is the shipped ONNX file in fp32, in OpenCV's dnn module or in ONNX Runtime. Decoder and encoder are those
of all other commands, through PyAV, and the encoder works in threads of its own while the loop goes on. Chroma is
enlarged by OpenCV's bicubic, with ONNX Runtime by libswscale's.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

from vsr.pixel_formats import samples_of

Plane = npt.NDArray[np.uint8]
Luma = npt.NDArray[np.float32]
PACKAGES: Final = {"opencv": "cv2", "onnxruntime": "onnxruntime"}
"""What each runtime is imported as."""


def opencv_network(model: Path) -> Callable[[Luma], Luma]:
    """The network in OpenCV's dnn module, on the CPU."""
    net: Any = importlib.import_module("cv2").dnn.readNetFromONNX(str(model))

    def run(luma: Luma) -> Luma:
        net.setInput(luma)
        result: Luma = net.forward()
        return result

    return run


def import_onnxruntime() -> Any:
    """ONNX Runtime without the telemetry that newer versions (1.31 is one) have on from their import."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    return importlib.import_module("onnxruntime")


def onnxruntime_network(model: Path) -> Callable[[Luma], Luma]:
    """The network in ONNX Runtime's CPU provider, whose threads do not spin: they would burn the encoder's time."""
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(luma: Luma) -> Luma:
        result: Luma = session.run(None, {name: luma})[0]
        return result

    return run


def opencv_chroma(plane: Plane, width: int, height: int) -> Plane:
    """A chroma plane enlarged by OpenCV's bicubic."""
    cv2: Any = importlib.import_module("cv2")
    result: Plane = cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC)
    return result


def swscale_chroma(plane: Plane, width: int, height: int) -> Plane:
    """A chroma plane enlarged by libswscale's bicubic."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(plane), format="gray")
    large = frame.reformat(width, height, interpolation=av.video.reformatter.Interpolation.BICUBIC)
    samples: Plane = samples_of(large.planes[0])
    return samples


NETWORKS: Final = {"opencv": opencv_network, "onnxruntime": onnxruntime_network}
CHROMA: Final = {"opencv": opencv_chroma, "onnxruntime": swscale_chroma}


def upscale(
    runtime: str, model: Path, clip: Path, out: Path, scale: int, codec: str, options: dict[str, str], frames: int = 0
) -> int:
    """Enlarge the 8-bit 4:2:0 video of `clip`, at most `frames` pictures if that is not 0, and return how many.

    Raises:
        ValueError: it is of another format.
    """
    network, enlarge = NETWORKS[runtime](model), CHROMA[runtime]
    with av.open(str(clip)) as source, av.open(str(out), "w") as target:
        video = source.streams.video[0]
        video.thread_type = "AUTO"
        if video.codec_context.pix_fmt != "yuv420p":
            raise ValueError(f"{clip} is {video.codec_context.pix_fmt}; this loop is for yuv420p")
        stream: Any = target.add_stream(codec, rate=video.average_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = scale * video.width, scale * video.height, "yuv420p"
        stream.codec_context.thread_count = 0
        stream.codec_context.time_base = stream.time_base = video.time_base
        done = 0
        for frame in source.decode(video):
            luma = samples_of(frame.planes[0])[None, None].astype(np.float32) / np.float32(255)
            y = np.rint(np.clip(network(luma)[0, 0] * 255, 0, 255)).astype(np.uint8)
            picture = av.VideoFrame(stream.width, stream.height, "yuv420p")
            chroma = (enlarge(samples_of(p), stream.width // 2, stream.height // 2) for p in frame.planes[1:])
            for plane, samples in zip(picture.planes, (y, *chroma), strict=True):
                samples_of(plane)[...] = samples
            picture.pts, picture.time_base = frame.pts, video.time_base
            target.mux(stream.encode(picture))
            done += 1
            if done == frames:
                break
        target.mux(stream.encode(None))
    return done


def main() -> None:
    """Run one loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runtime", choices=sorted(NETWORKS))
    for name in ("model", "clip", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--scale", type=int, required=True)
    parser.add_argument("--codec", required=True, help="libavcodec's name of the encoder")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of the encoder")
    parser.add_argument("--frames", type=int, default=0, help="0 for all")
    given = parser.parse_args()
    options = dict(option.split("=", 1) for option in given.option)
    upscale(given.runtime, given.model, given.clip, given.out, given.scale, given.codec, options, given.frames)


if __name__ == "__main__":
    main()
