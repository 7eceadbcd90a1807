"""What every study is: planned runs, one row for each, and predictions that the rows can refute.

Predictions stand in the study's card and are computed here from the rows alone, so that results which are kept can be
judged again without training anything.
"""

import codecs
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from unplateau.analysis.runs import RunSummary, summarise_run
from unplateau.analysis.survival import Bounded, median_time
from unplateau.config import one_line
from unplateau.errors import DataError, SpecError, suggest
from unplateau.inputs import read_file
from unplateau.outputs import write_output
from unplateau.plateau.progress import WINDOW
from unplateau.scores import Scores
from unplateau.store import RunRecord
from unplateau.train.spec import RunSpec

Scale = Literal["cpu", "paper"]
PLAIN = "plain"
LONGER: Mapping[Scale, int] = {"cpu": 1, "paper": 4}
"""How many times as long a run is trained, where a scale says nothing else."""
EARLY = 0.5
"""A cell ends the plateau early if its median escape comes by this share of that of plain training."""
HELD, REFUTED = "held", "REFUTED"
"""What became of a prediction."""


@dataclass(frozen=True)
class Planned:
    """A run of a study: ``setting`` is what is compared within, ``cell`` what differs there."""

    setting: str
    cell: str
    spec: RunSpec


@dataclass(frozen=True)
class Score:
    """The best of all layers, and chance."""

    value: float
    chance: float

    @property
    def met(self) -> bool:
        """At least halfway from chance to 1."""
        return self.reaches(0.5)

    def reaches(self, line: float) -> bool:
        """At least this share of the way from chance to 1."""
        return self.value >= self.chance + line * (1 - self.chance)


@dataclass(frozen=True)
class Row:
    """What a study keeps of a run.

    ``escape``, ``completion``: steps, None if not reached by ``steps``. ``progress``: on held-out prompts at the end.
    ``flops``: of the whole training. ``at``: step of a look, by default the one nearest to the middle of the plateau,
    which is half of the way to the escape (to the end, without one); ``then``: progress at that step, mean of the 100
    before; and the scores that were found, None where the task or the model has none. ``spec``: digest; ``commit`` and
    ``machine``: where it was trained.
    """

    setting: str
    cell: str
    seed: int
    steps: int
    escape: int | None
    completion: int | None
    progress: float
    flops: float
    at: int | None
    then: float | None
    weights: Score | None
    few_shot: Score | None
    binding: Score | None
    look: Score | None
    spec: str
    commit: str | None
    machine: str
    keep: Score | None = None

    @classmethod
    def of(cls, planned: Planned, record: RunRecord, at: float | None = None) -> "Row":
        """From a finished run, with the look that is nearest to a step; None for the middle of the plateau."""
        run, looks = summarise_run(record), _looks(record)
        plateau = run.steps if run.escape_step is None else run.escape_step
        wanted = plateau / 2 if at is None else at
        return cls._of(planned, run, looks, min(looks, key=lambda step: abs(step - wanted)) if looks else None)

    @classmethod
    def of_looks(cls, planned: Planned, record: RunRecord) -> list["Row"]:
        """From a finished run, one for each look before its escape but that before the first step.

        Without any such look one without scores, so that it is known to have been trained.
        """
        run, looks = summarise_run(record), _looks(record)
        before: list[int | None] = [step for step in looks if 0 < step < run.time_of("escape").low]
        return [cls._of(planned, run, looks, step) for step in before or [None]]

    @classmethod
    def _of(cls, planned: Planned, run: RunSummary, looks: Mapping[int, Scores], at: int | None) -> "Row":
        record, scores = run.record, None if at is None else looks[at]
        return cls(
            setting=planned.setting,
            cell=planned.cell,
            seed=run.seed,
            steps=run.steps,
            escape=run.escape_step,
            completion=run.completion_step,
            progress=round(run.final_progress or 0.0, 4),
            flops=float(f"{run.costs.train_flops or 0:.4g}"),
            at=at,
            then=None if at is None else _progress_at(record, at),
            weights=_best(scores, "weights"),
            few_shot=_best(scores, "few_shot"),
            binding=_best(scores, "binding"),
            look=_best(scores, "look"),
            spec=planned.spec.digest(),
            commit=record.env["versions"]["commit"],
            machine=record.env["machine"]["cpu"],
            keep=_best(scores, "keep"),
        )

    @property
    def time(self) -> Bounded:
        """Steps to the escape."""
        return Bounded.above(self.steps) if self.escape is None else Bounded.exactly(self.escape)


def _looks(record: RunRecord) -> dict[int, Scores]:
    """The scores of each look by its step."""
    return {row["step"]: scores for row in record.history if (scores := Scores.of_row(row)) is not None}


def _progress_at(record: RunRecord, at: int) -> float:
    steps, values = record.history.column("progress")
    return round(fmean(value for step, value in zip(steps, values, strict=True) if at - WINDOW < step <= at), 4)


