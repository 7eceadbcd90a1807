"""Strategies against a baseline: how much sooner, and for how much less, with bounds where runs are censored.

A saving in steps only is not a saving, so FLOPs, seconds and joules stand beside it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from unplateau.analysis.columns import Cell, mark
from unplateau.analysis.runs import MILESTONES, Milestone, Runs, RunSummary, summaries
from unplateau.analysis.survival import Bounded, logrank_p, median_time, pooled
from unplateau.errors import SpecError, suggest

BASELINE = "plain"
"""The strategy that others are compared with unless another is named."""
Measure = Literal["steps", "train_flops", "seconds", "joules"]
MEASURES: dict[Measure, str] = {"steps": "steps", "train_flops": "FLOPs", "seconds": "seconds", "joules": "joules"}


@dataclass(frozen=True)
class Saving:
    """Cost of the baseline divided by cost of the strategy: above 1 the strategy is cheaper.

    ``ratio``: median over ``pairs`` of runs with the same seed (0: no seed in common, ratio of the medians).
    ``spread``: from the least to the most over these pairs. None where nothing is known, such as when both sides are
    censored or no energy was recorded.
    """

    ratio: Bounded | None
    spread: Bounded | None
    pairs: int

    @property
    def cell(self) -> Cell:
        """The ratio, and below it the range over several pairs; ``?`` where it is not known."""
        if self.ratio is None:
            return Cell("?")
        middle = self.ratio.shown(digits=1)
        spread = self.spread.shown(digits=1) if self.spread and self.pairs > 1 else ""
        return Cell(middle, spread if spread != middle else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        ratio, spread = (bound.as_dict() if bound else None for bound in (self.ratio, self.spread))
        return {"pairs": self.pairs, "ratio": ratio, "range": spread}


@dataclass(frozen=True)
class StrategyComparison:
    """One strategy. ``times``: median step of each milestone. ``savings`` and ``p`` are empty for the baseline itself.

    ``p``: two-sided log-rank test against the baseline, None below three runs a side.
    """

    strategy: str
    runs: tuple[RunSummary, ...]
    times: Mapping[Milestone, Bounded]
    savings: Mapping[Milestone, Mapping[Measure, Saving]]
    p: Mapping[Milestone, float | None]

    @property
    def unfinished(self) -> int:
        """Runs without their last step; they count as censored where they stopped."""
        return sum(not run.finished for run in self.runs)

    def n_reached(self, milestone: Milestone) -> int:
        """Runs that are not censored."""
        return sum(run.reached(milestone) is not None for run in self.runs)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; see :meth:`Bounded.as_dict` for bounds."""
        return {
            "strategy": self.strategy,
            "seeds": [run.seed for run in self.runs],
            "unfinished": self.unfinished,
            **{milestone: self._milestone_dict(milestone) for milestone in MILESTONES},
        }

    def _milestone_dict(self, milestone: Milestone) -> dict[str, Any]:
        return {
            "reached": self.n_reached(milestone),
            "censored": len(self.runs) - self.n_reached(milestone),
            "step": self.times[milestone].as_dict(),
            "savings": {name: saving.as_dict() for name, saving in self.savings.get(milestone, {}).items()},
            "logrank_p": self.p.get(milestone),
        }


@dataclass(frozen=True)
class Comparison:
    """All strategies of one experiment, the baseline first, then by escape."""

    recipe: str
    baseline: str
    strategies: tuple[StrategyComparison, ...]

    def __getitem__(self, strategy: str) -> StrategyComparison:
        for one in self.strategies:
            if one.strategy == strategy:
                return one
        raise SpecError(f"no runs of strategy '{strategy}'{suggest(strategy, [s.strategy for s in self.strategies])}")

    def as_dict(self) -> dict[str, Any]:
        """An entry of ``comparisons`` in ``summary.json``."""
        strategies = [one.as_dict() for one in self.strategies]
        return {"recipe": self.recipe, "baseline": self.baseline, "strategies": strategies}

    def __str__(self) -> str:
        methods = sorted({run.energy_method for one in self.strategies for run in one.runs})
        notes = (
            f"x: cost of {self.baseline} / cost of the strategy, median over seeds in common; > and <: bounds\n"
            f"joules: {'; '.join(methods)}"
        )
        if any(one.unfinished for one in self.strategies):
            notes += "\n*: unfinished runs, censored where they stopped"
        return "\n\n".join([*(_text_table(self, milestone) for milestone in MILESTONES), notes])


def compare(runs: Runs, baseline: str = BASELINE) -> Comparison:
    """Compares the strategies among these runs (records, run directories, or folders of them) with ``baseline``.

    Raises SpecError if there is no run, none of the baseline, two of the same strategy and seed, or if runs differ in
    more than strategy, seed and length.
    """
    return compare_summaries(summaries(runs), baseline)


def compare_summaries(runs: Sequence[RunSummary], baseline: str = BASELINE) -> Comparison:
    """The same for runs that have been summarised."""
    groups = by_strategy(runs, baseline)
    if baseline not in groups:
        raise SpecError(f"baseline: no run of strategy '{baseline}'{suggest(baseline, groups)}")
    compared = [_strategy(name, members, groups[baseline]) for name, members in groups.items()]
    return Comparison(runs[0].recipe, baseline, tuple(compared))


