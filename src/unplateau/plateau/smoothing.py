"""Logs that were smoothed as a whole, signal and noise, which delays the end of every plateau.

An exponential moving average, s(t) = a s(t - 1) + (1 - a) x(t), leaves errors each of which is a times the one before
plus something new. Errors may be so by themselves: what is found here is that a curve looks like an average.
"""

import numpy as np

from unplateau.errors import SpecError
from unplateau.plateau.progress import Floats

LEAST_WEIGHT = 0.5
"""Below this the delay is less than a row."""
WHITE = 4.5
"""Largest autocorrelation that is no sign of anything but chance, in standard errors, of a few hundred of them."""


def smoothing_weights(errors: Floats) -> tuple[float, float, float] | None:
    """The weight a that such errors (N,) would have, between the ends of its 95 % interval: (low, best, high).

    None if the delay would be less than a row.
    """
    weight = _correlation(errors, 1)
    if not LEAST_WEIGHT <= weight < 1:
        return None
    doubt = 2 * np.sqrt((1 - weight**2) / errors.size)
    return max(weight - doubt, 0.0), weight, min(weight + doubt, (1 + weight) / 2)


def is_undone(errors: Floats, weight: float) -> bool:
    """Whether errors (N,) of a curve in which this average was undone are new in every row.

    Those of a moving average over a window, such as a mean of the last ten rows, are not.
    """
    memory = min(int(3 / (1 - weight)), errors.size // 4)
    largest = max((abs(_correlation(errors, lag)) for lag in range(1, memory + 1)), default=0.0)
    return bool(largest * np.sqrt(errors.size) <= WHITE)


def undone(values: Floats, weight: float) -> Floats:
    """(N,): what was smoothed into these values, the first taken as it is; raises SpecError for no weight in [0, 1)."""
    if not 0 <= weight < 1:
        raise SpecError(f"smoothing must be a weight from 0 to less than 1, got {weight:g}")
    if weight == 0:
        return values
    raw = values.copy()
    raw[1:] = (values[1:] - weight * values[:-1]) / (1 - weight)
    return raw


def _correlation(errors: Floats, lag: int) -> float:
    power = float(errors @ errors)
    return float(errors[lag:] @ errors[:-lag]) / power if power > 0 else 0.0
