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
from unplateau.analysis.survival import (
    Bounded,
    Estimate,
    at_most,
    follow_up,
    logrank_p,
    median_band,
    median_time,
    paired_p,
    pooled,
    restricted_mean,
    restricted_ratio,
    share_within,
)
from unplateau.errors import SpecError, suggest

BASELINE = "plain"
"""The strategy that others are compared with unless another is named."""
Measure = Literal["steps", "rows", "tokens", "train_flops", "seconds", "joules"]
MEASURES: dict[Measure, str] = {
    "steps": "steps",
    "rows": "prompts",
    "tokens": "tokens",
    "train_flops": "FLOPs",
    "seconds": "seconds",
    "joules": "joules",
}
SHOWN: tuple[Measure, ...] = ("steps", "train_flops", "seconds", "joules")
"""Of these, what tables show; prompts and tokens follow the steps unless batches differ, and stand in JSON."""


@dataclass(frozen=True)
class Cost:
    """What the runs of one strategy needed to get to a milestone, in one measure.

    ``median`` and its 95 % ``band``: Kaplan-Meier. ``budget``: up to which all strategies are known; ``share``: of runs
    that got there within it; ``restricted_mean``: their mean, where what exceeds the budget counts as the budget.
    """

    median: Bounded
    band: Bounded
    budget: float
    share: Estimate
    restricted_mean: float

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "median": self.median.as_dict(),
            "band": self.band.as_dict(),
            "budget": self.budget,
            "share": self.share.as_dict(),
            "restricted_mean": self.restricted_mean,
        }


@dataclass(frozen=True)
class Saving:
    """Cost of the baseline divided by cost of the strategy: above 1 the strategy is cheaper.

    ``ratio``: median over ``pairs`` of runs with the same seed (0: no seed in common, ratio of the medians).
    ``spread``: from the least to the most over these pairs. None where nothing is known, such as when both sides are
    censored or no energy was recorded. ``restricted``: ratio of the restricted means, with its 95 % interval; None
    where nobody got there within the budget. ``logrank_p``, ``paired_p``: two-sided, None below three runs a side and
    three pairs.
    """

    ratio: Bounded | None
    spread: Bounded | None
    pairs: int
    restricted: Estimate | None = None
    logrank_p: float | None = None
    paired_p: float | None = None

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
        ratio, spread, restricted = (
            one.as_dict() if one else None for one in (self.ratio, self.spread, self.restricted)
        )
        tests = {"logrank_p": self.logrank_p, "paired_p": self.paired_p}
        return {"pairs": self.pairs, "ratio": ratio, "range": spread, "restricted": restricted, **tests}


@dataclass(frozen=True)
class StrategyComparison:
    """One strategy. ``times``: median step of each milestone. ``savings`` are empty for the baseline itself.

    ``costs`` leave out measures that were not recorded for every run.
    """

    strategy: str
    runs: tuple[RunSummary, ...]
    times: Mapping[Milestone, Bounded]
    costs: Mapping[Milestone, Mapping[Measure, Cost]]
    savings: Mapping[Milestone, Mapping[Measure, Saving]]

    @property
    def unfinished(self) -> int:
        """Runs without their last step; they count as censored where they stopped."""
        return sum(not run.finished for run in self.runs)

    def n_reached(self, milestone: Milestone) -> int:
        """Runs that are not censored."""
        return sum(run.reached(milestone) is not None for run in self.runs)

    def n_lost(self, milestone: Milestone) -> int:
        """Runs that got there and were thrown back, whether or not they came again."""
        return sum(bool(run.lost[milestone]) for run in self.runs)

    def p(self, milestone: Milestone) -> float | None:
        """Of the log-rank test in steps."""
        saving = self.savings.get(milestone, {}).get("steps")
        return saving.logrank_p if saving else None

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
            "lost": self.n_lost(milestone),
            "step": self.times[milestone].as_dict(),
            "costs": {name: cost.as_dict() for name, cost in self.costs[milestone].items()},
            "savings": {name: saving.as_dict() for name, saving in self.savings.get(milestone, {}).items()},
            "logrank_p": self.p(milestone),
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
        notes = [
            f"x: cost of {self.baseline} / cost of the strategy, median over seeds in common; > and <: bounds",
            f"joules: {'; '.join(methods)}",
            "in brackets: 95 % intervals; mean: what exceeds the budget counts as the budget",
        ]
        if any(one.n_lost(milestone) for one in self.strategies for milestone in MILESTONES):
            notes.append(
                "lost: runs that got there and were thrown back; if they did not come again they are not reached"
            )
        if any(one.unfinished for one in self.strategies):
            notes.append("*: unfinished runs, censored where they stopped")
        tables = [table(self, there) for there in MILESTONES for table in (_text_table, _budget_table)]
        return "\n\n".join([*filter(None, tables), "\n".join(notes)])


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
    budgets = {(there, what): _budget(groups, there, what) for there in MILESTONES for what in MEASURES}
    compared = [_strategy(name, members, groups[baseline], budgets) for name, members in groups.items()]
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


