"""Continuous piecewise-linear least squares with free knots.

Sums over the points between two knots are differences of running sums, so hundreds of candidate fits cost less than one
pass over the data.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from unplateau.plateau.progress import Floats

PATIENCE = 4
"""The search stops when so many knots in a row were not worth their price."""
STIFF = 1e5
"""Spring that holds the two ends of a level piece together, in units of the weight of all points."""
TOGETHER, LARGE = 3, 500
"""Knots that are tried together, unless that makes more sets of knots: small arrays take less than the calls do."""
_TIE = 1e-12
"""Residual sums closer than this share of the total sum of squares are equal: rounding must not choose a knot."""

OVERSHOOT = 0.01
"""By how much of the data's range a tame fit may leave it: a corner of data without noise lies a little outside."""
_NIL = 1e-9
"""A column that varies by less than this is a level."""


@dataclass(frozen=True)
class Fit:
    """Knots (first and last are the ends of the data), fitted values at them, residual sum of squares."""

    knots: Floats
    values: Floats
    rss: float

    @property
    def slopes(self) -> Floats:
        """Slope of each piece, one fewer than knots."""
        return np.diff(self.values) / np.diff(self.knots)

    def __call__(self, x: Floats) -> Floats:
        """The fitted curve at ``x``."""
        return np.interp(x, self.knots, self.values)


