"""Run directories: the only bridge between the code that trains and the code that reads.

They survive a crash at any moment (see ``unplateau.files``) and are read without torch, also while a run goes on.
Layout of ``<out>/<recipe>/<strategy>/seed-<n>-<digest>``::

    spec.json      what was run                    metrics.jsonl  one row per logged step, a pure function of the spec
    env.json       versions and machine            costs.jsonl    seconds and joules at the same steps
    task.json      sizes and floors of the task    prompts.npz    two prompts for people to look at
    shape.json     what models know of the task    checkpoints/   see ``unplateau.train.checkpoint``
    code.json      source of kinds of one's own    DONE.json      written last
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import unplateau  # only its lazy names, see RunRecord.model
from unplateau.errors import RunDirectoryError, RunLockedError
from unplateau.files import held, is_held, loaded, open_regular, read_json, read_rows
from unplateau.history import History
from unplateau.layout import Cut
from unplateau.limits import MOST_INTEGER
from unplateau.notebook import facts_html
from unplateau.plateau.floors import Floors
from unplateau.records import check_done, check_environment, check_rows, check_spec, check_task, floors_in

SPEC, ENV, TASK, DONE = "spec.json", "env.json", "task.json", "DONE.json"
METRICS, COSTS, PROMPTS, CHECKPOINTS, LOCK = "metrics.jsonl", "costs.jsonl", "prompts.npz", "checkpoints", ".lock"

_FILES = frozenset({SPEC, ENV, TASK, DONE, METRICS, COSTS, PROMPTS, CHECKPOINTS, "shape.json"})

TAIL = 16 * 1024
"""Bytes read from the end of a row file: many rows, of which the last complete one is wanted."""

Stage = Literal["waiting", "running", "stopped", "failed", "done"]


@dataclass(frozen=True, repr=False)
class RunRecord:
    """One run, as read from its directory. ``done`` is None while the run is unfinished.

    ``strategy`` is ``plain`` for none; ``cut``: that under which all scores of this run were taken.
    """

    path: Path
    recipe: str
    strategy: str
    seed: int
    cut: Cut
    spec: Mapping[str, Any]
    env: Mapping[str, Any]
    task: Mapping[str, Any]
    history: History
    done: Mapping[str, Any] | None

    @property
    def floors(self) -> Floors:
        """Losses and accuracies of the exact predictors."""
        return floors_in(self.task)

    @property
    def tested_on(self) -> Literal["held-out", "test"]:
        """``held-out``: items that training never shows. ``test``: items that it shows in other prompts."""
        return "held-out" if self.task.get("holds_out_items", True) else "test"

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self._facts()[:-1])
        return f"RunRecord({told}; {self.path})"

    def _repr_html_(self) -> str:
        return facts_html(self._facts(), caption="Run")

    def _facts(self) -> list[tuple[str, object]]:
        progress = self.history.last("progress") if self.done is None else self.done.get("test_progress")
        steps = self.spec.get("train", {}).get("steps", "?")
        return [
            ("recipe", self.recipe),
            ("strategy", self.strategy),
            ("seed", self.seed),
            ("step", f"{self.history.last('step', 0)} of {steps}{'' if self.done is None else ', done'}"),
            *([] if progress is None else [("progress", f"{progress:.2f}")]),
            ("directory", self.path),
        ]

    def model(self, *, device: str = "cpu") -> Any:
        """The trained model, as the newest checkpoint has it; needs torch.

        Raises CheckpointError if there is no checkpoint or none can be read.
        """
        return unplateau.load_model(self.path, device=device)[1]


def load_run(path: str | Path) -> RunRecord:
    """The run in this directory, finished or not.

    Raises RunDirectoryError, one line that names the file, if it is none, a file is missing, or one does not hold what
    it should: see ``unplateau.records``.
    """
    return _record(Path(path), _rows)


def glance(path: str | Path) -> RunRecord:
    """The same with the last row alone, for lists of thousands: damage between the rows is not seen."""
    return _record(Path(path), _last_row)


def _record(path: Path, rows_of: Callable[[Path, int], list[dict[str, Any]]]) -> RunRecord:
    if not (path / SPEC).is_file():
        raise RunDirectoryError(f"{path}: not a run directory (it has no {SPEC})")
    check_environment(env := read_json(path / ENV), path / ENV)
    check_spec(spec := read_json(path / SPEC), path / SPEC)
    check_task(task := read_json(path / TASK), path / TASK)
    steps = spec["train"]["steps"]
    rows, done = rows_of(path, steps), read_done(path, steps)
    if done is not None:
        _refuse_lost_rows(path, rows, steps, spec["train"].get("eval_every", steps))
    run = {key: env["run"][key] for key in ("recipe", "strategy", "seed", "cut")}
    return RunRecord(path, **run, spec=spec, env=env, task=task, history=History(rows), done=done)


def _rows(path: Path, steps: int) -> list[dict[str, Any]]:
    costs, rows = read_rows(path / COSTS), read_rows(path / METRICS)
    check_rows(costs, path / COSTS, steps=steps)
    check_rows(rows, path / METRICS, steps=steps)
    cost_at = {row["step"]: row for row in costs}
    return [{**cost_at.get(row["step"], {}), **row} for row in rows]


def _last_row(path: Path, steps: int) -> list[dict[str, Any]]:
    row = last_row_in(path / METRICS)
    rows = [] if row is None else [row]
    check_rows(rows, path / METRICS, steps=steps)
    return rows


def _refuse_lost_rows(path: Path, rows: Sequence[Mapping[str, Any]], steps: int, every: int) -> None:
    """Raises RunDirectoryError if rows are missing at the end of a run that is done."""
    last = rows[-1]["step"] if rows else 0
    if last < steps - steps % max(every, 1):
        raise RunDirectoryError(f"{path / METRICS}: ends at step {last} of {steps}, and the run is done")


def read_done(path: Path, steps: int) -> dict[str, Any] | None:
    """The final figures of a run of so many steps; None while it is unfinished.

    Raises RunDirectoryError if they are damaged.
    """
    if not os.path.lexists(path / DONE):
        return None
    done = read_json(path / DONE)
    check_done(done, path / DONE, steps=steps)
    return done


def find_runs(*directories: str | Path) -> list[Path]:
    """The run directories at or below these, sorted, each once; damaged ones too, and folders that cannot be opened.

    Links are followed, and a run is called by the path that needs none where there is one. A folder is a run directory
    if it has two of a run's files. Raises RunDirectoryError if a directory is missing or has none.
    """
    found: dict[tuple[int, int] | Path, Path] = {}
    for directory in map(Path, directories):
        if not directory.is_dir():
            raise RunDirectoryError(f"{directory}: no such directory")
        here = sorted(_runs_below(directory), key=lambda run: run[1].parts)
        if not here:
            raise RunDirectoryError(f"{directory}: no run below it (a run directory holds {SPEC} and {ENV})")
        for key, path in here:
            found.setdefault(key, path)
    return list(found.values())


def _runs_below(top: Path) -> Iterator[tuple[tuple[int, int] | Path, Path]]:
    """Each folder once, with what it is known by under any path; those behind links come last."""
    seen: set[tuple[int, int]] = set()
    waiting, linked = [top], deque[Path]()
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.popleft()
        try:
            status = folder.stat()
            if (key := (status.st_dev, status.st_ino)) in seen:
                continue
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            yield folder, folder  # nobody can tell what is in it: reading it says why
            continue
        seen.add(key)
        files = _FILES & {entry.name for entry in inside}
        is_run = len(files) > 1
        if is_run and (SPEC in files or not is_held(folder / LOCK)):  # the spec is the last thing that a start writes
            yield key, folder
        for entry in inside:
            if _is_folder(entry) and not (is_run and entry.name in files):
                (linked if entry.is_symlink() else waiting).append(folder / entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder that cannot be opened
        return False


def is_done(path: Path, steps: int) -> bool:
    """Has the run in this directory, of so many steps, ended? Not if its final figures are damaged."""
    try:
        return read_done(path, steps) is not None
    except RunDirectoryError:
        return False


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Holds the run directory for this process. Raises RunLockedError at once if another process has it."""
    with held(run / LOCK, wait=False) as mine:
        if not mine:
            raise RunLockedError(f"{run}: another process is training in this run directory")
        yield


