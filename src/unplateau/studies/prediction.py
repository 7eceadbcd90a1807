"""What predicts the escape: at several times on the plateau, which score says how much of it is left?

docs/cards/prediction.md says beforehand what each account predicts.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from unplateau.store import RunRecord
from unplateau.studies.base import PLAIN, REFUTED, Planned, Row, Scale, Score, Study, Table, escape_of
from unplateau.studies.crossing import Crossing
from unplateau.studies.tasks import TASKS

Predictor = Callable[[Row], float | None]
"""Larger is said to mean an earlier escape; None where a run has no such score."""


def _share(score: Score | None) -> float | None:
    """0 at chance, 1 at the top; None where these are the same."""
    return None if score is None or score.chance >= 1 else (score.value - score.chance) / (1 - score.chance)


def _of_three(pool: Callable[[Sequence[float]], float]) -> Predictor:
    def predictor(row: Row) -> float | None:
        found = [share for one in (row.few_shot, row.binding, row.look) if (share := _share(one)) is not None]
        return pool(found) if found else None

    return predictor


PREDICTORS: Mapping[str, Predictor] = {
    "the curve alone (progress so far)": lambda row: row.then,
    "weights score": lambda row: _share(row.weights),
    "few-shot score": lambda row: _share(row.few_shot),
    "binding score": lambda row: _share(row.binding),
    "keep score": lambda row: _share(row.keep),
    "look score": lambda row: _share(row.look),
    "weakest of the three": _of_three(min),
    "sum of the three": _of_three(sum),
}


SAID: Mapping[str, str] = {
    "representation first": "weights score",
    "attention pattern first": "look score",
    "all three together": "weakest of the three",
    "the curve is enough": "the curve alone (progress so far)",
}
"""Which score orders runs best, by each account: docs/cards/prediction.md."""
LONG, LONGEST = "shapes", 20_000
"""A task on which plain training, at the rate that suits it best, is followed for so many steps, once."""


class Prediction(Study):
    """The runs of the crossing, looked at every hundred steps."""

    name = "prediction"
    question = "At a time on the plateau, which score says how much of it is left?"
    parts = Crossing.parts
    folder = Crossing.name

    def plan(self, seeds: Iterable[int], *, scale: Scale = "cpu", only: Sequence[str] = ()) -> list[Planned]:
        """As the crossing, whose finished runs are taken as they are, and one long run."""
        planned = Crossing().plan(seeds, scale=scale, only=only)
        return [*planned, _long(min(seeds))] if LONG in self.chosen(only) else planned

    def rows(self, planned: Planned, record: RunRecord) -> list[Row]:
        """One for each look before the escape."""
        return Row.of_looks(planned, record)

    def judge(self, rows: Sequence[Row]) -> list[Table]:
        """How often each score puts two runs of one setting in the right order, of all runs and of plain ones."""
        plain = [row for row in rows if row.cell == PLAIN]
        return [
            _orders(rows, "Two runs of a setting at the same step: how often the right one escapes first"),
            _verdicts(rows),
            _orders(plain, "The same of plain training alone: two seeds"),
            _published(plain),
        ]


def _long(seed: int) -> Planned:
    plain = TASKS[LONG]()
    train = plain.train.model_copy(update={"steps": LONGEST, "lr": plain.train.lr / 2})
    spec = plain.model_copy(update={"recipe": f"{LONG}-long", "train": train})
    return Planned(f"{LONG}, {LONGEST:,} steps", PLAIN, spec.with_seed(seed))


@dataclass(frozen=True)
class Order:
    """Of pairs of runs whose order is known, how many were predicted right; ties count half."""

    right: float
    pairs: int


def order_of(rows: Sequence[Row], predictor: Predictor) -> Order:
    """Of rows of the same setting and step (Harrell et al. 1982); runs that never escaped come after those that did."""
    right, pairs = 0.0, 0
    for one, other in combinations(rows, 2):
        first, last = sorted((one, other), key=_when)
        known = first.time.exact and _when(first) < _when(last)
        values = predictor(first), predictor(last)
        if known and values[0] is not None and values[1] is not None:
            pairs += 1
            right += 0.5 if values[0] == values[1] else float(values[0] > values[1])
    return Order(right, pairs)


def _when(row: Row) -> tuple[float, float]:
    """Sorts a run that has not escaped by a step behind one that escaped there."""
    return row.time.low, row.time.high


@dataclass(frozen=True)
class Ordering:
    """How often a score put two runs in the right order, task by task."""

    by_task: Sequence[float]
    pairs: int

    @property
    def interval(self) -> tuple[float, float]:
        """Of the mean over tasks, 95 %; everything for fewer than two tasks."""
        if len(self.by_task) < 2:
            return 0.0, 1.0
        mean, number = float(np.mean(self.by_task)), len(self.by_task)
        reach = float(stats.t.ppf(0.975, number - 1) * np.std(self.by_task, ddof=1) / math.sqrt(number))
        return max(0.0, mean - reach), min(1.0, mean + reach)

    def shown(self) -> str:
        """``0.81 (0.70 to 0.92)``."""
        if not self.by_task:
            return "-"
        mean, (low, high) = float(np.mean(self.by_task)), self.interval
        return f"{mean:.2f}" if len(self.by_task) < 2 else f"{mean:.2f} ({low:.2f} to {high:.2f})"


def _orderings(rows: Sequence[Row]) -> dict[str, Ordering]:
    groups: dict[tuple[str, int | None], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.setting, row.at), []).append(row)
    found = {}
    for name, predictor in PREDICTORS.items():
        by_task: dict[str, list[Order]] = {}
        for (setting, _), members in groups.items():
            by_task.setdefault(setting.split(",")[0], []).append(order_of(members, predictor))
        shares = [
            sum(order.right for order in orders) / pairs
            for orders in by_task.values()
            if (pairs := sum(order.pairs for order in orders))
        ]
        found[name] = Ordering(shares, sum(order.pairs for orders in by_task.values() for order in orders))
    return found


def _orders(rows: Sequence[Row], heading: str) -> Table:
    lines = [[name, one.shown(), str(len(one.by_task)), f"{one.pairs:,}"] for name, one in _orderings(rows).items()]
    note = "Mean over tasks, 95 % interval over tasks: what a task that was left out may show. 0.5: says nothing."
    return Table(heading, ["score", "right", "tasks", "pairs"], lines, note)


def _verdicts(rows: Sequence[Row]) -> Table:
    """An account is refuted where the interval of its score lies below that of another, or holds 0.5."""
    found = _orderings(rows)
    lines = []
    for account, score in SAID.items():
        if len(found[score].by_task) < 2:
            lines.append([account, score, "-", "undecided"])
            continue
        low, high = found[score].interval
        by = [name for name, other in found.items() if other.interval[0] > high]
        by += ["0.5"] if low <= 0.5 <= high else []
        lines.append([account, score, ", ".join(by) or "-", REFUTED if by else "not refuted"])
    columns = ["account", "the best score, it says", "above it, or within it", "verdict"]
    return Table("What each account said of the scores", columns, lines)


def _published(plain: Sequence[Row]) -> Table:
    """Where plain training should escape by N = 10^5.7 sqrt(batch x context) tokens (arXiv 2511.16893)."""
    lines = []
    runs: dict[str, dict[int, Row]] = {}
    for row in plain:
        runs.setdefault(row.setting, {})[row.seed] = row
    for setting, members in sorted(runs.items()):
        spec = TASKS[setting.split(",")[0]]()
        tokens = spec.train.batch_size * spec.task.shape.layout.n_positions
        predicted = 10**5.7 / math.sqrt(tokens)
        lines.append([setting, f"{predicted:,.0f}", escape_of(list(members.values())).shown()])
    heading = "Plain training: the step that N = 10^5.7 sqrt(batch x context) tokens come to (arXiv 2511.16893)"
    return Table(heading, ["setting", "predicted", "median step of the escape"], lines)
