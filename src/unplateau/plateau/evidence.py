"""Is a knee there, and does its drop last?

What enters: a fitted curve and a knee. What leaves: numbers to decide by. A curve that only slows down (power law,
exponential, straight line) is convex in the number of steps; a plateau's end is a concave corner. So the rival of every
plateau is the best convex curve through the same rows.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from unplateau.plateau.fit import Floats
from unplateau.plateau.noise import Fitted
from unplateau.plateau.prepare import Prepared, binned
from unplateau.plateau.shape import BLIP, Knee

HINGES = 80


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


def lasts(fitted: Fitted, knee: Knee) -> bool:
    """Does the curve stay below half of the drop to its end, or for longer than a blip?"""
    after = fitted.points.x > fitted.fit.knots[knee.knee]
    low = fitted.fit(fitted.points.x[after]) <= fitted.fit.values[knee.knee] - knee.fall / 2
    low = low[int(np.argmax(low)) :]
    if low.all():
        return low.size >= 2
    return int(np.argmin(low)) >= max(3, BLIP * fitted.points.x.size)
