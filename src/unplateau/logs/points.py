"""The points of a column: rows that have a step and a value, and a count of those that have not."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from unplateau.logs.cells import Number
from unplateau.logs.log import Log
from unplateau.logs.names import counts_steps
from unplateau.logs.stretches import Point


class Read(NamedTuple):
    """Points in the order of the file, and what else there was."""

    points: list[Point]
    notes: list[str]


def read_points(log: Log, value: str, step: str | None) -> Read:
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
    notes = left_out(n_gaps, n_infinite)
    hows = dict.fromkeys(one.how for one in (*values, *steps.numbers) if one is not None and one.how)
    units = {one.unit for one in values if one is not None and one.unit}
    notes += [*hows, *(f"'{value}' is in {unit}: {unit} left out" for unit in units)]
    if steps.carried:
        notes.append(f"'{value}' stands on lines without '{step}': the one named before counts")
    return Read(points, notes)


def left_out(n_gaps: int, n_infinite: int) -> list[str]:
    """How many rows are no points, in words."""
    notes = [f"{n_gaps} rows without a value left out"] if n_gaps else []
    return [*notes, *([f"{n_infinite} rows with an infinite value left out"] if n_infinite else [])]


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
    others = {name for name in log.names if counts_steps(name)} - {step, value}
    last: float | None = None
    at: list[float | None] = []
    for (_, cells), own in zip(log.rows, plain, strict=True):
        last = last if own is None else own
        at.append(None if own is None and others & set(cells) else last)
    return _Steps(at, numbers, carried=True)