class Points:
    """The data of a fit, held as running sums of w, wx, wx^2, wy and wxy."""

    def __init__(self, x: Floats, y: Floats, w: Floats) -> None:
        self.x, self.y, self.w = x, y, w
        slack = OVERSHOOT * float(np.ptp(y))
        self.low, self.high = float(y.min()) - slack, float(y.max()) + slack
        self._level: int | None = None
        self.total = float(np.sum(w * y * y))
        self._sums: Floats = np.zeros((5, x.size + 1))
        for sums, terms in zip(self._sums, (w, w * x, w * x * x, w * y, w * x * y), strict=True):
            np.cumsum(terms, out=sums[1:])

    def levelled(self, knot: int) -> Points:
        """The same points for fits whose piece before knot number ``knot`` is level."""
        other = copy.copy(self)
        other._level = knot
        return other

    def fit(self, knots: Floats) -> Fit:
        """Least squares with the given knots."""
        values, rss = self.solve(knots[None])
        return Fit(knots, values[0], float(rss[0]))

    def solve(self, knots: Floats) -> tuple[Floats, Floats]:
        """Values (candidates, knots) and residual sums (candidates,) of many sets of knots.

        The sum is inf where a piece holds no point.
        """
        diagonal, off, right, empty = self._normal_equations(knots)
        values = np.ascontiguousarray(_tridiagonal(diagonal, off, right).T)
        rss = self.total - np.einsum("bk,bk->b", values, np.ascontiguousarray(right.T))
        return values, np.where(empty | ~np.isfinite(rss), np.inf, np.maximum(rss, 0.0))

    def covariance(self, knots: Floats) -> Floats:
        """Covariance (knots, knots) of the fitted values for noise of variance 1."""
        diagonal, off, _, _ = self._normal_equations(knots[None])
        matrix = np.diag(diagonal[:, 0]) + np.diag(off[:, 0], 1) + np.diag(off[:, 0], -1)
        return np.asarray(np.linalg.pinv(matrix), dtype=np.float64)

    def _normal_equations(self, knots: Floats) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
        """Diagonal, off-diagonal and right side, (knots, candidates) each, and where a piece is empty."""
        at = np.ascontiguousarray(knots.T)
        cut = np.zeros(at.shape, dtype=np.intp)
        cut[1:-1], cut[-1] = np.searchsorted(self.x, at[1:-1]), self.x.size
        sums = self._sums.take(cut, axis=1)
        w, wx, wxx, wy, wxy = sums[:, 1:] - sums[:, :-1]
        left, width = at[:-1], at[1:] - at[:-1]
        with np.errstate(all="ignore"):  # empty pieces are masked by the caller
            first = (wx - left * w) / width  # sum of w*u, u = position in the piece, 0 to 1
            second = (wxx - 2 * left * wx + left * left * w) / width**2  # sum of w*u*u
            rising = (wxy - left * wy) / width
        diagonal: Floats = np.full(at.shape, 1e-13 * self._sums[0, -1])
        diagonal[:-1] += w - 2 * first + second
        diagonal[1:] += second
        right: Floats = np.zeros(at.shape)
        right[:-1] += wy - rising
        right[1:] += rising
        off = first - second
        if self._level is not None:
            diagonal[self._level - 1 : self._level + 1] += STIFF * self._sums[0, -1]
            off[self._level - 1] -= STIFF * self._sums[0, -1]
        empty: NDArray[np.bool_] = np.asarray(((cut[1:] - cut[:-1] < 1) | (width <= 0)).any(axis=0))
        return diagonal, off, right, empty

    def best(self, candidates: Floats, tame: bool = False) -> Fit:
        """The best of many sets of knots; of equals the middle one.

        ``tame``: no value may leave the range of the data by much, as a needle does that no point holds.
        """
        return self.best_of_each([candidates], tame)[0]

    def best_of_each(self, several: Sequence[Floats], tame: bool = False) -> list[Fit]:
        """The same of each of several arrays of sets, none of which is empty; all are solved together."""
        candidates = np.concatenate(several)
        values, rss = self.solve(candidates)
        if tame:
            rss = np.where((values.min(axis=1) < self.low) | (values.max(axis=1) > self.high), np.inf, rss)
        found, first = [], 0
        for here in several:
            part = rss[first : first + len(here)]
            least = np.flatnonzero(part <= part.min() + _TIE * self.total)
            chosen = first + least[(least.size - 1) // 2]
            found.append(Fit(candidates[chosen], values[chosen], float(rss[chosen])))
            first += len(here)
        return found

    def inserted(self, fit: Fit, grid: Floats) -> Fit | None:
        """``fit`` with the best further knot from ``grid``; None if there is no room."""
        candidates = one_more(fit.knots, grid)
        best = self.best(candidates) if len(candidates) else None
        return best if best is not None and np.isfinite(best.rss) else None

    def moved(self, fit: Fit, index: int, grid: Floats, tame: bool = False) -> Fit:
        """``fit`` with knot ``index`` at its best place in ``grid`` between its neighbours, or ``fit`` itself."""
        candidates = moves(fit, index, grid)
        best = self.best(candidates, tame) if len(candidates) else fit
        return best if best.rss < fit.rss - _TIE * self.total else fit

    def in_turn(
        self, fit: Fit, candidates: Callable[[Fit, int], Floats], gain: float = _TIE, tame: bool = False
    ) -> Fit:
        """``fit`` with the best of its ``candidates(fit, index)`` wherever that gains, for each inner knot in turn.

        ``gain``: least gain, as a share of the total sum of squares. Most knots gain nothing, so a few are tried
        together from the same fit; those after the first that gains are tried again from the new one.
        """
        index, last = 1, fit.knots.size - 1
        while index < last:
            tries: dict[int, Floats] = {}
            while index < last and len(tries) < TOGETHER and sum(map(len, tries.values())) < LARGE:
                if len(here := candidates(fit, index)):
                    tries[index] = here
                index += 1
            best = self.best_of_each([*tries.values()], tame) if tries else []
            for at, other in zip(tries, best, strict=True):
                if other.rss < fit.rss - gain * self.total:
                    fit, index = other, at + 1
                    break
        return fit

    def shorter(self, fit: Fit) -> list[Fit]:
        """``fit`` with each of its inner knots taken out."""
        knots = np.stack([np.delete(fit.knots, index) for index in range(1, fit.knots.size - 1)])
        values, rss = self.solve(knots)
        return [Fit(*each) for each in zip(knots, values, rss.tolist(), strict=True)]


def one_more(knots: Floats, grid: Floats) -> Floats:
    """(sets, knots + 1): these knots and each further one of ``grid``."""
    free = grid[(grid[:, None] != knots).all(axis=1)]
    more = np.concatenate([np.repeat(knots[None], free.size, axis=0), free[:, None]], axis=1)
    return np.sort(more, axis=1)


def moves(fit: Fit, index: int, grid: Floats) -> Floats:
    """(sets, knots): those of ``fit`` with knot ``index`` at each place of ``grid`` between its neighbours."""
    room = grid[(grid > fit.knots[index - 1]) & (grid < fit.knots[index + 1])]
    candidates = np.repeat(fit.knots[None], room.size, axis=0)
    candidates[:, index] = room
    return candidates


def _tridiagonal(diagonal: Floats, off: Floats, right: Floats) -> Floats:
    """Solutions (knots, candidates) of symmetric systems, one for each candidate; ``diagonal`` is used up."""
    solved = right.copy()
    d, o, s = list(diagonal), list(off), list(solved)  # rows, so that none is looked up or written back twice
    with np.errstate(all="ignore"):
        for j in range(1, len(d)):
            factor = o[j - 1] / d[j - 1]
            d[j] -= factor * o[j - 1]
            s[j] -= factor * s[j - 1]
        s[-1] /= d[-1]
        for j in range(len(d) - 2, -1, -1):
            s[j] -= o[j] * s[j + 1]
            s[j] /= d[j]
    return solved


def search(points: Points, grid: Floats, most: int, price: float) -> list[Fit]:
    """The best fit found with 0, 1, ... ``most`` inner knots from ``grid``: forward steps, each followed by exchanges.

    Stops early when the last ``PATIENCE`` knots together lower log(rss) by less than ``price`` each.
    """
    fits = [points.fit(points.x[[0, -1]])]
    while len(fits) <= most and not _settled(fits, price):
        longer = points.inserted(fits[-1], grid)
        if longer is None:
            break
        fits.append(_exchanged(points, longer, grid))
    return fits


def _settled(fits: list[Fit], price: float) -> bool:
    if len(fits) <= PATIENCE:
        return False
    before, now = fits[-1 - PATIENCE].rss, fits[-1].rss
    return now == 0 or bool(np.log(before / now) < PATIENCE * price)


def _exchanged(points: Points, fit: Fit, grid: Floats, sweeps: int = 4) -> Fit:
    for _ in range(sweeps):
        before = fit.rss
        fit = points.in_turn(fit, lambda fit, index: moves(fit, index, grid))
        fit = points.in_turn(fit, lambda fit, index: one_more(np.delete(fit.knots, index), grid), gain=1e-9)
        if fit.rss >= before * (1 - 1e-6) - _TIE * points.total:
            break
    return fit


def refined(points: Points, fit: Fit, reach: int, sweeps: int = 3) -> Fit:
    """``fit`` with each inner knot moved among the ``reach`` points on either side, then between points."""
    for _ in range(sweeps):
        before = fit.knots
        fit = points.in_turn(
            fit, lambda fit, index: moves(fit, index, near(points.x, fit.knots[index], reach)), tame=True
        )
        if np.array_equal(fit.knots, before):
            break
    for _ in range(2):
        fit = points.in_turn(fit, lambda fit, index: moves(fit, index, between(points.x, fit, index)), tame=True)
    return fit


def near(x: Floats, knot: float, reach: int) -> Floats:
    """The points at most ``reach`` places from ``knot``."""
    at = int(np.searchsorted(x, knot))
    return x[max(at - reach, 0) : at + reach + 1]


def between(x: Floats, fit: Fit, index: int, parts: int = 8) -> Floats:
    """Places between the points on either side of knot ``index``; none if a piece beside it has less than three points.

    A knot off the points of a short piece may take any value: nothing holds it.
    """
    at = np.searchsorted(x, fit.knots[index - 1 : index + 2])
    if np.diff(at).min() < 3:
        return x[:0]
    corners = near(x, fit.knots[index], 1)
    return np.unique(np.linspace(corners[:-1], corners[1:], parts + 1))


def misfit(columns: list[Floats], y: Floats, w: Floats) -> float:
    """Residual sum of squares of the best level plus a sum of ``columns`` with non-negative shares."""
    design = np.column_stack([*columns, y])
    design = (design - np.average(design, axis=0, weights=w)) * np.sqrt(w)[:, None]
    norms = np.sqrt(np.sum(design[:, :-1] ** 2, axis=0))
    kept = norms > _NIL * np.sqrt(w.sum())
    if not kept.any():
        return float(np.sum(design[:, -1] ** 2))
    _, off = nnls(design[:, :-1][:, kept] / norms[kept], design[:, -1], maxiter=100 * norms.size)
    return float(off) ** 2
