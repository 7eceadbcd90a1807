"""The command line: finds the command, runs it, and turns every failure into one line and an exit code.

A command's module is imported when the command is used, so that ``unplateau --help`` needs neither torch nor a terminal
library.
"""

import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version

from unplateau.cli.console import warn
from unplateau.errors import LostProcessError, SpecError, UnplateauError, suggest
from unplateau.terminal import guarded, message, one_line
from unplateau.torchrun import place

COMMANDS = {
    "demo": ("running", "the whole story on rendered images: table, report.html, summary.json"),
    "reproduce": ("reproducing", "a documented result again, from nothing"),
    "train": ("running", "one run of a recipe or of a spec file"),
    "sweep": ("sweeping", "many runs: every combination of settings, times seeds"),
    "probe": ("looking", "what the layers of a trained model know, ours or a language model's"),
    "diagnose": ("looking", "what a model is waiting for, in sentences with numbers and controls"),
    "trajectory": ("looking", "a language model along its own training: accuracy, scores, plateaus"),
    "plateaus": ("plateaus", "where any training log is flat, and until when"),
    "compare": ("reading", "strategies against a baseline: what each of them saves"),
    "report": ("reading", "one self-contained HTML page about runs"),
    "ls": ("reading", "the runs below a folder and how far they are"),
    "show": ("reading", "one run: spec, machine, plateaus, costs"),
    "data": ("machine", "language data: list, fetch, verify packages (WordNet, corpora, tokenizers)"),
    "doctor": ("machine", "what this machine offers: device, threads, energy counters, disk"),
    "prepare": ("machine", "encodes images ahead of time"),
}
"""Where each command is defined, and what it is for."""
HELP = ("-h", "--help", "help")
DEBUG, NO_IMPORT = "--debug", "--no-import"
"""Flags of the whole program, which may stand anywhere."""


@dataclass(frozen=True)
class Failure:
    """What the user is told. ``page`` names the page in ``docs/errors``, if there is one."""

    message: str
    exit_code: int
    page: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``argv`` (the process's arguments by default) and returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if place().rank:  # the first process of a run speaks for all
        sys.stdout = io.StringIO()
    warnings_told()
    try:
        if NO_IMPORT in given:
            from unplateau import config  # noqa: PLC0415 (pydantic)

            config.refuse_imports()
        code = run([argument for argument in given if argument not in (DEBUG, NO_IMPORT)])
        sys.stdout.flush()  # here, where a closed pipe can still be caught
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if DEBUG in given:
            raise
        if place().size > 1:  # torchrun now ends all processes of the run, which may say why before
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        failure = explain(error)
        if _told_here(error):
            tell(failure)
        return failure.exit_code
    return code


def _told_here(error: BaseException) -> bool:
    """Whether nobody else tells it: of the processes of one run, those of a machine have the same reason to refuse."""
    shared = isinstance(error, UnplateauError | KeyboardInterrupt) and not isinstance(error, LostProcessError)
    return place().local_rank == 0 or not shared


def run(arguments: list[str]) -> int:
    """Runs one command. Raises whatever the command raises, SpecError if there is no such command."""
    if not arguments or arguments[0] in HELP:
        print(overview())
        return 0
    name, *rest = arguments
    if name == "--version":
        print(f"unplateau {version('unplateau')}")
        return 0
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        raise SpecError(f"unknown {what} '{name}'{suggest(name, COMMANDS)}")
    from unplateau.cli.arguments import parse  # noqa: PLC0415 (tyro is not needed for the overview)

    command = parse(getattr(import_module(f"unplateau.cli.{COMMANDS[name][0]}"), name), name, rest)
    if command is None:
        return 0
    with guarded():
        return command() or 0


def overview() -> str:
    """The help text of the whole program."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items())
    return f"""\
usage: unplateau COMMAND [OPTIONS]

Shows, explains and shortens the learning plateaus of in-context learning in Transformers.

{commands}

unplateau COMMAND --help explains one command; --debug, anywhere, shows the traceback of an error;
--no-import, anywhere, refuses specs that name code outside unplateau; --version names the version.
Exit codes: 0 done, 2 wrong input, 1 anything else."""


def explain(error: BaseException) -> Failure:
    """One clear line for this exception; an unexpected one is named as such."""
    if isinstance(error, UnplateauError):
        return Failure(one_line(str(error)), error.exit_code, error.page)
    if isinstance(error, KeyboardInterrupt):
        return Failure("interrupted", 1)
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return Failure("out of memory; a smaller batch or model needs less", 1)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename is not None else ""
        return Failure(one_line(f"{place}{error.strerror or error}"), 1, "storage")
    if type(error).__name__ == "ValidationError" and type(error).__module__.startswith("pydantic"):
        from unplateau import config  # noqa: PLC0415 (pydantic is loaded already)

        return Failure(config.one_line(error), 2, "spec")  # type: ignore[arg-type]
    return Failure(f"unexpected {type(error).__name__}: {error} (--debug shows where)", 1)


def _is_out_of_memory(error: BaseException) -> bool:
    """As PyTorch says it, of which each device has its own way."""
    signs = ("can't allocate memory", "out of memory", "not enough memory", "Storage size calculation overflowed")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def tell(failure: Failure) -> None:
    """The line on standard error; people at a terminal also see which page explains it."""
    hint = f"  (see docs/errors/{failure.page}.md)" if failure.page and sys.stderr.isatty() else ""
    if hint and not os.environ.get("NO_COLOR"):
        hint = f"\x1b[2m{hint}\x1b[0m"
    print(f"unplateau: {message(failure.message)}{hint}", file=sys.stderr)


def warnings_told() -> None:
    """Sends the package's warnings to standard error, one line each."""
    logger = logging.getLogger("unplateau")
    if place().rank:
        logger.addHandler(logging.NullHandler())
    elif not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))


class _Warnings(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at that moment: a progress bar may have put itself in between."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())
