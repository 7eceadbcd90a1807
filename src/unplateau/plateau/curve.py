"""From a logged curve to clean points in units of their own spread, so that no later step can depend on a scale.

What enters: steps and values as logged. What leaves: time from 0 to 1, values oriented so that learning goes down,
spikes taken out, a weight for each, and bins small enough to search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import median_filter, uniform_filter1d

from unplateau.errors import DataError, SpecError

Direction = Literal["min", "max"]

Floats = NDArray[np.float64]

LARGEST = 1e300
"""Beyond this, differences and sums of values are no longer finite."""

MAX_BINS = 400

TIME_DIGITS, VALUE_DIGITS = 11, 8
"""Rounding of the scaled curve, which hides what scaling does to the last digits of a float."""

SPIKE = 6.0
"""A value this many noise sd from the running median of 7 rows is a spike and is replaced by it."""


@dataclass(frozen=True)
class Prepared:
    """A curve in its own units: ``y`` has spread 1 and learning goes down, ``w`` are weights of mean 1.

    ``steps`` are those logged, each once. ``time`` and ``rank`` run from 0 to 1: by step, and by row.
    ``value_of(y)`` leads back to the logged units.
    """

    steps: Floats
    time: Floats
    y: Floats
    w: Floats
    middle: float
    spread: float
    sign: float

    @property
    def rank(self) -> Floats:
        """Row number from 0 to 1: what time is when a curve is logged ever more rarely."""
        return np.linspace(0.0, 1.0, self.steps.size)

    @property
    def clocks(self) -> list[Floats]:
        """``time``, and ``rank`` where the two differ by more than a row or two."""
        apart = float(np.max(np.abs(self.time - self.rank)))
        return [self.time] if apart * self.steps.size < 3 else [self.time, self.rank]

    def value_of(self, y: float) -> float:
        """A level in the units of the logged values."""
        return self.sign * (self.middle + self.spread * y)

    def level_of(self, value: float) -> float:
        """The inverse of ``value_of``."""
        return (self.sign * value - self.middle) / self.spread


def checked(steps: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats]:
    """Two finite float arrays of equal length with steps in order; raises DataError or SpecError."""
    s, v = _floats(steps, "steps"), _floats(values, "values")
    if s.shape != v.shape:
        raise SpecError(f"steps and values must have the same length, got {s.size} and {v.size}")
    for name, array in (("steps", s), ("values", v)):
        wrong = ~(np.abs(array) <= LARGEST)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(f"{name}[{row}] is {array[row]}: every entry must be finite; drop the missing rows first")
    if (np.diff(s) < 0).any():
        row = int(np.flatnonzero(np.diff(s) < 0)[0]) + 1
        raise DataError(f"steps[{row}] = {s[row]:g} comes after {s[row - 1]:g}: steps must be in increasing order")
    return s, v


def _floats(values: ArrayLike, name: str) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name} must be a sequence of numbers") from None
    if array.ndim != 1:
        raise SpecError(f"{name} must be one-dimensional, got shape {array.shape}")
    return array


def prepare(steps: Floats, values: Floats, direction: Direction) -> Prepared:
    """Merge equal steps, orient, take out spikes, scale and weigh."""
    sign = 1.0 if direction == "min" else -1.0
    s, inverse, counts = np.unique(steps, return_inverse=True, return_counts=True)
    v = _without_spikes(sign * np.bincount(inverse, values) / counts)
    length = float(s[-1] - s[0]) or 1.0
    middle = float(np.median(v))
    spread = float(np.ptp(v))
    if not spread > 1e-12 * float(np.max(np.abs(v), initial=0.0)):
        spread, v = 1.0, np.full_like(v, middle)
    time = np.round((s - s[0]) / length, TIME_DIGITS)
    y = np.round((v - middle) / spread, VALUE_DIGITS)
    return Prepared(s, time, y, _weights(y) * counts, middle, spread, sign)


def _without_spikes(y: Floats) -> Floats:
    typical = median_filter(y, size=7, mode="nearest")
    off = y - typical
    noise = 1.4826 * median_filter(np.abs(off), size=min(101, y.size), mode="reflect")
    return np.where(np.abs(off) > SPIKE * noise, typical, y)


def _weights(y: Floats) -> Floats:
    """Inverse variance of the noise about each point, read from second differences, within a factor of nine."""
    if y.size < 60:
        return np.ones_like(y)
    rough = np.abs(np.convolve(y, [1.0, -2.0, 1.0], mode="valid"))
    window = max(25, y.size // 5)
    local = uniform_filter1d(median_filter(rough, size=window, mode="reflect"), window, mode="reflect")
    if not local.any():
        return np.ones_like(y)
    local = np.pad(np.clip(local / np.median(local[local > 0]), 1 / 3, 3), 1, mode="edge")
    weights: Floats = local**-2.0
    return weights / weights.mean()


def binned(x: Floats, y: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """At most ``MAX_BINS`` weighted averages of neighbouring rows: (x, y, weight)."""
    if x.size <= MAX_BINS:
        return x, y, w
    starts = np.linspace(0, x.size, MAX_BINS + 1).astype(np.intp)[:-1]
    weight = np.add.reduceat(w, starts)
    return np.add.reduceat(w * x, starts) / weight, np.add.reduceat(w * y, starts) / weight, weight
