"""How much noise a curve carries, and how many straight pieces that lets one see.

Smoothed logs have errors that hang together, so a thousand rows may be worth fifty: every test in this package is in
units of the long-run variance.
"""

from dataclasses import dataclass

import numpy as np

from unplateau.plateau.curve import Prepared, binned
from unplateau.plateau.fit import Fit, Points, refined, search
from unplateau.plateau.progress import Floats

MOST_KNOTS = 12
MOST_PLACES = 160
COST_OF_KNOT = 3.0
"""Times log(number of points). BIC's price of a parameter is 1; a knot has a value and a place, and the search for the
place counts as a third."""
ROUNDS = 2
"""How often noise and fit are read from each other."""
CLEAR, VISIBLE = 0.003, 0.01
"""A curve that pieces follow within the first share of its range has no noise to speak of: what fewer pieces miss by
more than the second is shape, however long it hangs together."""
LEAST_NOISE = 1e-4
"""Noise sd below which a curve counts as exact, in units of its spread."""


@dataclass(frozen=True)
class Fitted:
    """A curve's rows as points on one clock, their piecewise-linear fit, and the noise about it.

    ``sd``: noise of one row. ``long_run``: variance such that a mean of m rows has variance long_run / m.
    ``bends``: the fit with all corners that the rows ask for, of which ``fit`` may have made one where they are a bend.
    """

    points: Points
    fit: Fit
    sd: float
    long_run: float
    bends: Fit | None = None

    @property
    def errors(self) -> Floats:
        """(N,): the rows less the fit."""
        return self.points.y - self.fit(self.points.x)

    def missed(self, low: float, high: float) -> float:
        """What ``fit`` misses of the bends from ``low`` to ``high``, as a residual sum of squares."""
        if self.bends is None:
            return 0.0
        x = self.points.x
        off = [(self.points.y - fit(x)) ** 2 for fit in (self.fit, self.bends)]
        lost = np.sum((self.points.w * (off[0] - off[1]))[(x >= low) & (x <= high)])
        return max(float(lost), 0.0)


def fitted(curve: Prepared) -> Fitted:
    """The continuous piecewise-linear fit, its number of pieces and its clock (steps or rows) chosen by BIC."""
    tries = [_coarse(clock, curve) for clock in curve.clocks]
    best = int(np.argmin([cost for *_, cost in tries]))
    coarse, chosen, long_run, _ = tries[best]
    points = Points(curve.clocks[best], curve.y, curve.w)
    nearest = points.x[np.searchsorted(points.x, chosen.knots[1:-1])]
    start = points.fit(np.unique(np.concatenate([points.x[:1], nearest, points.x[-1:]])))
    fit = refined(points, start, 3 * points.x.size // coarse.x.size + 2)
    variance = _variance(points, fit)
    long_run = max(long_run, variance)
    price = COST_OF_KNOT * np.log(points.x.size) * long_run
    return Fitted(points, _pruned(points, fit, price), float(np.sqrt(variance)), long_run)


def _coarse(clock: Floats, curve: Prepared) -> tuple[Points, Fit, float, float]:
    """The binned curve, its fit of least BIC, the long-run variance of its noise, and what the best fit costs.

    The noise is read about the richest fit, which eats some of it, and then again about the one chosen.
    """
    points = Points(*binned(clock, curve.y, curve.w))
    grid = points.x[1:-1][:: max(1, points.x.size // MOST_PLACES)]
    price = np.log(points.x.size) / points.x.size
    fits = search(points, grid, min(MOST_KNOTS, points.x.size // 4), price)
    index = len(fits) - 1
    misses = np.sqrt([fit.rss / points.x.size for fit in fits])
    for _ in range(ROUNDS):
        mild, wary = _inflations(points, fits[index])
        index = min(index, int(np.argmin(_costs(points, fits, mild))))
    noise = wary * _variance(points, fits[index], wary)
    if misses[-1] <= CLEAR:
        index = max(index, int(np.argmax(misses <= VISIBLE)))
        _, wary = _inflations(points, fits[-1])
        noise = min(noise, wary * _variance(points, fits[-1], wary))
    return points, fits[index], noise, float(_costs(points, fits, 1.0, VISIBLE).min())


def _costs(points: Points, fits: list[Fit], inflation: float, least: float = LEAST_NOISE) -> Floats:
    """BIC of the fits with 0, 1, ... knots, points divided by ``inflation`` in number, noise ``least`` or more."""
    n_points = points.x.size
    misfit = [np.log(fit.rss / n_points + least**2) for fit in fits]
    return np.array(misfit) * n_points / inflation + COST_OF_KNOT * np.log(n_points) * np.arange(len(misfit))


def _variance(points: Points, fit: Fit, inflation: float = 1.0) -> float:
    free = points.x.size - 2 * (fit.knots.size - 1) * inflation
    return fit.rss / max(free, points.x.size / 3) + LEAST_NOISE**2


def _inflations(points: Points, fit: Fit) -> tuple[float, float]:
    """Variance of a mean over that of white noise, from the residuals' autocorrelations: a mild and a wary reading.

    Both are at least 1 + 2 x the sum of autocorrelations up to the first that is nil. A flexible fit eats the slow part
    of the noise, which that sum misses, so the first autocorrelation r gives a second bound: 1 / (1 - r), right for a
    moving average, or (1 + r) / (1 - r), right for an autoregression.
    """
    residuals: Floats = (points.y - fit(points.x)) * np.sqrt(points.w)
    power = float(residuals @ residuals)
    if power <= 0:
        return 1.0, 1.0
    correlations: list[float] = []
    for lag in range(1, max(2, points.x.size // 8)):
        correlations.append(float(residuals[lag:] @ residuals[:-lag]) / power)
        if correlations[-1] <= 1 / np.sqrt(points.x.size):
            break
    first = min(correlations[0], 0.98)
    mild = max(1.0, 1 + 2 * sum(correlations[:-1]), 1 / (1 - first))
    return mild, max(mild, (1 + first) / (1 - first))


def _pruned(points: Points, fit: Fit, price: float) -> Fit:
    """``fit`` without the knots that the rows, unlike the bins, do not ask for; the others may move into the gap."""
    while fit.knots.size > 2:
        shorter = [refined(points, each, 4, sweeps=1) for each in points.shorter(fit)]
        best = min(shorter, key=lambda other: other.rss)
        if best.rss - fit.rss > price:
            return fit
        fit = refined(points, best, 8)
    return fit
