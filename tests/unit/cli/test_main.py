"""The program around the commands; every failure becomes one line and an exit code."""

import errno
import logging
import subprocess
import sys

import pytest
from pydantic import ValidationError

from unplateau import config, errors
from unplateau.cli import main as program
from unplateau.cli.main import COMMANDS, Failure, explain, main, tell, warnings_told
from unplateau.models.transformer import ModelConfig
from unplateau.recipes import RECIPES


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        assert all(f"\n  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: unplateau {name}")
    options = [line for line in shown.splitlines() if line.startswith("│ --")]
    assert all(len(line.strip("│ ").split("  ")) > 1 or len(line) > 60 for line in options), "an option without help"


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_help_names_every_recipe(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in RECIPES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trian", "unknown command 'trian'; did you mean 'train'?"),
        ("--halp", "unknown option '--halp'; known: "),
        ("", "unknown command ''; known: "),
    ],
)
def test_unknown_commands(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 2
    assert capsys.readouterr().err.startswith(f"unplateau: {message}")


def test_debug_may_stand_anywhere_and_raises() -> None:
    for arguments in (["--debug", "trian"], ["trian", "--debug"]):
        with pytest.raises(program.SpecError):
            main(arguments)


def test_imports_may_be_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(config, "refuse_imports", lambda: asked.append(1))
    assert main(["plateaus", "nowhere.csv", "--value", "loss", "--no-import"]) == 2
    assert asked == [1]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("unplateau ")


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys; from unplateau.cli.main import main; main(['--help']); main(['train', '--help']);"
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib', 'pydantic', 'rich'} & set(sys.modules);"
        "sys.exit(repr(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "set()\n"


def test_a_closed_pipe_is_silent() -> None:
    done = subprocess.run(
        f"{sys.executable} -m unplateau --help | true", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def invalid() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        ModelConfig.inside({"n_layers": 0})
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
