"""Which parts of a piecewise-linear fit, in which learning goes down, are flat, and which of them end in a drop."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unplateau.plateau.curve import Prepared, binned
from unplateau.plateau.fit import Fit, Points, misfit, refined
from unplateau.plateau.noise import Fitted
from unplateau.plateau.progress import Floats

FLAT = 0.15
"""A drop is over, and a tail flat, at this share of the speed before."""
TILT, RISE = 0.4, 0.2
"""The part before a drop is flat if its slope and its change are below these shares of the drop's: the bend into a
rounded drop tilts it a little."""
SMALL = 0.05
"""A change below this share of the drop is flat however sudden."""
BLIP = 0.05
"""An excursion shorter than this share of all rows is a blip: it neither ends a flat part nor begins one."""
NO_TIME = 1e-12
"""Steps closer than this share of the curve's length are one on the clock of steps."""
ROUND = 0.12
"""Two corners are one rounded corner if a single one misses them by less than this share of the drop."""
LEVEL = 0.1
"""The piece before a rounded corner is level if its slope is below this share of the drop's."""
TRIFLE = 0.004
"""A corner is none if the fit without it misses it by less than this share of the curve's range."""
HINGES = 80
"""Most places at which the convex curve that a knee is compared with may bend."""


@dataclass(frozen=True)
class Knee:
    """Knot numbers: flat from ``start`` to ``knee``, a drop by ``fall`` > 0 from ``knee`` to ``bottom``."""

    start: int
    knee: int
    bottom: int
    fall: float


def knees(fit: Fit, clocks: list[Floats], doubt: Floats) -> list[Knee]:
    """All flat parts that turn into a drop, left to right; they may overlap.

    ``clocks``: the knots by step and by row, from 0 to 1. ``doubt``: standard errors (knots, knots) of differences.
    """
    found: list[Knee] = []
    for knee in range(fit.knots.size - 2, 0, -1):
        bottom = bottom_of(fit, knee)
        fall = float(fit.values[knee] - fit.values[bottom])
        if not concave(fit)[knee - 1] or fall <= 0:
            continue
        if _begins_flat(fit, knee, bottom) and any(each.start < knee <= each.knee for each in found):
            continue
        drop = Knee(knee, knee, bottom, fall)
        start = min(_start(fit.values, clock, clocks[-1], drop, doubt) for clock in clocks)
        if start < knee:
            found.append(Knee(start, knee, bottom, fall))
    return found[::-1]


def _begins_flat(fit: Fit, knee: int, bottom: int) -> bool:
    """Is the first piece after ``knee`` flat beside the rest of the drop, so that a later knot may be the knee?"""
    if bottom == knee + 1:
        return False
    first, whole = fit.values[knee] - fit.values[knee + 1], fit.values[knee] - fit.values[bottom]
    return bool(fit.slopes[knee] > FLAT * fit.slopes[knee + 1] and first <= RISE * whole)


def concave(fit: Fit) -> NDArray[np.bool_]:
    """For each inner knot: does the curve turn downwards there?"""
    return np.asarray(np.diff(fit.slopes) < 0)


def bottom_of(fit: Fit, knee: int) -> int:
    """The knot at which the drop from ``knee`` ends: the next piece rises, or is slow and falls less than the drop."""
    steepest = 0.0
    for piece in range(knee, fit.knots.size - 1):
        speed = -float(fit.slopes[piece])
        fallen, falls = fit.values[knee] - fit.values[piece], fit.values[piece] - fit.values[piece + 1]
        if speed <= 0 or (speed <= FLAT * steepest and falls <= fallen):
            return piece
        steepest = max(steepest, speed)
    return fit.knots.size - 1


def _start(values: Floats, clock: Floats, rank: Floats, drop: Knee, doubt: Floats) -> int:
    """The first knot of the flat part before ``drop``; its ``knee`` if there is none.

    A change counts only beyond two standard errors.
    """
    speed = drop.fall / max(clock[drop.bottom] - clock[drop.knee], NO_TIME)

    def level(first: int, kept: list[int]) -> bool:
        return all(_beyond(values, doubt, first, later) <= RISE * drop.fall for later in kept)

    def steady(first: int) -> bool:
        change = _beyond(values, doubt, first, first + 1)
        return change <= TILT * speed * (clock[first + 1] - clock[first]) or change <= SMALL * drop.fall

    return _back_from(drop.knee, rank, level, steady)


def _back_from(end: int, rank: Floats, level: Callable[[int, list[int]], bool], steady: Callable[[int], bool]) -> int:
    """The first knot of the stretch to knot ``end``: level and steady but for blips, and not begun by one."""
    kept = [end]
    for first in range(end - 1, -1, -1):
        if level(first, kept) and (first < kept[-1] - 1 or steady(first)):
            kept.append(first)
        elif rank[kept[-1]] - rank[first] > BLIP:
            break
    while len(kept) > 1 and kept[-1] < kept[-2] - 1:
        kept.pop()
    return kept[-1]


