"""Times and ratios that are known only as a bound, because a run ended before it got there.

What enters: times, some of them right-censored. What leaves: medians (Kaplan and Meier 1958) and p values (log-rank
test, Mantel 1966) that neither drop such a run nor count it as if it had got there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from scipy import stats

FEWEST_FOR_TEST = 3
"""Runs a side below which a log-rank p value would say nothing."""


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
        return {
            "value": self.low if self.exact else None,
            "low": self.low,
            "high": None if math.isinf(self.high) else self.high,
        }


def known(quantity: Bounded) -> Bounded | None:
    """The quantity, or None where nothing is known about it."""
    unbounded = quantity.low == 0 and math.isinf(quantity.high)
    return None if unbounded or math.isinf(quantity.low) else quantity


def median_time(times: Sequence[Bounded]) -> Bounded:
    """Kaplan-Meier median of exact and right-censored times, of which there must be at least one.

    The median is the middle of the stretch on which half of the runs are still on their way (the mean of the two middle
    values where no run is censored). Where that stretch has no known end, the result is a bound.
    """
    curve = stats.ecdf(_censored(times)).sf
    survival = np.asarray(curve.probabilities)
    before = curve.quantiles[survival < 0.5 - 1e-12]
    half = curve.quantiles[np.isclose(survival, 0.5, rtol=0, atol=1e-12)]
    last = max(time.low for time in times)
    if half.size:
        return Bounded.exactly(float(half[0] + before[0]) / 2) if before.size else Bounded.above((half[0] + last) / 2)
    return Bounded.exactly(float(before[0])) if before.size else Bounded.above(last)


def median_ratio(ratios: Sequence[Bounded]) -> Bounded | None:
    """The median of ratios of which some are bounds; None where it is not known at all."""
    if not ratios:
        return None
    return known(Bounded(median(ratio.low for ratio in ratios), median(ratio.high for ratio in ratios)))


def range_of(ratios: Sequence[Bounded]) -> Bounded | None:
    """From the least that any of these can be to the most; None where nothing is known."""
    if not ratios:
        return None
    return known(Bounded(min(ratio.low for ratio in ratios), max(ratio.high for ratio in ratios)))


def logrank_p(some: Sequence[Bounded], others: Sequence[Bounded]) -> float | None:
    """Two-sided p of the log-rank test; None below three runs a side, or if no run got there."""
    if min(len(some), len(others)) < FEWEST_FOR_TEST or not any(time.exact for time in (*some, *others)):
        return None
    p = float(stats.logrank(_censored(some), _censored(others)).pvalue)
    return None if math.isnan(p) else p


def _censored(times: Sequence[Bounded]) -> stats.CensoredData:
    return stats.CensoredData.right_censored([time.low for time in times], [not time.exact for time in times])


def _rounded(value: float, digits: int, way: int) -> float:
    """Rounded down (``way`` -1) or up (1); 2.9999999999 counts as 3."""
    scaled = way * value * 10**digits
    return value if math.isinf(value) else way * math.ceil(scaled - 1e-9) / 10**digits
