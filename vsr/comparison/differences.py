"""What a comparison of two files has found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

NOTHING: Final = "nothing"  # what a report says in the place of an empty list


@dataclass(frozen=True)
class Check:
    """One thing that was compared.

    Attributes:
        name: what.
        ok: whether it is as it should be.
        expected: what the input lets expect.
        got: what the output has.
    """

    name: str
    ok: bool
    expected: str
    got: str


@dataclass
class Comparison:
    """Everything that was compared of a pair of files.

    Attributes:
        input: path.
        output: path.
        scale: by which the pictures are larger; None if that is no whole factor.
        checks: in the order of the file's streams.
    """

    input: str
    output: str
    scale: int | None = None
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return all(c.ok for c in self.checks)

    @property
    def differences(self) -> list[Check]:
        """The checks that failed."""
        return [c for c in self.checks if not c.ok]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {"ok": self.ok, **asdict(self)}
