"""Draw the clips and the still of this folder: a procedural scene, the same bytes at every run.

    python samples/make_samples.py [FOLDER]

Every frame is drawn at three times the size and reduced with antialiasing, so the pictures hold what real
footage holds (detail at the edge of what the small size can carry), and there is something to bring back.
Needs numpy, Pillow and PyAV only.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 480, 270
OVERSAMPLE = 3
FRAME_RATE = 24
FRAME_COUNT = 96
CUT_AT = 60
SAMPLE_RATE = 48_000
MILLISECOND = Fraction(1, 1000)
SUBTITLES = ((250, 1500, "A garden that was never filmed."), (2600, 1100, "A cut, and the town."))
BITEXACT = {"fflags": "bitexact"}  # no random identifiers in the container
CODEC_FLAG_BITEXACT = 1 << 23


def leaves(rng: np.random.Generator, width: int, height: int, count: int) -> Image.Image:
    """A hedge: many small ellipses of many greens, each with a bright vein."""
    hedge = Image.new("RGB", (width, height), (16, 34, 14))
    draw = ImageDraw.Draw(hedge)
    for _ in range(count):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        length, angle = rng.uniform(9, 26), rng.uniform(0, math.pi)
        dx, dy = length * math.cos(angle), length * math.sin(angle)
        wide = length * rng.uniform(0.18, 0.3)
        nx, ny = -wide * math.sin(angle), wide * math.cos(angle)
        light = rng.uniform(0.35, 1.0)
        green = (int(70 * light), int(160 * light), int(52 * light))
        draw.polygon([(x - dx, y - dy), (x + nx, y + ny), (x + dx, y + dy), (x - nx, y - ny)], fill=green)
        draw.line([(x - dx, y - dy), (x + dx, y + dy)], fill=(int(130 * light), int(205 * light), 90), width=1)
    return hedge


def zone_plate(size: int, phase: float) -> Image.Image:
    """Rings that get finer outwards, up to one cycle per three pixels of the reduced frame."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float64) - (size - 1) / 2
    radius = np.hypot(x, y)
    finest = 1 / (3 * OVERSAMPLE)
    rings = np.cos(2 * np.pi * (finest * radius**2 / size - phase))
    value = np.where(radius < size / 2, 128 + 112 * rings, 128)
    return Image.fromarray(value.astype(np.uint8))


def sky(width: int, height: int) -> Image.Image:
    y = np.linspace(0, 1, height)[:, None, None]
    top, bottom = np.array([72, 118, 190.0]), np.array([214, 224, 236.0])
    return Image.fromarray(np.broadcast_to(top + (bottom - top) * y, (height, width, 3)).astype(np.uint8))


