"""Which of the runs in a file are wanted; where that has not been said, what there is to choose from."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

from unplateau.errors import DataError, SpecError
from unplateau.logs import choose
from unplateau.logs.log import Log
from unplateau.logs.stretches import (
    Point,
    Repeats,
    Stretch,
    repeated,
    runs_of,
    settled,
    tells_repeats,
    told_apart,
)
from unplateau.plateau.progress import FEWEST_POINTS, step_shown

Segment = int | Literal["all"]

MOST_CHOICES = 8
"""Choices that a refusal lists; more are counted."""
FEW_REPEATED = 0.1
"""Share of the rows that may be repeats of the step before without being asked about."""


def is_one_run(points: Sequence[Point]) -> bool:
    """Can these be the steps of one run, each its own?"""
    if len(points) < FEWEST_POINTS:
        return False
    return len(runs_of(points)) == 1 and repeated(points) <= FEW_REPEATED * len(points)


def wanted_runs(
    log: Log, points: Sequence[Point], value: str, step: str | None, by: str | None, segment: Segment | None
) -> list[tuple[str, Stretch]]:
    """The runs to make curves of, with their names if there are several in the log.

    ``by``: a column that tells them apart (``seed``, ``seed=3``). ``segment``: the number of one from 1, or all. Raises
    DataError, saying what there is to choose from, if there are several and none is chosen.
    """
    groups = _groups(log, points, by) if by is not None else [("", list(points))]
    found = []
    for name, group in groups:
        runs = runs_of(group)
        if segment is None:
            if len(runs) > 1:
                raise DataError(_several(log, runs, name, step, () if by else (value, step)))
            found.append((name, runs[0]))
            continue
        numbers = range(1, len(runs) + 1) if segment == "all" else [segment]
        for number in numbers:
            if not 1 <= number <= len(runs):
                raise SpecError(f"--segment {number}: {log.name} has {_counted(len(runs), 'run')}, numbered from 1")
            found.append((" ".join(part for part in (name, f"segment {number}") if part), runs[number - 1]))
    return found


def _groups(log: Log, points: Sequence[Point], by: str) -> list[tuple[str, list[Point]]]:
    """The points of each value of a column, or of one of them (``seed=3``)."""
    name, _, one = (by, "", "") if by in log.names else by.rpartition("=")
    column = choose.by_column(log, name or by)
    groups: dict[str, list[Point]] = {}
    n_without = 0
    for point in points:
        cell = log.rows[point.row][1].get(column)
        if cell is None or cell == "":
            n_without += 1
        else:
            groups.setdefault(str(cell), []).append(point)
    if n_without:
        raise DataError(f"{log.name}: {n_without} rows with a value have no '{column}', which is to tell runs apart")
    if not one:
        return [(f"{column} {cell}", group) for cell, group in groups.items()]
    if one not in groups:
        raise SpecError(f"--by {by}: {log.name} has no such '{column}'; there are {_listed(groups)}")
    return [(f"{column} {one}", groups[one])]


def _several(log: Log, runs: Sequence[Stretch], name: str, step: str | None, not_by: Sequence[str | None]) -> str:
    """What was found, and how to choose; ``not_by``: columns that tell no runs apart, () if none is asked for."""
    where = f"{log.name}: {name}: " if name else f"{log.name}: "
    starts = _listed([f"{run.points[0].line}" for run in runs[1:]], quoted=False)
    sizes = dict.fromkeys(map(str, runs))
    each = f"each of {next(iter(sizes))}" if len(sizes) == 1 else _listed(sizes, quoted=False, between="; ")
    cells = {one: [row.get(one) for _, row in log.rows] for one in log.names if one not in not_by}
    ways = [f"--by '{one}'" for one in told_apart(runs, cells)[:MOST_CHOICES]] if not_by else []
    ways += ["--segment N (or all)", f"--step {choose.ROW} if it is one run whose '{step}' starts again"]
    found = f"'{step}' starts again at {log.place} {starts}: {len(runs)} runs, or parts of one ({each})"
    return f"{where}{found}; choose with {', '.join(ways)}"


def mended(log: Log, run: Stretch, step: str | None, repeats: Repeats | None) -> tuple[list[Point], list[str]]:
    """Points in order, each step once, and what was done for that. Raises DataError if most steps are repeated."""
    notes = [f"resumed at '{step}' {step_shown(start)}: the later rows count" for start in run.resumes]
    if run.n_overlapped:
        notes.append(f"{run.n_overlapped} rows from before a resume left out")
    if any(later.step < earlier.step for earlier, later in pairwise(run.points)):
        notes.append("steps were not sorted")
    n_same = len(run.points) - len({(point.step, point.value) for point in run.points})
    n_repeated = repeated(run.points)
    if n_repeated > FEW_REPEATED * len(run.points) and repeats is None:
        raise DataError(_crowded(log, run, step))
    if n_same:
        notes.append(f"{n_same} rows that repeat another left out")
    if n_repeated:
        notes.append(f"{n_repeated} repeated steps: the {'mean' if repeats == 'mean' else 'last value'} counts")
    return settled(run.points, repeats), notes


def _crowded(log: Log, run: Stretch, step: str | None) -> str:
    n_steps = len({point.step for point in run.points})
    cells = {one: [row.get(one) for _, row in log.rows] for one in log.names if one != step}
    ways = [f"--by '{one}'" for one in tells_repeats(run.points, cells)][:MOST_CHOICES]
    ways += [f"--step {choose.ROW}", "--repeats last", "--repeats mean"]
    return (
        f"{log.name}: {len(run.points)} rows have only {n_steps} different values of '{step}': several runs, or several"
        f" rows a step; choose with {', '.join(ways)}"
    )


def _listed(parts: Iterable[str], *, quoted: bool = True, between: str = ", ") -> str:
    each = [f"'{part}'" if quoted else part for part in parts]
    rest = len(each) - MOST_CHOICES
    return between.join([*each[:MOST_CHOICES], *([f"and {rest} more"] if rest > 0 else [])])


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
