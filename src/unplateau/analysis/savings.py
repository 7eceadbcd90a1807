"""What runs needed to get to a milestone, and what a strategy saves against a baseline, in one measure.

A saving in steps only is not a saving, so FLOPs, seconds and joules stand beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
    times = [*_costs_by_seed(runs, milestone, measure).values()]
    share, mean = share_within(times, budget), restricted_mean(times, budget)
    return Cost(median_time(times), median_band(times), budget, share, mean)


def saving_of(
    runs: Sequence[RunSummary],
    baseline: Sequence[RunSummary],
    milestone: Milestone,
    measure: Measure,
    budget: float | None,
) -> Saving:
    """Of a strategy against the baseline; without a budget what is known of pairs alone."""
    ours, theirs = (_costs_by_seed(members, milestone, measure) for members in (runs, baseline))
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
