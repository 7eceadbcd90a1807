"""When a run leaves its plateau: progress between two exact predictors, and the step from which it stays above a line.

The definitions that all figures rest on are here once. A step that was never reached is None, right-censored: it is
reported as "> N", never dropped and never averaged as N.
"""

import math
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from unplateau.errors import DataError, SpecError

Floats = NDArray[np.float64]
ESCAPE, COMPLETION = 0.2, 0.9
"""Progress from which a run has escaped, and has arrived."""
WINDOW = 100.0
"""Steps over which progress is averaged, and the last figures of a run that is not finished."""
MARGIN = 0.1
"""How far below the line progress must fall to have been lost; less is a run that hovers around it."""
FEWEST_POINTS = 8
"""Points in which a plateau can be seen."""
LARGEST = 1e300
"""Beyond this, differences and sums of values are no longer finite."""


def escape_step(
    steps: ArrayLike, progress: ArrayLike, *, threshold: float = ESCAPE, window: float = WINDOW
) -> float | None:
    """First logged step from which the trailing mean of training progress stays at or above ``threshold`` to the end.

    None if the last mean is below: the run is right-censored at its last step. Follows the escape rule of the
    task-diversity study (arXiv 2410.05448: rolling loss / no-context loss < 0.8), with progress in place of the loss
    ratio. Raises DataError if steps go back or an entry is not finite.
    """
    s, p = checked(steps, progress)
    if not (math.isfinite(threshold) and window > 0):
        raise SpecError(f"threshold must be finite and window a positive number of steps, got {threshold} and {window}")
    below = np.flatnonzero(trailing_means(s, p, window) < threshold)
    first = int(below[-1]) + 1 if below.size else 0
    if first >= s.size:
        return None
    step = float(s[first])
    return int(step) if step.is_integer() else step


def completion_step(
    steps: ArrayLike, progress: ArrayLike, *, threshold: float = COMPLETION, window: float = WINDOW
) -> float | None:
    """As ``escape_step`` at 0.9 of the way to the Bayes-optimal predictor."""
    return escape_step(steps, progress, threshold=threshold, window=window)


def lost_steps(
    steps: ArrayLike, progress: ArrayLike, *, threshold: float = ESCAPE, window: float = WINDOW
) -> list[tuple[float, float]]:
    """When a run got there and when it was lost again, each time: (reached, lost), in order.

    It got there where the trailing mean stayed at or above ``threshold`` for at least ``window`` steps, and was lost at
    the next step at which the mean is more than ``MARGIN`` below, or at the last one if that is below at all. Raises as
    :func:`escape_step` does.
    """
    s, p = checked(steps, progress)
    means = trailing_means(s, p, window)
    found: list[tuple[float, float]] = []
    reached: float | None = None
    held = False
    for step, mean in zip(s.tolist(), means.tolist(), strict=True):
        if mean >= threshold:
            reached = step if reached is None else reached
            held = held or step - reached >= window
        elif reached is not None and not held:
            reached = None
        elif reached is not None and mean < threshold - MARGIN:
            found.append((reached, step))
            reached, held = None, False
    if reached is not None and held and means[-1] < threshold:
        found.append((reached, float(s[-1])))
    return found


def trailing_means(steps: ArrayLike, values: ArrayLike, window: float = WINDOW) -> Floats:
    """(N,): the mean at step s is over the rows logged in (s - window, s].

    ``window`` counts steps, not rows, and early rows use what there is.
    """
    s, v = np.asarray(steps), np.asarray(values, dtype=np.float64)
    first = np.searchsorted(s, s - window, side="right")
    widths = np.arange(1, v.size + 1) - first
    edges = [0, *(np.flatnonzero(np.diff(widths)) + 1).tolist(), v.size]
    # Not from running sums: their rounding would push a mean that equals a threshold below it.
    stretches = [
        sliding_window_view(v[first[low] : high], int(widths[low])).mean(axis=-1)
        for low, high in pairwise(edges)
        if high > low
    ]
    return np.concatenate([np.empty(0), *stretches])


def step_shown(step: float) -> str:
    """A step in words: all digits of those that have six or more, as of tokens, and six of smaller ones."""
    return f"{step:.0f}" if 1e5 <= abs(step) < LARGEST else f"{step:g}"


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
    if (s[1:] < s[:-1]).any():
        row = int(np.flatnonzero(s[1:] < s[:-1])[0]) + 1
        here, before = step_shown(s[row]), step_shown(s[row - 1])
        raise DataError(f"steps[{row}] = {here} comes after {before}: steps must be in increasing order")
    return s, v


def _floats(values: ArrayLike, name: str) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name} must be a sequence of numbers") from None
    if array.ndim != 1:
        raise SpecError(f"{name} must be one-dimensional, got shape {array.shape}")
    return array