def _strategy(
    name: str,
    runs: tuple[RunSummary, ...],
    baseline: tuple[RunSummary, ...],
    budgets: Mapping[tuple[Milestone, Measure], float | None],
) -> StrategyComparison:
    medians = {there: median_time([run.time_of(there) for run in runs]) for there in MILESTONES}
    costs: dict[Milestone, dict[Measure, Cost]] = {there: {} for there in MILESTONES}
    for (there, what), budget in budgets.items():
        times = [*_costs_by_seed(runs, there, what).values()]
        if budget is not None:
            share, mean = share_within(times, budget), restricted_mean(times, budget)
            costs[there][what] = Cost(median_time(times), median_band(times), budget, share, mean)
    savings: dict[Milestone, dict[Measure, Saving]] = {there: {} for there in MILESTONES}
    for (there, what), budget in budgets.items():
        ours, theirs = (_costs_by_seed(members, there, what) for members in (runs, baseline))
        savings[there][what] = _saving(ours, theirs, budget)
    return StrategyComparison(name, runs, medians, costs, {} if runs is baseline else savings)


def _budget(groups: Mapping[str, Sequence[RunSummary]], milestone: Milestone, measure: Measure) -> float | None:
    """Up to where all strategies are known; None if a run has not recorded this measure."""
    known = []
    for runs in groups.values():
        spent = [cost for run in runs if (cost := getattr(run.costs, measure)) is not None]
        if len(spent) < len(runs):
            return None
        known.append(follow_up([*_costs_by_seed(runs, milestone, measure).values()], spent))
    return min(known)


def _saving(ours: Mapping[int, Bounded], theirs: Mapping[int, Bounded], budget: float | None) -> Saving:
    seeds = sorted(ours.keys() & theirs.keys())
    ratios = [theirs[seed].over(ours[seed]) for seed in seeds]
    ratio, spread = pooled(ratios, median, median), pooled(ratios, min, max)
    if not ratios and ours and theirs:
        unpaired = median_time([*theirs.values()]).over(median_time([*ours.values()]))
        ratio = pooled([unpaired], median, median)
    if budget is None:
        return Saving(ratio, spread, len(ratios))
    their_times, our_times = ([at_most(time, budget) for time in side.values()] for side in (theirs, ours))
    return Saving(
        ratio,
        spread,
        len(ratios),
        restricted=restricted_ratio(their_times, our_times, budget),
        logrank_p=logrank_p(their_times, our_times),
        paired_p=paired_p([(theirs[seed], ours[seed]) for seed in seeds], budget),
    )


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
    head = [milestone, "reached", "step (95 %)", *(f"{MEASURES[name]} x" for name in SHOWN)]
    return _aligned(head, [_text_row(one, milestone) for one in comparison.strategies])


def _text_row(one: StrategyComparison, milestone: Milestone) -> list[str]:
    reached = f"{one.n_reached(milestone)} of {len(one.runs)}"
    if lost := one.n_lost(milestone):
        reached += f", {lost} lost"
    savings = one.savings.get(milestone)
    ratios = [savings[name].cell.text for name in SHOWN] if savings else [""] * len(SHOWN)
    step = one.times[milestone].shown()
    if len(one.runs) > 1:
        step += f" ({one.costs[milestone]['steps'].band.shown()})"
    return [one.strategy + mark(one.runs), reached, step, *ratios]


def _budget_table(comparison: Comparison, milestone: Milestone) -> str:
    """Empty where no strategy has two runs."""
    if all(len(one.runs) < 2 for one in comparison.strategies):
        return ""
    budget = comparison.strategies[0].costs[milestone]["steps"].budget
    head = [f"{milestone} within {budget:,.0f} steps", "share", "mean step", "steps x", "p (log-rank)", "p (paired)"]
    rows = []
    for one in comparison.strategies:
        cost, saving = one.costs[milestone]["steps"], one.savings.get(milestone, {}).get("steps")
        ratio = saving.restricted.shown() if saving and saving.restricted else ""
        tests = ["" if p is None else f"{p:.2g}" for p in ((saving.logrank_p, saving.paired_p) if saving else ())]
        rows.append([one.strategy, cost.share.shown(2), f"{cost.restricted_mean:,.0f}", ratio, *(tests or ["", ""])])
    return _aligned(head, rows)


def _aligned(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in (head, *rows)
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


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
