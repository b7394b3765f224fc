"""The error tree: one line, exit codes, and a place for each error."""

from __future__ import annotations

import inspect
import pickle

import pytest

from vsr import errors
from vsr.errors import InputError, InterruptedJobError, ModelError, OptionError, OutputError, VsrError

TREE = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, BaseException)]


def test_every_error_descends_from_one_and_only_from_it_or_a_builtin() -> None:
    assert len(TREE) > 10
    for error in TREE:
        assert issubclass(error, VsrError)
        assert error.__doc__


def test_text_is_one_line_of_message_and_hint() -> None:
    error = ModelError("it has\n  5 channels", "use\tone  of 1")
    assert (error.message, error.hint) == ("it has 5 channels", "use one of 1")
    assert str(error) == "it has 5 channels; use one of 1"
    assert str(ModelError("plain")) == "plain"
    assert ModelError("plain").hint is None


@pytest.mark.parametrize(
    ("error", "code"), [(InputError, 1), (OutputError, 1), (OptionError, 2), (InterruptedJobError, 130)]
)
def test_exit_codes(error: type[VsrError], code: int) -> None:
    assert error("x").exit_code == code


def test_a_wrong_option_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="scale"):
        raise OptionError("scale 7")


def test_errors_survive_pickling_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ModelError("what", "do")))
    assert isinstance(error, ModelError)
    assert str(error) == "what; do"
    assert error.message == "what"
    assert error.hint == "do"
