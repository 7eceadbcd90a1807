"""Drops that come with something else: a new epoch, another learning rate, a resume. They are no end of a plateau.

What a model has memorised it knows when the data come round again, and a lower rate lowers the loss at once: such
stairs say nothing about what the model has yet to learn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from unplateau.plateau.detect import Plateau
from unplateau.plateau.progress import Floats, step_shown

What = Literal["epoch", "learning rate", "resume"]
Direction = Literal["min", "max"]

CHANGE = 0.1
"""Least change of a learning rate between two rows, as a share of the larger."""
SUDDEN = 4.0
"""How many times that of the rows around it this change must be."""
BESIDE = 8
"""Rows before and after an event over which a drop is measured, at most."""
FEWEST_BESIDE = 3
CLEAR = 4.0
"""How many times the spread of drops elsewhere a drop must exceed their median by."""
BESIDES = 2.0
"""How many times the fall directly before or after an event its drop must be."""
SMALLEST_DROP = 0.02
"""Least drop that is told, as a share of the range of the curve."""
PART = 1 << 16
"""Rows whose medians are taken at once."""
DENSE = 0.25
"""Share of all places of a plateau's end that events may touch; where they touch more, touching one means nothing."""


@dataclass(frozen=True)
class Event:
    """Something that happened between two steps: ``after`` the one and by the other, ``step``. ``label`` is short."""

    what: What
    after: float
    step: float
    words: str
    label: str

    def touches(self, low: float, high: float) -> bool:
        """Did it happen between these steps?"""
        return self.after <= high and self.step >= low

    def as_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {"with": self.what, "step": self.step, "words": self.words}


@dataclass(frozen=True)
class Drop:
    """A drop of a curve, in its own units, at an event."""

    event: Event
    by: float
    direction: Direction

    def __str__(self) -> str:
        goes = "drops" if self.direction == "min" else "rises"
        return f"{goes} by {self.by:.3g} at step {step_shown(self.event.step)}, where {self.event.words}"

    def as_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return self.event.as_dict() | {"by": self.by}


def new_epochs(steps: Sequence[float], epochs: Sequence[float]) -> list[Event]:
    """Where a whole number of epochs is passed, between rows if the epoch is counted in parts."""
    s, e = np.asarray(steps, dtype=np.float64), np.asarray(epochs, dtype=np.float64)
    counted = bool(np.any(e != np.floor(e)))
    found = []
    for at in np.flatnonzero((np.diff(np.floor(e)) > 0) & (np.diff(s) > 0)):
        before, later, epoch, whole = float(s[at]), float(s[at + 1]), float(e[at]), math.floor(e[at + 1])
        place = before + (whole - epoch) / (float(e[at + 1]) - epoch) * (later - before) if counted else later
        found.append(Event("epoch", place if counted else before, place, f"epoch {whole:g} begins", f"epoch {whole:g}"))
    return found


def new_rates(steps: Sequence[float], rates: Sequence[float]) -> list[Event]:
    """Where the learning rate jumps, and where its warm-up ends."""
    r = np.asarray(rates, dtype=np.float64)
    change = np.abs(np.diff(r))
    found = []
    for at in np.flatnonzero(change > CHANGE * np.maximum(np.abs(r[:-1]), np.abs(r[1:]))).tolist():
        around = np.concatenate([change[max(at - 3, 0) : at], change[at + 1 : at + 4]])
        if around.size and change[at] > SUDDEN * around.max():
            words = f"the learning rate changes from {r[at]:.3g} to {r[at + 1]:.3g}"
            found.append(Event("learning rate", float(steps[at]), float(steps[at + 1]), words, f"rate {r[at + 1]:.3g}"))
    top = int(np.argmax(r)) if r.size else 0
    rises = bool(np.all(np.diff(r[: top + 1]) > 0)) and top >= FEWEST_BESIDE and top < r.size - 1
    if rises and not any(event.step == steps[top] for event in found):
        words = f"the warm-up of the learning rate ends at {r[top]:.3g}"
        found.append(Event("learning rate", float(steps[top - 1]), float(steps[top + 1]), words, "warm-up ends"))
    return found


def resumed(starts: Sequence[float], steps: Sequence[float]) -> list[Event]:
    """Where a run was taken up again."""
    found = []
    for start in starts:
        before = max((step for step in steps if step < start), default=start)
        found.append(Event("resume", before, start, f"the run was resumed at {step_shown(start)}", "resumed"))
    return found


def coincident(plateau: Plateau, events: Sequence[Event], steps: Sequence[float]) -> list[Event]:
    """Events within the interval of a plateau's end; none of a kind of which there are so many that some must be."""
    if not plateau.ended:
        return []
    low, high = plateau.interval
    found = [event for event in events if event.touches(low, high)]
    return [event for event in found if not _is_dense(event.what, events, high - low, steps)]


def _is_dense(what: What, events: Sequence[Event], width: float, steps: Sequence[float]) -> bool:
    touched = sum(min(width + event.step - event.after, steps[-1] - steps[0]) for event in events if event.what == what)
    return touched > DENSE * (steps[-1] - steps[0]) and sum(event.what == what for event in events) > 1


def drops(steps: Sequence[float], values: Sequence[float], events: Sequence[Event], direction: Direction) -> list[Drop]:
    """Events at which the curve falls (rises, for "max") clearly more than elsewhere, and than beside them.

    All in as few rows: a fall that has begun before an event, or goes on after it, is none of its doing.
    """
    if not events:
        return []
    s = np.asarray(steps, dtype=np.float64)
    y = np.asarray(values, dtype=np.float64) * (1 if direction == "min" else -1)
    places = sorted({int(np.searchsorted(s, event.step)) for event in events} | {0, s.size})
    room = min((b - a for a, b in pairwise(places)), default=0)
    beside = min(BESIDE, room // 2)
    if beside < FEWEST_BESIDE:
        return []
    inner = np.arange(beside, s.size - beside + 1)
    middles = _running_medians(y, beside)
    falls = middles[:-beside] - middles[beside:]
    after = np.searchsorted(places, inner)
    away = np.minimum(inner - np.take(places, after - 1), np.take(places, after) - inner) >= beside
    usual, spread = _usual(falls[away])
    least = max(usual + CLEAR * spread, SMALLEST_DROP * float(np.ptp(y)))
    found = []
    for event in events:
        at = int(np.searchsorted(s, event.step)) - beside
        if 0 <= at < falls.size and falls[at] > max(least, BESIDES * _next_to(falls, at, beside)):
            found.append(Drop(event, float(falls[at]), direction))
    return found


def _running_medians(y: Floats, width: int) -> Floats:
    """(N - width + 1,): of the rows from each one on, a part of them at a time."""
    windows = sliding_window_view(y, width)
    return np.concatenate([np.median(windows[at : at + PART], axis=1) for at in range(0, len(windows), PART)])


def _next_to(falls: Floats, at: int, beside: int) -> float:
    """The larger of the falls directly before and after."""
    return max((float(falls[place]) for place in (at - beside, at + beside) if 0 <= place < falls.size), default=0.0)


def _usual(falls: Floats) -> tuple[float, float]:
    """The median and the robust standard deviation."""
    if not falls.size:
        return 0.0, math.inf
    middle = float(np.median(falls))
    return middle, 1.4826 * float(np.median(np.abs(falls - middle)))
