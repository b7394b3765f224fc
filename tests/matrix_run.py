"""Makes the inputs of the media matrix, runs its cells, and judges them twice: by `vsr.comparison.compare` and by
ffprobe."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

import vsr
from tests.clips import ffmpeg, ffprobe
from tests.matrix_cell import ENCODERS, Cell, Input
from tests.odd_inputs import RECIPES
from vsr.comparison.compare import compare

FRAMES = 12
SECONDS = 0.6
LATE_S = "0.48"
FONT = bytes(range(256)) * 8
SUBTITLES = "1\n00:00:00,050 --> 00:00:00,200\nfirst <i>line</i>\n\n2\n00:00:00,250 --> 00:00:00,400\nsecond line\n"
CHAPTERS = (
    ";FFMETADATA1\ntitle=A title\nartist=Someone\nmood=calm\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=One\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=200\nEND=480\ntitle=Two\n"
)
IRREGULAR = "settb=1/1000,setpts=N*40+12*mod(N*N\\,3)+200*gt(N\\,6)"
TINTERLACE = {"tff": "top", "bff": "bottom"}
COLOR_KEYS = ("color_range", "color_space", "color_primaries", "color_transfer")
# What a pixel format may be called in the output, where it is not called as in the input.
SAME_SAMPLES = {
    "yuvj420p": ("yuvj420p", "yuv420p"),
    "yuvj422p": ("yuvj422p", "yuv422p"),
    "yuvj444p": ("yuvj444p", "yuv444p"),
    "nv12": ("yuv420p",),
    "nv21": ("yuv420p",),
    "rgb565le": ("gbrp",),
    "monow": ("yuvj420p",),
    "monob": ("yuvj420p",),
    "yuv410p": ("yuv420p",),  # its chroma, twice as large
    "rgba64be": ("gbrap16le",),
    "ya16be": ("yuva420p16le",),
    "rgb0": ("gbrp", "bgr0"),
    "rgb555le": ("gbrp",),
    "argb": ("gbrap", "bgra"),
    "p010le": ("yuv420p10le",),
    "yuyv422": ("yuv422p",),
    "uyvy422": ("yuv422p",),
    "rgb24": ("gbrp",),
    "bgr24": ("gbrp",),
    "bgr0": ("gbrp", "bgr0"),
    "pal8": ("gbrap", "bgra"),
    "rgb48le": ("gbrp16le", "gbrp12le"),
    "gray": ("gray", "yuvj420p", "yuv420p"),
    "gray10le": ("gray10le", "yuv420p10le"),
    "yuv440p": ("yuv440p", "yuv444p"),
    "yuv411p": ("yuv411p", "yuv422p"),
    "yuva420p": ("yuva420p",),
    "yuva444p12le": ("yuva444p12le", "yuva444p16le"),  # as ProRes 4444 is decoded
}


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        cell: which.
        result: "pass", "refused" or "fail".
        encoder: that was chosen, with its pixel format.
        detail: why it was refused, or what is wrong.
    """

    cell: Cell
    result: str
    encoder: str = ""
    detail: str = ""


def run_cell(cell: Cell, folder: Path) -> Outcome:
    """Make the input if it is not there yet, upscale it, and judge the output."""
    source = made(cell.source, folder)
    output = folder / f"out{cell.suffix}"
    output.unlink(missing_ok=True)
    try:
        report = vsr.upscale(
            source,
            output,
            scale=2,
            model="bicubic",
            encoder=cell.encoder,
            lossless=cell.lossless,
            on_unsupported="drop" if cell.drop else "fail",
            field_rate=cell.field_rate,
        )
    except vsr.VsrError as error:
        right = cell.refusal is not None and re.search(cell.refusal, str(error)) is not None
        reason = str(error).replace(f"{folder}/", "")
        return Outcome(cell, "refused" if right else "fail", "", reason if right else f"not done: {reason}")
    encoder = f"{report.encoder} {report.pix_fmt}"
    if cell.refusal is not None:
        return Outcome(cell, "fail", encoder, f"not refused ({cell.refusal})")
    wrong = [
        f"{c.name}: expected {c.expected}, got {c.got}"
        for c in compare(source, output, allow_dropped=cell.drop, field_rate=cell.field_rate).differences
    ]
    wrong += judged_by_ffprobe(cell, source, output)
    return Outcome(cell, "fail" if wrong else "pass", encoder, "; ".join(wrong))


