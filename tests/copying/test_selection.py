"""Choosing streams: specifiers mean what they mean to ffmpeg, and the video that was meant is upscaled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import vsr
from tests.clips import ffmpeg, ffprobe
from vsr.comparison.compare import compare
from vsr.copying.selection import Selection, StreamSpec
from vsr.errors import OptionError
from vsr.reading.demux import open_input
from vsr.source import Source

SUBTITLES = "1\n00:00:00,050 --> 00:00:00,200\nfirst\n"
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-pix_fmt", "yuv420p", "-g", "5")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, a cover, two sounds, two subtitles, a font."""
    folder = tmp_path_factory.mktemp("selection")
    (folder / "s.srt").write_text(SUBTITLES)
    (folder / "font.ttf").write_bytes(bytes(range(256)))
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=32x32", "-frames:v", "1", folder / "cover.png")
    inputs: list[Any] = []
    for kind in ("testsrc2=s=64x48:r=25:d=0.6", "testsrc=s=96x64:r=25:d=0.6", "sine=300:d=0.6", "sine=500:d=0.6"):
        inputs += ["-f", "lavfi", "-i", kind]
    inputs += ["-i", folder / "s.srt", "-map", "0:v", "-map", "1:v", "-map", "2:a", "-map", "3:a", "-map", "4:s"]
    inputs += ["-map", "4:s", "-c:a", "aac", "-c:s", "srt", *H264]
    for kind, languages in (("a", ("eng", "fra")), ("s", ("fra", "eng"))):
        for number, language in enumerate(languages):
            inputs += [f"-metadata:s:{kind}:{number}", f"language={language}"]
    inputs += ["-disposition:v:0", "0", "-disposition:a:1", "comment", "-disposition:s:1", "forced+hearing_impaired"]
    inputs += ["-attach", folder / "font.ttf", "-metadata:s:t:0", "mimetype=application/x-truetype-font"]
    inputs += ["-attach", folder / "cover.png", "-metadata:s:t:1", "mimetype=image/png"]
    ffmpeg(*inputs, folder / "in.mkv")
    return folder / "in.mkv"


# fmt: off
SPECS = ("v", "V", "a", "s", "t", "d?", "0", "3", "a:1", "v:1", "V:0", "a:9?", "m:language:eng", "s:m:language:eng",
         "m:language", "a:m:language:fra", "u", "v:2")
# fmt: on


@pytest.mark.parametrize("text", SPECS)
def test_a_specifier_means_what_it_means_to_ffmpeg(text: str, clip: Path) -> None:
    theirs = ffprobe(clip, "-select_streams", text.rstrip("?"), "-show_entries", "stream=index")["streams"]
    with open_input(clip) as container:
        assert StreamSpec.parse(text).matches(container.streams) == {s["index"] for s in theirs}


def test_newer_specifiers_and_the_number_of_the_input_are_read(clip: Path) -> None:
    with open_input(clip) as container:
        streams = container.streams
        assert StreamSpec.parse("disp:forced+hearing_impaired").matches(streams) == {5}
        assert StreamSpec.parse("0:a:disp:comment").matches(streams) == {3}
    ts = clip.with_name("two.ts")
    ffmpeg("-i", clip, "-map", "0:V", "-map", "0:a", "-c", "copy", ts)
    with open_input(ts) as container:
        assert StreamSpec.parse("#0x101").matches(container.streams) == {1}
        assert StreamSpec.parse("i:257").matches(container.streams) == {1}


@pytest.mark.parametrize("text", ["", "x", "a:", "a:x", "m", "m:", "disp:none_such", "#", "-", "1.5", "p:1", "a:-1"])
def test_what_is_no_specifier_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"stream specifier .* allowed are"):
        Selection.parse((text,))


