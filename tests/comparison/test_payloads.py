"""Packets that two containers hold differently have one normal form; packets that differ have two."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vsr.comparison.payloads import Form, forms_of, is_cut_anywhere, may_be_same

SPS, PPS, IDR, SLICE = b"\x67sps", b"\x68pps", b"\x65picture", b"\x41other"
AVCC = b"\x01\x64\x00\x1f\xff\xe1"
START = b"\x00\x00\x00\x01"


def stream(extradata: bytes = b"") -> Any:
    return SimpleNamespace(codec_context=SimpleNamespace(extradata=extradata))


def forms(before: str, after: str, first: bytes = b"", second: bytes = b"") -> tuple[Form, Form]:
    found = forms_of(stream(first), stream(second), before, after)
    assert found is not None
    return found


def adts(frame: bytes, *, checksum: bool = False) -> bytes:
    length = len(frame) + (9 if checksum else 7)
    header = bytes(
        [0xFF, 0xF0 if checksum else 0xF1, 0x50, 0x80 | length >> 11, length >> 3 & 0xFF, length << 5 & 0xFF]
    )
    return header + b"\xfc" + (b"\xab\xcd" if checksum else b"") + frame


def with_length(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


@pytest.mark.parametrize("checksum", [False, True])
def test_adts_headers_are_left_out(checksum: bool) -> None:
    before, after = forms("aac", "aac")
    assert before.normal(adts(b"\x21frame", checksum=checksum)) == after.normal(b"\x21frame")
    assert before.normal(adts(b"\x21frame")) != after.normal(b"\x21other")


def test_what_only_looks_like_an_adts_header_is_kept() -> None:
    before, _ = forms("aac", "aac")
    payload = adts(b"\x21frame") + b"more"
    assert before.normal(payload) == payload


def test_annex_b_and_length_prefixes_are_the_same() -> None:
    before, after = forms("h264", "h264", b"", AVCC)
    assert before.exception
    assert before.normal(START + SPS + START + PPS + b"\x00\x00\x01" + IDR) == after.normal(with_length(IDR))
    assert before.normal(START + IDR) != after.normal(with_length(SLICE))
    assert before.normal(START + IDR + START + SLICE) != after.normal(with_length(IDR))


def test_hevc_units_are_told_by_their_own_types() -> None:
    hvcc = b"\x01" + bytes(20) + b"\xff"
    before, after = forms("hevc", "hevc", b"", hvcc)
    vps, picture = b"\x40\x01vps", b"\x26\x01picture"
    assert before.normal(START + vps + START + picture) == after.normal(with_length(picture))


def test_without_a_change_of_form_every_byte_counts() -> None:
    before, after = forms("h264", "h264", AVCC, AVCC)
    assert before.exception is None
    assert before.normal(with_length(SPS, IDR)) != after.normal(with_length(IDR))


def test_the_empty_samples_of_timed_text_are_none() -> None:
    before, _ = forms("mov_text", "mov_text")
    assert before.normal(b"\0\0") == b""
    assert before.normal(b"\0\3abc") == b"\0\3abc"


def test_texts_are_compared_across_forms() -> None:
    before, after = forms("subrip", "mov_text")
    assert before.normal(b"one <i>two</i>\r\nthree") == after.normal(b"\0\x0done two\nthree" + b"styl")
    assert before.normal(b"one") != after.normal(b"\0\3two")


@pytest.mark.parametrize(("before", "after"), [("aac", "mp3"), ("subrip", "ass"), ("dvd_subtitle", "mov_text")])
def test_other_codecs_are_other_streams(before: str, after: str) -> None:
    assert not may_be_same(before, after)
    assert forms_of(stream(), stream(), before, after) is None


def test_layers_of_mpeg_audio_may_be_confused() -> None:
    assert may_be_same("mp2", "mp3")


def test_only_pcm_is_cut_anywhere() -> None:
    assert is_cut_anywhere("pcm_s16le")
    assert not is_cut_anywhere("flac")


def test_what_a_transport_stream_puts_around_dvb_subtitles_is_left_out() -> None:
    before, after = forms("dvb_subtitle", "dvb_subtitle")
    segments = b"\x0f\x10\x00\x01\x00\x02\x1e\x1b"
    assert before.normal(segments) == after.normal(b"\x20\x00" + segments + b"\xff") == segments
    assert before.normal(b"\x20\x00" + segments) != segments
