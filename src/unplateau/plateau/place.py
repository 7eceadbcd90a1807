"""Where exactly a plateau ends, and how sure that is.

A drop that bends pulls the knee of a straight one towards the plateau, so it gets one corner more wherever that helps
at all.
"""

from dataclasses import replace

import numpy as np

from unplateau.plateau.fit import Fit, Points, between, near
from unplateau.plateau.noise import Fitted
from unplateau.plateau.progress import Floats

CHI_SQUARE = 3.84
"""95 % point of chi-square with one degree of freedom."""
CORNER = 6.0
"""Least chi-square of the further corner: a place, a value and the search, priced as by AIC (BIC chooses the shape)."""


def placed(fitted: Fitted, knee: int, level: bool) -> tuple[float, tuple[float, float]]:
    """The place of knot ``knee`` and its interval (low, high); ``level``: the piece before it is taken as level.

    A rounded plateau otherwise tilts with the beginning of its drop, and a level one is placed better without a slope.
    """
    knots = fitted.fit.knots
    missed = fitted.missed(float(knots[knee - 1]), float(knots[knee + 1]))
    if level:
        points = fitted.points.levelled(knee)
        fitted = replace(fitted, points=points, fit=_moved(points, points.fit(fitted.fit.knots), knee))
    bent = _bent(fitted.points, fitted.fit, knee)
    if bent is not None and fitted.fit.rss - bent.rss > CORNER * fitted.long_run:
        fitted = replace(fitted, fit=bent)
        bent = _bent(fitted.points, fitted.fit, knee)
    return float(fitted.fit.knots[knee]), _interval(fitted, bent, knee, missed)


def _bent(points: Points, fit: Fit, knee: int) -> Fit | None:
    """``fit`` with one more corner, an upward one, in the first piece of the drop."""
    room = points.x[(points.x > fit.knots[knee]) & (points.x < fit.knots[knee + 1])]
    bent = points.inserted(fit, room[:: max(1, room.size // 60)])
    if bent is None or not _slows(bent, knee):
        return None
    return _moved(points, bent, knee)


def _moved(points: Points, fit: Fit, knee: int) -> Fit:
    """``fit`` with the knee and the corner after it at their best places, the latter never turning downwards."""
    for _ in range(3):
        for index in range(knee, min(knee + 2, fit.knots.size - 1)):
            places = _places(points, fit, index, 40, 60)
            for grid in (places, between(points.x, fit, index)):
                other = points.moved(fit, index, grid, tame=True)
                fit = other if _slows(other, knee) else fit
    return fit


def _slows(fit: Fit, knee: int) -> bool:
    return knee + 2 >= fit.knots.size or bool(fit.slopes[knee + 1] >= fit.slopes[knee])


def _interval(fitted: Fitted, bent: Fit | None, knee: int, missed: float) -> tuple[float, float]:
    """Where the knee may be: places whose profile likelihood is within ``CHI_SQUARE`` of the best, and a row more.

    Read from the fit and from its ``bent`` form: which of the two shapes the drop has is not known either. ``missed``:
    what one corner in place of a bend costs; a place that costs no more than that is as good.
    """
    within = CHI_SQUARE * fitted.long_run + missed
    points, fits = fitted.points, [fitted.fit] if bent is None else [fitted.fit, bent]
    likely = [_likely(points, each, knee, within) for each in fits]
    allowed = np.concatenate([fitted.fit.knots[[knee]], *likely])
    low = points.x[max(int(np.searchsorted(points.x, allowed.min())) - 1, 0)]
    high = points.x[min(int(np.searchsorted(points.x, allowed.max(), "right")), points.x.size - 1)]
    return float(low), float(high)


def _likely(points: Points, fit: Fit, knee: int, within: float) -> Floats:
    """Places of the knee that cost at most ``within`` more than the best, the next knot at its best for each.

    The next knot may not turn downwards: it would then be the knee itself.
    """
    here = _places(points, fit, knee, 40, 100)
    following = _places(points, fit, knee + 1, 10, 30) if knee + 2 < fit.knots.size else fit.knots[[knee + 1]]
    pairs = np.stack(np.meshgrid(here, following, indexing="ij"), axis=-1).reshape(-1, 2)
    candidates = np.repeat(fit.knots[None], len(pairs), axis=0)
    candidates[:, knee : knee + 2] = pairs
    values, rss = points.solve(candidates)
    if knee + 2 < fit.knots.size:
        with np.errstate(all="ignore"):
            slopes = np.diff(values[:, knee : knee + 3], axis=1) / np.diff(candidates[:, knee : knee + 3], axis=1)
        rss = np.where(slopes[:, 1] < slopes[:, 0], np.inf, rss)
    profile = rss.reshape(here.size, following.size).min(axis=1)
    return here[np.isfinite(profile) & (profile <= profile.min() + within)]


def _places(points: Points, fit: Fit, index: int, close: int, far: int) -> Floats:
    low, high = fit.knots[index - 1], fit.knots[index + 1]
    inside = points.x[(points.x > low) & (points.x < high)]
    places = np.concatenate([near(points.x, fit.knots[index], close), inside[:: max(1, inside.size // far)]])
    return np.unique(np.append(places[(places > low) & (places < high)], fit.knots[index]))