# -- inputs -----------------------------------------------------------------------------------------------------------


def made(source: Input, folder: Path) -> Path:
    """The file of `source` in `folder`."""
    path = folder / f"{source.name.rsplit('.', 1)[0]}{source.suffix}"
    if path.exists():
        return path
    if source.recipe:
        RECIPES[source.recipe](path)
    else:
        encode(source, path, folder)
    found = probed(path)["video"]["pix_fmt"]
    assert found == (source.decoded_as or source.pix_fmt), f"{path.name} was to be {source.pix_fmt} and is {found}"
    return path


def encode(source: Input, path: Path, folder: Path) -> None:
    """Make the file of `source` by the ffmpeg command."""
    late = dict.fromkeys(source.late, ("-itsoffset", LATE_S))
    times = f",{IRREGULAR}" if source.vfr else ""
    width, height = source.size
    rate, weave = source.rate, ""
    if source.fields:
        rate, weave = str(2 * Fraction(rate)), f",tinterlace=interleave_{TINTERLACE[source.fields]}"
    picture = f"testsrc2=s={width}x{height}:r={rate}{weave}{times},trim=end_frame={FRAMES}"
    inputs: list[Any] = [*late.get("v", ()), "-f", "lavfi", "-i", picture]
    maps: list[Any] = ["-map", "0:v"]
    codecs = list(picture_codec(source))
    count = 1
    for number, codec in enumerate(source.sound):
        inputs += [*late.get("a", ()), "-f", "lavfi", "-i", f"sine={300 + 200 * number}:r=48000:d={SECONDS}"]
        maps += ["-map", f"{count}:a", f"-metadata:s:a:{number}", f"language={('eng', 'fra', 'deu')[number]}"]
        codecs += [f"-c:a:{number}", codec]
        count += 1
    if source.subtitles:
        (folder / "lines.srt").write_text(SUBTITLES)
    for number, codec in enumerate(source.subtitles):
        inputs += ["-i", folder / "lines.srt"]
        maps += ["-map", f"{count}:s", f"-metadata:s:s:{number}", f"language={('eng', 'fra')[number]}"]
        codecs += [f"-c:s:{number}", codec]
        count += 1
    if source.chapters:
        (folder / "chapters.txt").write_text(CHAPTERS)
        inputs += ["-i", folder / "chapters.txt"]
        maps += ["-map_metadata", str(count), "-map_chapters", str(count)]
        count += 1
    extra: list[Any] = []
    if source.cover:
        cover = folder / "cover.jpg"
        ffmpeg("-f", "lavfi", "-i", "testsrc2=s=32x32", "-frames:v", "1", cover)
        if source.suffix == ".mkv":
            extra += ["-attach", cover, "-metadata:s:t:0", "mimetype=image/jpeg"]
        else:
            inputs += ["-i", cover]
            maps += ["-map", f"{count}:v"]
            codecs += ["-c:v:1", "copy", "-disposition:v:1", "attached_pic"]
    for number in range(source.fonts):
        font = folder / f"font{number}.ttf"
        font.write_bytes(FONT + bytes([number]))
        extra += ["-attach", font, f"-metadata:s:t:{number + source.cover}", "mimetype=application/x-truetype-font"]
    sync = ["-vsync", "passthrough", *(("-enc_time_base:v", "1/1000") if source.vfr else ())]
    target = path.with_name(f"whole-{path.name}") if source.cut else path
    ffmpeg(*inputs, *maps, *codecs, *sync, *source.muxer, *extra, target)
    if source.cut:
        ffmpeg("-ss", str(source.cut), "-i", target, "-map", "0", "-c", "copy", path)
    if source.rotate:
        turn(path, source.rotate)


