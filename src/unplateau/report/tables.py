"""The tables of the report, as text in cells.

What enters: the runs of each strategy and their comparison. What leaves: captions, headings and cells, not yet HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from unplateau.analysis.compare import MEASURES, Comparison, Saving, StrategyComparison, time_of
from unplateau.analysis.runs import EVENTS, Event, RunSummary
from unplateau.analysis.survival import median_time
from unplateau.report.curves import Groups, block_of
from unplateau.report.finding import with_unit
from unplateau.report.style import printable


@dataclass(frozen=True)
class Cell:
    """What a cell says, and a smaller line below it."""

    text: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """``groups``: headings over several columns, with how many. ``rows``: a heading and its cells."""

    name: str
    caption: str
    groups: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def results_table(groups: Groups) -> Table:
    """One row for each strategy: when it escaped and completed, what it knows, what the whole run cost."""
    first = next(iter(groups.values()))[0]
    floors = first.record.floors
    block = max((block_of(run) for runs in groups.values() for run in runs if run.weights_score), default=None)
    probes = "no probes" if block is None else f"weights score, block {block}, cut {first.cut}"
    caption = (
        f"Medians over seeds; > means that too few runs got there before they ended. Accuracy of the two exact "
        f"predictors: no-context {fmean(floors.no_context_accuracy):.2f}, Bayes-optimal {first.bayes_accuracy:.2f}."
    )
    methods = sorted({run.energy_method for runs in groups.values() for run in runs})
    caption += f" Joules: {'; '.join(methods)}."
    if any(not run.finished for runs in groups.values() for run in runs):
        caption += " *: with unfinished runs, counted as censored where they stopped."
    return Table(
        name="When, how well, at what cost",
        caption=caption,
        groups=(("step of", 2), ("final", 1), (probes, 2), ("whole run", 3)),
        columns=(
            "escape",
            "completion",
            "accuracy",
            "on the plateau",
            "at the end",
            "training FLOPs",
            "time",
            "energy",
        ),
        rows=tuple((_row_name(name, runs), _result_cells(runs)) for name, runs in groups.items()),
    )


def savings_table(comparison: Comparison) -> Table | None:
    """How many times less each strategy cost than the baseline; None if there is nothing to compare."""
    if len(comparison.strategies) < 2:
        return None
    caption = (
        f"Cost of {printable(comparison.baseline)} divided by cost of the strategy, up to the event: "
        f"above 1 the strategy is cheaper. Median over seeds in common, below it the range over seeds; > and < are "
        f"bounds, because runs ended before they got there; ? is unknown."
    )
    tested = any(p is not None for one in comparison.strategies for p in one.p.values())
    columns = (*MEASURES.values(), *(("log-rank p",) if tested else ()))
    return Table(
        name=f"Savings against {printable(comparison.baseline)}",
        caption=caption,
        groups=tuple((f"to {event}", len(columns)) for event in EVENTS),
        columns=columns * len(EVENTS),
        rows=tuple((printable(one.strategy), _saving_cells(one, tested)) for one in comparison.strategies[1:]),
    )


def _row_name(name: str, runs: Sequence[RunSummary]) -> str:
    return printable(name) + ("" if all(run.finished for run in runs) else "*")


def _result_cells(runs: Sequence[RunSummary]) -> tuple[Cell, ...]:
    block = max((block_of(run) for run in runs if run.weights_score), default=0)
    return (
        _time_cell(runs, "escape"),
        _time_cell(runs, "completion"),
        _median_cell(runs, lambda run: run.final_accuracy, "{:.2f}"),
        _median_cell(
            runs, lambda run: run.plateau_weights_score[block] if run.plateau_weights_score else None, "{:.2f}"
        ),
        _median_cell(runs, lambda run: run.weights_score[block] if run.weights_score else None, "{:.2f}"),
        Cell(with_unit(_median(runs, lambda run: run.costs.train_flops), "FLOP")),
        Cell(with_unit(_median(runs, lambda run: run.costs.seconds), "s")),
        Cell(with_unit(_median(runs, lambda run: run.costs.joules), "J")),
    )


def _time_cell(runs: Sequence[RunSummary], event: Event) -> Cell:
    time = median_time([time_of(run, event) for run in runs])
    reached = sum(run.reached(event) is not None for run in runs)
    return Cell(time.shown(), f"{reached} of {len(runs)}")


def _median(runs: Sequence[RunSummary], value: Callable[[RunSummary], float | None]) -> float | None:
    known = [number for run in runs if (number := value(run)) is not None]
    return median(known) if known else None


def _median_cell(runs: Sequence[RunSummary], value: Callable[[RunSummary], float | None], form: str) -> Cell:
    known = [number for run in runs if (number := value(run)) is not None]
    if not known:
        return Cell("–")  # noqa: RUF001
    low, middle, high = (form.format(number) for number in (min(known), median(known), max(known)))
    return Cell(middle, f"{low} to {high}" if low != high else "")


def _saving_cells(one: StrategyComparison, tested: bool) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    for event in EVENTS:
        cells += [_saving_cell(saving) for saving in one.savings[event].values()]
        p = one.p[event]
        cells += [Cell("–" if p is None else f"{p:.2g}")] if tested else []  # noqa: RUF001
    return tuple(cells)


def _saving_cell(saving: Saving) -> Cell:
    if saving.ratio is None:
        return Cell("?")
    spread = saving.spread.shown(1) if saving.spread and saving.pairs > 1 else ""
    middle = saving.ratio.shown(1)
    return Cell(middle, spread if spread != middle else "")
