"""Times that are missing or jump back, streams that appear late, sound that changes, samples nobody knows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

import vsr
from tests.clips import ffmpeg, ffprobe, make_clip
from tests.odd_inputs import make_with_subtitles
from vsr.comparison.compare import compare
from vsr.copying.sound_changes import header_parameters
from vsr.errors import ContainerError, CorruptInputError, UnsupportedInputError
from vsr.inspect import describe
from vsr.reading.demux import open_input
from vsr.reading.late_streams import bytes_to_probe

PICTURES = ("-f", "lavfi", "-i")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-pix_fmt", "yuv420p")
TS_PACKET = 188


def upscale(source: Path, output: Path, **options: object) -> vsr.JobReport:
    return vsr.upscale(source, output, 2, model="bicubic", **options)


def joined(target: Path, *parts: Path) -> Path:
    target.write_bytes(b"".join(p.read_bytes() for p in parts))
    return target


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("odd") / "short.ts", frames=48, bframes=2, audio="aac", options={"g": "8"})


def test_video_times_that_jump_back_are_refused_with_the_place(short: Path, tmp_path: Path) -> None:
    twice = joined(tmp_path / "twice.ts", short, short)
    with pytest.raises(CorruptInputError, match=r"jump back by 1.9\d\d s after 1.9\d\d s.* --end 1.9") as caught:
        upscale(twice, tmp_path / "o.mkv")
    assert not (tmp_path / "o.mkv").exists()
    end = str(caught.value).rsplit(" ", 1)[1]
    report = upscale(twice, tmp_path / "o.mkv", end=end)  # what the hint says
    assert report.frames_out == 47


def test_a_glitch_in_video_times_is_mended_and_said(tmp_path: Path) -> None:
    source = tmp_path / "in.ts"
    make_clip(tmp_path / "a.ts", codec="mpeg2video", frames=10, rate=25)
    data = bytearray((tmp_path / "a.ts").read_bytes())
    pictures = [at for at in range(0, len(data), TS_PACKET) if data[at + 1] & 0x41 == 0x41 and data[at + 2] == 0]
    data[pes_times(data, pictures[5])] = data[pes_times(data, pictures[3])]
    source.write_bytes(data)
    report = upscale(source, tmp_path / "o.mkv")
    assert report.frames_out == 10
    assert any("1 time stamps did not increase and were moved to the next tick" in n for n in report.notes)


def test_copied_sound_whose_times_jump_back_is_said(tmp_path: Path) -> None:
    source, output = tmp_path / "in.ts", tmp_path / "o.mkv"
    make_clip(tmp_path / "a.ts", frames=24, audio="mp2")
    data = bytearray((tmp_path / "a.ts").read_bytes())
    starts = [
        at for at in range(0, len(data), TS_PACKET) if data[at + 1] & 0x41 == 0x41 and data[at + 2] == 1
    ]  # the sound's PID is 0x101
    assert len(starts) > 3
    first, third = (pes_times(data, starts[i]) for i in (0, 2))
    data[third] = data[first]
    source.write_bytes(data)
    report = upscale(source, output)
    assert any("stream 1 (audio) did not increase, by up to" in n for n in report.notes)
    assert report.streams_copied[1] == sum(p.size > 0 for p in av.open(str(source)).demux(audio=0))


@pytest.mark.parametrize(("suffix", "apart_s"), [(".mkv", 0), (".ts", 0.001)])
def test_short_packets_of_one_time_do_not_push_the_sound_back(suffix: str, apart_s: float, tmp_path: Path) -> None:
    # TrueHD has 1200 packets a second, and Matroska 1000 ticks: moved to a free tick each, they would end 0.2 s late.
    source, output = tmp_path / "in.mkv", tmp_path / f"o{suffix}"
    picture, sound = "testsrc2=s=64x48:r=25:d=1", "sine=d=1:r=48000"
    ffmpeg(
        *(*PICTURES, picture, *PICTURES, sound, *H264, "-ac", "2", "-c:a", "truehd", "-strict", "-2", "-shortest"),
        source,
    )
    report = upscale(source, output)
    assert not any("did not increase" in n for n in report.notes)
    old, new = (sound_times(p) for p in (source, output))
    assert len(old) == len(new) > len(set(old))
    assert max(abs(a - b) for a, b in zip(old, new, strict=True)) <= apart_s
    assert compare(source, output).differences == []


def sound_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [p.pts * p.time_base for p in container.demux(audio=0) if p.size and p.pts is not None]


def pes_times(data: bytearray, packet: int) -> slice:
    """Where the presentation time of the PES header in a transport packet is (ISO/IEC 13818-1 section 2.4.3.6)."""
    start = packet + 4 + (1 + data[packet + 4] if data[packet + 3] & 0x20 else 0)
    assert data[start : start + 3] == b"\0\0\1"
    assert data[start + 7] & 0x80
    return slice(start + 9, start + 14)


def test_packets_without_times_get_those_between_their_neighbours(short: Path, tmp_path: Path) -> None:
    """Every second picture loses its PTS and DTS; the rate tells when it is shown."""
    source = tmp_path / "in.ts"
    make_clip(tmp_path / "a.ts", frames=24, rate=25)
    data = bytearray((tmp_path / "a.ts").read_bytes())
    pictures = [at for at in range(0, len(data), TS_PACKET) if data[at + 1] & 0x41 == 0x41 and data[at + 2] == 0]
    for at in pictures[1::2]:
        times = pes_times(data, at)
        header = times.start - 3
        data[header + 1] &= 0x3F
        for i in range(header + 3, header + 3 + data[header + 2]):
            data[i] = 0xFF  # stuffing
    source.write_bytes(data)
    report = upscale(source, tmp_path / "o.mkv")
    assert report.frames_out == 24
    packets = ffprobe(tmp_path / "o.mkv", "-show_packets", "-show_entries", "packet=pts")["packets"]
    times = sorted(p["pts"] for p in packets)
    assert times == [times[0] + 40 * i for i in range(24)]


@pytest.mark.parametrize("named", ["from the start", "late"])
def test_a_stream_that_appears_late_is_copied(named: str, tmp_path: Path) -> None:
    """Sound after more than the first minute, which is all that libavformat looks at for itself and more."""
    picture = ("-f", "lavfi", "-i", "testsrc2=s=32x32:r=5:d=66")
    source, output = tmp_path / "in.ts", tmp_path / "o.mkv"
    if named == "late":
        tail = ("-f", "lavfi", "-i", "testsrc2=s=32x32:r=5:d=2", "-f", "lavfi", "-i", "sine=300:d=2")
        ffmpeg(*picture, *H264, tmp_path / "a.ts")
        ffmpeg(*tail, *H264, "-c:a", "aac", "-output_ts_offset", "66", tmp_path / "b.ts")
        joined(source, tmp_path / "a.ts", tmp_path / "b.ts")
    else:
        sound = ("-itsoffset", "62", "-f", "lavfi", "-i", "sine=300:d=4")
        ffmpeg(*picture, *sound, *H264, "-c:a", "aac", "-max_interleave_delta", "0", source)
    with av.open(str(source)) as container:
        assert [s.codec_context.sample_rate for s in container.streams.audio] in ([], [0])  # it does not know of it
    with open_input(source) as container:
        assert [s.codec_context.sample_rate for s in container.streams.audio] == [44100]
    report = upscale(source, output, encoder="x264", preset="ultrafast")
    assert report.streams_copied[1] > 80
    assert compare(source, output).differences == []


def test_an_ordinary_transport_stream_is_not_read_further(short: Path) -> None:
    assert bytes_to_probe(short, frozenset((0x100, 0x101))) is None
    assert bytes_to_probe(short, frozenset((0x100,))) is not None
    assert bytes_to_probe(Path(__file__), frozenset()) is None


def test_sound_that_changes_in_mid_stream_is_copied_and_said(tmp_path: Path) -> None:
    parts = []
    for number, (rate, channels) in enumerate((("48000", "2"), ("32000", "1"))):
        parts.append(tmp_path / f"{number}.ts")
        inputs = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", "-f", "lavfi", "-i", f"sine=300:d=1:r={rate}")
        offset = ("-output_ts_offset", str(1.2 * number))
        ffmpeg(*inputs, *H264, "-c:a", "aac", "-ac", channels, *offset, parts[-1])
    source, output = joined(tmp_path / "in.ts", *parts), tmp_path / "o.ts"
    report = upscale(source, output, on_unsupported="drop")
    told = [n for n in report.notes if "changes from 48000 Hz, 2 channels to 32000 Hz, 1 channels at 2." in n]
    assert len(told) == 1, report.notes
    assert compare(source, output, allow_dropped=True).differences == []


SPLICED = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.6", "-f", "lavfi", "-i", "sine=300:d=0.6")
# A packet of the first part lasts longer than its pictures, so that times do not increase where the second begins.
CUT = ("-flvflags", "no_duration_filesize", "-muxdelay", "0", "-muxpreload", "0", "-bf", "0")


def spliced(folder: Path, suffix: str, first: tuple[str, ...], second: tuple[str, ...]) -> Path:
    """Two recordings, one behind the other: codec, sample rate and channels of the sound of each."""
    for name, (codec, rate, channels), start in (("a", first, "0"), ("b", second, "0.6")):
        sound = ("-c:a", codec, "-ar", rate, "-ac", channels, "-output_ts_offset", start)
        ffmpeg(*SPLICED, *H264, *CUT, *sound, folder / f"{name}{suffix}")
    header = 13 if suffix == ".flv" else 0  # which stands once in a file
    (folder / f"b{suffix}").write_bytes((folder / f"b{suffix}").read_bytes()[header:])
    return joined(folder / f"in{suffix}", folder / f"a{suffix}", folder / f"b{suffix}")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("source", [".ts", ".flv"])
def test_other_sound_behind_a_splice_spoils_no_container(source: str, suffix: str, tmp_path: Path) -> None:
    # In MP4 the new times have to be apart by whole samples; FLV gives a new header, which libavformat would write over
    # Matroska's.
    made = spliced(tmp_path, source, ("aac", "48000", "2"), ("aac", "32000", "1"))
    report = upscale(made, tmp_path / f"out{suffix}")
    assert len([n for n in report.notes if "from 48000 Hz, 2 channels to 32000 Hz, 1 channels at 0.5" in n]) == 1
    assert [n for n in report.notes if "did not increase" in n]
    differences = compare(made, tmp_path / f"out{suffix}").differences
    assert [d.name for d in differences] == ["stream 1 (audio, aac): packet times"]
    streams = ffprobe(tmp_path / f"out{suffix}", "-show_streams")["streams"]
    assert [s["codec_name"] for s in streams] == ["h264", "aac"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_packets_of_another_codec_are_left_out_and_said(suffix: str, tmp_path: Path) -> None:
    made = spliced(tmp_path, ".ts", ("aac", "48000", "2"), ("ac3", "48000", "1"))
    report = upscale(made, tmp_path / f"out{suffix}")
    # libavformat has read both of the tables that say what the stream is, and takes the second to be true.
    told = (
        "stream 1 (audio) has 30 packets that are not ac3, the first at 0.000 s: damaged, or another codec's; they are"
    )
    assert f"{told} left out" in report.notes
    streams = ffprobe(tmp_path / f"out{suffix}", "-show_streams", "-count_packets")["streams"]
    assert [(s["codec_name"], s["nb_read_packets"]) for s in streams] == [("h264", "30"), ("ac3", "19")]


@pytest.mark.parametrize("codec", ["aac", "mp2", "libmp3lame", "ac3", "eac3"])
@pytest.mark.parametrize(("rate", "channels"), [(48000, 1), (44100, 2), (32000, 2)])
def test_headers_of_sound_say_rate_and_channels(codec: str, rate: int, channels: int, tmp_path: Path) -> None:
    sound = tmp_path / "a.ts"
    ffmpeg("-f", "lavfi", "-i", f"sine=300:d=0.2:r={rate}", "-c:a", codec, "-ac", str(channels), sound)
    with open_input(sound) as container:
        stream = container.streams.audio[0]
        name = stream.codec_context.codec.canonical_name
        found = {header_parameters(name, bytes(p)) for p in container.demux(stream) if p.size}
    assert found == {(rate, channels)}


def test_samples_that_are_not_known_are_refused_by_name(tmp_path: Path) -> None:
    source = tmp_path / "bayer.nut"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bayer_rggb8"
        stream.codec_context.time_base = Fraction(1, 25)
        container.start_encoding()
        for pts in range(2):
            packet = av.Packet(bytes(32 * 32))
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, pts, pts, Fraction(1, 25)
            container.mux(packet)
    with pytest.raises(UnsupportedInputError, match="bayer_rggb8"):
        upscale(source, tmp_path / "o.mkv")
    assert not (tmp_path / "o.mkv").exists()


def test_subtitles_without_a_decoder_are_called_by_their_name(tmp_path: Path) -> None:
    source = tmp_path / "in.ts"
    make_with_subtitles(source, "dvb_teletext")
    with pytest.raises(ContainerError, match=r"Matroska cannot hold stream 1 \(subtitle, dvb_teletext\)"):
        upscale(source, tmp_path / "o.mkv")
    assert [s["codec"] for s in describe(source)["streams"]] == ["mpeg2video", "dvb_teletext"]
