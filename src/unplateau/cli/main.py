"""The command line: finds the command, runs it, and turns every failure into one line and an exit code.

What enters: arguments. What leaves: output, and 0 (done), 2 (wrong input) or 1 (anything else). A command's module is
imported when the command is used, so that ``unplateau --help`` needs neither torch nor a terminal library.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from unplateau.cli.failures import explain, tell, warnings_told
from unplateau.errors import SpecError, suggest

COMMANDS = {
    "demo": "the whole story on rendered images: table, report.html, summary.json",
    "reproduce": "a documented result again, from nothing",
    "train": "one run of a recipe or of a spec file",
    "sweep": "many runs: every combination of settings, times seeds",
    "probe": "what the layers of a trained model know, ours or a language model's",
    "trajectory": "a language model along its own training: accuracy, scores, plateaus",
    "plateaus": "where any training log (CSV or JSON lines) is flat, and until when",
    "compare": "strategies against a baseline: what each of them saves",
    "report": "one self-contained HTML page about runs",
    "ls": "the runs below a folder and how far they are",
    "show": "one run: spec, machine, plateaus, costs",
    "data": "language data: list, fetch, verify packages (WordNet, corpora, tokenizers)",
    "doctor": "what this machine offers: device, threads, energy counters, disk",
    "prepare": "encodes images ahead of time",
}
HELP = ("-h", "--help", "help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``argv`` (the process's arguments by default) and returns the exit code. ``--debug`` may stand anywhere."""
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given
    if "--no-import" in given:
        from unplateau.config import refuse_imports  # noqa: PLC0415 (pydantic is not needed for the overview)

        refuse_imports()
    warnings_told()
    try:
        code = run([argument for argument in given if argument not in ("--debug", "--no-import")])
        sys.stdout.flush()  # here, where a closed pipe can still be caught
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        failure = explain(error)
        tell(failure)
        return failure.exit_code
    return code


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

    command = parse(getattr(import_module(f"unplateau.cli.{name}"), name), name, rest)
    return 0 if command is None else command() or 0


def overview() -> str:
    """The help text of the whole program."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: unplateau COMMAND [OPTIONS]",
            "",
            "Shows, explains and shortens the learning plateaus of in-context learning in Transformers.",
            "",
            *lines,
            "",
            "unplateau COMMAND --help explains one command; --debug, anywhere, shows the traceback of an error;",
            "--version names the version. Exit codes: 0 done, 2 wrong input, 1 anything else.",
        ]
    )
