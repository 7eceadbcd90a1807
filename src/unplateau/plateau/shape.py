"""Which parts of a piecewise-linear fit are flat, and which of them end in a drop.

What enters: a fit in which learning goes down. What leaves: knees, the places where a flat part turns into a drop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unplateau.plateau.fit import Fit, Floats, Points, refined

FLAT = 0.15
"""A part is flat if its change, and its slope, are below this share of the drop that follows."""
SMALL = 0.05
"""A change below this share of the drop is flat however sudden."""
ROUND = 0.12
"""Two corners are one rounded corner if a single one misses them by less than this share of the drop."""


@dataclass(frozen=True)
class Knee:
    """Knot numbers: the flat part runs from ``start`` to ``knee``, the drop from ``knee`` to ``bottom``; ``fall`` > 0."""

    start: int
    knee: int
    bottom: int
    fall: float


def knees(fit: Fit, clocks: list[Floats], doubt: Floats) -> list[Knee]:
    """All flat parts that turn into a drop, left to right.

    ``clocks``: the knots on each clock. ``doubt``: standard errors (knots, knots) of differences.
    """
    found = []
    for knee in range(1, fit.knots.size - 1):
        bottom = bottom_of(fit, knee)
        fall = float(fit.values[knee] - fit.values[bottom])
        if concave(fit)[knee - 1] and fall > 0:
            start = min(_start(fit.values, clock, Knee(knee, knee, bottom, fall), doubt) for clock in clocks)
            found.append(Knee(start, knee, bottom, fall))
    return _without_overlap([each for each in found if each.start < each.knee])


def concave(fit: Fit) -> NDArray[np.bool_]:
    """For each inner knot: does the curve turn downwards there?"""
    return np.asarray(np.diff(fit.slopes) < 0)


def bottom_of(fit: Fit, knee: int) -> int:
    """The knot at which the drop from ``knee`` ends: what follows rises, or is slow and falls less than the drop did."""
    steepest = 0.0
    for piece in range(knee, fit.knots.size - 1):
        speed = -float(fit.slopes[piece])
        fallen, falls = fit.values[knee] - fit.values[piece], fit.values[piece] - fit.values[piece + 1]
        if speed <= 0 or (speed <= FLAT * steepest and falls <= fallen):
            return piece
        steepest = max(steepest, speed)
    return fit.knots.size - 1


def _start(values: Floats, clock: Floats, drop: Knee, doubt: Floats) -> int:
    """The first knot of the flat part before ``drop``; its ``knee`` if there is none. A change counts beyond 2 errors."""
    start = drop.knee
    speed = drop.fall / (clock[drop.bottom] - clock[drop.knee])
    for piece in range(drop.knee - 1, -1, -1):
        rise = max(_beyond(values, doubt, piece, later) for later in range(start, drop.knee + 1))
        change = _beyond(values, doubt, piece, piece + 1)
        steep = change > FLAT * speed * (clock[piece + 1] - clock[piece]) and change > SMALL * drop.fall
        if rise > FLAT * drop.fall or steep:
            break
        start = piece
    return start


def _beyond(values: Floats, doubt: Floats, first: int, second: int) -> float:
    return max(abs(float(values[first] - values[second])) - 2 * float(doubt[first, second]), 0.0)


def _without_overlap(found: list[Knee]) -> list[Knee]:
    """Of flat parts that share rows the one with the greatest fall; of parts within one drop the first."""
    kept: list[Knee] = []
    for knee in sorted(found, key=lambda each: (-each.fall, each.knee)):
        if all(knee.knee <= other.start or knee.start >= other.bottom for other in kept):
            kept.append(knee)
    return sorted(kept, key=lambda each: each.knee)


def tail(fit: Fit, clocks: list[Floats], doubt: Floats, band: float) -> int:
    """The first knot of the flat part that the curve stops in; the last knot if there is none.

    ``band``: the change that still counts as flat. The tail's slope is compared with that of the curve before it.
    """
    last = fit.knots.size - 1
    start = last
    for piece in range(last - 1, 0, -1):
        speeds = [(fit.values[: piece + 1].max() - fit.values[piece]) / (clock[piece] - clock[0]) for clock in clocks]
        change = _beyond(fit.values, doubt, piece, piece + 1)
        steep = any(change / np.diff(c)[piece] > FLAT * speed for c, speed in zip(clocks, speeds, strict=True))
        if steep or np.ptp(fit.values[piece:]) > band:
            break
        start = piece
    return start


def rounded_off(points: Points, fit: Fit) -> Fit:
    """``fit`` with neighbouring concave corners replaced by one wherever that changes little of the drop they begin.

    The end of a plateau that bends into its drop would otherwise depend on how many corners the noise lets one see.
    """
    index = 1
    while index < fit.knots.size - 2:
        turns = concave(fit)
        single = _merged(points, fit, index) if turns[index - 1] and turns[index] else None
        if single is None:
            index += 1
        else:
            fit, index = single, 1
    return fit


def _merged(points: Points, fit: Fit, index: int) -> Fit | None:
    fall = float(fit.values[index] - fit.values[bottom_of(fit, index)])
    inside = points.x[(points.x >= fit.knots[index]) & (points.x <= fit.knots[index + 1])]
    places = inside[:: max(1, inside.size // 64)]
    fewer = np.delete(fit.knots, [index, index + 1])
    candidates = np.sort(np.column_stack([np.tile(fewer, (places.size, 1)), places]), axis=1)
    single = refined(points, points.best(candidates), max(2, points.x.size // 100))
    corners = np.concatenate([fit.knots, single.knots])
    miss = float(np.max(np.abs(single(corners) - fit(corners))))
    return single if miss < ROUND * fall else None
