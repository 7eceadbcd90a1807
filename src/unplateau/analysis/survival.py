"""Times and ratios that are known only as a bound, because a run ended before it got there.

Medians (Kaplan and Meier 1958) and p values (log-rank test, Mantel 1966) neither drop such a run nor count it as if it
had got there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

Pool = Callable[[Iterable[float]], float]


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


def pooled(ratios: Sequence[Bounded], low: Pool, high: Pool) -> Bounded | None:
    """Their lower ends in one, and their upper ends, such as by ``median``; None where nothing is known about them."""
    if not ratios:
        return None
    both = Bounded(low(ratio.low for ratio in ratios), high(ratio.high for ratio in ratios))
    unbounded = both.low == 0 and math.isinf(both.high)
    return None if unbounded or math.isinf(both.low) else both


def logrank_p(some: Sequence[Bounded], others: Sequence[Bounded]) -> float | None:
    """Two-sided p of the log-rank test; None below three runs a side, or if no run got there."""
    if min(len(some), len(others)) < 3 or not any(time.exact for time in (*some, *others)):
        return None
    p = float(stats.logrank(_censored(some), _censored(others)).pvalue)
    return None if math.isnan(p) else p


def _censored(times: Sequence[Bounded]) -> stats.CensoredData:
    return stats.CensoredData.right_censored([time.low for time in times], [not time.exact for time in times])


def _rounded(value: float, digits: int, way: int) -> float:
    """Rounded down (``way`` -1) or up (1); 2.9999999999 counts as 3."""
    scaled = way * value * 10**digits
    return value if math.isinf(value) else way * math.ceil(scaled - 1e-9) / 10**digits
