"""The program around the commands."""

import subprocess
import sys

import pytest

from unplateau.cli import main as program
from unplateau.cli.main import COMMANDS, main


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
