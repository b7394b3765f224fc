"""`vsr verify` sees every kind of difference, and none where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from click.testing import CliRunner

import vsr
from tests.clips import ffmpeg, make_clip
from vsr import errors
from vsr.cli import cli
from vsr.comparison.compare import compare
from vsr.comparison.differences import Comparison

Change = Callable[[av.Packet], list[av.Packet]]
MILLISECOND = Fraction(1, 1000)
PICTURES = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.6")
SOUNDS = ("-f", "lavfi", "-i", "sine=300:d=0.6", "-f", "lavfi", "-i", "sine=500:d=0.6")
SUBTITLES = "1\n00:00:00,050 --> 00:00:00,200\nfirst\n\n2\n00:00:00,250 --> 00:00:00,400\nsecond\n"
CHAPTERS = (
    ";FFMETADATA1\ntitle=A title\nartist=Someone\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=One\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=200\nEND=480\ntitle=Two\n"
)
COLORS = ("-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-pix_fmt", "yuv420p", *COLORS)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file with a bit of everything, and what becomes of it."""
    folder = tmp_path_factory.mktemp("pair")
    source, result = folder / "in.mkv", folder / "out.mkv"
    (folder / "s.srt").write_text(SUBTITLES)
    (folder / "c.txt").write_text(CHAPTERS)
    (folder / "font.ttf").write_bytes(bytes(range(256)) * 4)
    inputs = (*PICTURES, *SOUNDS, "-i", folder / "s.srt", "-i", folder / "c.txt")
    maps = ("-map", "0:v", "-map", "1:a", "-map", "2:a", "-map", "3:s", "-map_metadata", "4", "-map_chapters", "4")
    tags = ("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=fra", "-disposition:a:1", "comment")
    font = ("-attach", folder / "font.ttf", "-metadata:s:t", "mimetype=application/x-truetype-font")
    codecs = (*H264, "-c:a:0", "aac", "-c:a:1", "flac", "-c:s", "srt")
    ffmpeg(*inputs, *maps, *codecs, *tags, *font, source)
    vsr.upscale(source, result, scale=2, model="bicubic")
    return source, result


def rewrite(
    source: Path,
    target: Path,
    *,
    change: Change = lambda packet: [packet],
    leave_out: tuple[int, ...] = (),
    order: tuple[int, ...] | None = None,
    settings: Callable[[Any, dict[int, Any]], None] = lambda output, streams: None,
    chapters: Callable[[list[Any]], list[Any]] = lambda found: found,
    font: bytes | None = None,
) -> Path:
    """Copy a file packet by packet, with something changed."""
    with (
        av.open(str(source)) as before,
        av.open(str(target), "w", options={"avoid_negative_ts": "disabled"}) as after,
    ):
        copies: dict[int, Any] = {}
        streams = [before.streams[i] for i in order] if order else list(before.streams)
        streams = [s for s in streams if s.type != "data"]  # the names of MP4's chapters, which its muxer writes
        for stream in streams:
            if stream.index in leave_out:
                continue
            if stream.type == "attachment":
                data = bytes(stream.data) if font is None else font
                copies[stream.index] = after.add_attachment("font.ttf", stream.metadata["mimetype"], data)
                continue
            copy = after.add_stream_from_template(stream, opaque=True)
            copy.time_base = stream.time_base
            copy.disposition = stream.disposition
            copy.metadata.update(stream.metadata)
            copies[stream.index] = copy
        after.metadata.update(before.metadata)
        after.set_chapters(chapters(before.chapters()))
        settings(after, copies)
        for packet in before.demux(*[s for s in streams if s.index in copies and s.type != "attachment"]):
            if packet.size:
                for changed in change(packet):
                    changed.stream = copies[packet.stream_index]
                    after.mux(changed)
    return target


def only(stream: int, number: int, action: Callable[[av.Packet], list[av.Packet]]) -> Change:
    """`action` on one packet of one stream."""
    seen = 0

    def change(packet: av.Packet) -> list[av.Packet]:
        nonlocal seen
        if packet.stream_index != stream:
            return [packet]
        seen += 1
        return action(packet) if seen == number else [packet]

    return change