@pytest.mark.parametrize(
    ("specs", "kept"),
    [
        ((), {0, 1, 2, 3, 4, 5, 6, 7}),
        (("-s",), {0, 1, 2, 3, 6, 7}),
        (("-a", "-t"), {0, 1, 4, 5, 7}),
        (("a",), {2, 3}),
        (("a", "s", "-m:language:eng"), {3, 4}),
        (("-m:language:eng", "a:0"), {0, 1, 2, 3, 4, 6, 7}),
        (("d?",), set()),
    ],
)
def test_specifiers_add_and_take_away_in_their_order(specs: tuple[str, ...], kept: set[int], clip: Path) -> None:
    with open_input(clip) as container:
        assert Selection.parse(specs).wanted(container, "in.mkv") == kept


@pytest.mark.parametrize(
    ("specs", "video", "expected"),
    [
        ((), None, 1),  # the larger of two without the default flag
        ((), 0, 0),
        (("v:0",), None, 0),
        (("V",), 0, 0),
        (("a",), None, 1),
        (("a",), 0, 0),
        (("-v:1",), None, 0),
        (("a", "-1"), None, 0),
    ],
)
def test_the_video_that_is_upscaled(specs: tuple[str, ...], video: int | None, expected: int, clip: Path) -> None:
    source = Source(clip, selection=Selection.parse(specs, video))
    source.close()
    assert source.stream_index == expected


@pytest.mark.parametrize(
    ("specs", "video", "words"),
    [
        (("a:7",), None, r"--map a:7 matches no stream of .*0 \(video h264 64x48\), .*2 \(audio aac eng\)"),
        (("-v",), None, "leaves no video"),
        ((), 2, r"video stream 2 of .* which has 2: 0 \(video h264 64x48\), 1"),
        ((), -1, "must be 0 or more"),
        (("v:1",), 0, "--map leaves it out"),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_what_there_is(
    specs: tuple[str, ...], video: int | None, words: str, clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=words):
        vsr.upscale(clip, tmp_path / "o.mkv", 2, model="bicubic", map=specs, video_stream=video)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("suffix", "options", "kinds"),
    [
        (
            ".mkv",
            {},
            "video 64x48|video 192x128|audio|audio|subtitle|subtitle|cover|font",
        ),
        (".mkv", {"video_stream": 0}, "video 128x96|video 96x64|audio|audio|subtitle|subtitle|cover|font"),
        (".mkv", {"map": "a:m:language:fra", "start": "0.2"}, "video 192x128|audio"),
        (".mp4", {"map": ["v", "a", "-v:2"], "video_stream": 0}, "video 128x96|video 96x64|audio|audio"),
        (".ts", {"map": ["V", "a:1"], "start": "0.2", "end": "0.5"}, "video 64x48|video 192x128|audio"),
    ],
)
def test_the_output_has_what_was_chosen(
    suffix: str, options: dict[str, Any], kinds: str, clip: Path, tmp_path: Path
) -> None:
    output = tmp_path / f"out{suffix}"
    drop = "drop" if suffix == ".ts" else "fail"
    report = vsr.upscale(clip, output, 2, model="bicubic", on_unsupported=drop, **options)
    assert any("copied as it is; --video-stream" in n for n in report.notes) == (kinds.count("video") > 1)
    found = []
    for stream in ffprobe(output, "-show_streams")["streams"]:
        if stream["codec_type"] == "video" and not stream["disposition"]["attached_pic"]:
            found.append(f"video {stream['width']}x{stream['height']}")
        else:
            kind = {"attachment": "font", "video": "cover"}.get(stream["codec_type"], stream["codec_type"])
            found.append(kind)
    tracks = [k for k in found if k not in ("cover", "font")]
    assert tracks == [k for k in kinds.split("|") if k not in ("cover", "font")]
    assert sorted(found) == sorted(kinds.split("|"))
    trim = vsr.UpscaleOptions(**options).trim()
    selection = vsr.UpscaleOptions(**options).selection()
    result = compare(clip, output, decode=True, allow_dropped=drop == "drop", trim=trim, selection=selection)
    assert result.differences == []
    if len(kinds.split("|")) < 8:
        assert compare(clip, output).differences
