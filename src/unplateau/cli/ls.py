"""``unplateau ls``: the runs below a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unplateau.cli.console import number, print_table
from unplateau.cli.types import PositionalFolder
from unplateau.errors import RunDirectoryError
from unplateau.files import is_held
from unplateau.store import LOCK, RunRecord, find_runs, load_run


def ls(folder: PositionalFolder = Path("runs"), /) -> None:
    """Lists the runs below a folder: strategy, seed, step, progress, and whether they are done.

    Progress is 0 on the plateau and 1 at the Bayes-optimal predictor. An interrupted run is resumed by the command
    that began it.

    Args:
        folder: a folder of run directories
    """
    print_runs(find_runs(folder))


def print_runs(paths: Sequence[Path]) -> None:
    """A table with a row for each run; one that cannot be read is listed as damaged."""
    if paths:
        print_table(("recipe", "strategy", "seed", "step", "progress", "state", "directory"), [*map(_row, paths)])


def _row(path: Path) -> tuple[str, ...]:
    try:
        record = load_run(path)
        total = int(record.spec["train"]["steps"])
    except (RunDirectoryError, KeyError, TypeError):
        return ("?", "?", "?", "?", "-", "damaged", str(path))
    step = f"{record.history.last('step', 0)}/{total}"
    progress = number(record.history.last("progress"))
    return (record.recipe, record.strategy, str(record.seed), step, progress, state_of(record), str(path))


def state_of(record: RunRecord) -> str:
    """``done``, ``running`` or ``interrupted``."""
    if record.done is not None:
        return "done"
    return "running" if is_held(record.path / LOCK) else "interrupted"