def _best(scores: Scores | None, name: str) -> Score | None:
    of_layers, chance = (getattr(scores, f"{name}_{what}", None) for what in ("score", "chance"))
    return Score(round(max(of_layers), 4), round(chance, 4)) if of_layers and chance is not None else None


@dataclass(frozen=True)
class Table:
    """What a study shows: a heading, the names of the columns, and the lines."""

    heading: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    note: str = ""


class Study(ABC):
    """A question, the runs that can answer it, and what the answers would be."""

    name: str
    question: str
    n_seeds: int = 5
    parts: tuple[str, ...]
    """What ``--only`` may name."""

    @abstractmethod
    def plan(self, seeds: Iterable[int], *, scale: Scale = "cpu", only: Sequence[str] = ()) -> list[Planned]:
        """All runs, those first that say most; of these parts only, if any are named."""

    @property
    def folder(self) -> str:
        """Where its runs are kept, below the folder of all runs; studies of the same runs share it."""
        return self.name

    def rows(self, planned: Planned, record: RunRecord) -> list[Row]:
        """What is kept of a run."""
        return [Row.of(planned, record)]

    @abstractmethod
    def judge(self, rows: Sequence[Row]) -> list[Table]:
        """What the rows say, and of each prediction whether it held."""

    def read(self, path: Path, only: Sequence[str] = ()) -> list[Row]:
        """The rows of these parts in such a file. Raises DataError for rows that this study has at no scale."""
        rows = read_study(path)
        known = self._cells(())
        wanted = self._cells(only) if only else known
        if foreign := next((row for row in rows if (row.setting, row.cell) not in known), None):
            raise DataError(f"{path}: not rows of {self.name}, which has no '{foreign.cell}' of '{foreign.setting}'")
        return [row for row in rows if (row.setting, row.cell) in wanted]

    def _cells(self, only: Sequence[str]) -> set[tuple[str, str]]:
        """Setting and cell of all runs of these parts, at any scale."""
        scales: tuple[Scale, ...] = get_args(Scale)
        return {(one.setting, one.cell) for scale in scales for one in self.plan([0], scale=scale, only=only)}

    def chosen(self, only: Sequence[str]) -> Sequence[str]:
        """The parts that are asked for. Raises SpecError, with a suggestion, for one that is not there."""
        for part in only:
            if part not in self.parts:
                raise SpecError(f"{self.name}: no part '{part}'{suggest(part, self.parts)}")
        return only or self.parts


def escape_of(rows: Iterable[Row]) -> Bounded:
    """The median step of the escape."""
    return median_time([row.time for row in rows])


def by_cell(rows: Iterable[Row], *, beside: str = PLAIN) -> dict[str, dict[str, list[Row]]]:
    """The rows of each setting by cell, that first which all is compared with; no settings without it."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: (_natural(row.setting), row.cell != beside, _natural(row.cell))):
        found.setdefault(row.setting, {}).setdefault(row.cell, []).append(row)
    return {setting: cells for setting, cells in found.items() if beside in cells}


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts the numbers in names by size: ``4 mappings`` before ``32 mappings``."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def escapes(rows: Sequence[Row]) -> str:
    """``240 (5/5)``: the median step, and how many of all runs got there."""
    return f"{escape_of(rows).shown()} ({sum(row.escape is not None for row in rows)}/{len(rows)})"


def early_cells(cells: Mapping[str, Sequence[Row]], *, beside: str = PLAIN, share: float = EARLY) -> frozenset[str]:
    """Those that end the plateau by this share of the median of another cell, which is not among them.

    Where that did not escape, its last step is taken: no more is known.
    """
    line = share * escape_of(cells[beside]).low
    return frozenset(name for name, rows in cells.items() if name != beside and escape_of(rows).high <= line)


_row: TypeAdapter[Row] = TypeAdapter(Row)


def write_study(path: Path, rows: Iterable[Row], *, force: bool = False) -> None:
    """As JSON lines, sorted, so that a file changes only where results do.

    Raises OutputError for a file of something else, unless ``force`` allows to replace it.
    """
    lines = [_as_json(row) for row in sorted(rows, key=lambda row: (row.setting, row.cell, row.seed, row.at or 0))]
    write_output(path, "".join(json.dumps(line) + "\n" for line in lines).encode(), are_rows, force=force)


def _as_json(row: Row) -> dict[str, Any]:
    """Without a score that rows did not always have, where there is none."""
    return {name: value for name, value in asdict(row).items() if name != "keep" or value is not None}


def are_rows(content: bytes) -> bool:
    """Is this what :func:`write_study` writes?"""
    try:
        return all(_row.validate_json(line) for line in content.splitlines())
    except ValidationError:
        return False


def read_study(path: Path) -> list[Row]:
    """The rows in such a file. Raises DataError if it cannot be read, is none, or has none."""
    try:
        lines = read_file(path).removeprefix(codecs.BOM_UTF8).splitlines()
        rows = [_row.validate_json(line) for line in lines if line.strip()]
    except ValidationError as error:
        raise DataError(f"{path}: not the rows of a study ({one_line(error)})") from error
    if not rows:
        raise DataError(f"{path}: holds no rows")
    return rows
