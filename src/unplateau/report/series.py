"""Curves as they are drawn: no more points than a screen can show.

What enters: columns of a history. What leaves: arrays of at most a few hundred points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
MOST_POINTS, MOST_COLUMNS = 320, 100
"""Points of a line and columns of a heat map beyond which neighbours are averaged."""
WINDOW = 100
"""Steps over which progress is averaged, as in the definition of escape."""


@dataclass(frozen=True)
class Line:
    """One run's curve. ``plateaus``: (start, end) in steps; ``mark``: the point of escape, None if censored."""

    seed: int
    x: Floats
    y: Floats
    plateaus: tuple[tuple[float, float], ...] = ()
    mark: tuple[float, float] | None = None


def merged(x: ArrayLike, y: ArrayLike, most: int = MOST_POINTS) -> tuple[Floats, Floats]:
    """At most ``most`` points: means of neighbouring ones where there are more. ``y`` (..., points)."""
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(xs) <= most:
        return xs, ys
    starts = np.linspace(0, len(xs), most + 1).astype(int)[:-1]
    sizes = np.diff([*starts, len(xs)])
    return np.add.reduceat(xs, starts) / sizes, np.add.reduceat(ys, starts, axis=-1) / sizes


def running_mean(steps: Sequence[float], values: Sequence[float], window: float = WINDOW) -> Floats:
    """Mean of the rows in the ``window`` steps up to each row."""
    s, sums = np.asarray(steps), np.concatenate([[0.0], np.cumsum(values)])
    first = np.searchsorted(s, s - window, side="right")
    return np.asarray((sums[1:] - sums[first]) / (np.arange(len(s)) + 1 - first))
