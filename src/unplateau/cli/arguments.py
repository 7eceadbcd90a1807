"""Arguments of one command, read by tyro from the command's signature and docstring; what several commands share.

Parsing gives a call that is ready to be made, so that the command's own errors are not mixed with those of parsing.
What tyro would say in a box becomes one line.
"""

import functools
import inspect
import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, get_type_hints

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from unplateau.errors import SpecError, StorageError, suggest
from unplateau.limits import MOST_INTEGER

Command = Callable[..., int | None]

RecipeOrFile = Annotated[str, Positional, arg(metavar="RECIPE|SPEC")]
Settings = Annotated[tuple[str, ...], arg(name="set", metavar="A.B=VALUE"), UseAppendAction]
Folder = Annotated[Path, arg(metavar="DIR")]
PositionalFolder = Annotated[Path, Positional, arg(metavar="DIR")]
TaskFile = Annotated[Path, arg(metavar="TASK.(yaml|json)")]


@dataclass(frozen=True)
class PromptOptions:
    r"""How prompts are written, for language models.

    Args:
        template: one pair, such as "{item}: {label}\n", where \n is a line break
        labels: words for the labels, with commas; default: the task's own, else A, B, C ...
    """

    template: str = r"{item} {label}\n"
    labels: Annotated[str | None, arg(metavar="A,B,...")] = None

    @property
    def pair(self) -> str:
        """The template with its line breaks."""
        return self.template.replace(r"\n", "\n")

    @property
    def label_words(self) -> tuple[str, ...] | None:
        """The labels one by one."""
        return None if self.labels is None else tuple(self.labels.split(","))


Worded = Annotated[PromptOptions, arg(name="")]
ASKED_PLAINLY = PromptOptions()
"""The default."""


def parse(command: Command, name: str, arguments: list[str]) -> Callable[[], int | None] | None:
    """The call that these arguments ask for; None after ``--help``. Raises SpecError, one line, if they are wrong."""
    shown, complaints = io.StringIO(), io.StringIO()
    plain = bool(os.environ.get("NO_COLOR"))  # tyro does not look at it, but leaves colours out where none can be shown
    try:
        with redirect_stderr(complaints), redirect_stdout(shown if plain else sys.stdout):
            call, unknown = tyro.cli(
                _postponed(command),
                prog=f"unplateau {name}",
                args=arguments,
                return_unknown_args=True,
                config=(tyro.conf.DisallowNone,),
            )
    except SystemExit as end:
        print(shown.getvalue(), end="")
        if not end.code:
            return None
        raise SpecError(f"{name}: {unboxed(complaints.getvalue())}") from None
    _refuse_long_integers(call)
    if unknown:
        raise SpecError(f"{name}: {_not_understood(unknown[0], command)}")
    return call


def _refuse_long_integers(call: object) -> None:
    given = call.keywords if isinstance(call, functools.partial) else {}
    for name, value in given.items():
        if isinstance(value, int) and abs(value) > MOST_INTEGER:
            raise SpecError(_too_many_bits(f"--{name.strip('_').replace('_', '-')}"))


def refuse_unwritable(out: Path) -> None:
    """Raises StorageError, before hours of work or seconds of imports, if no folder can be made there.

    A folder in which runs are finished is taken as it is: nothing may be left to be written.
    """
    from unplateau.files import storage_errors  # noqa: PLC0415 (numpy is not needed for help)
    from unplateau.store import DONE  # noqa: PLC0415

    if "\0" in str(out):
        raise StorageError(f"{out}: cannot be written (a zero byte in its name)")
    above = next((folder for folder in (out, *out.parents) if os.path.lexists(folder)), Path())
    try:
        with storage_errors(out), TemporaryFile(dir=above):
            pass
    except StorageError:
        if not (above == out and next(out.rglob(DONE), None)):
            raise


def _postponed(command: Command) -> Callable[..., Callable[[], int | None]]:
    """The same signature and help, but calling it only binds the arguments."""

    @functools.wraps(command)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], int | None]:
        return functools.partial(command, *args, **kwargs)

    return bind


def _not_understood(argument: str, command: Command) -> str:
    if not argument.startswith("-"):
        return f"unexpected argument '{argument}'"
    option = argument.split("=", maxsplit=1)[0]
    return f"unknown option '{option}'{suggest(option, options(command))}"


def options(command: Command) -> list[str]:
    """The options of a command as they are written, those that several commands share one by one."""
    hints, names = get_type_hints(command), []
    for name, one in inspect.signature(command).parameters.items():
        if one.kind is not one.KEYWORD_ONLY:
            continue
        names += [field.name for field in fields(hints[name])] if is_dataclass(hints[name]) else [name]
        names += [f"no_{name}"] if one.default is True else []
    return [f"--{name.strip('_').replace('_', '-')}" for name in names]


def unboxed(text: str) -> str:
    """What a box of tyro says down to its first rule, on one line and in this program's words where they are known."""
    lines = [re.sub(r"^│|│$", "", line).strip() for line in text.splitlines()]
    inside = [line for line in lines if not line.startswith(("╭", "╰"))]
    if len(inside) > 1 and inside[1].startswith("---"):  # where the output is not UTF-8: a title above a rule
        inside = inside[2:]
    rule = next((number for number, line in enumerate(inside) if line.startswith(("─", "---"))), len(inside))
    said = " ".join(" ".join(inside[:rule]).split())
    for pattern, answer in _ANSWERS:
        if match := re.match(pattern, said):
            return answer(*match.groups())
    return said or "wrong arguments"


def _choice(value: str, option: str, options: str) -> str:
    known = re.findall(r"'(.*?)'", options)
    return f"{option}: unknown value '{value}'{suggest(value, known)}"


def _too_many_bits(option: str) -> str:
    return f"{option}: an integer here has at most 64 bits"


_ANSWERS: tuple[tuple[str, Callable[..., str]], ...] = (
    (r"Error parsing (\S+): Exceeds the limit", _too_many_bits),
    (r"Error parsing (\S+): invalid literal for int.*: '-?[\d ]{20,}'", _too_many_bits),
    (r"Error parsing (\S+): no type matching .* from \['-?[\d ]{20,}'\]", _too_many_bits),
    (r"Missing from [^:]*: (\S+)", "{} is missing".format),
    (r"Missing value for argument '(\S+)'", "{} needs a value".format),
    (r"Error parsing (\S+): invalid literal for int.*: '(.*?)'", "{}: expected INT, got '{}'".format),
    (r"Error parsing (\S+): could not convert string to float: '(.*?)'", "{}: expected FLOAT, got '{}'".format),
    (r"Error parsing (\S+): no type matching (\S+) .*? from \['(.*?)'\]", "{}: expected {}, got '{}'".format),
    (r"invalid choice '(.*?)' for argument '(\S+)'. Expected one of \((.*)\)", _choice),
)
