"""Whether a curve is flat where it stops, or goes on as its own past predicts.

A power law or a logarithm looks flat late beside its fast start. What decides is whether the rows tell a curve that has
arrived from one that only slows down, and whether the slow-down goes on in the flat part itself.
"""

import numpy as np
from numpy.typing import NDArray

from unplateau.plateau.curve import Prepared
from unplateau.plateau.fit import Fit, misfit
from unplateau.plateau.noise import LEAST_NOISE, Fitted
from unplateau.plateau.progress import Floats

Mask = NDArray[np.bool_]
EVIDENCE = 20.0
"""Least chi-square by which one shape beats another."""
MOVES, MAY_MOVE = 24.0, 6.0
"""Chi-square from which a flat part is known to go on falling or rising, and from which that may be so."""
NEARLY = 0.04
"""What goes on in a flat part may be seen if it is below this share of the way there, as a height and as evidence."""
ENOUGH = 24
"""Bins from which a part has a noise of its own."""
EXPONENTS = (0.0, 0.5, 1.0, 2.0)
"""Powers of which a curve that only slows down is made; 0 is the logarithm."""
TIMES = 16
"""How many times from which the powers count, between a third of a row and ten times the curve."""
BINS, PLACES = 150, 12
"""Most bins that rows are gathered in, and most places at which a curve that arrives may bend."""
FEWEST_ON_THE_WAY = 3
"""Rows on the way to a flat part from which a trend can be read."""
SHORT = 0.05
"""A start of this share of all rows tells no trend."""


def settles(curve: Prepared, fitted: Fitted, first: int, band: float) -> bool:
    """Is the curve flat from knot ``first`` on, beside the noise and beside the trend that led there?

    ``band``: parts of the fit that are further off the level than this are blips, and not looked at.
    """
    fit, points = fitted.fit, fitted.points
    shape = fit(points.x)
    inside = points.x >= fit.knots[first]
    inside &= np.abs(shape - np.median(shape[inside])) <= band
    motion, noise = _motion(curve, inside, fitted.long_run)
    begins = _approach(fit, first)
    way = (points.x >= fit.knots[begins]) & (points.x < fit.knots[first])
    if way.sum() < FEWEST_ON_THE_WAY:
        # A fast start within a few rows may be that of a power law, of which all the rest is the slow part.
        started = 0 < np.sum(points.x < fit.knots[first]) <= FEWEST_ON_THE_WAY + SHORT * points.x.size
        return motion <= (MAY_MOVE if started else MOVES) * noise
    came, left = fit.values[begins] - fit.values[first], fit.values[first] - fit.values[-1]
    arrival = float(np.interp(fit.knots[first], points.x, curve.time))
    gain = _arrives(curve, way | inside, 1.0 if came > 0 else -1.0, arrival)
    nearly = abs(left) <= NEARLY * abs(came) and motion <= NEARLY * gain
    return gain >= EVIDENCE * fitted.long_run and (motion <= MOVES * noise or nearly)


def _motion(curve: Prepared, rows: Mask, long_run: float) -> tuple[float, float]:
    """By how much a steady or a slowing fall or rise explains these rows better than a level, as a residual sum.

    Also the long-run variance of their noise, which may be less than that of the curve.
    """
    x, y, w = _gathered(curve, rows)
    moving = min(_slowing(x, side * y, w) for side in (1.0, -1.0))
    if x.size >= ENOUGH:
        long_run = min(long_run, moving / (x.size - 4) + LEAST_NOISE**2)
    return misfit([], y, w) - moving, long_run


def _approach(fit: Fit, first: int) -> int:
    """The knot at which the slowing way to knot ``first`` begins: the last turn of the other kind, or the start."""
    if first == 0:
        return 0
    turns = np.diff(fit.slopes) * (1.0 if fit.slopes[first - 1] <= 0 else -1.0)
    against = np.flatnonzero(turns[: first - 1] < 0)
    return int(against[-1]) + 1 if against.size else 0


def _arrives(curve: Prepared, rows: Mask, side: float, arrival: float) -> float:
    """By how much a curve that is flat from the time ``arrival`` on betters all that never are, as a residual sum."""
    x, y, w = _gathered(curve, rows)
    way = x[x < arrival]
    places = np.append(way[1 :: max(1, way.size // PLACES)], arrival)
    return _slowing(x, side * y, w) - misfit([np.maximum(place - x, 0.0) for place in places], side * y, w)


def _gathered(curve: Prepared, rows: Mask) -> tuple[Floats, Floats, Floats]:
    """(time, y, weight) of ever wider bins of rows, in each of which a curve that slows down changes little."""
    x, y, w = curve.time[rows], curve.y[rows], curve.w[rows]
    starts = np.unique(np.geomspace(1, x.size, BINS + 1).astype(np.intp) - 1)[:-1]
    weight = np.add.reduceat(w, starts)
    return np.add.reduceat(w * x, starts) / weight, np.add.reduceat(w * y, starts) / weight, weight


def _slowing(x: Floats, y: Floats, w: Floats) -> float:
    """What the best falling sum of powers misses: it slows down and never stops. Its start may be any height."""
    since = x - x[0]
    length, row = float(since[-1]), float(since[since > 0].min())
    times = np.geomspace(min(0.3 * row, 0.01 * length), 10 * length, TIMES)
    powers = [_power(1 + since / time, power) for time in times for power in EXPONENTS]
    return misfit([(since == 0).astype(np.float64), -since, *powers], y, w)


def _power(z: Floats, exponent: float) -> Floats:
    return -np.log(z) if exponent == 0 else z**-exponent
