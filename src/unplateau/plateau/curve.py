"""From a logged curve to clean points in units of their own spread, so that no later step can depend on a scale.

Time from 0 to 1, values oriented so that learning goes down, spikes taken out, a weight for each.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import median_filter, uniform_filter1d

from unplateau.plateau.progress import Floats

Direction = Literal["min", "max"]
MAX_BINS = 400
PART, BESIDE = 4096, 128
"""Means that are taken at once, and rows on either side that say which of theirs are spikes."""
MOST_ROWS = 50_000
"""Of a curve with more rows, neighbours are averaged: its ends are known to a few rows, which noise hides."""
FAINT = 1e-3
"""Second differences below this share of the spread tell nothing about how noisy a curve is."""


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


def gathered(steps: Floats, values: Floats) -> tuple[Floats, Floats, int]:
    """At most ``MOST_ROWS`` means of so many neighbouring rows, spikes taken out; the first and last step stay."""
    size = -(-steps.size // MOST_ROWS)
    if size == 1:
        return steps, values, size
    starts = np.arange(0, steps.size, size)
    n_rows = np.diff([*starts, steps.size])
    s = np.add.reduceat(steps, starts) / n_rows
    s[0], s[-1] = steps[0], steps[-1]
    parts = []
    for low in range(0, steps.size, PART * size):
        high, first = low + PART * size, max(low - BESIDE, 0)
        clean = _without_spikes(values[first : high + BESIDE])[low - first : high - first]
        parts.append(np.add.reduceat(clean, np.arange(0, clean.size, size)))
    return s, np.concatenate(parts) / n_rows, size


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
    # Rounding hides what scaling does to the last digits of a float.
    time = np.round((s - s[0]) / length, 11)
    y = np.round((v - middle) / spread, 8)
    return Prepared(s, time, y, _weights(y) * counts, middle, spread, sign)


def _without_spikes(y: Floats) -> Floats:
    """A value that is six noise sd from the running median of 7 rows is replaced by it."""
    typical = median_filter(y, size=7, mode="nearest")
    off = np.abs(y - typical)
    rough = np.abs(np.convolve(np.pad(y, 1, mode="reflect"), [1.0, -2.0, 1.0], mode="valid")) / np.sqrt(6.0)
    # Where a curve falls steadily, the running median is the curve itself and its distance says nothing about noise.
    spikes = off > 6.0 * _typical_noise(rough)
    return np.where(spikes & (off > 6.0 * _typical_noise(off)), typical, y) if spikes.any() else y


def _typical_noise(off: Floats) -> Floats:
    """The sd of normal noise whose absolute values have these running medians."""
    return 1.4826 * np.asarray(median_filter(off, size=min(101, off.size), mode="reflect"), dtype=np.float64)


def _weights(y: Floats) -> Floats:
    """Inverse variance of the noise about each point, read from second differences, within a factor of nine."""
    if y.size < 60:
        return np.ones_like(y)
    rough = np.abs(np.convolve(y, [1.0, -2.0, 1.0], mode="valid"))
    window = max(25, y.size // 5)
    local = uniform_filter1d(median_filter(rough, size=window, mode="reflect"), window, mode="reflect")
    local = np.maximum(local, FAINT)
    local = np.pad(np.clip(local / np.median(local), 1 / 3, 3), 1, mode="edge")
    weights: Floats = local**-2.0
    return weights / weights.mean()


def binned(x: Floats, y: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """At most ``MAX_BINS`` weighted averages of neighbouring rows: (x, y, weight)."""
    if x.size <= MAX_BINS:
        return x, y, w
    starts = np.linspace(0, x.size, MAX_BINS + 1).astype(np.intp)[:-1]
    weight = np.add.reduceat(w, starts)
    return np.add.reduceat(w * x, starts) / weight, np.add.reduceat(w * y, starts) / weight, weight
