"""The cells of the media matrix: which inputs are made, and into which containers each is upscaled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.matrix_cell import BT601, BT709, FILM, FULL, HDR10, HLG, NTSC, PQ, Cell, Input, into


def codec_cells() -> Iterator[Cell]:
    """Every codec in every container that holds it, at constant rate."""
    yield from into(Input("h264.mp4", ".mp4", "h264", sound=("aac",), options=BT709), "+mp4 mov mkv +ts")
    yield from into(Input("h264-b.mp4", ".mp4", "h264", bframes=3, sound=("aac",)), "+mp4 mov +mkv ts")
    yield from into(Input("h264-b.mov", ".mov", "h264", bframes=2, sound=("pcm_s16le",)), "mov mkv")
    yield from into(Input("h264-b.mkv", ".mkv", "h264", bframes=2, sound=("libopus",)), "+mkv mp4 +webm")
    yield from into(Input("h264-b.ts", ".ts", "h264", bframes=2, sound=("aac",)), "+ts +mp4 mkv mov")
    yield from into(Input("h264.avi", ".avi", "h264", regular=True, sound=("libmp3lame",)), "mkv mp4 +avi")
    yield from into(Input("h264-b.avi", ".avi", "h264", bframes=2, regular=True), "+mkv mp4")
    yield from into(Input("h264-b.nut", ".nut", "h264", bframes=2, sound=("flac",)), "+mkv nut mp4")
    yield from into(Input("h264-b.flv", ".flv", "h264", bframes=2, sound=("aac",)), "mkv mp4")
    hevc = Input("hevc-b.mp4", ".mp4", "hevc", bframes=3, size=(96, 64), sound=("aac",), options=BT709)
    yield from into(hevc, "mp4 +mkv mov ts")
    yield from into(replace(hevc, name="hevc.mov", suffix=".mov", bframes=0), "mov mkv")
    yield from into(replace(hevc, name="hevc-b.mkv", suffix=".mkv", sound=("flac",)), "mkv mp4")
    yield from into(replace(hevc, name="hevc-b.ts", suffix=".ts", sound=("ac3",)), "+ts mkv mp4")
    vp9 = Input("vp9.webm", ".webm", "vp9", sound=("libopus",))
    yield from into(vp9, "+webm mkv mp4")
    yield from into(replace(vp9, name="vp9.mkv", suffix=".mkv", sound=("libvorbis",)), "mkv webm")
    yield from into(replace(vp9, name="vp9.mp4", suffix=".mp4", sound=("aac",)), "mp4 mkv")
    av1 = Input("av1.mp4", ".mp4", "av1", size=(96, 64), sound=("aac",), options=BT709)
    yield from into(av1, "+mp4 mkv")
    yield from into(replace(av1, name="av1.mkv", suffix=".mkv", sound=("libopus",)), "mkv webm")
    yield from into(replace(av1, name="av1.webm", suffix=".webm", sound=("libopus",)), "webm mp4")
    mpeg2 = Input("mpeg2-b.ts", ".ts", "mpeg2", bframes=2, sound=("mp2",))
    yield from into(mpeg2, "+ts mp4 mkv")
    yield from into(replace(mpeg2, name="mpeg2.ts", bframes=0), "ts mkv")
    yield from into(replace(mpeg2, name="mpeg2-b.mkv", suffix=".mkv", sound=("ac3",)), "mkv mp4 ts")
    yield from into(replace(mpeg2, name="mpeg2.mp4", suffix=".mp4", bframes=0, sound=("aac",)), "mp4 mkv")
    yield from into(replace(mpeg2, name="mpeg2-b.mpg", suffix=".mpg"), "+mkv ts")
    yield from into(replace(mpeg2, name="mpeg2.avi", suffix=".avi", bframes=0, regular=True), "mkv")
    mpeg4 = Input("mpeg4-b.mp4", ".mp4", "mpeg4", bframes=2, sound=("libmp3lame",))
    yield from into(mpeg4, "+mp4 mkv")
    yield from into(replace(mpeg4, name="mpeg4.avi", suffix=".avi", bframes=0, regular=True), "mkv mp4")
    yield from into(replace(mpeg4, name="mpeg4-b.avi", suffix=".avi", regular=True), "+mkv mp4")
    yield from into(replace(mpeg4, name="mpeg4-b.mkv", suffix=".mkv"), "mkv mov")
    yield from into(replace(mpeg4, name="mpeg4.mov", suffix=".mov", bframes=0, sound=("aac",)), "mov mp4")
    prores = Input("prores.mov", ".mov", "prores", "yuv422p10le", sound=("pcm_s16le",), options=BT709)
    yield from into(prores, "+mov mkv")
    yield from into(replace(prores, name="prores.mkv", suffix=".mkv"), "mkv")
    ffv1 = Input("ffv1.mkv", ".mkv", "ffv1", sound=("flac",))
    yield from into(ffv1, "mkv mp4")
    yield from into(ffv1, "+mkv", encoder="ffv1")
    yield from into(replace(ffv1, name="ffv1.avi", suffix=".avi", sound=("pcm_s16le",), regular=True), "mkv mov")
    yield from into(replace(ffv1, name="ffv1.nut", suffix=".nut"), "mkv mp4")
    mjpeg = Input("mjpeg.avi", ".avi", "mjpeg", "yuvj420p", sound=("pcm_s16le",), regular=True)
    yield from into(mjpeg, "+mkv mov")
    yield from into(replace(mjpeg, name="mjpeg.mov", suffix=".mov", regular=False), "mov mkv mp4", drop=False)
    yield from into(replace(mjpeg, name="mjpeg.mkv", suffix=".mkv", pix_fmt="yuvj422p", regular=False), "mkv mp4 mov")
    yield from into(replace(mjpeg, name="mjpeg.mp4", suffix=".mp4", sound=("aac",), regular=False), "mp4")
    raw = Input("raw.y4m", ".y4m", "rawvideo", regular=True)
    yield from into(raw, "+mp4 mkv webm ts")
    yield from into(replace(raw, name="raw.avi", suffix=".avi", sound=("pcm_s16le",)), "mkv +avi")
    yield from into(replace(raw, name="raw.mkv", suffix=".mkv", regular=False), "mkv")
    yield from into(replace(raw, name="raw.mov", suffix=".mov", pix_fmt="yuyv422", regular=False), "mov")
    yield from into(replace(raw, name="raw.nut", suffix=".nut", regular=False), "mkv nut")


def pixel_format_cells() -> Iterator[Cell]:
    """Pixel formats, each in a codec that holds it without loss."""
    for pix_fmt, outputs in {
        "yuv420p": "mkv mp4 webm",
        "yuv422p": "+mkv mp4",
        "yuv444p": "mkv mp4",
        "gray": "+mkv mp4 webm",
        "yuv420p10le": "+mkv mp4 webm ts",
        "yuv422p10le": "mkv mp4",
        "yuv444p10le": "mkv mp4",
        "yuv420p12le": "+mkv mp4",
        "yuv422p12le": "mkv mov",
        "yuv444p12le": "mkv mp4",
        "gray10le": "mkv mp4",
        "gbrp": "+mkv mp4",
        "gbrp10le": "mkv mp4",
        "gbrp12le": "mkv",
        "yuva420p": "mkv",
        "yuv440p": "mkv",
        "yuv411p": "mkv",
    }.items():
        if pix_fmt == "gbrp":
            yield from into(Input("gbrp.mkv", ".mkv", "h264rgb", "rgb24", decoded_as="gbrp"), outputs)
        else:
            yield from into(Input(f"{pix_fmt}.mkv", ".mkv", "ffv1", pix_fmt), outputs)
    for pix_fmt, suffix, outputs in (
        ("nv12", ".nut", "+mkv mp4"),
        ("rgb24", ".nut", "mkv +mp4"),
        ("rgb24", ".avi", "mkv"),
        ("pal8", ".avi", "+mkv"),
        ("pal8", ".nut", "mkv"),
        ("yuyv422", ".nut", "mkv"),
        ("uyvy422", ".mov", "mov"),
        ("yuv444p", ".y4m", "mkv"),
        ("gray", ".y4m", "mkv"),
        ("yuv420p10le", ".y4m", "mkv"),
        ("nv12", ".mkv", "mkv"),
        ("nv21", ".nut", "mkv"),
        ("rgb48le", ".nut", "mkv"),
        ("bgra", ".nut", "mkv"),
        ("rgb565le", ".nut", "mkv"),
        ("monow", ".nut", "mkv"),
        ("ya8", ".nut", "mkv"),
        ("gray16le", ".nut", "mkv"),
        ("yuva444p", ".nut", "mkv"),
        ("yuv410p", ".avi", "mkv"),
    ):
        regular, stored = suffix in (".avi", ".y4m"), "bgr24" if (pix_fmt, suffix) == ("rgb24", ".avi") else pix_fmt
        source = Input(f"{pix_fmt}{suffix}", suffix, "rawvideo", pix_fmt, regular=regular, decoded_as=stored)
        yield from into(source, outputs)
    for pix_fmt, outputs in (("yuvj420p", "+mkv mp4"), ("yuvj422p", "mkv mp4"), ("yuvj444p", "+mkv mp4")):
        yield from into(Input(f"{pix_fmt}.mkv", ".mkv", "mjpeg", pix_fmt), outputs)
    for name, tags, found in (("bt709", BT709, ""), ("bt601", BT601, ""), ("full", FULL, "yuvj420p")):
        yield from into(Input(f"{name}.mp4", ".mp4", "h264", options=tags, decoded_as=found), "mp4 +mkv webm")
    deep = Input("hdr10.mkv", ".mkv", "hevc", "yuv420p10le", size=(96, 64), options=(*PQ, *HDR10))
    yield from into(deep, "+mkv mp4 mov")
    yield from into(deep, "mkv mp4", encoder="svtav1")
    yield from into(replace(deep, name="hlg.mp4", suffix=".mp4", options=HLG), "mp4 mkv")
    yield from into(Input("odd.mkv", ".mkv", "ffv1", size=(51, 39)), "mkv mp4")


def encoder_cells() -> Iterator[Cell]:
    """Encoders that are not chosen unasked, lossless encoding, and what each holds of HDR and of shapes."""
    plain = Input("plain.mp4", ".mp4", "h264", size=(96, 64), bframes=2, sound=("aac",), options=BT709)
    yield from into(plain, "+mov mkv", encoder="prores")
    yield from into(plain, "mp4", encoder="prores", refusal="MP4 is not given; --encoder x264 or x265")
    yield from into(plain, "+mkv mp4 mov ts", lossless=True)
    yield from into(replace(plain, name="silent.mp4", sound=()), "webm", lossless=True)
    for encoder in ("x264", "x265", "svtav1", "vp9"):
        yield from into(plain, "mkv", encoder=encoder, lossless=True)
    yield from into(plain, "mov", encoder="prores", lossless=True, refusal="prores cannot be lossless")
    yield from into(plain, "mp4", encoder="ffv1", refusal="MP4 is not given; --encoder x264")
    yield from into(Input("full.mov", ".mov", "h264", options=FULL, decoded_as="yuvj420p"), "mov", encoder="prores")
    deep = Input("deep.mov", ".mov", "prores", "yuv422p10le", size=(96, 64), sound=("pcm_s24le",), options=BT709)
    yield from into(deep, "mov mkv", encoder="prores")
    yield from into(deep, "+mkv", lossless=True)
    yield from into(deep, "mp4 mov", lossless=True)
    yield from into(deep, "mkv mp4", encoder="x264")
    full_chroma = Input("4444.mov", ".mov", "prores", "yuv444p10le", size=(96, 64), options=BT709)
    yield from into(replace(full_chroma, decoded_as="yuv444p12le"), "mov", encoder="prores")
    alpha = replace(full_chroma, name="alpha.mov", pix_fmt="yuva444p10le", decoded_as="yuva444p12le")
    yield from into(alpha, "+mov mkv")
    ten = Input("ten.mkv", ".mkv", "hevc", "yuv420p10le", size=(96, 64), options=(*PQ, *HDR10))
    for encoder in ("x264", "ffv1", "prores", "x265", "svtav1"):
        yield from into(replace(ten, name="ten-hdr10.mkv"), "mkv", encoder=encoder)
    for encoder in ("x264", "prores", "svtav1"):
        yield from into(replace(ten, name="ten-hdr10.mkv"), "mov" if encoder == "prores" else "mp4", encoder=encoder)
    yield from into(replace(ten, name="ten-hdr10.mkv"), "ts webm")
    yield from into(replace(ten, name="ten-hlg.mkv", options=HLG), "mkv webm", encoder="svtav1")
    profile2 = Input("profile2.webm", ".webm", "vp9", "yuv420p10le", sound=("libopus",), options=PQ)
    yield from into(profile2, "webm mkv mp4")
    shaped = Input("wide.mkv", ".mkv", "ffv1", options=("-aspect", "64:33"))
    for encoder in ("x264", "x265", "svtav1", "vp9", "ffv1", "prores"):
        yield from into(shaped, "mkv", encoder=encoder)
    yield from into(shaped, "+webm mp4 mov ts")


def time_cells() -> Iterator[Cell]:
    """Frame rates, variable rates, late starts and edit lists."""
    for rate, name in ((NTSC, "29.97"), (FILM, "23.976"), ("24", "24"), ("60", "60")):
        yield from into(Input(f"{name}.mp4", ".mp4", "h264", rate=rate, bframes=2, sound=("aac",)), "mp4 mkv")
    vfr = Input("vfr.mkv", ".mkv", "h264", vfr=True, sound=("libopus",))
    yield from into(vfr, "+mkv mp4 webm")
    yield from into(replace(vfr, name="vfr-b.mkv", bframes=3), "+mp4 mkv")
    yield from into(replace(vfr, name="vfr-b.mp4", suffix=".mp4", bframes=3, sound=("aac",)), "+mp4 mkv ts")
    yield from into(replace(vfr, name="vfr.webm", suffix=".webm", codec="vp9"), "webm mp4")
    yield from into(replace(vfr, name="vfr.nut", suffix=".nut", codec="ffv1", sound=("flac",)), "mkv")
    yield from into(replace(vfr, name="vfr-b.ts", suffix=".ts", bframes=2, sound=("aac",)), "ts mp4 mkv")
    for late in ("v", "a", "va"):
        title = {"v": "video-late", "a": "audio-late", "va": "both-late"}[late]
        base = Input(f"{title}.mp4", ".mp4", "h264", bframes=2, sound=("aac",), late=late)
        yield from into(base, "+mp4 mkv mov")
        yield from into(replace(base, name=f"{title}.mkv", suffix=".mkv", sound=("libopus",)), "mkv +mp4")
        yield from into(replace(base, name=f"{title}.ts", suffix=".ts"), "ts mkv mp4")
    cut = Input("edit-list.mp4", ".mp4", "h264", bframes=2, sound=("aac",), cut=0.13)
    yield from into(cut, "+mp4 mkv")
    yield from into(replace(cut, name="edit-list.mov", suffix=".mov"), "mov mp4")
    # The clock of MPEG-TS starts anew after 2^33/90000 s. Within a minute of the start, libavformat takes what is
    # before that for negative times; all times are moved by a period of the clock then.
    wrap = Input("wrap.ts", ".ts", "h264", rate="1/8", bframes=2, muxer=("-output_ts_offset", "95372"))
    yield from into(wrap, "+mkv mp4 ts")
    early = replace(wrap, name="early-wrap.ts", rate="25", muxer=("-output_ts_offset", "95442.05"))
    yield from into(early, "+mkv mp4 ts")
    fragments = ("-movflags", "frag_keyframe+empty_moov")
    yield from into(Input("fragmented.mp4", ".mp4", "h264", bframes=2, sound=("aac",), muxer=fragments), "+mp4 mkv")


def stream_cells() -> Iterator[Cell]:
    """Chapters, subtitles, fonts, covers, several sounds, languages, rotation."""
    yield from into(Input("chapters.mp4", ".mp4", "h264", sound=("aac",), chapters=True), "+mp4 mkv mov", drop=True)
    yield from into(Input("chapters.mkv", ".mkv", "h264", sound=("flac",), chapters=True), "+mkv mp4")
    rich = Input(
        "rich.mkv",
        ".mkv",
        "h264",
        bframes=2,
        sound=("aac", "ac3", "flac"),
        subtitles=("srt", "ass"),
        chapters=True,
        fonts=2,
        cover=True,
    )
    yield from into(rich, "+mkv")
    yield from into(rich, "+mp4", refusal="MP4 cannot hold")
    yield from into(rich, "mp4 ts", drop=True)
    yield from into(Input("subrip.mkv", ".mkv", "h264", subtitles=("srt", "srt")), "+mkv +mp4 mov webm")
    yield from into(Input("ass.mkv", ".mkv", "h264", subtitles=("ass", "ass"), fonts=1), "mkv")
    yield from into(Input("mov_text.mp4", ".mp4", "h264", sound=("aac",), subtitles=("mov_text",)), "+mp4 mov mkv")
    yield from into(Input("webvtt.webm", ".webm", "vp9", sound=("libopus",), subtitles=("webvtt",)), "+webm mkv mp4")
    yield from into(Input("cover.mp4", ".mp4", "h264", sound=("aac",), cover=True), "+mp4 mkv")
    yield from into(Input("cover.mkv", ".mkv", "h264", sound=("aac",), cover=True), "mkv mp4")
    three = Input("three-sounds.mp4", ".mp4", "h264", sound=("aac", "ac3", "libmp3lame"))
    yield from into(three, "+mp4 mkv ts")
    yield from into(three, "webm", refusal="WebM cannot hold")
    yield from into(three, "webm", drop=True)
    yield from into(Input("two-sounds.ts", ".ts", "h264", bframes=2, sound=("mp2", "ac3")), "+ts mkv mp4")
    for degrees, outputs in ((90, "+mp4 mkv mov ts"), (180, "mp4 mkv mov"), (270, "mp4 mkv mov")):
        name = "rotated.mp4" if degrees == 90 else f"rotated-{degrees}.mp4"
        yield from into(Input(name, ".mp4", "h264", sound=("aac",), rotate=degrees), outputs)
    yield from into(Input("shaped.mkv", ".mkv", "mpeg2", options=("-aspect", "16:9")), "+mkv mp4 webm")


def interlaced_cells() -> Iterator[Cell]:
    """Interlaced video: one picture of each frame, and one of each field."""
    mpeg2 = Input(
        "tff.ts", ".ts", "mpeg2", sound=("mp2",), fields="tff", options=("-flags", "+ilme+ildct", "-top", "1")
    )
    ntsc = replace(mpeg2, name="tff-ntsc.mpg", suffix=".mpg", rate=NTSC)
    h264 = Input("bff.mkv", ".mkv", "h264", bframes=2, sound=("flac",), fields="bff", options=("-x264-params", "bff=1"))
    dv = Input("dv.avi", ".avi", "dv", size=(720, 576), sound=("pcm_s16le",), regular=True, fields="bff")
    ffv1 = Input("tff10.mkv", ".mkv", "ffv1", "yuv422p10le", fields="tff", options=("-vf", "setfield=tff"))
    for source, outputs in ((mpeg2, "+mkv mp4 ts"), (ntsc, "mp4 mkv"), (h264, "mkv +mp4"), (dv, "mkv"), (ffv1, "mkv")):
        for field_rate in (False, True):
            yield from into(source, outputs if field_rate else outputs.replace("+", ""), field_rate=field_rate)


NOT_WRITTEN = {".avi": "AVI cannot keep frame times", ".nut": "allowed are"}


def other_codec_cells() -> Iterator[Cell]:
    """Codecs of editing, of the screen and of old cameras, each in its own pixel format."""
    for codec, suffix, pix_fmt, found, outputs in (
        ("png", ".mov", "rgba64be", "", "mkv"),
        ("png", ".mkv", "ya16be", "", "mkv"),
        ("png", ".mov", "monob", "", "mkv"),
        ("exr", ".mov", "gbrpf32le", "", "mkv"),
        ("dpx", ".mov", "gbrp12le", "", "mkv"),
        ("jpeg2000", ".mov", "rgb48le", "", "mkv"),
        ("cfhd", ".mov", "yuv422p10le", "", "mov"),
        ("cfhd", ".mkv", "gbrp12le", "", "mkv"),
        ("v210", ".mov", "yuv422p10le", "", "mov mkv"),
        ("r210", ".mov", "gbrp10le", "", "mkv"),
        ("v308", ".mov", "yuv444p", "", "mov"),
        ("qtrle", ".mov", "argb", "", "mkv"),
        ("cinepak", ".mov", "rgb24", "", "mp4"),
        ("huffyuv", ".avi", "rgb24", "bgr0", "mkv"),
        ("utvideo", ".avi", "gbrp", "", "mkv"),
        ("magicyuv", ".avi", "gbrp", "", "mkv"),
        ("zmbv", ".avi", "bgr0", "", "mkv"),
        ("flashsv", ".flv", "bgr24", "", "mkv"),
        ("gif", ".gif", "bgr8", "bgra", "mkv"),
        ("ffv1", ".mkv", "bgra", "", "mkv"),
        ("ffv1", ".mkv", "gbrap16le", "", "mkv"),
        ("ffv1", ".mkv", "yuv420p16le", "", "mkv"),
        ("theora", ".ogv", "yuv420p", "", "mkv webm"),
        ("wmv2", ".asf", "yuv420p", "", "mkv mp4"),
        ("msmpeg4", ".avi", "yuv420p", "", "mkv"),
        ("flv", ".flv", "yuv420p", "", "mp4"),
        ("mpeg1", ".mpg", "yuv420p", "", "mkv mp4"),
        ("h263", ".3gp", "yuv420p", "", "mp4"),
        ("dv", ".mov", "yuv411p", "", "mov"),
        ("hap", ".mov", "rgba", "rgb0", "mkv"),
    ):
        size = {"h263": (176, 144), "dv": (720, 480)}.get(codec, (64, 48))
        source = Input(f"{codec}-{pix_fmt}{suffix}", suffix, codec, pix_fmt, size=size, decoded_as=found)
        source = replace(source, rate=NTSC if codec == "dv" else "25", regular=suffix == ".avi")
        yield from into(source, outputs, refusal="gbrpf32le is not handled" if pix_fmt == "gbrpf32le" else None)


def odd_cells() -> Iterator[Cell]:
    """What no encoder at hand makes (see `tests.odd_inputs`)."""
    for name, recipe, outputs in (
        ("paff-pairs.mp4", "H.264 fields in pairs (PAFF)", "mp4 mkv"),
        ("paff-pairs.mkv", "H.264 fields in pairs (PAFF)", "mkv"),
        ("paff-fields.ts", "H.264 fields as packets (PAFF)", "+mkv mp4 ts"),
        ("paff-fields.mkv", "H.264 fields as packets (PAFF)", "mkv"),
        ("paff-mixed.ts", "H.264 fields and frames (PAFF)", "mkv ts"),
    ):
        fields = "" if "mixed" in name else "tff"
        source = Input(name, "." + name.rsplit(".", 1)[1], "h264", size=(64, 64), fields=fields, recipe=recipe)
        for field_rate in (False, True) if fields else (False,):
            yield from into(source, outputs.replace("+", "") if field_rate else outputs, field_rate=field_rate)
    packed = Input("packed.avi", ".avi", "mpeg4", bframes=1, regular=True, recipe="packed B-frames")
    yield from into(packed, "+mkv mp4 ts")
    dvd = Input("dvd-subtitles.mkv", ".mkv", "mpeg2", bframes=2, subtitles=("dvdsub",), recipe="DVD subtitles")
    yield from into(dvd, "mkv")
    yield from into(dvd, "webm", refusal="WebM cannot hold")
    yield from into(replace(dvd, name="dvd-subtitles.vob", suffix=".vob"), "+mkv mp4")
    dvb = replace(dvd, name="dvb-subtitles.ts", suffix=".ts", subtitles=("dvbsub",), recipe="DVB subtitles")
    yield from into(dvb, "+ts mkv")
    yield from into(dvb, "mp4", refusal="MP4 cannot hold")
    yield from into(replace(dvb, name="dvb-subtitles.mkv", suffix=".mkv"), "mkv ts")
    text = replace(dvb, name="teletext.ts", subtitles=("teletext",), recipe="teletext")
    yield from into(text, "+mkv", refusal="dvb_teletext")
    yield from into(text, "ts")
    for how in ("across", "down", "diagonal"):
        mirrored = Input(f"mirrored-{how}.mp4", ".mp4", "h264", bframes=2, recipe=f"mirrored {how}")
        yield from into(mirrored, "+mp4 mov mkv" if how == "across" else "mp4 mov mkv")
    telemetry = Input("telemetry.mp4", ".mp4", "h264", bframes=2, recipe="telemetry")
    yield from into(telemetry, "+mp4 +mov")
    yield from into(telemetry, "mkv", drop=True)
    changes = Input("sound-changes.ts", ".ts", "h264", sound=("aac",), recipe="sound that changes")
    yield from into(changes, "+ts mp4 mkv")
    late = Input("sound-late.ts", ".ts", "h264", rate="1", size=(32, 32), sound=("aac",))
    yield from into(replace(late, recipe="sound that appears late"), "mkv mp4 ts")


def all_cells() -> list[Cell]:
    """Every cell; outputs that are never written have their refusal."""
    found = [*codec_cells(), *pixel_format_cells(), *encoder_cells(), *time_cells(), *stream_cells()]
    found += [*interlaced_cells(), *other_codec_cells(), *odd_cells()]
    return [replace(c, refusal=NOT_WRITTEN.get(c.suffix, c.refusal)) for c in found]