def moved(packet: av.Packet) -> list[av.Packet]:
    """One millisecond later, which is one tick of Matroska."""
    packet.pts += 1
    return [packet]


def altered(packet: av.Packet) -> list[av.Packet]:
    payload = bytearray(bytes(packet))
    payload[-1] ^= 1
    other = av.Packet(bytes(payload))
    other.pts, other.dts, other.duration, other.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    return [other]


def lost(_: av.Packet) -> list[av.Packet]:
    return []


def delayed(stream: int) -> Change:
    def change(packet: av.Packet) -> list[av.Packet]:
        if packet.stream_index == stream:
            packet.pts += 20
            if packet.dts is not None:
                packet.dts += 20
        return [packet]

    return change


def tag(name: str, value: str) -> Callable[[Any, dict[int, Any]], None]:
    return lambda output, _: output.metadata.update({name: value})


def tag_of(stream: int, name: str, value: str) -> Callable[[Any, dict[int, Any]], None]:
    return lambda _, streams: streams[stream].metadata.update({name: value})


def flags_of(stream: int, flags: int) -> Callable[[Any, dict[int, Any]], None]:
    return lambda _, streams: setattr(streams[stream], "disposition", flags)


def first_renamed(chapters: list[Any]) -> list[Any]:
    return [{**chapters[0], "metadata": {"title": "Another"}}, *chapters[1:]]


def second_moved(chapters: list[Any]) -> list[Any]:
    return [chapters[0], {**chapters[1], "start": chapters[1]["start"] + int(MILLISECOND / chapters[1]["time_base"])}]


def differing(result: Comparison) -> str:
    return " | ".join(check.name for check in result.differences)


def test_an_untouched_output_has_no_difference(pair: tuple[Path, Path]) -> None:
    result = compare(*pair)
    assert result.ok, differing(result)
    assert result.scale == 2
    names = " | ".join(check.name for check in result.checks)
    for word in ("frames", "frame times", "packets", "offset", "chapter 2: start", "matrix", "content", "language"):
        assert word in names


def test_decoding_every_picture_finds_none_either(pair: tuple[Path, Path]) -> None:
    result = compare(*pair, decode=True)
    assert result.ok, differing(result)
    assert "every picture decodes" in [check.name for check in result.checks]


