"""Sound that Matroska holds in WAV's form only goes there packet by packet, and can be heard."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import av
import pytest

from tests.clips import ffmpeg, ffprobe
from vsr.comparison.compare import compare
from vsr.copying.wave_sound import sound_track
from vsr.errors import ContainerError
from vsr.job import upscale

QUICK: dict[str, Any] = {"scale": 2, "model": "bicubic", "threads": 1, "preset": "ultrafast"}
SOUND = (("wmav2", ".wmv"), ("wmav1", ".asf"), ("adpcm_ms", ".avi"), ("pcm_mulaw", ".mov"))


def recorded(path: Path, *codecs: str) -> Path:
    """Pictures and a stream of stereo sound for each codec."""
    picture = "wmv2" if path.suffix in (".wmv", ".asf") else "mpeg4"
    inputs: list[str] = []
    for number in range(len(codecs)):
        inputs += ["-f", "lavfi", "-i", f"aevalsrc=sin({number + 3}000*t)/8|random(0)/9:s=44100:d=0.4"]
    maps = [word for number in range(len(codecs) + 1) for word in ("-map", str(number))]
    chosen = [word for number, codec in enumerate(codecs) for word in (f"-c:a:{number}", codec)]
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.4", *inputs, *maps, "-c:v", picture, *chosen,
           "-metadata:s:a:0", "title=Director", path)  # fmt: skip
    return path


def heard(path: Path, number: int = 0) -> bytes:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-map", f"0:a:{number}", "-f", "s16le", "-"]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout


@pytest.mark.parametrize(("codec", "suffix"), SOUND)
def test_it_is_copied_and_heard_as_before(codec: str, suffix: str, tmp_path: Path) -> None:
    source, made = recorded(tmp_path / f"in{suffix}", codec), tmp_path / "out.mkv"
    upscale(source, made, **QUICK)
    assert compare(source, made).ok
    (stream,) = ffprobe(made, "-show_streams", "-select_streams", "a")["streams"]
    assert (stream["codec_name"], stream["channels"], stream["sample_rate"]) == (codec, 2, "44100")
    assert len(heard(source)) > 50_000
    assert heard(made) == heard(source)


def test_several_streams_keep_what_is_their_own(tmp_path: Path) -> None:
    # The first copy is a source too, and the second has names, a shape and a trim beside it.
    source = recorded(tmp_path / "in.avi", "wmav2", "mp3", "pcm_alaw")
    first, second = tmp_path / "first.mkv", tmp_path / "second.mkv"
    upscale(source, first, **QUICK)
    upscale(first, second, **{**QUICK, "size": "400x300", "fit": "stretch", "start": 0.12})
    assert [s["codec_name"] for s in ffprobe(second, "-show_streams")["streams"]] == [
        "h264",
        "wmav2",
        "mp3",
        "pcm_alaw",
    ]
    for path in (first, second):
        with av.open(str(path)) as container:
            assert [s.metadata.get("title") for s in container.streams] == [None, "Director", None, None]
            assert b"....." not in path.read_bytes()[:4096]
    for number in range(3):
        assert heard(first, number) == heard(source, number)
        assert heard(second, number)


def test_a_refusal_names_matroska(tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="wmav2") as caught:
        upscale(recorded(tmp_path / "in.wmv", "wmav2"), tmp_path / "out.mp4", **QUICK)
    assert str(caught.value.hint).startswith("write .mkv, which holds it")


def test_sound_without_a_number_in_wav_files_is_told_apart(tmp_path: Path) -> None:
    with av.open(str(recorded(tmp_path / "in.mov", "adpcm_ima_qt"))) as container:
        assert sound_track(container.streams.audio[0]) is None
