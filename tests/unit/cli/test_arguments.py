"""Arguments: what is understood, and the one line that is said otherwise."""

import io
import re
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import pytest
from tyro.conf import Positional, UseAppendAction, arg

from unplateau.cli.arguments import options, parse, unboxed
from unplateau.cli.main import COMMANDS
from unplateau.errors import SpecError


def bake(
    what: Annotated[str, Positional, arg(metavar="CAKE|BREAD")],
    /,
    *,
    set_: Annotated[tuple[str, ...], arg(name="set"), UseAppendAction] = (),
    minutes: int | None = None,
    heat: Literal["low", "high"] = "low",
    out_dir: Path = Path("oven"),
    cover: bool = True,
) -> int:
    """Bakes.

    Args:
        what: cake or bread
        set_: anything
        minutes: in the oven
        heat: of the oven
        out_dir: where to
        cover: with a lid
    """
    raise RuntimeError(what, set_, minutes, heat, out_dir, cover)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rye", ("rye", (), None, "low", Path("oven"), True)),
        ("rye --minutes 30 --heat high", ("rye", (), 30, "high", Path("oven"), True)),
        ("rye --set a.b=1 --set c=2 --no-cover", ("rye", ("a.b=1", "c=2"), None, "low", Path("oven"), False)),
        ("rye --minutes=-3 --out-dir /x", ("rye", (), -3, "low", Path("/x"), True)),
    ],
)
def test_the_call_is_bound_but_not_made(line: str, expected: tuple[object, ...]) -> None:
    call = parse(bake, "bake", line.split())
    assert call is not None
    with pytest.raises(RuntimeError) as caught:
        call()
    assert caught.value.args == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "bake: CAKE|BREAD is missing"),
        ("rye --minuts 3", "bake: unknown option '--minuts'; did you mean '--minutes'?"),
        ("rye --sett=a", "bake: unknown option '--sett'; did you mean '--set'?"),
        ("rye --minutes x", "bake: --minutes: expected INT, got 'x'"),
        ("rye --heat lo", "bake: --heat: unknown value 'lo'; did you mean 'low'?"),
        ("rye --heat", "bake: --heat needs a value"),
        ("rye wheat", "bake: unexpected argument 'wheat'"),
    ],
)
@pytest.mark.parametrize("columns", ["30", "80", "300"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_one_line_says_what_is_wrong(
    line: str, message: str, encoding: str, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    with pytest.raises(SpecError) as caught:
        parse(bake, "bake", line.split())
    assert str(caught.value) == message


@pytest.mark.parametrize("no_color", ["", "1"])
def test_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, no_color: str) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    assert parse(bake, "bake", ["--help"]) is None
    shown = capsys.readouterr().out
    assert "usage: unplateau bake" in shown
    assert "in the oven" in shown
    assert "\x1b" not in shown


def test_text_in_no_box_comes_back_on_one_line() -> None:
    assert unboxed("some\nother   error\n") == "some other error"
    assert unboxed("") == "wrong arguments"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_that_an_error_can_name_is_in_the_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = getattr(import_module(f"unplateau.cli.{COMMANDS[name][0]}"), name)
    assert parse(command, name, ["--help"]) is None
    shown = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", capsys.readouterr().out))
    assert set(options(command)) <= shown
    assert shown - set(options(command)) <= {"--help"} | {f"--no-{option[2:]}" for option in options(command)}
