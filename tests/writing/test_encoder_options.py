"""What is asked of an encoder: libraries know every option, lossless is lossless, and nothing unknown gets through."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.context import OptionType

from tests.backends.reference import random_planes
from tests.clips import probe
from vsr.errors import EncoderError, OptionError
from vsr.frame import PIXEL_FORMATS, ColorSpec, Frame, Planes, VideoInfo
from vsr.hdr import StaticHdr
from vsr.model import shipped_models
from vsr.options import UpscaleOptions
from vsr.sink import Sink
from vsr.source import Source
from vsr.writing.containers import MATROSKA, MOV, MP4, container_of
from vsr.writing.encoder_options import (
    EncoderRequest,
    merged_parameters,
    parse_bitrate,
    parse_options,
    resolve,
    try_open,
)
from vsr.writing.encoder_table import ENCODERS, USES, Encoder, library_formats
from vsr.writing.encoders import EncoderPlan, plan_encoder

SIZE = (96, 64)
SOFTWARE = [name for name, encoder in ENCODERS.items() if encoder.hardware is None]
HARDWARE = [name for name, encoder in ENCODERS.items() if encoder.hardware is not None]


def plan(name: str, target: Path | str = "out.mkv", **request: Any) -> EncoderPlan:
    return plan_encoder(container_of(Path(target)), PIXEL_FORMATS[name], *SIZE, EncoderRequest(**request))


def pictures(name: str, count: int = 4) -> list[Planes]:
    return [random_planes(PIXEL_FORMATS[name], *SIZE, seed) for seed in range(count)]


def written(target: Path, given: list[Planes], chosen: EncoderPlan, **options: Any) -> Path:
    fmt = given[0].format
    info = VideoInfo(*SIZE, fmt, fmt.name, ColorSpec(), Fraction(1, 1000), rate=Fraction(25))
    sink = Sink(target, container_of(target), info, chosen, None, threads=1, **options)
    try:
        for _ in sink.consume(Frame(p, 40 * i, 40) for i, p in enumerate(given)):
            pass
        sink.publish()
    finally:
        sink.discard()
    return target


def library_options(encoder: Encoder) -> dict[str, Any]:
    described = av.Codec(encoder.library, "w").create("video").supported_options
    return {o.name: o for o in (*described.generic, *described.private)}


# -- the table against the libraries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(ENCODERS))
def test_the_installed_library_has_every_option_of_the_table(name: str) -> None:
    encoder = ENCODERS[name]
    known = library_options(encoder)
    options = [*encoder.options, *(encoder.lossless or ()), *(option for _, option in encoder.tunes)]
    options += [*encoder.archive.options, *encoder.realtime.options]
    for option, value in options:
        assert option in known
        choices = {c.name for c in known[option].choices}
        if choices and known[option].type is OptionType.INT:
            assert value in choices or value.lstrip("-").isdigit()
    used = [encoder.parameters, encoder.preset_option if encoder.presets else None]
    used += [encoder.crf_option] if encoder.crf else []
    used += ["b"] if encoder.bitrate else []
    used += ["maxrate", "bufsize"] if encoder.bitrate and encoder.peak else []
    assert [o for o in used if o and o not in known] == []


@pytest.mark.parametrize("name", HARDWARE)
def test_nvenc_takes_the_formats_presets_and_cq_of_the_table(name: str) -> None:
    """There need be no GPU to ask the library."""
    encoder = ENCODERS[name]
    known = library_options(encoder)
    assert encoder.formats == library_formats(encoder)
    assert set(encoder.presets) <= {c.name for c in known["preset"].choices}
    assert {name for name, _ in encoder.tunes} | {"lossless"} == {c.name for c in known["tune"].choices}
    assert encoder.crf is not None
    assert known["cq"].min < encoder.crf[0]  # which is automatic
    assert known["cq"].max == encoder.crf[1]
    options = resolve(encoder, "yuv420p", EncoderRequest(crf=19, preset="p7", tune="hq"))
    assert options == {"rc": "vbr", "b": "0", "cq": "19", "preset": "p7", "tune": "hq"}
    options = resolve(encoder, "yuv420p", EncoderRequest(bitrate=8_000_000))
    assert (options["b"], options["maxrate"], options["rc"], "cq" in options) == ("8000000", "12000000", "vbr", False)
    assert resolve(encoder, "yuv420p", EncoderRequest(lossless=True))["tune"] == "lossless"


@pytest.mark.parametrize("name", HARDWARE)
def test_nvenc_is_never_chosen_unasked_and_says_in_one_line_what_it_needs(name: str) -> None:
    for fmt in PIXEL_FORMATS.values():
        assert plan_encoder(MATROSKA, fmt, 640, 480).encoder.hardware is None
    said = ""
    try:
        said = plan_encoder(MATROSKA, PIXEL_FORMATS["yuv420p"], 640, 480, EncoderRequest(name)).encoder.name
    except EncoderError as error:
        said = str(error)
    there_is_a_gpu = said == name
    if not there_is_a_gpu:
        assert said.startswith(f"encoder {name} cannot be opened (")
        assert "it needs an NVIDIA GPU with its driver" in said
        assert "\n" not in said


@pytest.mark.parametrize("name", SOFTWARE)
def test_every_tune_and_preset_opens(name: str) -> None:
    encoder = ENCODERS[name]
    pix_fmt = (library_formats(encoder) or ())[0]
    for tune, _ in encoder.tunes:
        try_open(encoder, pix_fmt, resolve(encoder, pix_fmt, EncoderRequest(tune=tune)))
    with pytest.raises(
        OptionError, match=f"'warp'; encoder {name} has {encoder.tunes[0][0] if encoder.tunes else 'none'}"
    ):
        resolve(encoder, pix_fmt, EncoderRequest(tune="warp"))


# -- lossless ---------------------------------------------------------------------------------------------------------

LOSSLESS = {
    "x264": ("yuv420p", "yuv422p10le", "yuv444p"),
    "x264rgb": ("gbrp",),
    "x265": ("yuv420p", "yuv444p12le", "gray10le", "gbrp10le"),
    "svtav1": ("yuv420p", "yuv420p10le"),
    "vp9": ("yuv420p", "yuv444p", "gbrp"),
    "ffv1": ("yuva420p", "yuv422p16le", "gbrap"),
}


def test_every_encoder_that_can_be_lossless_is_tried() -> None:
    assert set(LOSSLESS) == {e.name for e in ENCODERS.values() if e.lossless is not None and e.hardware is None}


@pytest.mark.parametrize(("encoder", "name"), [(e, n) for e, names in LOSSLESS.items() for n in names])
def test_lossless_gives_back_every_sample_of_noise(encoder: str, name: str, tmp_path: Path) -> None:
    given = pictures(name)
    path = written(tmp_path / "out.mkv", given, plan(name, encoder=encoder, lossless=True))
    source = Source(path)
    got = [frame.planes for frame in source.frames()]
    source.close()
    assert len(got) == len(given)
    for before, after in zip(given, got, strict=True):
        assert after.format == before.format
        for one, other in zip(before.arrays, after.arrays, strict=True):
            assert np.array_equal(one, other)


def test_lossless_is_ffv1_where_the_container_takes_it() -> None:
    assert plan("yuv420p", "out.mkv", lossless=True).encoder.name == "ffv1"
    assert plan("yuv420p", "out.mp4", lossless=True).encoder.name == "x264"
    assert plan("yuv420p10le", "out.mp4", lossless=True).encoder.name == "x265"
    assert plan("yuv420p", "out.webm", lossless=True).encoder.name == "vp9"
    assert plan("gbrp", "out.mov", lossless=True).encoder.name == "x264rgb"


def test_what_would_lose_samples_is_not_called_lossless() -> None:
    with pytest.raises(EncoderError, match="prores cannot be lossless"):
        plan("yuv422p10le", encoder="prores", lossless=True)
    with pytest.raises(EncoderError, match="svtav1 does not take yuv444p"):
        plan("yuv444p", encoder="svtav1", lossless=True)
    with pytest.raises(EncoderError, match="16"):
        plan("yuv420p16le", "out.mp4", lossless=True)


# -- ProRes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "preset", "pix_fmt", "profile"),
    [
        ("yuv422p10le", None, "yuv422p10le", "HQ"),
        ("yuv420p", None, "yuv422p10le", "HQ"),
        ("yuv422p", "proxy", "yuv422p10le", "Proxy"),
        ("yuv422p10le", "lt", "yuv422p10le", "LT"),
        ("yuv422p10le", "standard", "yuv422p10le", "Standard"),
        ("yuv444p10le", None, "yuv444p10le", "4444"),
        ("yuv444p12le", "hq", "yuv422p10le", "HQ"),
        ("yuv422p10le", "4444xq", "yuv444p10le", "XQ"),
        ("yuva444p10le", None, "yuva444p10le", "4444"),
    ],
)
@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_prores_gets_the_profile_of_its_pixel_format(
    name: str, preset: str | None, pix_fmt: str, profile: str, suffix: str, tmp_path: Path
) -> None:
    chosen = plan(name, f"out{suffix}", encoder="prores", preset=preset)
    assert chosen.pix_fmt == pix_fmt
    path = written(tmp_path / f"out{suffix}", pictures(name, 1), chosen)
    video = probe(path).video
    assert (video["codec_name"], video["profile"].replace(" ", "")) == ("prores", profile)


def test_prores_keeps_alpha_and_is_what_mov_gets_for_it(tmp_path: Path) -> None:
    chosen = plan("yuva444p10le", "out.mov")
    assert chosen.encoder.name == "prores"
    given = pictures("yuva444p10le", 2)
    source = Source(written(tmp_path / "out.mov", given, chosen))
    for before, frame in zip(given, source.frames(), strict=True):
        alpha, bits = frame.planes.arrays[3].astype(float), frame.planes.format.bits
        assert bits >= 10
        assert np.array_equal(
            np.round(alpha / (2**bits - 1) * 1023), before.arrays[3]
        )  # ProRes codes alpha without loss
    source.close()


def test_rgb_with_alpha_becomes_opaque_in_mov_and_the_note_says_so() -> None:
    chosen = plan("gbrap", "out.mov")
    assert chosen.encoder.name == "x264rgb"
    assert "the alpha channel is left out, for QuickTime holds no RGB with one; .mkv does" in chosen.notes


# -- bit rate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "bits"), [("8M", 8_000_000), ("2500k", 2_500_000), ("1.5m", 1_500_000), ("64000", 64_000), (9000, 9000)]
)
def test_bit_rates_are_read_as_people_write_them(text: str | int, bits: int) -> None:
    assert parse_bitrate(text) == bits


@pytest.mark.parametrize("text", ["", "fast", "8MB", "-3M", "1e6", "8 000k"])
def test_other_bit_rates_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="bits a second"):
        parse_bitrate(text)


@pytest.mark.parametrize("encoder", ["x264", "x265", "svtav1", "vp9"])
def test_the_bit_rate_is_what_the_encoder_aims_at(encoder: str, tmp_path: Path) -> None:
    given = pictures("yuv420p", 25)  # noise needs far more than either
    sizes = []
    for rate in ("100k", "1000k"):
        chosen = plan("yuv420p", encoder=encoder, bitrate=parse_bitrate(rate))
        assert "crf" not in chosen.options
        sizes.append(written(tmp_path / f"{rate}.mkv", given, chosen).stat().st_size)
    assert sizes[0] < sizes[1] < 3 * 1_000_000 / 8


def test_what_contradicts_itself_is_refused() -> None:
    for one, other in (("crf", "bitrate"), ("lossless", "crf"), ("lossless", "bitrate")):
        values = {"crf": 20, "bitrate": "2M", "lossless": True}
        with pytest.raises(OptionError, match="contradict each other"):
            UpscaleOptions(**{name: values[name] for name in (one, other)})  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="is lossless and takes no --bitrate"):
        plan("yuv420p", encoder="ffv1", bitrate=100_000)
    with pytest.raises(OptionError, match="rate for each preset and takes no --bitrate"):
        plan("yuv420p", encoder="prores", bitrate=100_000)


# -- options of the user's own ----------------------------------------------------------------------------------------


def test_options_are_read_from_words_and_mappings() -> None:
    assert parse_options(["g=50", "x265-params=a=1:b=2"]) == (("g", "50"), ("x265-params", "a=1:b=2"))
    assert parse_options({"g": 50}) == (("g", "50"),)
    for wrong in (["g"], ["=3"], ["g=1", "g=2"], "g=1"):
        with pytest.raises(OptionError):
            parse_options(wrong)


def test_an_option_reaches_the_encoder(tmp_path: Path) -> None:
    chosen = plan(
        "yuv420p", encoder="x264", tune="film", options=(("x264-params", "keyint=7:bframes=0"), ("refs", "2"))
    )
    path = written(tmp_path / "out.mkv", pictures("yuv420p"), chosen)
    settings = path.read_bytes()  # x264 writes them into the stream
    for word in (b"keyint=7 ", b"bframes=0 ", b"ref=2 ", b"psy_rd=1.00:0.15", b"deblock=1:-1:-1"):
        assert word in settings


@pytest.mark.parametrize(
    ("encoder", "option", "words"),
    [
        ("x264", "rc-lookahed=60", "has no option 'rc-lookahed'; did you mean rc-lookahead"),
        ("x265", "aq-mode=3", "options of the library itself go into x265-params"),
        ("ffv1", "x264-params=ref=1", "has no option 'x264-params'"),
        ("x264", "crf=best", "x264 takes a number"),
        ("vp9", "cpu-used=99", "a whole number from -8 to 8"),
        ("x264", "aq-mode=nonsense", "or one of none, variance"),
        ("x264", "threads=4", "use --threads"),
        ("x264", "preset=warp", "x264 has ultrafast"),
        ("x265", "tune=film", "x265 has psnr"),
        ("svtav1", "color_range=pc", "decided by the input"),
        ("x264", "x264-params=foo=1", "foo"),
        ("x265", "x265-params=foo=1", "Unknown option: foo"),
        ("x265", "x265-params=bframes=many", "Invalid value for bframes"),
        ("svtav1", "svtav1-params=foo=1", "Error parsing option foo"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(encoder: str, option: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        plan("yuv420p", encoder=encoder, options=parse_options([option]))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parameters_are_merged_and_the_later_win() -> None:
    assert merged_parameters("a=1:b=2", "b=3:c=4") == "a=1:b=3:c=4"
    assert merged_parameters("", "a=1") == merged_parameters("a=1", "") == "a=1"
    assert merged_parameters(r"deblock=-1\:-1", "a=1") == r"deblock=-1\:-1:a=1"


@pytest.mark.parametrize(("encoder", "option"), [("x265", "x265-params=aq-mode=1"), ("svtav1", "svtav1-params=tune=1")])
def test_parameters_of_the_users_own_leave_hdr_metadata_alone(encoder: str, option: str, tmp_path: Path) -> None:
    hdr = StaticHdr(content_light=(1000, 400))
    chosen = plan("yuv420p10le", encoder=encoder, options=parse_options([option]), lossless=True)
    source = Source(written(tmp_path / "out.mkv", pictures("yuv420p10le"), chosen, hdr=hdr))
    source.close()
    assert source.hdr is not None
    assert source.hdr.content_light == (1000, 400)


def test_defaults_stay_what_they_were() -> None:
    assert plan_encoder(MP4, PIXEL_FORMATS["yuv420p"], 64, 48).options == {"crf": "18", "preset": "veryfast"}
    assert plan_encoder(MOV, PIXEL_FORMATS["yuv422p10le"], 64, 64).encoder.name == "x265"


# -- what the result is for -------------------------------------------------------------------------------------------


def defaults(name: str, use: str) -> tuple[str, float]:
    encoder = ENCODERS[name]
    fmt = "yuv420p" if name != "x264rgb" else "gbrp"
    options = resolve(encoder, fmt, EncoderRequest(use=use))
    return options[encoder.preset_option], float(options[encoder.crf_option])


@pytest.mark.parametrize("name", [name for name, encoder in ENCODERS.items() if encoder.crf is not None])
def test_an_archive_gets_more_time_and_bits_and_realtime_less(name: str) -> None:
    presets = ENCODERS[name].presets
    slowest_first = name.endswith(("svtav1", "vp9"))
    place = {use: presets.index(defaults(name, use)[0]) * (-1 if slowest_first else 1) for use in USES}
    assert place["archive"] > place["everyday"] > place["realtime"]
    assert defaults(name, "archive")[1] < defaults(name, "everyday")[1] <= defaults(name, "realtime")[1]
    assert defaults(name, "everyday") == (ENCODERS[name].preset, (ENCODERS[name].crf or (0, 0, 0))[2])


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", [name for name in SOFTWARE if name != "x264rgb"])
def test_every_use_is_encoded_by_every_encoder(name: str, use: str, tmp_path: Path) -> None:
    fmt = "yuv422p10le" if name == "prores" else "yuv420p"
    path = written(tmp_path / "out.mkv", pictures(fmt, 2), plan(fmt, encoder=name, use=use))
    assert probe(path).video["codec_name"] == ENCODERS[name].codec
    if ENCODERS[name].lossless:
        plan(fmt, encoder=name, use=use, lossless=True)


@pytest.mark.parametrize("use", USES)
def test_what_is_said_wins_over_the_use(use: str) -> None:
    request = EncoderRequest("x264", crf=30, preset="faster", use=use, options=(("deadline", "best"),))
    assert resolve(ENCODERS["x264"], "yuv420p", replace(request, options=())) == {"preset": "faster", "crf": "30"}
    assert resolve(ENCODERS["vp9"], "yuv420p", replace(request, preset="3"))["deadline"] == "best"


def test_an_archive_is_computed_in_fp32_unless_something_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, Any]] = []
    monkeypatch.setattr(
        "vsr.options.Upscaler", lambda _scale, model, **options: asked.append((model, options["precision"]))
    )
    for options in (
        {},
        {"use": "realtime"},
        {"use": "archive"},
        {"use": "archive", "precision": "int8", "model": "espcn"},
    ):
        UpscaleOptions(**options).upscaler()
    best = "best" if {("best", scale) for scale in (2, 3, 4)} <= set(shipped_models()) else None
    assert asked == [(None, "auto"), (None, "auto"), (best, "fp32"), ("espcn", "int8")]


def test_another_use_is_refused() -> None:
    with pytest.raises(OptionError, match="use 'holiday'; allowed are archive, everyday, realtime"):
        UpscaleOptions(use="holiday")
