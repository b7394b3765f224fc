"""What a job tells of itself: while it runs, and when it has ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class JobProgress:
    """How far a job has come.

    Attributes:
        frames: written so far.
        frames_expected: by the header, or None if it does not say.
        time_s: of the video written so far.
        wall_s: since the start.
    """

    frames: int
    frames_expected: int | None
    time_s: float
    wall_s: float


@dataclass
class JobReport:
    """What a job did. `to_dict` gives it as plain values for JSON.

    Attributes:
        input: path.
        output: path; of the partial file if the job was interrupted.
        ok: whether the output is complete.
        frames_in: pictures that came from the source, repeats included.
        frames_out: pictures in the output.
        frames_deinterlaced: pictures of the source that held two fields and were made progressive.
        frames_repeated: of them, how many stand in for pictures that could not be decoded.
        decode_errors: packets that the decoder refused.
        scale: by which the larger enlarged side is larger.
        model, encoder, pix_fmt: as used.
        backend: name of the backend; at the end, if it changed meanwhile.
        backend_reason: why it was chosen.
        precision_reason: why its precision was chosen.
        engine: runtime, version, precision and device; at the end, if it changed meanwhile.
        engines: how many frames each engine computed; repeats are not computed.
        width, height: of the output.
        duration_s: from the first picture to the end of the last, in seconds.
        wall_s: seconds the job took.
        fps: pictures a second, start-up included.
        reused: share of the engine's work, 0 to 1, that was spared because frames repeat parts of those before them.
        stages: name, items, wall_s, busy_s, starved_s, blocked_s and occupancy of each stage.
        bottleneck: the stage to make faster.
        streams_copied: packets copied, by stream index of the input.
        streams_dropped: what was left out and why.
        notes: everything the user was told.
    """

    input: str
    output: str
    ok: bool = False
    frames_in: int = 0
    frames_out: int = 0
    frames_deinterlaced: int = 0
    frames_repeated: int = 0
    decode_errors: int = 0
    scale: float = 0
    model: str = ""
    backend: str = ""
    backend_reason: str = ""
    precision_reason: str = ""
    engine: str = ""
    engines: dict[str, int] = field(default_factory=dict)
    encoder: str = ""
    pix_fmt: str = ""
    width: int = 0
    height: int = 0
    duration_s: float = 0.0
    wall_s: float = 0.0
    fps: float = 0.0
    reused: float = 0.0
    stages: list[dict[str, Any]] = field(default_factory=list)
    bottleneck: str | None = None
    streams_copied: dict[int, int] = field(default_factory=dict)
    streams_dropped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Every attribute as a plain value."""
        return asdict(self)
