"""Columns of results: the report's table, the table at a terminal and ``results.csv`` are made from the one list here.

A column is a value of one run. How the values of several seeds become one cell is decided here and nowhere else.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from unplateau.analysis.runs import Groups, RunSummary
from unplateau.analysis.survival import Bounded, median_time
from unplateau.analysis.variants import variants
from unplateau.plateau.floors import Floors

UNKNOWN = "–"  # noqa: RUF001


@dataclass(frozen=True)
class Cell:
    """What a cell says, and a smaller line below it."""

    text: str
    note: str = ""


@dataclass(frozen=True)
class Column:
    """One value of a run; to show another one, append it to ``RESULTS``.

    ``name``: at a terminal and in ``results.csv``. ``heading``: in the report, below ``group``, which spans neighbours
    that share it. ``value``: None where it is not known, a bound where the run ended too early. ``unit``: of SI; values
    are then shown with a prefix, such as 5.00 TFLOP.
    """

    name: str
    heading: str
    group: str | Callable[[Sequence[RunSummary]], str]
    value: Callable[[RunSummary], float | Bounded | None]
    unit: str = ""

    def cell(self, runs: Sequence[RunSummary]) -> Cell:
        """Over seeds: the Kaplan-Meier median of times, and how many got there; else the median, and the range."""
        values = [self.value(run) for run in runs]
        if times := [value for value in values if isinstance(value, Bounded)]:
            return Cell(median_time(times).shown(), f"{sum(time.exact for time in times)} of {len(runs)}")
        numbers = [value for value in values if value is not None and not isinstance(value, Bounded)]
        if not numbers:
            return Cell(UNKNOWN)
        if self.unit:
            return Cell(with_unit(median(numbers), self.unit))
        low, middle, high = (f"{number:.2f}" for number in (min(numbers), median(numbers), max(numbers)))
        return Cell(middle, f"{low} to {high}" if low != high else "")


def with_unit(value: float, unit: str) -> str:
    """``5.00 TFLOP``, ``900 J``."""
    prefixes = ("", "k", "M", "G", "T", "P", "E", "Z")
    power = 0 if value < 1000 else min(len(prefixes) - 1, int(math.log10(value) // 3))
    scaled = value / 1000**power
    digits = 0 if scaled >= 99.5 else 1 if scaled >= 9.95 else 2
    return f"{scaled:,.{digits}f} {prefixes[power]}{unit}"


def which_score(runs: Sequence[RunSummary]) -> str:
    """``weights score, block 3, cut self``: no score is shown without its cut."""
    blocks = [run.block for run in runs if run.weights_score]
    cuts = " or ".join(dict.fromkeys(run.cut for run in runs if run.weights_score))
    return f"weights score, block {max(blocks)}, cut {cuts}" if blocks else "no weights score"


RESULTS: list[Column] = [
    Column("escape", "escape", "step of", lambda run: run.time_of("escape")),
    Column("completion", "completion", "step of", lambda run: run.time_of("completion")),
    Column("accuracy", "accuracy", "final", lambda run: run.final_accuracy),
    Column("score: plateau", "on the plateau", which_score, lambda run: run.quoted(run.plateau_weights_score)),
    Column("score: end", "at the end", which_score, lambda run: run.quoted(run.weights_score)),
    Column("FLOPs", "training FLOPs", "whole run", lambda run: run.costs.train_flops, "FLOP"),
    Column("time", "time", "whole run", lambda run: run.costs.seconds, "s"),
    Column("energy", "energy", "whole run", lambda run: run.costs.joules, "J"),
]


def known_results(runs: Sequence[RunSummary]) -> list[Column]:
    """The columns in which any of these runs has a value: numbers have no accuracy, and some tasks no scores."""
    return [column for column in RESULTS if any(column.value(run) is not None for run in runs)]


def mark(runs: Sequence[RunSummary]) -> str:
    """What follows the name of a strategy with unfinished runs."""
    return "" if all(run.finished for run in runs) else "*"


def results_caption(groups: Groups) -> str:
    """What the columns mean, on these runs."""
    runs = [run for members in groups.values() for run in members]
    exact = "; or ".join(dict.fromkeys(_exact(run.record.floors) for run in runs))
    caption = (
        f"Medians over seeds; > means that too few runs got there before they ended. {exact}. "
        f"Joules: {'; '.join(sorted({run.energy_method for run in runs}))}."
    )
    if all(run.finished for run in runs):
        return caption
    return f"{caption} *: with unfinished runs, counted as censored where they stopped."


def _exact(floors: Floors) -> str:
    measure: Literal["loss", "accuracy"] = "loss" if floors.bayes_accuracy is None else "accuracy"
    no_context, bayes = floors.levels(measure)
    of = f"Loss ({floors.loss_unit})" if measure == "loss" else "Accuracy"
    return f"{of} of the two exact predictors: no-context {no_context:.2f}, Bayes-optimal {bayes:.2f}"


def results_csv(runs: Sequence[RunSummary]) -> str:
    """One row a run; empty where a value is not known, as an escape of a run that ended before it, after ``steps``.

    Settings in which runs differ have columns of their own.
    """
    columns = [f"{column.name} ({column.unit})" if column.unit else column.name for column in RESULTS]
    told = variants(runs)
    differing = [key for key, _ in told[0].settings if key not in ("recipe", "cut", "train.steps")]
    rows: list[list[object]] = [["recipe", "strategy", *differing, "seed", "steps", "cut", *columns]]
    for run, variant in zip(runs, told, strict=True):
        values = [column.value(run) for column in RESULTS]
        cells = [value.value if isinstance(value, Bounded) else value for value in values]
        settings = [value for key, value in variant.settings if key in differing]
        rows.append([run.recipe, run.strategy, *settings, run.seed, run.steps, run.cut, *cells])
    return csv_text(rows)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