def picture_codec(source: Input) -> list[str]:
    encoder, *options = ENCODERS[source.codec]
    chosen = ["-c:v:0", encoder, *options, "-pix_fmt", source.pix_fmt, "-g:v:0", "5", "-threads:v:0", "1"]
    if source.codec in ("h264", "hevc", "mpeg2", "mpeg4"):
        chosen += ["-bf:v:0", str(source.bframes)]
    if source.suffix == ".y4m":
        chosen = ["-c:v:0", "wrapped_avframe", "-pix_fmt", source.pix_fmt, "-strict", "-1"]
    if source.suffix == ".mpg":
        chosen += ["-f", "vob"]
    return [*chosen, *source.options]


def turn(path: Path, degrees: int) -> None:
    """Copy the file onto itself with a display matrix, which Debian's ffmpeg cannot set."""
    upright = path.rename(path.with_name(f"upright-{path.name}"))
    with av.open(str(upright)) as before, av.open(str(path), "w") as after:
        copies = {s.index: after.add_stream_from_template(s) for s in before.streams if s.type in ("video", "audio")}
        for stream in before.streams:
            copies[stream.index].metadata.update(stream.metadata)
        copies[before.streams.video[0].index].set_display_rotation(degrees)
        for packet in before.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                after.mux(packet)


# -- the second judge -------------------------------------------------------------------------------------------------


def judged_by_ffprobe(cell: Cell, source: Path, output: Path) -> list[str]:
    """What ffprobe finds wrong with the output: frames, times, size, pixel format, colour tags, streams."""
    old, new = probed(source), probed_anew(output)
    wrong = []
    if old["count"] * (1 + cell.field_rate) != new["count"]:
        wrong.append(f"{new['count']} frames of {old['count']}")
    if new["interlaced"]:
        wrong.append(f"{new['interlaced']} frames are marked as interlaced")
    if cell.source.fields and not old["interlaced"]:
        wrong.append("the input is not interlaced")
    wrong += wrong_times(cell, old, new)
    a, b = old["video"], new["video"]
    if (b["width"], b["height"]) != (2 * a["width"], 2 * a["height"]):
        wrong.append(f"size {b['width']}x{b['height']}")
    held = SAME_SAMPLES.get(a["pix_fmt"], (a["pix_fmt"],))
    if b["pix_fmt"] not in held and not may_change_samples(cell):
        wrong.append(f"pixel format {b['pix_fmt']} of {a['pix_fmt']}")
    colors, new_colors = color_tags(a), color_tags(b)
    if "tv" in (colors["color_range"], new_colors["color_range"]) and may_leave_range_open(a, b, cell):
        colors.update(color_range="tv")
        new_colors.update(color_range=new_colors["color_range"] or "tv")
    if cell.encoder == "prores":  # which has no other range, and the job converts to it
        colors.update(color_range="tv")
    if colors != new_colors:
        wrong.append(f"colour tags {new_colors} of {colors}")
    if old["turned"] != new["turned"] and output.suffix != ".ts":  # which has no place for it
        wrong.append(f"display matrix {new['turned']} of {old['turned']}")
    kinds, new_kinds = old["kinds"], new["kinds"]
    if kinds != new_kinds and not cell.drop and source.suffix == output.suffix:
        wrong.append(f"streams {new_kinds} of {kinds}")
    return [f"ffprobe: {w}" for w in wrong]


def may_change_samples(cell: Cell) -> bool:
    """Odd pictures in 4:2:0, alpha in a container without it, and ProRes, which has ten bits and no 4:2:0."""
    if cell.encoder == "prores":
        return True
    return any(n % 2 for n in cell.source.size) or (cell.suffix != ".mkv" and cell.source.pix_fmt in ("pal8",))


