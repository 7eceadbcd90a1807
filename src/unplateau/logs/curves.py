"""From a log to curves: columns chosen, runs told apart, gaps and repeats counted; nothing is dropped in silence."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from unplateau.errors import DataError, SpecError
from unplateau.logs import choose
from unplateau.logs.dense import DenseLog
from unplateau.logs.log import Log
from unplateau.logs.names import direction_of
from unplateau.logs.points import left_out, read_points
from unplateau.logs.read import read_log
from unplateau.logs.runs import is_one_run, mended, wanted_runs
from unplateau.logs.stairs import Event, new_epochs, new_rates, resumed
from unplateau.logs.stretches import (
    Point,
    Repeats,
    Stretch,
    settled,
)
from unplateau.plateau.progress import FEWEST_POINTS, Floats

XY = tuple[Sequence[float], Sequence[float]]
"""Steps and values; of a large table they are arrays."""
Seen = Callable[[Sequence[float], Sequence[float]], list[Event]]
"""How events are seen in the steps and the values of a column."""
CONTRADICTED = 0.25
"""Share of the range by which a curve must go the wrong way for the direction to be doubted."""


@dataclass(frozen=True)
class Wanted:
    """Which curves of a log; None and () for what is to be found out.

    ``by``: a column that tells runs apart, or ``column=value`` for one of them. ``segment``: the number of one run,
    from 1, or "all". ``repeats``: which of the values of one step counts.
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
    None for the number of the row. ``part`` names the run where a file has several. ``events`` may cause stairs.
    """

    steps: Sequence[float]
    values: Sequence[float]
    notes: tuple[str, ...]
    source: str
    form: str
    value: str
    step: str | None
    direction: Literal["min", "max"]
    guessed: str = ""
    part: str = ""
    events: tuple[Event, ...] = ()


def read_curve(
    path: str | Path,
    *,
    value: str | None = None,
    step: str | None = None,
    by: str | None = None,
    segment: int | None = None,
    repeats: Repeats | None = None,
) -> Curve:
    """One curve of a log in any format; columns not given are found by name.

    ``by``, ``segment`` and ``repeats`` choose among several runs in the file, as the options of ``unplateau plateaus``
    do. Raises DataError, one line with the file and what there is to choose from, if it is no log, a column is unknown,
    a cell is a word, fewer than 8 points are left, or it has several runs and none is chosen; SpecError if several are.
    """
    found = read_curves(read_log(path), Wanted(() if value is None else (value,), step, by, segment, repeats))
    if len(found) > 1:
        raise SpecError(f"{path}: several runs are chosen; one of: {', '.join(curve.part for curve in found)}")
    return replace(found[0], steps=list(found[0].steps), values=list(found[0].values))


def read_curves(log: Log, wanted: Wanted) -> list[Curve]:
    """The curves that are wanted: one for each column and run. Raises as :func:`read_curve` does."""
    if isinstance(log, DenseLog):
        return _curves_of_one_run(log, wanted) or read_curves(log.in_full(), wanted)
    return [curve for value in choose.values(log, wanted.values) for curve in _curves_of(log, value, wanted)]


def _curves_of_one_run(log: DenseLog, wanted: Wanted) -> list[Curve]:
    """Those of a table in which every step is larger than the one before; [] if it is another, or a part is wanted."""
    if wanted.by is not None or wanted.segment is not None:
        return []
    found = []
    for value in choose.values(log, wanted.values):
        step, asked = choose.step_for(log, value, wanted.step, lambda name: _rises(log.column(name)))
        at = np.arange(log.table.shape[1], dtype=np.float64) if step is None else log.column(step)
        here = log.column(value)
        known = np.isfinite(at) & np.isfinite(here)
        xy = (at, here) if known.all() else (at[known], here[known])
        if known.sum() < FEWEST_POINTS or not _rises(xy[0]):
            return []
        n_gaps = int(np.sum(np.isnan(at) | np.isnan(here)))
        notes = left_out(n_gaps, known.size - n_gaps - int(known.sum()))
        causes = [one for one in _causes(log, step, wanted) if log.columns[one[0]].low < log.columns[one[0]].high]
        events = [event for column, seen in causes for event in _seen(log, at, known, column, seen)]
        found.append(_curve(log, wanted, (value, step, asked), cast("XY", xy), notes, events))
    return found


def _rises(steps: Floats) -> bool:
    return bool(np.all(steps[1:] > steps[:-1]))


def _seen(log: DenseLog, at: Floats, known: NDArray[np.bool_], column: str, seen: Seen) -> list[Event]:
    """Events of a column between the first and the last point of a curve."""
    first, last = np.flatnonzero(known)[[0, -1]]
    steps, values = at[first : last + 1], log.column(column)[first : last + 1]
    both = np.isfinite(steps) & np.isfinite(values)
    return seen(*cast("XY", (steps[both], values[both])))


def _curves_of(log: Log, value: str, wanted: Wanted) -> Iterator[Curve]:
    step, asked = choose.step_for(
        log, value, wanted.step, lambda name: is_one_run(read_points(log, value, name).points)
    )
    read = read_points(log, value, step)
    _enough(read.points, f"{log.name}: ", f"both '{value}' and '{step}'" if step else f"'{value}'")
    for part, run in wanted_runs(log, read.points, value, step, wanted.by, wanted.segment):
        points, done = mended(log, run, step, wanted.repeats)
        _enough(points, f"{log.name}: {part}: " if part else f"{log.name}: ", f"'{value}'")
        xy = [point.step for point in points], [point.value for point in points]
        events = [*_events(log, run, points, step, wanted)]
        yield _curve(log, wanted, (value, step, asked), xy, (*log.notes, *read.notes, *done), events, part)


def _curve(
    log: Log,
    wanted: Wanted,
    columns: tuple[str, str | None, bool],
    xy: XY,
    notes: Sequence[str],
    events: Sequence[Event],
    part: str = "",
) -> Curve:
    """With its direction, and what was chosen. ``columns``: value, step, and whether the step was asked for."""
    (value, step, asked), (steps, values) = columns, xy
    direction, why = _direction(value, values, wanted.direction)
    chosen = "" if asked and wanted.values and wanted.direction else _chosen(log, value, step, direction, why)
    return Curve(
        steps=steps,
        values=values,
        notes=(*notes, *_contradicted(value, values, direction)),
        source=log.name,
        form=log.form,
        value=value,
        step=step,
        direction=direction,
        guessed=chosen if wanted.values else f"{chosen}{_others(log, value, step)}",
        part=part,
        events=tuple(sorted(events, key=lambda event: event.step)),
    )


def _enough(points: Sequence[Point], before: str, columns: str) -> None:
    n = len({point.step for point in points})
    if n < FEWEST_POINTS:
        raise DataError(f"{before}{n} points with {columns}; at least {FEWEST_POINTS} needed")


def _direction(
    value: str, values: Sequence[float], given: Literal["min", "max"] | None
) -> tuple[Literal["min", "max"], str]:
    """The direction and why."""
    if given is not None:
        return given, ""
    if (named := direction_of(value)) is not None:
        return named, "by its name"
    return ("max" if _change(values) > 0 else "min"), "by where it goes"


def _change(values: Sequence[float]) -> float:
    """From the first tenth to the last, as a share of the range."""
    part = max(len(values) // 10, 2)
    span = float(np.ptp(values))
    return (fmean(values[-part:]) - fmean(values[:part])) / span if span > 0 else 0.0


def _contradicted(value: str, values: Sequence[float], direction: Literal["min", "max"]) -> list[str]:
    change, named = _change(values), direction_of(value)
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
    for column, found in _causes(log, step, wanted):
        try:
            read = [point for point in read_points(log, column, step).points if first <= point.row <= last]
        except DataError:
            if column in (wanted.epoch, wanted.rate):
                raise
            continue  # it was only a guess
        kept = settled(_of_run(log, read, wanted, points), "last")
        yield from found([point.step for point in kept], [point.value for point in kept])


def _causes(log: Log, step: str | None, wanted: Wanted) -> Iterator[tuple[str, Seen]]:
    """The columns of epochs and of the learning rate, and how their events are seen."""
    for column, seen in (
        (choose.epoch_column(log, wanted.epoch), new_epochs),
        (choose.rate_column(log, wanted.rate), new_rates),
    ):
        if column is not None and column != step:
            yield column, seen


def _of_run(log: Log, read: Sequence[Point], wanted: Wanted, points: Sequence[Point]) -> list[Point]:
    """Those of the rows that belong to the run of these points, where a column tells runs apart."""
    if wanted.by is None:
        return list(read)
    name = wanted.by if wanted.by in log.names else wanted.by.rpartition("=")[0]
    mine = log.rows[points[0].row][1].get(name)
    return [point for point in read if log.rows[point.row][1].get(name) == mine]
