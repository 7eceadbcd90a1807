"""Times and ratios that are known only as a bound, because a run ended before it got there.

Medians (Kaplan and Meier 1958), restricted means, their intervals and p values neither drop such a run nor count it as
if it had got there. What the intervals cover, and how often p is below 0.05 where nothing differs, was simulated:
benchmarks/intervals.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Pool = Callable[[Iterable[float]], float]
CONFIDENCE = 0.95
_TAIL = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
_RESAMPLES, _PERMUTATIONS = 4000, 9999
FEWEST_IN_MEDIAN, FEWEST_IN_RATIO = 5, 4
"""Runs below which an interval has no ends; of a ratio on either side. What two or three have shown is too narrow."""
FEWEST_KNOWN = 2
"""Of the runs on either side of a ratio, those that got there within the budget or are known not to have."""


@dataclass(frozen=True)
class Bounded:
    """A non-negative quantity known to lie in ``[low, high]``; exact where both are equal, ``high`` may be infinite."""

    low: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Bounded:
        """A known value."""
        return cls(value, value)

    @classmethod
    def above(cls, value: float) -> Bounded:
        """A value beyond this one: what a censored run tells."""
        return cls(value, math.inf)

    @property
    def exact(self) -> bool:
        """Whether the value itself is known."""
        return self.low == self.high

    @property
    def value(self) -> float | None:
        """The value itself, None for a mere bound."""
        return self.low if self.exact else None

    def over(self, other: Bounded) -> Bounded:
        """This quantity divided by another."""
        low = self.low / other.high if other.high else math.inf
        return Bounded(low, self.high / other.low if other.low else math.inf)

    def shown(self, digits: int = 0) -> str:
        """``900``, ``> 2,000``, ``< 3``, or ``2 to 3``; bounds are rounded outwards, so that none claims too much."""
        if self.exact:
            return f"{self.low:,.{digits}f}"
        low, high = (f"{_rounded(bound, digits, way):,.{digits}f}" for bound, way in ((self.low, -1), (self.high, 1)))
        if math.isinf(self.high):
            return f"> {low}"
        return f"< {high}" if self.low == 0 else f"{low} to {high}"

    def as_dict(self) -> dict[str, Any]:
        """``value`` (null for a mere bound), ``low``, and ``high`` (null for no upper bound)."""
        return {"value": self.value, "low": self.low, "high": None if math.isinf(self.high) else self.high}


@dataclass(frozen=True)
class Estimate:
    """A value, and the ends of its 95 % interval (``high`` may be infinite)."""

    value: float
    low: float
    high: float

    def shown(self, digits: int = 1) -> str:
        """``4.1 (2.0 to 7.9)``, ``4.1 (> 2.0)``, or ``4.1`` without ends; the ends are rounded outwards."""
        if self.low == 0 and math.isinf(self.high):
            return f"{self.value:,.{digits}f}"
        return f"{self.value:,.{digits}f} ({Bounded(self.low, self.high).shown(digits)})"

    def as_dict(self) -> dict[str, float | None]:
        """``high`` is null where there is no upper end."""
        return {"value": self.value, "low": self.low, "high": None if math.isinf(self.high) else self.high}


def median_time(times: Sequence[Bounded]) -> Bounded:
    """Kaplan-Meier median of exact and right-censored times, of which there must be at least one.

    The median is the middle of the stretch on which half of the runs are still on their way (the mean of the two middle
    values where no run is censored). Where that stretch has no known end, the result is a bound: no censored run got
    there before its own last step, so that the median is not before that of these.
    """
    curve = stats.ecdf(_censored(times)).sf
    survival = np.asarray(curve.probabilities)
    before = curve.quantiles[survival < 0.5 - 1e-12]
    half = curve.quantiles[np.isclose(survival, 0.5, rtol=0, atol=1e-12)]
    if not before.size:
        return Bounded.above(float(np.median([time.low for time in times])))
    return Bounded.exactly(float(half[0] + before[0]) / 2 if half.size else float(before[0]))


def median_band(times: Sequence[Bounded]) -> Bounded:
    """95 % interval of that median: the mid-p beta product of Fay and Brittain (2016; doi:10.1002/sim.6905).

    The share of runs still on their way is taken as a product of beta variables, one for each run that got there, whose
    parameter is how many were left; without censoring that is the interval of order statistics. It needs five runs, has
    no upper end where half of all may never get there, and widens as runs are censored: those that ended early are
    no evidence of what comes after. It never begins later than the median itself.
    """
    ordered = sorted(times, key=lambda time: (time.low, not time.exact))
    mean, square, low, high = 1.0, 1.0, 0.0, math.inf
    later = _later_than_half(1.0, 1.0, len(ordered))
    for place, time in enumerate(ordered):
        if later >= _TAIL[1]:
            low = time.low
        n_left = len(ordered) - place
        if time.exact:
            mean, square = mean * n_left / (n_left + 1), square * n_left / (n_left + 2)
        later = _later_than_half(mean, square, n_left - 1)
        if time.exact and later < _TAIL[0]:
            high = time.low
            break
    return Bounded(min(low, median_time(times).low), high)


def _later_than_half(mean: float, square: float, n_left: int) -> float:
    """How sure it is that half of all runs are still on their way: between two bounds, of now and of the next event."""
    factor = (n_left / (n_left + 1), n_left / (n_left + 2))
    return (_above_half(mean, square) + _above_half(mean * factor[0], square * factor[1])) / 2


def _above_half(mean: float, square: float) -> float:
    """P(> 1/2) of the beta variable with this mean and mean square."""
    spread = square - mean**2
    if spread <= 0:
        return float(mean > 0.5)
    total = mean * (1 - mean) / spread - 1
    return float(stats.beta.sf(0.5, mean * total, (1 - mean) * total))


def share_within(times: Sequence[Bounded], budget: float) -> Estimate:
    """Share of runs that got there within ``budget``, with the interval of Clopper and Pearson (1934).

    Runs that ended before it count as late in the value; the interval's upper end counts them as having got there.
    """
    n, there = len(times), sum(time.exact and time.low <= budget for time in times)
    unknown = sum(not time.exact and time.low < budget for time in times)
    low = stats.binomtest(there, n).proportion_ci(CONFIDENCE).low
    return Estimate(there / n, float(low), float(stats.binomtest(there + unknown, n).proportion_ci(CONFIDENCE).high))


def follow_up(times: Sequence[Bounded], spent: Sequence[float]) -> float:
    """How far the share of runs on their way is known, by what runs have ``spent`` in all: the largest budget."""
    last = max(times, key=lambda time: (time.low, not time.exact))
    return max(spent) if last.exact else last.low


def restricted_mean(times: Sequence[Bounded], budget: float) -> float:
    """Mean cost to get there, where all that exceeds ``budget`` counts as the budget (Royston and Parmar 2013).

    The area below the Kaplan-Meier curve up to there. ``budget`` must not exceed :func:`follow_up`.
    """
    return float(_restricted_means(times, budget, np.ones((1, len(times))))[0])


def restricted_ratio(theirs: Sequence[Bounded], ours: Sequence[Bounded], budget: float) -> Estimate | None:
    """Restricted mean of theirs divided by that of ours; None if no run of either got there within the budget.

    The interval is a percentile bootstrap over runs, of either side by itself, expanded to what Student's t would have
    (Hesterberg 2015): that of few runs is too narrow otherwise. Where all runs of a side are alike, as where none got
    there, one more run is drawn from, with the least time of all. It has no ends (0 and infinity) with less than four
    runs on a side, nor where all of a side but one ended before the budget: resamples of what is known of a single run
    are all alike.
    """
    sides = [[at_most(time, budget) for time in times] for times in (theirs, ours)]
    if not any(time.exact for side in sides for time in side):
        return None
    value = restricted_mean(theirs, budget) / restricted_mean(ours, budget)
    n = min(map(len, sides))
    known = min(sum(time.exact or time.low >= budget for time in side) for side in sides)
    if n < FEWEST_IN_RATIO or known < FEWEST_KNOWN:
        return Estimate(value, 0.0, math.inf)
    least = min((time for side in sides for time in side), key=lambda time: (time.low, not time.exact))
    random = np.random.default_rng(0)
    means = []
    for side in sides:
        drawn = [*side, least] if len(set(side)) == 1 else side
        counts = random.multinomial(len(drawn), np.full(len(drawn), 1 / len(drawn)), _RESAMPLES)
        means.append(_restricted_means(drawn, budget, counts))
    tail = stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(_TAIL[0], n - 1))
    low, high = np.quantile(means[0] / means[1], [tail, 1 - tail])
    return Estimate(value, min(float(low), value), max(float(high), value))


def pooled(ratios: Sequence[Bounded], low: Pool, high: Pool) -> Bounded | None:
    """Their lower ends in one, and their upper ends, such as by ``median``; None where nothing is known about them."""
    if not ratios:
        return None
    both = Bounded(low(ratio.low for ratio in ratios), high(ratio.high for ratio in ratios))
    unbounded = both.low == 0 and math.isinf(both.high)
    return None if unbounded or math.isinf(both.low) else both


def logrank_p(some: Sequence[Bounded], others: Sequence[Bounded]) -> float | None:
    """Two-sided p of the log-rank test (Mantel 1966); None below three runs a side, or if no run got there.

    By permutation: scores are dealt to the two sides anew, in all ways if these are few. The usual normal approximation
    rejects too often with five runs a side. Costs should end at the same budget on both sides.
    """
    both = [*some, *others]
    if min(len(some), len(others)) < 3 or not any(time.exact for time in both):
        return None
    return _dealt_p(tuple(_logrank_scores(both)), len(some))


@lru_cache(maxsize=64)
def _dealt_p(scores: tuple[float, ...], n: int) -> float:
    """Of the first n scores against the others. Kept: steps, prompts and tokens have one order, so the same scores."""
    found = stats.permutation_test(
        (np.array(scores[:n]), np.array(scores[n:])),
        lambda one, other, axis: one.mean(axis) - other.mean(axis),
        permutation_type="independent",
        vectorized=True,
        n_resamples=_PERMUTATIONS,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def paired_p(pairs: Sequence[tuple[Bounded, Bounded]], ends: Sequence[float]) -> float | None:
    """Two-sided p of the costs of pairs, whose signs are flipped; None below three pairs, or if no run got there.

    ``ends``: to where both runs of a pair are known. What exceeds it counts as that, on both sides alike: leaving out
    pairs whose shorter run did not get there would keep the early ones of that side. Of n pairs p is at least 2 / 2^n.
    """
    ended = [[at_most(time, end) for time in pair] for pair, end in zip(pairs, ends, strict=True)]
    if len(ended) < 3 or not any(time.exact for pair in ended for time in pair):
        return None
    known = [[time.low for time in pair] for pair in ended]
    differences = np.subtract(*np.array(known).T)
    found = stats.permutation_test(
        (differences,),
        lambda values, axis: values.mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_PERMUTATIONS,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def _restricted_means(times: Sequence[Bounded], budget: float, counts: NDArray[Any]) -> NDArray[np.float64]:
    """(S,): of samples in which each of N times comes so often, ``counts`` (S, N)."""
    order = sorted(range(len(times)), key=lambda number: (times[number].low, not times[number].exact))
    at = np.array([min(times[number].low, budget) for number in order])
    there = np.array([times[number].exact and times[number].low <= budget for number in order])
    weights = np.asarray(counts, dtype=float)[:, order]
    at_risk = weights[:, ::-1].cumsum(1)[:, ::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(there & (at_risk > 0), 1 - weights / at_risk, 1.0)
    survival = np.concatenate([np.ones((len(weights), 1)), left.cumprod(1)], 1)  # on the stretches between the times
    stretches = np.diff(np.concatenate([[0.0], at, [budget]]))
    return survival @ stretches


def _logrank_scores(times: Sequence[Bounded]) -> NDArray[np.float64]:
    """(N,): whether it got there, less the risk that it had run (Nelson, Aalen); their sums are the log-rank test."""
    at, there = np.array([time.low for time in times]), np.array([time.exact for time in times])
    events = np.unique(at[there])
    risks = np.array([(there & (at == event)).sum() / (at >= event).sum() for event in events])
    return there - (risks[None] * (events[None] <= at[:, None])).sum(1)


def at_most(time: Bounded, budget: float) -> Bounded:
    """The same, seen by somebody who stopped at the budget."""
    return Bounded.above(budget) if time.low > budget else time


def _censored(times: Sequence[Bounded]) -> stats.CensoredData:
    return stats.CensoredData.right_censored([time.low for time in times], [not time.exact for time in times])


def _rounded(value: float, digits: int, way: int) -> float:
    """Rounded down (``way`` -1) or up (1); 2.9999999999 counts as 3."""
    scaled = way * value * 10**digits
    return value if math.isinf(value) else way * math.ceil(scaled - 1e-9) / 10**digits
