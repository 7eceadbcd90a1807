"""The runs in one file: where a counter of steps starts again, what a resume repeats, and what cannot be told."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

from unplateau.plateau.progress import step_shown

DISPLACED = 10
"""Rows by which a row may be out of order without being a restart."""
BEGINNING = 0.05
"""Share of the steps of a run that are its beginning."""

Repeats = Literal["last", "mean"]


class Point(NamedTuple):
    """A row that has a step and a value: where it stands in the log, and in the file."""

    step: float
    value: float
    row: int
    line: int


@dataclass
class Stretch:
    """Points of one run in the order of the file; ``resumes``: steps at which it was taken up again."""

    points: list[Point]
    resumes: list[float] = field(default_factory=list)
    n_overlapped: int = 0

    def __str__(self) -> str:
        steps = [one.step for one in self.points]
        return f"{len(steps)} rows, steps {step_shown(min(steps))} to {step_shown(max(steps))}"


def runs_of(points: Sequence[Point]) -> list[Stretch]:
    """The runs in these points: a new one where the steps start again from the beginning.

    Steps that are merely out of order are one run. A start further on is a resume: what it repeats of the rows before
    is left out of the run.
    """
    parts = _parts(points)
    if len(parts) == 1 or _is_disorder(points, parts):
        return [Stretch(list(points))]
    runs = [Stretch(parts[0])]
    for part in parts[1:]:
        if _is_resume(runs[-1], part):
            _resume(runs[-1], part)
        else:
            runs.append(Stretch(part))
    return runs


def _parts(points: Sequence[Point]) -> list[list[Point]]:
    """Cut wherever the step goes back."""
    parts = [[points[0]]]
    for before, here in pairwise(points):
        if here.step < before.step:
            parts.append([])
        parts[-1].append(here)
    return parts


def _is_disorder(points: Sequence[Point], parts: Sequence[Sequence[Point]]) -> bool:
    """Each step once, and either no two parts overlap, or rows are only a little out of place, or there is no order."""
    if len({point.step for point in points}) < len(points):
        return False
    ranges = sorted((part[0].step, part[-1].step) for part in parts)
    if all(before[1] < after[0] for before, after in pairwise(ranges)):
        return True
    order = sorted(range(len(points)), key=lambda at: points[at].step)
    displaced = max(abs(at - place) for place, at in enumerate(order))
    return displaced <= DISPLACED or len(parts) > len(points) / 4


def _is_resume(run: Stretch, part: Sequence[Point]) -> bool:
    """Does it begin beyond the first rows of the run? One that begins with them is another run."""
    steps = sorted({point.step for point in run.points})
    return len(steps) > 2 and part[0].step > steps[max(1, int(BEGINNING * len(steps)))]


def _resume(run: Stretch, part: Sequence[Point]) -> None:
    """Takes the rows in; what they repeat goes. Rows that repeat nothing were only out of order."""
    low, high = part[0].step, part[-1].step
    kept = [point for point in run.points if not low <= point.step <= high]
    n_repeated = len(run.points) - len(kept)
    run.points = kept + list(part)
    run.n_overlapped += n_repeated
    if n_repeated:
        run.resumes.append(low)


def repeated(points: Sequence[Point]) -> int:
    """Rows that have the step of a row before and another value."""
    return len({(point.step, point.value) for point in points}) - len({point.step for point in points})


def told_apart(runs: Sequence[Stretch], cells: Mapping[str, Sequence[object]]) -> list[str]:
    """Columns that are constant in each run, of several, and differ between them."""
    found = []
    for name, column in cells.items():
        inside = [{str(column[point.row]) for point in run.points} for run in runs]
        if all(len(each) == 1 for each in inside) and len(set().union(*inside)) == len(runs) > 1:
            found.append(name)
    return found


def tells_repeats(points: Sequence[Point], cells: Mapping[str, Sequence[object]]) -> Iterator[str]:
    """Columns that differ between the rows of each step and have few values."""
    by_step: dict[float, list[Point]] = {}
    for point in points:
        by_step.setdefault(point.step, []).append(point)
    for name, column in cells.items():
        n_values = len({str(column[point.row]) for point in points})
        apart = all(len({str(column[one.row]) for one in group}) == len(group) for group in by_step.values())
        if apart and n_values <= max(2, len(points) // 8):
            yield name


def settled(points: Sequence[Point], repeats: Repeats | None) -> list[Point]:
    """Sorted, each step once: the last value, or the mean."""
    by_step: dict[float, list[Point]] = {}
    for point in points:
        by_step.setdefault(point.step, []).append(point)
    found = []
    for step in sorted(by_step):
        group = by_step[step]
        mean = sum(one.value for one in group) / len(group)
        found.append(group[-1]._replace(value=mean) if repeats == "mean" else group[-1])
    return found
