"""The degradation of real footage: clips shrunk by some kernel, encoded by some codec, and decoded again.

What comes out is paired with the pristine pictures. A network trained on it learns not to enlarge the codec's traces.
Everything drawn at random (kernel, blur, encoder, CRF, preset) is drawn once for each clip and scale from a seed, and
everything is done in memory.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
import av.error
import numpy as np
from PIL import Image, ImageFilter

from vsr.errors import TrainingError
from vsr.pixel_formats import samples_of
from vsr.training.sources import Luma

#: Share of the clips, for each scale, that are shrunk cleanly and not encoded.
CLEAN_SHARE: Final = 0.2
RATE: Final = 25
BLUR_SHARE: Final = 0.3
LARGEST_BLUR: Final = 0.5  # standard deviation in low-resolution pixels
SMALLEST: Final = 64  # pixels; below, x264 is taken: x265 corrupts memory on some sizes about 32
KERNELS: Final = {
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
}


@dataclass(frozen=True)
class Codec:
    """An encoder, and what is drawn for it.

    share: of all encodings; crf: lowest and highest; quiet: options that keep it to one thread and from talking, so
    that equal seeds give equal bits (with its macroblock tree, x264 gave other bits for one clip in 140).
    """

    encoder: str
    share: float
    crf: tuple[int, int]
    presets: tuple[str, ...]
    quiet: tuple[tuple[str, str], ...]


CODECS: Final = (
    Codec("libx264", 0.5, (18, 35), ("veryfast", "faster", "fast", "medium"), (("x264-params", "mbtree=0"),)),
    Codec(
        "libx265",
        0.25,
        (20, 37),
        ("superfast", "veryfast", "fast", "medium"),
        (("x265-params", "log-level=error:pools=none:frame-threads=1"),),
    ),
    Codec("libsvtav1", 0.25, (25, 55), ("8", "10", "12"), (("svtav1-params", "lp=1"),)),
)


@dataclass(frozen=True)
class Degradation:
    """What happens to one clip at one scale."""

    kernel: str
    blur: float
    encoder: str
    crf: int
    preset: str

    @classmethod
    def draw(cls, rng: np.random.Generator, smallest_side: int) -> Degradation:
        """A degradation for low-resolution pictures whose smaller side is `smallest_side` pixels."""
        kernel = list(KERNELS)[int(rng.integers(len(KERNELS)))]
        blur = float(rng.uniform(0.0, LARGEST_BLUR)) if rng.random() < BLUR_SHARE else 0.0
        chance = rng.random()
        codec = CODECS[int(np.searchsorted(np.cumsum([c.share for c in CODECS])[:-1], chance, side="right"))]
        if smallest_side < SMALLEST:
            codec = CODECS[0]
        crf = int(rng.integers(codec.crf[0], codec.crf[1] + 1))
        return cls(kernel, blur, codec.encoder, crf, codec.presets[int(rng.integers(len(codec.presets)))])

    def shrink(self, luma: Luma, scale: int) -> Luma:
        """The picture [H, W] at 1/`scale` of its size, which `scale` divides."""
        image = Image.fromarray(luma)
        if self.blur:
            image = image.filter(ImageFilter.GaussianBlur(self.blur * scale))
        return np.asarray(image.resize((image.width // scale, image.height // scale), KERNELS[self.kernel]))

    def apply(self, pictures: Sequence[Luma], scale: int) -> list[Luma]:
        """The clip [H, W], … shrunk by `scale`, encoded and decoded. Raises `TrainingError` if a codec fails."""
        small = [self.shrink(picture, scale) for picture in pictures]
        try:
            return decode(encode(small, self.encoder, self.crf, self.preset), len(small))
        except (av.error.FFmpegError, OSError, ValueError) as exc:
            raise TrainingError(f"cannot make compressed pictures by {self}: {exc}") from exc


def encode(pictures: Sequence[Luma], encoder: str, crf: int, preset: str) -> bytes:
    """The pictures (of one even size, luma as coded) as a Matroska file, with grey chroma, at `RATE` per second."""
    height, width = pictures[0].shape
    codec = next(c for c in CODECS if c.encoder == encoder)
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 has no other way to be told to report errors only
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(
            encoder, rate=RATE, options={"crf": str(crf), "preset": preset, **dict(codec.quiet)}
        )
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, RATE)
        grey = np.full((height // 2, width), 128, np.uint8)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.concatenate([picture, grey]), "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def decode(data: bytes, count: int) -> list[Luma]:
    """The luma, [H, W] each, of the `count` pictures that `encode` wrote, each at its place by its time stamp.

    Raises:
        ValueError: others came out than went in.
    """
    found: dict[int, Luma] = {}
    with av.open(io.BytesIO(data), "r") as container:
        for frame in container.decode(video=0):
            if frame.pts is None or frame.time_base is None:
                raise ValueError("a decoded picture has no time")
            found[round(frame.pts * frame.time_base * RATE)] = samples_of(frame.planes[0]).copy()
    if sorted(found) != list(range(count)):
        raise ValueError(f"{count} pictures went in, and those at {sorted(found)} came out")
    return [found[number] for number in range(count)]


def pans(luma: Luma, length: int, count: int, size: tuple[int, int], rng: np.random.Generator) -> Iterator[list[Luma]]:
    """Clips made from a still: `count` windows of `size` (height, width) that move over it for `length` frames.

    Speeds are whole pixels, up to six a frame; shrunk, they are fractions. Windows are no larger than the still.
    """
    height, width = (min(n, m) for n, m in zip(size, luma.shape, strict=True))
    room = np.array([luma.shape[0] - height, luma.shape[1] - width])
    for _ in range(count):
        speed = rng.integers(-6, 7, 2)
        speed = np.sign(speed) * np.minimum(np.abs(speed), room // max(1, length - 1))
        travel = speed * (length - 1)
        start = np.array([rng.integers(max(0, -t), r - max(0, t) + 1) for t, r in zip(travel, room, strict=True)])
        places = [start + speed * number for number in range(length)]
        yield [luma[y : y + height, x : x + width] for y, x in places]