def by_strategy(runs: Sequence[RunSummary], first: str = BASELINE) -> dict[str, tuple[RunSummary, ...]]:
    """Runs of one experiment in order of seed, by strategy: ``first``, then the others by when they escape.

    Raises SpecError if the runs cannot be compared.
    """
    _refuse_mixtures(runs)
    groups: dict[str, dict[int, RunSummary]] = {}
    for run in sorted(runs, key=lambda run: (run.strategy, run.seed)):
        twin = groups.setdefault(run.strategy, {}).setdefault(run.seed, run)
        if twin is not run:
            raise SpecError(
                f"strategy '{run.strategy}' has two runs with seed {run.seed}: {twin.record.path} and "
                f"{run.record.path}; name only one of them"
            )
    found = {strategy: tuple(members.values()) for strategy, members in groups.items()}
    return dict(sorted(found.items(), key=lambda item: (item[0] != first, _order(item[1]), item[0])))


def experiment(run: RunSummary) -> dict[str, str]:
    """What two runs must share to be comparable, as JSON texts by name."""
    spec = run.record.spec
    shared = {name: spec.get(name) for name in ("recipe", "task", "model", "cut")}
    shared |= {f"train.{name}": spec.get("train", {}).get(name) for name in ("batch_size", "lr", "schedule")}
    return {name: json.dumps(value, sort_keys=True) for name, value in shared.items()}


def _refuse_mixtures(runs: Sequence[RunSummary]) -> None:
    first = experiment(runs[0])
    for run in runs[1:]:
        if differing := [name for name, value in experiment(run).items() if value != first[name]]:
            raise SpecError(
                f"{runs[0].record.path} and {run.record.path} differ in {', '.join(differing)}: only runs that differ "
                f"in strategy and seed alone can be compared; name one experiment"
            )


def _strategy(name: str, runs: tuple[RunSummary, ...], baseline: tuple[RunSummary, ...]) -> StrategyComparison:
    times = {there: [run.time_of(there) for run in runs] for there in MILESTONES}
    medians = {there: median_time(times[there]) for there in MILESTONES}
    if runs is baseline:
        return StrategyComparison(name, runs, medians, {}, {})
    savings = {there: {what: _saving(runs, baseline, there, what) for what in MEASURES} for there in MILESTONES}
    p = {there: logrank_p(times[there], [run.time_of(there) for run in baseline]) for there in MILESTONES}
    return StrategyComparison(name, runs, medians, savings, p)


def _saving(
    runs: Sequence[RunSummary], baseline: Sequence[RunSummary], milestone: Milestone, measure: Measure
) -> Saving:
    ours, theirs = (_costs_by_seed(members, milestone, measure) for members in (runs, baseline))
    ratios = [theirs[seed].over(ours[seed]) for seed in sorted(ours.keys() & theirs.keys())]
    if ratios or not ours or not theirs:
        return Saving(pooled(ratios, median, median), pooled(ratios, min, max), len(ratios))
    unpaired = median_time([*theirs.values()]).over(median_time([*ours.values()]))
    return Saving(pooled([unpaired], median, median), None, 0)


def _costs_by_seed(runs: Sequence[RunSummary], milestone: Milestone, measure: Measure) -> dict[int, Bounded]:
    """Costs to reach the milestone, more than all that was spent for a censored run; where they were recorded."""
    costs = {}
    for run in runs:
        to_there = run.costs_to[milestone]
        value = getattr(to_there or run.costs, measure)
        if value is not None:
            costs[run.seed] = Bounded.exactly(value) if to_there else Bounded.above(value)
    return costs


def _order(runs: Sequence[RunSummary]) -> tuple[tuple[bool, float], ...]:
    """Sorts by escape, exact before bound, then by completion."""
    times = [median_time([run.time_of(there) for run in runs]) for there in MILESTONES]
    return tuple((not time.exact, time.low) for time in times)


def _text_table(comparison: Comparison, milestone: Milestone) -> str:
    head = [milestone, "reached", "step", *(f"{unit} x" for unit in MEASURES.values()), "p"]
    rows = [head, *(_text_row(one, milestone) for one in comparison.strategies)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _text_row(one: StrategyComparison, milestone: Milestone) -> list[str]:
    reached = f"{one.n_reached(milestone)} of {len(one.runs)}"
    ratios = [saving.cell.text for saving in one.savings.get(milestone, {}).values()] or [""] * len(MEASURES)
    p = one.p.get(milestone)
    shown = "" if p is None else f"{p:.2g}"
    return [one.strategy + mark(one.runs), reached, one.times[milestone].shown(), *ratios, shown]


@dataclass(frozen=True)
class Summary:
    """All runs in numbers, and for each experiment that has plain runs a comparison with them."""

    runs: tuple[RunSummary, ...]
    comparisons: tuple[Comparison, ...]

    def as_dict(self) -> dict[str, Any]:
        """The content of ``summary.json``: plain JSON values, unknown ones are null."""
        return {
            "runs": [one.as_dict() for one in self.runs],
            "comparisons": [one.as_dict() for one in self.comparisons],
        }


def summarise(runs: Runs) -> Summary:
    """These runs in numbers (records, run directories, or folders of them), ordered by experiment, strategy and seed.

    Raises SpecError if there is no run, or if an experiment has two runs of the same strategy and seed.
    """
    groups: dict[tuple[str, ...], list[RunSummary]] = {}
    for run in sorted(summaries(runs), key=lambda run: (run.recipe, run.strategy, run.seed)):
        groups.setdefault(tuple(experiment(run).values()), []).append(run)
    ordered = [run for members in groups.values() for run in members]
    with_baseline = [members for members in groups.values() if BASELINE in {run.strategy for run in members}]
    return Summary(tuple(ordered), tuple(map(compare_summaries, with_baseline)))
