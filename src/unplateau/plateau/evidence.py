"""Is a knee there, does its drop last, and how well is it placed?

What enters: a fitted curve and a knee. What leaves: numbers to decide by. A curve that only slows down (power law,
exponential, straight line) is convex in the number of steps; a plateau's end is a concave corner. So the rival of every
plateau is the best convex curve through the same rows.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from unplateau.plateau.fit import Fit, Floats, Points, near
from unplateau.plateau.noise import Fitted
from unplateau.plateau.prepare import Prepared, binned
from unplateau.plateau.shape import Knee

HINGES = 80
CHI_SQUARE = 3.84
"""95 % point of chi-square with one degree of freedom."""


def doubts(fitted: Fitted) -> Floats:
    """Standard error (knots, knots) of the difference between the fitted values at two knots."""
    covariance = fitted.points.covariance(fitted.fit.knots) * fitted.long_run
    variance = np.diag(covariance)
    return np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2 * covariance, 0.0))


def against_convex(curve: Prepared, fitted: Fitted, knee: Knee) -> float:
    """By how much one concave corner at the knee betters the best convex curve through it, as a chi-square.

    Both curves run from the start of the flat part to past the drop, in steps.
    """
    points, knots = fitted.points, fitted.fit.knots
    inside = (points.x >= knots[knee.start]) & (points.x <= knots[min(knee.bottom + 1, knots.size - 1)])
    corners = np.interp(knots, points.x, curve.time)
    x, y, w = binned(curve.time[inside], curve.y[inside], curve.w[inside])
    hinges = np.unique(np.concatenate([corners, x[:: max(1, x.size // HINGES)]]))
    bends = [np.maximum(x - hinge, 0.0) for hinge in hinges if x[0] < hinge < x[-1]]
    straight = [np.ones_like(x), -np.ones_like(x), x - x[0], x[0] - x]
    corner = -np.maximum(x - corners[knee.knee], 0.0)
    convex = _misfit([*straight, *bends], y, w)
    return (convex - _misfit([*straight, *bends, corner], y, w)) / fitted.long_run


def _misfit(columns: list[Floats], y: Floats, w: Floats) -> float:
    """Residual sum of squares of the best sum of ``columns`` with non-negative shares."""
    design = np.column_stack(columns) * np.sqrt(w)[:, None]
    norms = np.sqrt(np.sum(design**2, axis=0))
    _, misfit = nnls(design[:, norms > 0] / norms[norms > 0], y * np.sqrt(w), maxiter=100 * norms.size)
    return float(misfit) ** 2


def lasts(fitted: Fitted, knee: Knee, share: float) -> bool:
    """Does the curve stay below half of the drop to its end, or at least for ``share`` of all rows?"""
    after = fitted.points.x > fitted.fit.knots[knee.knee]
    low = fitted.fit(fitted.points.x[after]) <= fitted.fit.values[knee.knee] - knee.fall / 2
    low = low[int(np.argmax(low)) :]
    if low.all():
        return low.size >= 2
    return int(np.argmin(low)) >= max(3, share * fitted.points.x.size)


def interval(fitted: Fitted, knee: int) -> tuple[float, float]:
    """Where the knee may be: places whose profile likelihood is within ``CHI_SQUARE`` of the best, and a row more.

    Read twice, from the fit and from the fit with one more corner in the drop: a bent drop pulls a straight one's knee.
    """
    points, fit = fitted.points, fitted.fit
    room = points.x[(points.x > fit.knots[knee]) & (points.x < fit.knots[knee + 1])]
    bent = points.inserted(fit, room[:: max(1, room.size // 60)])
    fits = [fit] if bent is None else [fit, bent]
    allowed = np.concatenate([[fit.knots[knee]], *(_likely(points, each, knee, fitted.long_run) for each in fits)])
    low = points.x[max(int(np.searchsorted(points.x, allowed.min())) - 1, 0)]
    high = points.x[min(int(np.searchsorted(points.x, allowed.max(), "right")), points.x.size - 1)]
    return float(low), float(high)


def _likely(points: Points, fit: Fit, knee: int, long_run: float) -> Floats:
    """Places of the knee within the confidence limit, the next knot at its best for each."""
    here = _places(points, fit, knee, 40, 100)
    following = _places(points, fit, knee + 1, 10, 30) if knee + 2 < fit.knots.size else fit.knots[[knee + 1]]
    pairs = np.stack(np.meshgrid(here, following, indexing="ij"), axis=-1).reshape(-1, 2)
    candidates = np.repeat(fit.knots[None], len(pairs), axis=0)
    candidates[:, knee : knee + 2] = pairs
    profile = points.solve(candidates)[1].reshape(here.size, following.size).min(axis=1)
    return here[profile <= min(float(profile.min()), fit.rss) + CHI_SQUARE * long_run]


def _places(points: Points, fit: Fit, index: int, close: int, far: int) -> Floats:
    low, high = fit.knots[index - 1], fit.knots[index + 1]
    inside = points.x[(points.x > low) & (points.x < high)]
    places = np.concatenate([near(points.x, fit.knots[index], close), inside[:: max(1, inside.size // far)]])
    return np.unique(np.append(places[(places > low) & (places < high)], fit.knots[index]))
