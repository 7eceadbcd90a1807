"""From a log to curves: columns chosen, runs told apart, gaps and repeats counted; nothing is dropped in silence."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Literal, NamedTuple

from unplateau.errors import DataError, SpecError
from unplateau.logs import choose
from unplateau.logs.cells import Number
from unplateau.logs.log import Log
from unplateau.logs.read import read_log
from unplateau.logs.stairs import Event, new_epochs, new_rates, resumed
from unplateau.logs.stretches import (
    FEW_REPEATED,
    Point,
    Repeats,
    Stretch,
    repeated,
    runs_of,
    settled,
    tells_repeats,
    told_apart,
)
from unplateau.plateau.progress import FEWEST_POINTS

MOST_CHOICES = 8
"""Choices that a refusal lists; more are counted."""
CONTRADICTED = 0.25
"""Share of the range by which a curve must go the wrong way for the direction to be doubted."""


@dataclass(frozen=True)
class Wanted:
    """Which curves of a log; None and () for what is to be found out.

    ``by``: a column that tells runs apart, or ``column=value`` for one of them. ``segment``: the number of one run, from
    1, or "all". ``repeats``: which of the values of one step counts.
    """

    values: Sequence[str] = ()
    step: str | None = None
    by: str | None = None
    segment: int | Literal["all"] | None = None
    repeats: Repeats | None = None
    epoch: str | None = None
    rate: str | None = None
    direction: Literal["min", "max"] | None = None


@dataclass(frozen=True)
class Curve:
    """A curve with increasing steps, and where it comes from.

    ``notes`` say in words what was done to the rows of the file, ``guessed`` what was chosen for the user. ``step`` is
    None for the number of the row. ``part`` names the run where a file has several. ``events`` are what may cause stairs.
    """

    steps: list[float]
    values: list[float]
    notes: tuple[str, ...]
    source: str
    form: str
    value: str
    step: str | None
    direction: Literal["min", "max"]
    guessed: str = ""
    part: str = ""
    events: tuple[Event, ...] = ()


def read_curve(path: str | Path, *, value: str | None = None, step: str | None = None) -> Curve:
    """One curve of a log in any format (see ``unplateau plateaus --help``); columns not given are found by name.

    Raises DataError, one line with the file and what there is to choose from, if it is no log, a column is unknown, a
    cell is a word, fewer than 8 points are left, or there are several runs in it.
    """
    (curve,) = read_curves(read_log(path), Wanted(() if value is None else (value,), step))
    return curve


def read_curves(log: Log, wanted: Wanted) -> list[Curve]:
    """The curves that are wanted: one for each column and run. Raises as :func:`read_curve` does."""
    return [curve for value in choose.values(log, wanted.values) for curve in _curves_of(log, value, wanted)]


class _Read(NamedTuple):
    points: list[Point]
    notes: list[str]


def _curves_of(log: Log, value: str, wanted: Wanted) -> Iterator[Curve]:
    step, asked = choose.step_for(log, value, wanted.step, lambda name: _is_good(_read(log, value, name).points))
    read = _read(log, value, step)
    _enough(read.points, f"{log.name}: ", f"both '{value}' and '{step}'" if step else f"'{value}'")
    for part, run in _wanted_runs(log, read.points, value, step, wanted):
        points, mended = _mended(log, run, step, wanted.repeats)
        _enough(points, f"{log.name}: {part}: " if part else f"{log.name}: ", f"'{value}'")
        values = [point.value for point in points]
        direction, why = _direction(value, values, wanted.direction)
        chosen = "" if asked and wanted.values and wanted.direction else _chosen(log, value, step, direction, why)
        yield Curve(
            steps=[point.step for point in points],
            values=values,
            notes=(*log.notes, *read.notes, *mended, *_contradicted(value, values, direction)),
            source=log.name,
            form=log.form,
            value=value,
            step=step,
            direction=direction,
            guessed=chosen if wanted.values else f"{chosen}{_others(log, value, step)}",
            part=part,
            events=tuple(_events(log, run, points, step, wanted)),
        )


def _enough(points: Sequence[Point], before: str, columns: str) -> None:
    n = len({point.step for point in points})
    if n < FEWEST_POINTS:
        raise DataError(f"{before}{n} points with {columns}; at least {FEWEST_POINTS} needed")


def _read(log: Log, value: str, step: str | None) -> _Read:
    """Rows with both numbers, in the order of the file; what else there was in notes."""
    values = list(log.numbers(value))
    steps = _steps(log, value, step, values)
    points, n_gaps, n_infinite = [], 0, 0
    for row, ((line, _), at, here) in enumerate(zip(log.rows, steps.at, values, strict=True)):
        if here is None or at is None:
            n_gaps += 1
        elif math.isinf(here.value) or math.isinf(at):
            n_infinite += 1
        else:
            points.append(Point(at, here.value, row, line))
    notes = [f"{n_gaps} rows without a value left out"] if n_gaps else []
    notes += [f"{n_infinite} rows with an infinite value left out"] if n_infinite else []
    hows = dict.fromkeys(one.how for one in (*values, *steps.numbers) if one is not None and one.how)
    units = {one.unit for one in values if one is not None and one.unit}
    notes += [*hows, *(f"'{value}' is in {unit}: {unit} left out" for unit in units)]
    if steps.carried:
        notes.append(f"'{value}' stands on lines without '{step}': the one named before counts")
    return _Read(points, notes)


class _Steps(NamedTuple):
    """The step of each row, None where there is none."""

    at: list[float | None]
    numbers: list[Number | None]
    carried: bool = False


def _steps(log: Log, value: str, step: str | None, values: Sequence[Number | None]) -> _Steps:
    if step is None:
        return _Steps([float(row) for row in range(len(log.rows))], [])
    numbers = list(log.numbers(step))
    plain = [None if one is None else one.value for one in numbers]
    here = [row for row, one in enumerate(values) if one is not None]
    if not log.carried or sum(plain[row] is not None for row in here) * 2 > len(here):
        return _Steps(plain, numbers)
    others = {name for name in log.names if choose.counts_steps(name)} - {step, value}
    last: float | None = None
    at: list[float | None] = []
    for (_, cells), own in zip(log.rows, plain, strict=True):
        last = last if own is None else own
        at.append(None if own is None and others & set(cells) else last)
    return _Steps(at, numbers, carried=True)


def _is_good(points: Sequence[Point]) -> bool:
    """Can these be the steps of one run, each its own?"""
    if len(points) < FEWEST_POINTS:
        return False
    return len(runs_of(points)) == 1 and repeated(points) <= FEW_REPEATED * len(points)


def _wanted_runs(
    log: Log, points: Sequence[Point], value: str, step: str | None, wanted: Wanted
) -> list[tuple[str, Stretch]]:
    """The runs to make curves of, with their names if there are several in the log."""
    groups = _groups(log, points, wanted.by) if wanted.by is not None else [("", list(points))]
    found = []
    for name, group in groups:
        runs = runs_of(group)
        if wanted.segment is None:
            if len(runs) > 1:
                raise DataError(_several(log, runs, name, value, step, wanted))
            found.append((name, runs[0]))
            continue
        numbers = range(1, len(runs) + 1) if wanted.segment == "all" else [wanted.segment]
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


def _several(log: Log, runs: Sequence[Stretch], name: str, value: str, step: str | None, wanted: Wanted) -> str:
    """What was found, and how to choose."""
    starts = [f"{run.points[0].line}" for run in runs[1:]]
    sizes = dict.fromkeys(map(str, runs))
    each = f"each of {next(iter(sizes))}" if len(sizes) == 1 else _listed(sizes, quoted=False, between="; ")
    where = f"{log.name}: {name}: " if name else f"{log.name}: "
    cells = {one: [row.get(one) for _, row in log.rows] for one in log.names if one not in (value, step)}
    ways = [] if wanted.by else [f"--by '{one}'" for one in told_apart(runs, cells)[:MOST_CHOICES]]
    ways += ["--segment N (or all)", f"--step {choose.ROW} if it is one run whose '{step}' starts again"]
    return (
        f"{where}'{step}' starts again at {log.place} {_listed(starts, quoted=False)}: {len(runs)} runs, or parts of one"
        f" ({each}); choose with {', '.join(ways)}"
    )


def _mended(log: Log, run: Stretch, step: str | None, repeats: Repeats | None) -> tuple[list[Point], list[str]]:
    """Points in order, each step once, and what was done for that. Raises DataError if most steps are repeated."""
    notes = []
    for start in run.resumes:
        notes.append(f"resumed at '{step}' {start:g}: the later rows count")
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


def _direction(
    value: str, values: Sequence[float], given: Literal["min", "max"] | None
) -> tuple[Literal["min", "max"], str]:
    """The direction and why."""
    if given is not None:
        return given, ""
    if (named := choose.direction_of(value)) is not None:
        return named, "by its name"
    return ("max" if _change(values) > 0 else "min"), "by where it goes"


def _change(values: Sequence[float]) -> float:
    """From the first tenth to the last, as a share of the range."""
    part = max(len(values) // 10, 2)
    span = max(values) - min(values)
    return (fmean(values[-part:]) - fmean(values[:part])) / span if span > 0 else 0.0


def _contradicted(value: str, values: Sequence[float], direction: Literal["min", "max"]) -> list[str]:
    change, named = _change(values), choose.direction_of(value)
    other = "max" if direction == "min" else "min"
    if (change if direction == "min" else -change) > CONTRADICTED:
        goes = "rises" if change > 0 else "falls"
        return [f"warning: '{value}' {goes}, and is read with direction {direction}; is --direction {other} meant?"]
    if named == other:
        return [f"warning: a column called '{value}' is read with direction {direction}; is --direction {other} meant?"]
    return []


def _chosen(log: Log, value: str, step: str | None, direction: str, why: str) -> str:
    along = f"step '{step}' ({log.columns[step]})" if step else "the number of the row as step"
    because = f" ({why})" if why else ""
    return f"{log.form}: value '{value}' ({log.columns[value]}), {along}, direction {direction}{because}"


def _others(log: Log, value: str, step: str | None) -> str:
    names = [name for name, column in log.columns.items() if column.n > column.words and name not in (value, step)]
    return f"; other columns: {choose.listed(log, names)}" if names else ""


def _events(log: Log, run: Stretch, points: Sequence[Point], step: str | None, wanted: Wanted) -> Iterator[Event]:
    """What may cause stairs, from the rows of this run."""
    yield from resumed(run.resumes, [point.step for point in points])
    first, last = min(point.row for point in points), max(point.row for point in points)
    for column, found in (
        (choose.epoch_column(log, wanted.epoch), new_epochs),
        (choose.rate_column(log, wanted.rate), new_rates),
    ):
        if column is None or column == step:
            continue
        read = [point for point in _read(log, column, step).points if first <= point.row <= last]
        kept = settled(_of_run(log, read, wanted, points), "last")
        yield from found([point.step for point in kept], [point.value for point in kept])


def _of_run(log: Log, read: Sequence[Point], wanted: Wanted, points: Sequence[Point]) -> list[Point]:
    """Those of the rows that belong to the run of these points, where a column tells runs apart."""
    if wanted.by is None:
        return list(read)
    name = wanted.by if wanted.by in log.names else wanted.by.rpartition("=")[0]
    mine = log.rows[points[0].row][1].get(name)
    return [point for point in read if log.rows[point.row][1].get(name) == mine]


def _listed(parts: Iterable[str], *, quoted: bool = True, between: str = ", ") -> str:
    each = [f"'{part}'" if quoted else part for part in parts]
    rest = len(each) - MOST_CHOICES
    return between.join([*each[:MOST_CHOICES], *([f"and {rest} more"] if rest > 0 else [])])


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
