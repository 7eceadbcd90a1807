"""Python at once: each program is a process of its own, forked from one that has imported PyTorch and what is as slow.

A new interpreter takes three seconds of processor time for that. Of unplateau nothing is imported before the fork: what
a program does not import it does not have. ``python -P forked.py`` is the process of which the forks are made; it
starts no thread and computes nothing. Some tests start new interpreters all the same, at least one of each kind.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from itertools import count
from pathlib import Path
from types import ModuleType

SLOW = ("torch._dynamo", "scipy.stats", "matplotlib.figure", "matplotlib.backends.backend_svg", "safetensors.torch")
"""Imported before the first fork: PyTorch with what its first optimiser needs, and what draws."""
FORKS = multiprocessing.get_context("fork")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

Python = Callable[..., subprocess.CompletedProcess[str]]
"""``python(*arguments, cwd=FOLDER, NAME=VALUE)``: the finished process; its environment is ours and these values."""


def new_interpreter(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """By an interpreter that has imported nothing."""
    settings = os.environ | ONE_THREAD | environment
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, check=False)


class Forked:
    """By forks; their standard input is empty. ``folder``: for what they say."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.numbers = folder, count()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, "-P", __file__]
        self.process = subprocess.Popen(command, env=os.environ | ONE_THREAD, text=True, bufsize=1, **pipes)

    def __call__(self, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """``arguments``: ``-m NAME``, ``-c CODE`` or a file, and what they take."""
        said = [str(self.folder / f"{next(self.numbers)}.{name}") for name in ("out", "err")]
        settings = os.environ | ONE_THREAD | environment
        program = {"arguments": arguments, "cwd": str(cwd), "said": said, "environment": settings}
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(program) + "\n")
        code = int(self.process.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, *(Path(file).read_text("utf-8") for file in said))

    def close(self) -> None:
        """Ends it."""
        self.process.communicate()
        assert self.process.returncode == 0


def main() -> None:
    """Forks for each line of standard input, and answers with an exit code when that fork has ended."""
    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    for name in SLOW:
        import_module(name)
    gc.freeze()  # what is there stays, and no fork need look through it
    for program in map(json.loads, orders):
        fork = FORKS.Process(target=become, kwargs=program)
        fork.start()
        fork.join()
        print(fork.exitcode, file=answers, flush=True)


def become(arguments: list[str], cwd: str, said: list[str], environment: dict[str, str]) -> None:
    """Does what a new interpreter does with these arguments, and writes its words to two files."""
    for number, file in enumerate(said, 1):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    how, *rest = arguments
    here = cwd if how in ("-m", "-c") else str(Path(how).parent)
    first = [] if "PYTHONSAFEPATH" in environment else [here]
    sys.path[:0] = [*first, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.modules.pop("sitecustomize", None)
    with suppress(ModuleNotFoundError):
        import_module("sitecustomize")
    if how == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    program = sys.modules["__main__"] = ModuleType("__main__")
    if how == "-c":
        code, *rest = rest
    else:
        code, program.__file__ = Path(how).read_text(), how
    sys.argv = [how, *rest]
    exec(compile(code, how, "exec"), vars(program))


if __name__ == "__main__":
    main()