def _beyond(values: Floats, doubt: Floats, first: int, second: int) -> float:
    return max(abs(float(values[first] - values[second])) - 2 * float(doubt[first, second]), 0.0)


def without_overlap(found: list[Knee]) -> list[Knee]:
    """Of flat parts that share rows the one with the greatest fall; of parts within one drop the first."""
    kept: list[Knee] = []
    for knee in sorted(found, key=lambda each: (-each.fall, each.knee)):
        if all(knee.knee <= other.start or knee.start >= other.bottom for other in kept):
            kept.append(knee)
    return sorted(kept, key=lambda each: each.knee)


def tails(fit: Fit, clocks: list[Floats], doubt: Floats, band: float) -> list[int]:
    """The knots from which the curve may be flat to where it stops, blips left out, from left to right.

    ``band``: the change that still counts as flat. A tail's slope is compared with that of the curve before it.
    """

    def level(first: int, kept: list[int]) -> bool:
        return float(np.ptp(fit.values[[first, *kept]])) <= band

    def steady(first: int) -> bool:
        change = _beyond(fit.values, doubt, first, first + 1)
        if first == 0:
            return change <= band / 2
        came = float(np.ptp(fit.values[: first + 1]))
        return all(change <= FLAT * came * (c[first + 1] - c[first]) / max(c[first] - c[0], NO_TIME) for c in clocks)

    earliest = _back_from(fit.knots.size - 1, clocks[-1], level, steady)
    return list(range(earliest, fit.knots.size - 1))


def rounded_off(points: Points, fit: Fit) -> Fit:
    """``fit`` with neighbouring concave corners replaced by one wherever that changes little of the drop they begin.

    The end of a plateau that bends into its drop would otherwise depend on how many corners the noise lets one see.
    Those that make the least difference go first.
    """
    fit = _without_trifles(points, fit)
    while True:
        turns = np.flatnonzero(concave(fit)) + 1
        pairs = [int(index) for index in turns if index + 1 in turns]
        tries = [_merged(points, fit, index) for index in pairs]
        if not tries or (least := min(tries, key=lambda each: each[1]))[1] >= ROUND:
            return fit
        fit = least[0]


def _without_trifles(points: Points, fit: Fit) -> Fit:
    """``fit`` without the corners that nobody would see; averages over a bin that holds a corner leave some."""
    while fit.knots.size > 2:
        least = min(points.shorter(fit), key=lambda other: other.rss)
        if np.max(np.abs(least(fit.knots) - fit.values)) > TRIFLE * np.ptp(fit.values):
            return fit
        fit = least
    return fit


def _merged(points: Points, fit: Fit, index: int) -> tuple[Fit, float]:
    """One corner in place of knots ``index`` and the next, and by which share of the drop it misses them."""
    fall = float(fit.values[index] - fit.values[bottom_of(fit, index)])
    single, miss = fit, np.inf
    if fall <= 0:
        return single, miss
    inside = points.x[(points.x >= fit.knots[index]) & (points.x <= fit.knots[index + 1])]
    places = inside[:: max(1, inside.size // 64)]
    fewer = np.delete(fit.knots, [index, index + 1])
    candidates = np.sort(np.column_stack([np.tile(fewer, (places.size, 1)), places]), axis=1)
    for data in [points.levelled(index), points] if _level_beside(fit, index, fall) else [points]:
        if miss >= ROUND:
            single = refined(data, data.best(candidates), max(2, points.x.size // 100))
            corners = np.concatenate([fit.knots, single.knots])
            miss = float(np.max(np.abs(single(corners) - fit(corners)))) / fall
    return single, miss


def _level_beside(fit: Fit, index: int, fall: float) -> bool:
    """Is the piece before knot ``index`` level beside the drop that begins there, in slope as in height?"""
    bottom = bottom_of(fit, index)
    speed = fall / float(fit.knots[bottom] - fit.knots[index]) if bottom > index else 0.0
    change = abs(float(fit.values[index] - fit.values[index - 1]))
    return change <= SMALL * fall and abs(float(fit.slopes[index - 1])) <= LEVEL * speed


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
    straight = [x - x[0], x[0] - x]
    corner = -np.maximum(x - corners[knee.knee], 0.0)
    convex = misfit([*straight, *bends], y, w)
    return (convex - misfit([*straight, *bends, corner], y, w)) / fitted.long_run


def lasts(fitted: Fitted, knee: Knee) -> bool:
    """Does the curve stay below half of the drop to its end, or for longer than a blip?"""
    after = fitted.points.x > fitted.fit.knots[knee.knee]
    low = fitted.fit(fitted.points.x[after]) <= fitted.fit.values[knee.knee] - knee.fall / 2
    low = low[int(np.argmax(low)) :]
    if low.all():
        return low.size >= 2
    return int(np.argmin(low)) >= max(3, BLIP * fitted.points.x.size)
