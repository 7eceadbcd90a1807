"""What runs needed to get to a milestone, and what a strategy saves against a baseline, in one measure.

A saving in steps only is not a saving, so FLOPs, seconds and joules stand beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any, Literal

from unplateau.analysis.columns import Cell
from unplateau.analysis.runs import Milestone, RunSummary
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

    ``times``: of each of them. ``budget``: up to which all strategies are known. Estimates are made when they are asked
    for, because a report shows few of them.
    """

    times: tuple[Bounded, ...] = field(repr=False)
    budget: float

    @cached_property
    def median(self) -> Bounded:
        """That of Kaplan and Meier."""
        return median_time(self.times)

    @cached_property
    def band(self) -> Bounded:
        """The 95 % interval of the median."""
        return median_band(self.times)

    @cached_property
    def share(self) -> Estimate:
        """Share of the runs that got there within the budget."""
        return share_within(self.times, self.budget)

    @cached_property
    def restricted_mean(self) -> float:
        """Their mean, where what exceeds the budget counts as the budget."""
        return restricted_mean(self.times, self.budget)

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
    censored or no energy was recorded. ``theirs``, ``ours``: costs of the baseline and of the strategy by seed;
    ``budget``: up to which both are known, None if they were not recorded for every run; ``ends``: the same of the two
    runs of a seed. What takes resampling is made when it is asked for.
    """

    ratio: Bounded | None
    spread: Bounded | None
    theirs: Mapping[int, Bounded] = field(repr=False)
    ours: Mapping[int, Bounded] = field(repr=False)
    budget: float | None
    ends: Mapping[int, float] = field(repr=False)

    @property
    def pairs(self) -> int:
        """Seeds that both sides have."""
        return len(_in_common(self.theirs, self.ours))

    @cached_property
    def restricted(self) -> Estimate | None:
        """Ratio of the restricted means, with its 95 % interval; None where nobody got there within the budget."""
        return None if self.budget is None else restricted_ratio(*self._within(self.budget), self.budget)

    @cached_property
    def logrank_p(self) -> float | None:
        """Two-sided; None below three runs a side."""
        return None if self.budget is None else logrank_p(*self._within(self.budget))

    @cached_property
    def paired_p(self) -> float | None:
        """Two-sided, of each pair to where both runs are known; None below three pairs, or if nobody got there."""
        pairs = [(self.theirs[seed], self.ours[seed]) for seed in self.ends]
        return None if self.budget is None else paired_p(pairs, [*self.ends.values()])

    def _within(self, budget: float) -> tuple[list[Bounded], list[Bounded]]:
        theirs, ours = ([at_most(time, budget) for time in side.values()] for side in (self.theirs, self.ours))
        return theirs, ours

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
        told = {"pairs": self.pairs, "ratio": ratio, "range": spread, "budget": self.budget, "restricted": restricted}
        return told | tests


def budget_of(groups: Sequence[Sequence[RunSummary]], milestone: Milestone, measure: Measure) -> float | None:
    """Up to where all strategies are known; None if a run has not recorded this measure."""
    known = []
    for runs in groups:
        spent = [cost for run in runs if (cost := getattr(run.costs, measure)) is not None]
        if len(spent) < len(runs):
            return None
        known.append(follow_up([*_costs_by_seed(runs, milestone, measure).values()], spent))
    return min(known)


def cost_of(runs: Sequence[RunSummary], milestone: Milestone, measure: Measure, budget: float) -> Cost:
    """What these runs needed, all of which have recorded it."""
    return Cost(tuple(_costs_by_seed(runs, milestone, measure).values()), budget)


def saving_of(
    runs: Sequence[RunSummary],
    baseline: Sequence[RunSummary],
    milestone: Milestone,
    measure: Measure,
) -> Saving:
    """Of a strategy against the baseline; what is known of pairs alone if a run has not recorded this measure."""
    budget = budget_of((runs, baseline), milestone, measure)
    ours, theirs = (_costs_by_seed(members, milestone, measure) for members in (runs, baseline))
    seeds = _in_common(theirs, ours)
    ratios = [theirs[seed].over(ours[seed]) for seed in seeds]
    ratio, spread = pooled(ratios, median, median), pooled(ratios, min, max)
    if not ratios and ours and theirs:
        unpaired = median_time([*theirs.values()]).over(median_time([*ours.values()]))
        ratio = pooled([unpaired], median, median)
    spent = [{run.seed: getattr(run.costs, measure) for run in members} for members in (runs, baseline)]
    return Saving(ratio, spread, theirs, ours, budget, {seed: min(side[seed] for side in spent) for seed in seeds})


def _in_common(theirs: Mapping[int, Bounded], ours: Mapping[int, Bounded]) -> list[int]:
    return sorted(theirs.keys() & ours.keys())


def _costs_by_seed(runs: Sequence[RunSummary], milestone: Milestone, measure: Measure) -> dict[int, Bounded]:
    """Costs to reach the milestone, more than all that was spent for a censored run; where they were recorded."""
    costs = {}
    for run in runs:
        to_there = run.costs_to[milestone]
        value = getattr(to_there or run.costs, measure)
        if value is not None:
            costs[run.seed] = Bounded.exactly(value) if to_there else Bounded.above(value)
    return costs
