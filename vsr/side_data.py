"""What comes along with a decoded picture: display matrix, HDR metadata, time codes and more.

PyAV has no name for kinds of side data that are newer than its list (EXIF data of TIFF and MJPEG pictures, the views
of MV-HEVC, in which phones film in 3D), and raises ValueError on a picture that has any of them.
"""

from __future__ import annotations

from typing import Any

import av
from av.sidedata.sidedata import Type


def side_data_of(frame: av.VideoFrame) -> Any:
    """The side data of `frame` as a mapping from members of `av.sidedata.sidedata.Type`, which may have no name."""
    return frame.side_data


def _nameless(cls: type[Type], value: object) -> Type:
    """A member for a kind of side data that PyAV has no name for."""
    member: Any = object.__new__(cls)
    member._name_, member._value_ = f"KIND_{value}", value
    named: Type = cls._value2member_map_.setdefault(value, member)  # type: ignore[assignment]
    return named


Type._missing_ = classmethod(_nameless)  # type: ignore[method-assign, assignment]
