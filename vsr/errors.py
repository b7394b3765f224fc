"""Every error this project raises on purpose, on one page.

A message says three things: what was got, what is allowed, and (as `hint`) what to do next. Foreign exceptions
(PyAV, OpenVINO, ONNX, the operating system) are translated once, at the boundary where they come in, with
`raise … from exc`; whatever else reaches the user is a bug and shows its traceback.
"""

from __future__ import annotations


class VsrError(Exception):
    """Base of the tree. `str(error)` is one line: the message and, where there is one, the hint.

    Attributes:
        message: what was got and what is allowed.
        hint: what to do next, or None.
        exit_code: what the command line exits with.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = " ".join(message.split())
        self.hint = " ".join(hint.split()) if hint else None
        super().__init__(self.message if self.hint is None else f"{self.message}; {self.hint}")


class OptionError(VsrError, ValueError):
    """An option or argument has a value that is not allowed, or two of them contradict each other."""

    exit_code = 2


class InputError(VsrError):
    """The input cannot be used."""


class MissingInputError(InputError):
    """The input path does not exist or cannot be read."""


class NotMediaError(InputError):
    """The input is no media file, or one without a picture."""


class TruncatedInputError(InputError):
    """The input ends before its header says it does."""


class CorruptInputError(InputError):
    """More of the input failed to decode than the error budget allows."""


class UnsupportedInputError(InputError):
    """The input is media, but of a kind (pixel format, size) that is not handled."""


class OutputError(VsrError):
    """The output cannot be written."""


class OutputExistsError(OutputError):
    """The output exists and overwriting was not asked for, or it is the input itself."""


class ContainerError(OutputError):
    """The output container is unknown or cannot hold one of the streams."""


class EncoderError(OutputError):
    """The encoder is not available, or cannot encode pictures of this size or format."""


class DiskFullError(OutputError):
    """The file system of the output has no space left."""


class VerificationError(OutputError):
    """The finished output is not what was meant to be written."""


class ModelError(VsrError):
    """A model is missing, or is not a super-resolution model this project can run."""


class BackendError(VsrError):
    """A backend is not available here, or its runtime failed."""


class DeviceMemoryError(BackendError):
    """A GPU's memory does not hold what was asked of it. Less may fit."""


class EngineLoadError(BackendError):
    """A runtime does not load an engine file that is whole; it has to be built again."""


class TrainingError(VsrError):
    """Training data, a checkpoint or a training option is unusable."""


class InterruptedJobError(VsrError):
    """The job was interrupted. What was done is in `partial`, if anything was."""

    exit_code = 130


def first_line(exc: BaseException) -> str:
    """Of what an exception of others says, for a message of one line."""
    text = str(exc).strip() or type(exc).__name__
    return text.splitlines()[0][:200]
