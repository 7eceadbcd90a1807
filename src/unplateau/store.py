"""Run directories: the only bridge between the code that trains and the code that reads.

What enters: rows and values of a run. What leaves: files that survive a crash at any moment, and a
:class:`RunRecord` for whoever reads them; no torch. Layout of ``<out>/<recipe>/<strategy>/seed-<n>-<digest>``::

    spec.json      what was run                    metrics.jsonl  one row per logged step, a pure function of the spec
    env.json       versions and machine            costs.jsonl    seconds and joules at the same steps
    task.json      sizes and floors of the task    prompts.npz    two prompts for people to look at
    checkpoints/   see ``unplateau.train.checkpoint``              DONE.json      written last
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from unplateau.errors import RunDirectoryError, RunLockedError, StorageError
from unplateau.history import History
from unplateau.layout import Cut
from unplateau.plateau.progress import Floors

SPEC, ENV, TASK, DONE = "spec.json", "env.json", "task.json", "DONE.json"
METRICS, COSTS, PROMPTS, CHECKPOINTS, LOCK = "metrics.jsonl", "costs.jsonl", "prompts.npz", "checkpoints", ".lock"


@dataclass(frozen=True)
class RunRecord:
    """One run, as read from its directory. ``done`` is None while the run is unfinished."""

    path: Path
    spec: Mapping[str, Any]
    env: Mapping[str, Any]
    task: Mapping[str, Any]
    history: History
    done: Mapping[str, Any] | None

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return str(self.env["run"]["recipe"])

    @property
    def strategy(self) -> str:
        """Name of the strategy, ``plain`` for none."""
        return str(self.env["run"]["strategy"])

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.env["run"]["seed"])

    @property
    def cut(self) -> Cut:
        """The cut under which all scores of this run were taken."""
        cut: Cut = self.env["run"]["cut"]
        return cut

    @property
    def floors(self) -> Floors:
        """Losses and accuracies of the exact predictors."""
        given = self.task["floors"]
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
        return Floors(**fields)


def load_run(path: str | Path) -> RunRecord:
    """The run in this directory, finished or not. Raises RunDirectoryError if it is none or cannot be read."""
    path = Path(path)
    if not (path / SPEC).is_file():
        raise RunDirectoryError(f"{path}: not a run directory (it has no {SPEC})")
    env = read_json(path / ENV)
    if not {"recipe", "strategy", "seed", "cut"} <= set(env.get("run", ())):
        raise RunDirectoryError(f"{path / ENV}: 'run' must name recipe, strategy, seed and cut")
    costs = {row["step"]: row for row in read_rows(path / COSTS)}
    rows = [{**costs.get(row["step"], {}), **row} for row in read_rows(path / METRICS)]
    done = read_json(path / DONE) if (path / DONE).exists() else None
    return RunRecord(path, read_json(path / SPEC), env, read_json(path / TASK), History(rows), done)


def find_runs(*directories: str | Path) -> list[Path]:
    """The run directories at or below these, sorted. Raises RunDirectoryError if a directory is missing or has none."""
    found: list[Path] = []
    for directory in map(Path, directories):
        if not directory.is_dir():
            raise RunDirectoryError(f"{directory}: no such directory")
        here = sorted(spec.parent for spec in directory.rglob(SPEC) if (spec.parent / ENV).is_file())
        if not here:
            raise RunDirectoryError(f"{directory}: no run below it (a run directory holds {SPEC} and {ENV})")
        found += [path for path in here if path not in found]
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises RunDirectoryError, naming the file, if it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunDirectoryError(f"{path}: cannot be read as JSON ({_reason(error)})") from error
    if not isinstance(value, dict):
        raise RunDirectoryError(f"{path}: must hold a JSON object")
    return value


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; a last line that was cut off by a crash is left out."""
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot be read ({_reason(error)})") from error
    rows = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is unfinished
        try:
            row = json.loads(line)
            row["step"]  # every row has one
        except (ValueError, KeyError, TypeError) as error:
            raise RunDirectoryError(f"{path}: line {number} is not a row with a step") from error
        rows.append(row)
    return rows


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object so that a reader sees the old file or the new one, never a part."""
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Temporary name, fsync, rename. Raises StorageError, leaving no temporary file, if the system refuses."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with refusals_explained(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


class RowFile:
    """An append-only JSON-lines file that can be cut back to where a checkpoint was taken."""

    def __init__(self, path: Path, *, keep_bytes: int) -> None:
        self.path = path
        with refusals_explained(path):
            path.touch()
            if path.stat().st_size < keep_bytes:
                raise RunDirectoryError(f"{path}: rows are missing that the checkpoint was taken after")
            os.truncate(path, keep_bytes)

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row in a single write. Raises StorageError, keeping the rows before, if the system refuses."""
        line = json.dumps(row, separators=(",", ":"), allow_nan=False) + "\n"
        size = self.size()
        with refusals_explained(self.path):
            try:
                with self.path.open("ab") as file:
                    file.write(line.encode())
            except OSError:
                os.truncate(self.path, size)
                raise

    def size(self) -> int:
        """Length in bytes."""
        return self.path.stat().st_size


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the run directory for this process. Raises RunLockedError at once if another process has it."""
    with refusals_explained(path):
        path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunLockedError(f"{path}: another process is training in this run directory") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def refusals_explained(path: Path) -> Iterator[None]:
    """Turns the operating system's refusal to write into a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error).splitlines()[0]
