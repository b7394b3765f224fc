"""Pictures with side data that PyAV has no name for are read like all others."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from av.sidedata.sidedata import Type

import vsr
from tests.clips import ffmpeg
from vsr.side_data import side_data_of


def test_side_data_of_kinds_without_a_name_are_no_obstacle(tmp_path: Path) -> None:
    clip = tmp_path / "in.mov"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=32x32:r=25", "-frames:v", "3", "-c:v", "tiff", "-pix_fmt", "gray", clip)
    with av.open(str(clip)) as container:
        found = side_data_of(next(container.decode(video=0)))
        kinds = [data.type for data in found]
        assert any(kind.name.startswith("KIND_") for kind in kinds)  # EXIF data, which libavcodec has made of the tags
        assert found.get(Type.DISPLAYMATRIX) is None
        assert bytes(found[kinds[0]])
    assert vsr.upscale(clip, tmp_path / "out.mkv", 2, model="bicubic").frames_out == 3


def test_a_name_that_is_none_is_still_refused() -> None:
    assert Type(0) is Type.PANSCAN
    with pytest.raises(KeyError):
        Type["NONE_SUCH"]