def test_a_plain_copy_of_the_output_has_no_difference(pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = compare(pair[0], rewrite(pair[1], tmp_path / "copy.mkv"))
    assert result.ok, differing(result)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param({"change": only(0, 4, lost)}, "(video, h264): frames", id="frame lost"),
        pytest.param({"change": only(0, 15, lost)}, "(video, h264): frames", id="last frame lost"),
        pytest.param({"change": only(0, 4, moved)}, "(video, h264): frame times", id="frame one tick late"),
        pytest.param({"change": delayed(0)}, "(video, h264): frame times", id="pictures late"),
        pytest.param({"change": only(1, 5, altered)}, "(audio, aac): packets", id="audio packet changed"),
        pytest.param({"change": only(1, 5, lost)}, "(audio, aac): packets", id="audio packet lost"),
        pytest.param({"change": only(1, 5, moved)}, "(audio, aac): packet times", id="audio packet one tick late"),
        pytest.param({"change": only(2, 1, lost)}, "(audio, flac): packets", id="first audio packet lost"),
        pytest.param({"change": delayed(2)}, "(audio, flac): offset to the pictures", id="sound late"),
        pytest.param({"change": only(3, 2, lost)}, "(subtitle, subrip): packets", id="subtitle lost"),
        pytest.param({"change": only(3, 1, moved)}, "(subtitle, subrip): packet times", id="subtitle one tick late"),
        pytest.param({"leave_out": (2,)}, "streams", id="stream lost"),
        pytest.param({"leave_out": (4,)}, "streams", id="attachment lost"),
        pytest.param({"font": b"another"}, "font): content", id="attachment changed"),
        pytest.param({"order": (0, 2, 1, 3, 4)}, "order of tracks", id="order changed"),
        pytest.param({"chapters": lambda found: found[:1]}, "chapters", id="chapter lost"),
        pytest.param({"chapters": first_renamed}, "chapter 1: title", id="chapter renamed"),
        pytest.param({"chapters": second_moved}, "chapter 2: start", id="chapter one tick late"),
        pytest.param({"settings": tag("title", "Another")}, "file: tags", id="tag changed"),
        pytest.param({"settings": tag_of(1, "language", "deu")}, "(audio, aac): language", id="language changed"),
        pytest.param({"settings": flags_of(2, 0)}, "(audio, flac): disposition", id="disposition lost"),
        pytest.param({"settings": flags_of(1, 64)}, "(audio, aac): disposition", id="disposition changed"),
    ],
)
def test_a_change_is_seen(arguments: dict[str, Any], expected: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = compare(pair[0], rewrite(pair[1], tmp_path / "changed.mkv", **arguments))
    assert not result.ok
    assert expected in differing(result)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-bsf:v", "h264_metadata=matrix_coefficients=5"), "picture: matrix"),
        (("-bsf:v", "h264_metadata=colour_primaries=9"), "picture: primaries"),
        (("-bsf:v", "h264_metadata=transfer_characteristics=16"), "picture: transfer"),
        (("-bsf:v", "h264_metadata=video_full_range_flag=1"), "picture: range"),
        (("-bsf:v", "h264_metadata=chroma_sample_loc_type=1"), "picture: chroma location"),
        (("-aspect", "2:1"), "sample aspect ratio"),
        (("-map_metadata:g", "-1"), "file: tags"),
        (("-map_chapters", "-1"), "chapters"),
    ],
)
def test_a_change_by_another_program_is_seen(
    arguments: tuple[str, ...], expected: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    changed = tmp_path / "changed.mkv"
    ffmpeg("-i", pair[1], "-map", "0", "-c", "copy", *arguments, changed)
    assert expected in differing(compare(pair[0], changed))


@pytest.mark.parametrize("size", ["130:96", "128:98", "64:48", "96:72"])
def test_a_size_that_is_no_whole_multiple_is_seen(size: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    changed = tmp_path / "changed.mkv"
    ffmpeg("-i", pair[1], "-map", "0", "-c", "copy", *H264, "-vf", f"scale={size}", "-vsync", "0", changed)
    result = compare(pair[0], changed)
    assert "size" in differing(result)
    assert result.scale is None


def test_fewer_bits_are_seen(clip: Callable[..., Path], tmp_path: Path) -> None:
    source = clip("a.mkv", codec="ffv1", pix_fmt="yuv420p10le", frames=3)
    result = tmp_path / "out.mkv"
    vsr.upscale(source, result, scale=2, model="bicubic", encoder="x264", pix_fmt="yuv420p")
    assert "picture: samples" in differing(compare(source, result))


def test_a_shorter_last_frame_is_seen(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=5, vfr=True)
    result = tmp_path / "out.mp4"
    vsr.upscale(source, result, scale=2, model="bicubic")
    assert compare(source, result).ok

    def shorter(packet: av.Packet) -> list[av.Packet]:
        if packet.pts * packet.time_base >= Fraction(1, 4):
            packet.duration //= 2
        return [packet]

    changed = rewrite(result, tmp_path / "changed.mp4", change=shorter)
    assert "end of the last frame" in differing(compare(source, changed))


def test_a_lost_rotation_is_seen(pair: tuple[Path, Path], tmp_path: Path) -> None:
    upright = rewrite(pair[0], tmp_path / "upright.mp4", leave_out=(2, 3, 4))
    turned = rewrite(upright, tmp_path / "turned.mp4", settings=lambda _, s: s[0].set_display_rotation(90))
    for source in (upright, turned):
        vsr.upscale(source, source.with_suffix(".out.mp4"), scale=2, model="bicubic")
    same = compare(turned, turned.with_suffix(".out.mp4"))
    assert same.ok, differing(same)
    assert "picture: rotation" in differing(compare(turned, upright.with_suffix(".out.mp4")))


def test_streams_left_out_on_purpose_can_be_allowed(pair: tuple[Path, Path], tmp_path: Path) -> None:
    fewer = rewrite(pair[1], tmp_path / "fewer.mkv", leave_out=(2, 3, 4))
    assert not compare(pair[0], fewer).ok
    result = compare(pair[0], fewer, allow_dropped=True)
    assert result.ok, differing(result)
    assert "(allowed)" in next(c.got for c in result.checks if c.name == "streams")


def test_allowing_what_was_dropped_allows_nothing_else(pair: tuple[Path, Path], tmp_path: Path) -> None:
    changed = rewrite(pair[1], tmp_path / "changed.mkv", leave_out=(2,), change=only(1, 5, altered))
    result = compare(pair[0], changed, allow_dropped=True)
    assert [c.name for c in result.differences] == ["stream 1 (audio, aac): packets"]


def test_an_added_stream_is_seen(pair: tuple[Path, Path], tmp_path: Path) -> None:
    more = tmp_path / "more.mkv"
    ffmpeg("-i", pair[1], *SOUNDS[:4], "-map", "0", "-map", "1:a", "-c", "copy", "-c:a:2", "ac3", more)
    assert "no stream added" in differing(compare(pair[0], more))


@pytest.mark.parametrize(
    ("name", "result", "arguments"),
    [
        pytest.param("in.ts", "out.mp4", ("-c:a", "aac"), id="ADTS headers"),
        pytest.param("in.mp4", "out.ts", ("-c:a", "aac"), id="ADTS headers added"),
        pytest.param("in.mov", "out.mkv", ("-c:a", "pcm_s16le"), id="PCM cut otherwise"),
        pytest.param("in.ts", "out.mp4", ("-c:a", "mp2"), id="MPEG audio without its layer"),
    ],
)
def test_what_containers_hold_differently_is_no_difference(
    name: str, result: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    ffmpeg(*PICTURES, *SOUNDS[:4], *H264, *arguments, tmp_path / name)
    vsr.upscale(tmp_path / name, tmp_path / result, scale=2, model="bicubic", on_unsupported="drop")
    compared = compare(tmp_path / name, tmp_path / result, allow_dropped=True)
    assert compared.ok, differing(compared)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_second_pictures_in_annex_b_are_compared_by_their_units(codec: str, tmp_path: Path) -> None:
    source, result = tmp_path / "in.ts", tmp_path / "out.mkv"
    size = "scale=96:64"
    second = {"h264": ("libx264",), "hevc": ("libx265", "-x265-params", "log-level=none:pools=none")}[codec]
    maps = ("-map", "0:v", "-map", "0:v", "-vf:v:1", size)
    options = ("-preset:v:1", "ultrafast", "-bf:v:1", "2")
    ffmpeg(*PICTURES, *maps, *H264, "-s:v:0", "128x96", "-c:v:1", *second, *options, source)
    vsr.upscale(source, result, scale=2, model="bicubic")
    compared = compare(source, result)
    assert compared.ok, differing(compared)


def test_times_of_avi_are_told_by_decoding(tmp_path: Path) -> None:
    source, result = tmp_path / "in.avi", tmp_path / "out.mkv"
    ffmpeg(*PICTURES, "-c:v", "mpeg4", "-bf", "2", source)
    vsr.upscale(source, result, scale=2, model="bicubic")
    compared = compare(source, result)
    assert compared.ok, differing(compared)
    assert "every picture decodes" in [check.name for check in compared.checks]


def test_the_command_tells_by_its_exit_code(pair: tuple[Path, Path], tmp_path: Path) -> None:
    good = CliRunner().invoke(cli, ["verify", *map(str, pair)], standalone_mode=False)
    assert good.return_value == 0
    assert "checks agree" in good.output
    changed = rewrite(pair[1], tmp_path / "changed.mkv", change=only(0, 4, lost))
    bad = CliRunner().invoke(cli, ["verify", str(pair[0]), str(changed)], standalone_mode=False)
    assert bad.return_value == 1
    assert "DIFFERS" in bad.output


def test_the_command_gives_json(pair: tuple[Path, Path]) -> None:
    answer = CliRunner().invoke(cli, ["verify", "--json", *map(str, pair)], standalone_mode=False)
    facts = json.loads(answer.output)
    assert facts["ok"] is True
    assert facts["scale"] == 2
    assert all(set(check) == {"name", "ok", "expected", "got"} for check in facts["checks"])


def test_files_that_cannot_be_compared_are_refused(pair: tuple[Path, Path], samples: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.MissingInputError):
        compare(pair[0], tmp_path / "absent.mkv")
    with pytest.raises(errors.UnsupportedInputError, match="still"):
        compare(samples / "still.png", pair[1])
    (tmp_path / "text.mkv").write_text("no media")
    with pytest.raises(errors.NotMediaError):
        compare(pair[0], tmp_path / "text.mkv")


def test_lost_hdr_metadata_is_seen(tmp_path: Path) -> None:
    parameters = "log-level=none:pools=none:frame-threads=1"
    hdr = ":hdr10=1:max-cll=1000,400:master-display="
    hdr += "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    deep = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le")
    source, result, changed = (tmp_path / name for name in ("in.mkv", "out.mkv", "changed.mkv"))
    ffmpeg(*PICTURES, "-s", "96x64", *deep, "-x265-params", parameters + hdr, source)
    vsr.upscale(source, result, scale=2, model="bicubic")
    assert compare(source, result).ok, differing(compare(source, result))
    bare = tmp_path / "bare.nut"  # which has no place for it, in the container or in the coded pictures
    ffmpeg("-i", result, "-c:v", "rawvideo", "-vsync", "0", bare)
    ffmpeg("-i", bare, *deep, "-x265-params", parameters, "-vsync", "0", changed)
    found = differing(compare(source, changed))
    for name in ("primaries", "white point", "luminance", "content light"):
        assert f"picture: HDR {name}" in found


def test_what_is_held_does_not_grow_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long, only what one file is ahead of the other waits."""
    import vsr.comparison.lockstep as lockstep

    source = make_clip(tmp_path / "in.mkv", frames=400, audio="flac", size=(16, 16))
    longest = 0
    lay = lockstep._lay_side_by_side

    def watched(tally: Any, before: Any, after: Any) -> None:
        nonlocal longest
        longest = max(longest, len(before), len(after))
        lay(tally, before, after)

    monkeypatch.setattr(lockstep, "_lay_side_by_side", watched)
    pairs = [lockstep.Pair(0, 0, None), lockstep.Pair(1, 1, forms_of_same())]
    tallies = lockstep.compare_packets(source, source, pairs)
    assert tallies[0].count_after == 400
    assert longest < 120


def forms_of_same() -> Any:
    from vsr.comparison.payloads import Form

    return Form(bytes), Form(bytes)


def test_pictures_in_each_other_s_place_are_seen_by_decoding(tmp_path: Path) -> None:
    source, shuffled = make_clip(tmp_path / "in.mkv", codec="ffv1", frames=6), tmp_path / "shuffled.mkv"
    ffmpeg("-i", source, "-vf", "shuffleframes=0 2 1 3 4 5", "-c:v", "ffv1", shuffled)
    for path in (source, shuffled):
        vsr.upscale(path, path.with_suffix(".out.mkv"), scale=2, model="bicubic", encoder="ffv1")
    assert compare(source, source.with_suffix(".out.mkv"), decode=True).ok
    changed = shuffled.with_suffix(".out.mkv")
    assert compare(source, changed).ok, differing(compare(source, changed))
    assert differing(compare(source, changed, decode=True)) == "every picture is its original, larger"