def may_leave_range_open(old: dict[str, Any], new: dict[str, Any], cell: Cell) -> bool:
    """VP9, AV1 and FFmpeg's HEVC decoder have no word for unspecified; x264 does not say limited if that is all."""
    never_open = ("vp9", "av1", "hevc")
    nothing_said = all(old.get(key) is None for key in COLOR_KEYS[1:]) and cell.suffix != ".mkv"
    return old["codec_name"] in never_open or new["codec_name"] in never_open or nothing_said


def wrong_times(cell: Cell, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    tick = Fraction(new["video"]["time_base"])
    times = old["times"]
    if len(new["times"]) != new["count"]:
        return [f"only {len(new['times'])} of {new['count']} frames have a time"]
    if cell.source.regular:  # the container has no times of presentation: frames come out in the order of their slots
        times = [new["times"][0] + slot - old["slots"][0] for slot in old["slots"]]
    if cell.field_rate:  # a second field is halfway to the next frame; the last frame lasts as long as the one before
        following = [*times[1:], 2 * times[-1] - times[-2]]
        times = [time for pair in zip(times, following, strict=True) for time in (pair[0], sum(pair) / 2)]
    late = [(float(a), float(b)) for a, b in zip(times, new["times"], strict=False) if abs(a - b) > tick / 2]
    return [f"{len(late)} times moved (tick {tick}): {late[:3]}"] if late else []


def color_tags(video: dict[str, Any]) -> dict[str, Any]:
    tags = {key: video.get(key) for key in COLOR_KEYS}
    if video["pix_fmt"].startswith(("gbr", "rgb", "bgr", "argb", "pal")):  # always full range, always the identity
        tags.update(color_range="pc", color_space="gbr")
    if video["pix_fmt"].startswith("gray"):
        tags.update(color_space=None)
    if video["pix_fmt"].startswith(("yuvj", "mono")):
        tags.update(color_range="pc")
    return tags


@functools.cache
def probed(path: Path) -> dict[str, Any]:
    return probed_anew(path)


def probed_anew(path: Path) -> dict[str, Any]:
    answer = ffprobe(path, "-show_streams")
    pictures = [s for s in answer["streams"] if s["codec_type"] == "video" and not s["disposition"]["attached_pic"]]
    video = pictures[0]
    key = "best_effort_timestamp"
    index = str(video["index"])
    entries = f"frame={key},interlaced_frame"
    frames = ffprobe(path, "-select_streams", index, "-show_frames", "-show_entries", entries)["frames"]
    tick = Fraction(video["time_base"])
    shown = ("-show_packets", "-show_entries", "packet=dts,size")
    packets = ffprobe(path, "-select_streams", index, *shown)["packets"]
    slots = sorted(
        p["dts"] * tick for p in packets if "dts" in p and int(p["size"])
    )  # AVI marks a gap by an empty packet
    kinds = [s["codec_type"] for s in answer["streams"] if s["codec_type"] != "data"]
    times = [frame[key] * tick for frame in frames if key in frame]
    if times and times[0] < 0 and path.suffix == ".ts":  # its clock has 33 bits, and none for a sign
        times = [time + Fraction(1 << 33, 90_000) for time in times]
    interlaced = sum(frame["interlaced_frame"] for frame in frames)
    facts = {"video": video, "times": times, "slots": slots, "count": len(frames), "kinds": kinds}
    return {**facts, "interlaced": interlaced, "turned": turned_by(video)}


def turned_by(video: dict[str, Any]) -> list[int]:
    """The part of the display matrix that turns and mirrors, row by row; a matrix that does nothing is none."""
    for side in video.get("side_data_list", ()):
        if "displaymatrix" in side:
            rows = [line.split(":")[1].split() for line in side["displaymatrix"].strip().splitlines()]
            turned = [int(n) for row in rows[:2] for n in row[:2]]
            return turned if turned != [65536, 0, 0, 65536] else []
    return []