@dataclass(frozen=True)
class RunState:
    """How far one run of many is. ``progress`` is None before the first row; ``words`` take the place of its step."""

    name: str
    path: Path
    total: int
    state: Stage = "waiting"
    step: int = 0
    progress: float | None = None
    words: str = ""


def newest_row(run: Path) -> dict[str, Any]:
    """The last complete row of ``metrics.jsonl``, as another process writes it; empty if it is damaged or not there."""
    try:
        row = last_row_in(run / METRICS)
        check_rows([] if row is None else [row], run / METRICS, steps=MOST_INTEGER)
        return row or {}
    except (RunDirectoryError, OSError):
        return {}


def last_row_in(path: Path) -> dict[str, Any] | None:
    """The last row of a row file that is complete; None if there is none. Raises RunDirectoryError if it is damaged."""
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return None
    with file:
        size = file.seek(0, 2)
        tail, lines = TAIL, [b""]
        while len(lines) < 3 and tail < 16 * max(size, TAIL):
            file.seek(max(0, size - tail))
            lines = file.read().rsplit(b"\n", 2)  # what follows the last line break is unfinished
            tail *= 16
    if len(lines) < 2:
        return None
    try:
        row = loaded(lines[-2])
        row["step"]
    except (ValueError, LookupError, TypeError) as error:
        raise RunDirectoryError(f"{path}: the last row is not a row with a step") from error
    return dict(row)