def houses(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """House fronts with bricks, windows and railings."""
    town = Image.new("RGB", (width, height), (190, 200, 212))
    draw = ImageDraw.Draw(town)
    x = 0
    while x < width:
        wide = int(rng.integers(150, 260))
        top = int(rng.integers(height // 8, height // 2))
        wall = tuple(int(v) for v in rng.integers((120, 70, 55), (200, 150, 130)))
        mortar = tuple(min(255, v + 38) for v in wall)
        draw.rectangle([x, top, x + wide, height], fill=wall)
        for row, y in enumerate(range(top, height, 8)):
            draw.line([(x, y), (x + wide, y)], fill=mortar)
            for brick in range(x + 9 * (row % 2), x + wide, 18):
                draw.line([(brick, y), (brick, min(y + 8, height))], fill=mortar)
        for wy in range(top + 24, height - 50, 84):
            for wx in range(x + 20, x + wide - 44, 60):
                draw.rectangle([wx, wy, wx + 34, wy + 50], fill=(38, 48, 66), outline=(236, 232, 222), width=3)
                draw.line([(wx + 17, wy), (wx + 17, wy + 50)], fill=(236, 232, 222), width=2)
                for rail in range(wx - 4, wx + 40, 6):
                    draw.line([(rail, wy + 36), (rail, wy + 58)], fill=(24, 24, 28), width=2)
        x += wide
    return town


def draw_wheel(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, turn: float) -> None:
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=(28, 26, 30), width=7)
    for spoke in range(18):
        angle = turn + spoke * math.pi / 9
        tip = (x + radius * math.cos(angle), y + radius * math.sin(angle))
        draw.line([(x, y), tip], fill=(60, 56, 62), width=2)


def scene(width: int = WIDTH, height: int = HEIGHT) -> Iterator[Image.Image]:
    """The frames of the scene, in order, reduced to the size asked for."""
    rng = np.random.default_rng(20)
    big_w, big_h = width * OVERSAMPLE, height * OVERSAMPLE
    hedge = leaves(rng, big_w + 6 * FRAME_COUNT, big_h // 2, 9000)
    background, town = sky(big_w, big_h), houses(rng, big_w + 6 * FRAME_COUNT, big_h)
    plate_size = big_h * 2 // 5
    title, small = ImageFont.load_default(54), ImageFont.load_default(27)
    disc = Image.new("L", (plate_size, plate_size), 0)
    ImageDraw.Draw(disc).ellipse([0, 0, plate_size - 1, plate_size - 1], fill=255)
    for index in range(FRAME_COUNT):
        if index < CUT_AT:
            frame = background.copy()
            frame.paste(hedge.crop((4 * index, 0, 4 * index + big_w, big_h // 2)), (0, big_h // 2))
            frame.paste(zone_plate(plate_size, index / 24).convert("RGB"), (big_w - plate_size - 60, 45), disc)
            draw = ImageDraw.Draw(frame)
            draw.text((60, 48), "vsr: fine detail", font=title, fill=(250, 246, 230))
            draw.text((60, 120), "The quick brown fox jumps over 1234567890 lazy dogs", font=small, fill="black")
            draw_wheel(draw, 120 + 9 * index, big_h * 0.58, 96, index / 7)
            height_of_bounce = abs(math.sin(index / 9)) * big_h * 0.42
            bx, by = big_w * 0.45 + 5 * index, big_h * 0.86 - height_of_bounce
            draw.ellipse([bx - 42, by - 42, bx + 42, by + 42], fill=(206, 48, 40), outline=(90, 12, 12), width=4)
        else:
            step = 6 * (index - CUT_AT)
            frame = town.crop((step, 0, step + big_w, big_h))
            draw = ImageDraw.Draw(frame)
            draw.rectangle([0, big_h - 96, big_w, big_h], fill=(52, 52, 58))
            text = "ESPCN  FSRCNN  bicubic  480x270 24 fps   " * 4
            draw.text((40 - 2 * step, big_h - 74), text, font=title, fill=(244, 214, 66))
        yield frame.resize((width, height), Image.Resampling.LANCZOS)


def sound(duration: Fraction) -> np.ndarray:
    """Stereo: a slow sweep on the left, a tone with a click at every second on the right."""
    t = np.arange(int(duration * SAMPLE_RATE)) / SAMPLE_RATE
    left = 0.25 * np.sin(2 * np.pi * (220 * t + 60 * t**2))
    right = 0.2 * np.sin(2 * np.pi * 330 * t) + 0.5 * np.exp(-200 * (t % 1.0)) * np.sin(2 * np.pi * 2000 * t)
    return np.stack([left, right]).astype(np.float32)


def to_yuv420(picture: Image.Image, pix_fmt: str) -> av.VideoFrame:
    """BT.709 studio range, chroma sited left. libswscale was seen to differ between runs."""
    red, green, blue = np.moveaxis(np.asarray(picture, np.float64) / 255, 2, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    levels = 4 if "10" in pix_fmt else 1
    planes = [16 + 219 * luma]
    for difference in ((blue - luma) / 1.8556, (red - luma) / 1.5748):
        padded = np.pad(difference, ((0, 0), (1, 1)), mode="edge")
        sited = (padded[:, 0:-2:2] + 2 * padded[:, 1:-1:2] + padded[:, 2::2]) / 4
        planes.append(128 + 224 * (sited[0::2] + sited[1::2]) / 2)
    flat = np.concatenate([plane.ravel() for plane in planes]) * levels
    whole = np.rint(flat).astype(np.uint16 if levels > 1 else np.uint8)
    return av.VideoFrame.from_ndarray(whole.reshape(-1, picture.width), format=pix_fmt)


def encode_video(stream: av.VideoStream, frames: list[tuple[int, Image.Image]]) -> list[av.Packet]:
    packets = []
    for pts, picture in frames:
        frame = to_yuv420(picture, stream.pix_fmt)
        frame.pts, frame.time_base = pts, stream.codec_context.time_base
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def encode_sound(stream: av.AudioStream, samples: np.ndarray) -> list[av.Packet]:
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    resampler = av.AudioResampler(stream.format, "stereo", SAMPLE_RATE, stream.frame_size)
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    packets = [packet for piece in pieces for packet in stream.encode(piece)]
    return packets + stream.encode(None)


def subtitle_packets(stream: av.stream.Stream, codec: str) -> list[av.Packet]:
    """Text subtitles are plain packets: PyAV muxes them without an encoder."""
    packets = []
    for start, length, text in SUBTITLES:
        payload = text.encode()
        if codec == "mov_text":
            payload = len(payload).to_bytes(2, "big") + payload
        packet = av.Packet(payload)
        packet.stream, packet.time_base = stream, MILLISECOND
        packet.pts = packet.dts = start
        packet.duration = length
        packets.append(packet)
    return packets


def write_clip(
    path: Path,
    title: str,
    frames: list[tuple[int, Image.Image]],
    time_base: Fraction,
    video: tuple[str, str, dict[str, str]],
    audio: str | None = None,
    subtitles: str | None = None,
    chapters: tuple[tuple[str, int, int], ...] = (),
) -> None:
    """Write the (pts, picture) pairs as a BT.709 clip. `video` is encoder, pixel format, options."""
    encoder, pix_fmt, options = video
    container = av.open(str(path), "w", options=BITEXACT)
    container.metadata["title"] = title
    video_stream = container.add_stream(encoder, rate=FRAME_RATE, options={"threads": "1", **options})
    video_stream.width, video_stream.height = frames[0][1].size
    video_stream.pix_fmt = pix_fmt
    context = video_stream.codec_context
    context.time_base = time_base
    context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
    if audio:
        audio_stream = container.add_stream(audio, rate=SAMPLE_RATE, layout="stereo")
        audio_stream.codec_context.bit_rate = 64_000
        audio_stream.codec_context.flags |= CODEC_FLAG_BITEXACT
    if subtitles:
        subtitle_stream = container.add_mux_stream(subtitles, time_base=MILLISECOND)
        subtitle_stream.metadata["language"] = "eng"
    if chapters:
        container.set_chapters(
            [
                {"id": n, "start": start, "end": end, "time_base": MILLISECOND, "metadata": {"title": name}}
                for n, (name, start, end) in enumerate(chapters, start=1)
            ]
        )

    packets = encode_video(video_stream, frames)
    if audio:
        packets += encode_sound(audio_stream, sound(Fraction(FRAME_COUNT, FRAME_RATE)))
    if subtitles:
        packets += subtitle_packets(subtitle_stream, subtitles)
    packets.sort(key=lambda packet: packet.dts * packet.time_base)
    container.mux(packets)
    container.close()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    frames = list(scene())
    next(scene(WIDTH * 2 // 3, HEIGHT * 2 // 3)).save(folder / "still.png", optimize=True)

    tick = Fraction(1, FRAME_RATE)
    x264 = ("libx264", "yuv420p", {"crf": "19", "preset": "slow"})
    write_clip(folder / "clip.mp4", "vsr sample", list(enumerate(frames)), tick, x264, "aac", "mov_text")

    # Variable frame rate: every frame, then every third frame only, then every frame again.
    kept = [i for i in range(FRAME_COUNT) if i < 30 or i >= CUT_AT or i % 3 == 0]
    vfr = [(round(i * 1000 * tick), frames[i]) for i in kept]
    cut, end = round(CUT_AT * 1000 * tick), round(FRAME_COUNT * 1000 * tick)
    chapters = (("The garden", 0, cut), ("The town", cut, end))
    write_clip(folder / "clip.mkv", "vsr sample, VFR", vfr, MILLISECOND, x264, "libopus", "subrip", chapters)

    x265 = (
        "libx265",
        "yuv420p10le",
        {"crf": "22", "x265-params": "log-level=none:pools=none:frame-threads=1"},
    )
    around_cut = list(enumerate(frames[CUT_AT - 12 : CUT_AT + 12]))
    write_clip(folder / "clip10.mkv", "vsr sample, 10 bits", around_cut, tick, x265)

    for path in sorted(p for p in folder.iterdir() if p.suffix in {".mp4", ".mkv", ".png"}):
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
