"""Every failure becomes one line and an exit code."""

import errno
import logging

import pytest
from pydantic import ValidationError

from unplateau import errors
from unplateau.cli.failures import Failure, explain, tell, warnings_told
from unplateau.models.transformer import ModelConfig


def invalid() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        ModelConfig(n_layers=0)
    return caught.value


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.SpecError("a: wrong"), Failure("a: wrong", 2, "spec")),
        (errors.DivergedError("loss\nis nan"), Failure("loss is nan", 1, "diverged")),
        (errors.InterruptedRunError("stopped"), Failure("stopped", 1, "interrupted")),
        (KeyboardInterrupt(), Failure("interrupted", 1)),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y"),
            Failure("/x/y: No space left on device", 1, "storage"),
        ),
        (ZeroDivisionError("by 0"), Failure("unexpected ZeroDivisionError: by 0 (--debug shows where)", 1)),
    ],
)
def test_known_failures(error: BaseException, expected: Failure) -> None:
    assert explain(error) == expected


def test_validation_errors_name_the_key() -> None:
    failure = explain(invalid())
    assert failure.message == "n_layers: Input should be greater than or equal to 1 (got 0)"
    assert failure.exit_code == 2


def test_the_line_is_plain_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Failure("a: wrong", 2, "spec"))
    assert capsys.readouterr().err == "unplateau: a: wrong\n"


def test_a_person_is_told_the_page(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    tell(Failure("a: wrong", 2, "spec"))
    assert capsys.readouterr().err == "unplateau: a: wrong  (see docs/errors/spec.md)\n"


def test_warnings_are_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("unplateau")
    warnings_told()
    warnings_told()
    try:
        logging.getLogger("unplateau.train").warning("first\nsecond")
    finally:
        logger.handlers.clear()
    assert capsys.readouterr().err == "unplateau: first second\n"
