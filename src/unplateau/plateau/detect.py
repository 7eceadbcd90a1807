"""Plateaus of a learning curve: where they start, where they end, and whether they end at all.

It works on the steps and values of any training log, and answers in the log's own units.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from unplateau.errors import SpecError
from unplateau.notebook import table_html
from unplateau.plateau.curve import Direction, Prepared, gathered, prepare
from unplateau.plateau.knees import (
    BLIP,
    Knee,
    against_convex,
    doubts,
    knees,
    lasts,
    rounded_off,
    tails,
    without_overlap,
)
from unplateau.plateau.noise import Fitted, fitted
from unplateau.plateau.place import placed
from unplateau.plateau.progress import COMPLETION, FEWEST_POINTS, Floats, checked, step_shown
from unplateau.plateau.smoothing import is_undone, smoothing_weights, undone
from unplateau.plateau.tails import EVIDENCE, settles

Kind = Literal["plateau", "levels off", "collapsed"]
NAMES: Mapping[Kind, str] = MappingProxyType(
    {
        "plateau": "plateau",
        "levels off": "levels off after learning,",
        "collapsed": "levels off after a collapse,",
    }
)
SHORTEST_ROWS, SHORTEST_SHARE = 5, 0.02
"""An ended plateau has at least this many rows, and this share of all."""
SHORTEST_TAIL = 0.05
"""A plateau that the curve stops in has at least this share of all rows."""
SMALLEST_FALL = 0.04
"""A drop smaller than this share of the curve's range ends nothing."""
NEW = 0.25
"""Share of a drop that must be below the lowest value before the plateau; the rest may be recovery from a rise."""
BELOW_FLOOR = 0.25
"""A flat part that is worse than the floor by more than this share of the way to the ceiling is no plateau."""
LEAST_SEEN = 1e-3
"""Noise below this share of the curve's range is what the fit misses, and says nothing about smoothing."""


@dataclass(frozen=True)
class Smoothed:
    """Where a plateau ended if the curve is an exponential moving average, which delays its end.

    ``weight``: of the past in the average; TensorBoard and W&B call it smoothing. ``end`` and ``interval`` are those of
    the curve with the average undone, the interval for all weights that are likely.
    """

    weight: float
    end: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Plateau:
    """A flat part of a learning curve.

    ``kind``: "plateau" if learning is still to come, as it does after every one that ended. A flat part that the curve
    stops in after it has learned "levels off": without a ceiling nobody can tell whether that is all. One at a level
    that is clearly worse than one it held before has "collapsed".

    ``start``, ``end``: in steps. ``level``: mean of the values on it (the highest and lowest tenth left out).
    ``ended``: False when the curve stops inside it; ``end`` is then the last step. ``interval``: steps (low, high)
    between which the end lies with at least 95 % confidence; (last step, inf) when it has not ended, as a
    right-censored run is "> N". ``if_smoothed``: where it ended if the curve was smoothed; None unless its errors look
    as if it was.
    """

    start: float
    end: float
    level: float
    ended: bool
    interval: tuple[float, float]
    kind: Kind = "plateau"
    if_smoothed: Smoothed | None = None

    @property
    def name(self) -> str:
        """What it is called in sentences, before "from ..."."""
        return NAMES[self.kind]

    def __str__(self) -> str:
        where, level = f"{self.name} from {step_shown(self.start)} to {step_shown(self.end)}", f"at {self.level:.4g}"
        if self.kind != "plateau":
            return f"{where} {level}: flat where the curve stops"
        if not self.ended:
            return f"{where} {level}: not over where the curve stops"
        low, high = map(step_shown, self.interval)
        found = f"{where} (95 % interval of the end: {low} to {high}) {level}"
        if (raw := self.if_smoothed) is None:
            return found
        low, high = map(step_shown, raw.interval)
        return f"{found}; if this log was smoothed (by {raw.weight:.2f}), to {step_shown(raw.end)} ({low} to {high})"

    def as_dict(self) -> dict[str, Any]:
        """As JSON data, in which there is no infinity: an open end of the interval is None.

        There is ``if_smoothed`` only where the plateau has it.
        """
        found = asdict(self) | {"interval": [bound if math.isfinite(bound) else None for bound in self.interval]}
        if self.if_smoothed is None:
            del found["if_smoothed"]
        return found


@dataclass(frozen=True)
class _Scale:
    """``floor`` and ``ceiling`` in the curve's own units, learning downwards, with what follows from them."""

    floor: float | None
    ceiling: float | None
    top: float
    span: float

    @property
    def start(self) -> float:
        """Where learning begins: at the floor, or at the worst of the curve."""
        return self.top if self.floor is None else self.floor

    @property
    def way(self) -> float:
        """The drop there is to learn: from floor to ceiling, or as far as the curve shows."""
        end = self.top - self.span if self.ceiling is None else self.ceiling
        return self.start - end if self.start > end else self.span

    @property
    def known(self) -> bool:
        """Are both ends given?"""
        return self.floor is not None and self.ceiling is not None

    def worst(self, noise: float) -> float:
        """A level above this is clearly worse than the floor."""
        return math.inf if self.floor is None else self.floor + max(BELOW_FLOOR * self.way, noise)

    def is_plateau(self, level: float, noise: float) -> bool:
        """Is a flat part at ``level`` one on which there is still something to learn?"""
        if self.ceiling is not None:
            left = (1 - COMPLETION) * max(self.start - self.ceiling, 0.0)
            if level <= self.ceiling + max(left, noise):
                return False
        return level <= self.worst(noise)


class Plateaus(list[Plateau]):
    """A list that shows itself as a table in a notebook."""

    def _repr_html_(self) -> str:
        columns = ("kind", "start", "end", "interval of the end", "level")
        rows = [
            (
                one.kind,
                one.start,
                one.end,
                " to ".join(map(step_shown, one.interval)) if one.ended else "not over",
                one.level,
            )
            for one in self
        ]
        return table_html(columns, rows) if rows else "<p>no plateau</p>"


def find_plateaus(
    steps: ArrayLike,
    values: ArrayLike,
    *,
    floor: float | None = None,
    ceiling: float | None = None,
    direction: Direction = "min",
    smoothing: float = 0.0,
) -> Plateaus:
    """Plateaus of a learning curve, in order of time; empty if it has none or fewer than 8 distinct steps.

    A plateau is a flat part before a drop (its end is the knee), or a flat part that the curve stops in. A curve that
    only slows down has neither, such as a power law or a logarithm: what still falls at the pace that its own past
    predicts is not flat. Multiplying steps or values by a constant, or adding one, changes nothing. Of more than 50,000
    rows neighbours are averaged first.

    Args:
        steps: (N,) in increasing order, any unit and spacing; equal steps are averaged.
        values: (N,) the curve.
        floor: the value before learning, in the units of ``values`` (no-context loss, chance accuracy). A flat part
            that is clearly worse is not counted: from there the curve has yet to reach the floor.
        ceiling: the value at the optimum (Bayes loss or accuracy). A flat part that has gone 0.9 of the way from
            ``floor`` (if not given: from the worst of the curve) to it has arrived and is no plateau. Without a
            ceiling, a curve that stops in a flat part after it has learned is said to level off.
        direction: "min" if values go down when learning (loss), "max" if up (accuracy).
        smoothing: weight of the past in the exponential moving average that these values are (what TensorBoard and W&B
            call smoothing), from row to row; undone before anything else, so that levels are of the raw values. Where
            it is not known, see :attr:`Plateau.if_smoothed`.

    Raises:
        DataError: an entry is not finite, or steps go back.
        SpecError: lengths differ, ``direction`` is unknown, ``floor`` is not worse than ``ceiling``, or ``smoothing``
            not in [0, 1).
    """
    s, v = checked(steps, values)
    _check_arguments(floor, ceiling, direction)
    v = undone(v, smoothing)
    if np.count_nonzero(s[1:] != s[:-1]) < FEWEST_POINTS - 1:
        return Plateaus()
    s, v, n_rows = gathered(s, v)
    curve = prepare(s, v, direction)
    found = fitted(curve)
    plateaus = Plateaus(_plateaus(curve, found, floor, ceiling))
    weights = smoothing_weights(found.errors) if found.sd > LEAST_SEEN else None
    if weights is None or not any(each.ended for each in plateaus):
        return plateaus
    values = curve.sign * (curve.middle + curve.spread * curve.y)
    raw = [prepare(curve.steps, undone(values, weight), direction) for weight in weights]
    best = fitted(raw[1])
    if not is_undone(best.errors, weights[1]):
        return plateaus
    fits = (fitted(raw[0]), best, fitted(raw[2]))
    likely = [_plateaus(each, fit, floor, ceiling) for each, fit in zip(raw, fits, strict=True)]
    return Plateaus(_if_smoothed(plateaus, weights[1] ** (1 / n_rows), likely))


def _if_smoothed(plateaus: list[Plateau], weight: float, raw: list[list[Plateau]]) -> list[Plateau]:
    """``plateaus`` with what the curve says if smoothing is undone by the likely weights: low, best, high.

    The interval is that of all three. Nothing is said where they do not find as many plateaus that have ended.
    """
    ends = [[each for each in found if each.ended] for found in (plateaus, *raw)]
    if len({len(each) for each in ends}) > 1:
        return plateaus
    said = []
    for likely in zip(*ends[1:], strict=True):
        lows, highs = zip(*(each.interval for each in likely), strict=True)
        said.append(Smoothed(weight, likely[1].end, (min(lows), max(highs))))
    return [replace(each, if_smoothed=other) for each, other in zip_longest(plateaus, said)]


def _plateaus(curve: Prepared, found: Fitted, floor: float | None, ceiling: float | None) -> list[Plateau]:
    found = replace(found, fit=rounded_off(found.points, found.fit), bends=found.fit)
    high, low = (None if each is None else curve.level_of(each) for each in (floor, ceiling))
    scale = _Scale(high, low, float(found.fit.values.max()), float(np.ptp(found.fit.values)))
    parts = knees(found.fit, _clocks(curve, found), doubts(found))
    ended = without_overlap([knee for knee in parts if _holds(curve, found, knee, scale)])
    plateaus = [_ended(curve, found, knee) for knee in ended]
    last = _unfinished(curve, found, scale, after=ended[-1].bottom if ended else 0)
    return plateaus if last is None else [*plateaus, last]


def _check_arguments(floor: float | None, ceiling: float | None, direction: str) -> None:
    if direction not in ("min", "max"):
        raise SpecError(f"direction must be 'min' (loss) or 'max' (accuracy), got {direction!r}")
    for name, value in (("floor", floor), ("ceiling", ceiling)):
        if value is not None and not math.isfinite(value):
            raise SpecError(f"{name} must be a finite number, got {value}")
    if floor is not None and ceiling is not None and (floor <= ceiling if direction == "min" else floor >= ceiling):
        side = "above" if direction == "min" else "below"
        raise SpecError(f"floor {floor:g} must lie {side} ceiling {ceiling:g} when direction is '{direction}'")


def _clocks(curve: Prepared, found: Fitted) -> list[Floats]:
    return [np.interp(found.fit.knots, found.points.x, clock) for clock in (curve.time, curve.rank)]


def _holds(curve: Prepared, found: Fitted, knee: Knee, scale: _Scale) -> bool:
    rows = _rows(curve, found, knee)
    least = SMALLEST_FALL * (scale.way if scale.known else scale.span)
    return (
        rows.size >= max(SHORTEST_ROWS, SHORTEST_SHARE * curve.y.size)
        and knee.fall >= least
        and scale.is_plateau(_level(rows), 0.0)
        and _is_new(found.fit.values, knee)
        and lasts(found, knee)
        and against_convex(curve, found, knee) >= EVIDENCE
    )


def _is_new(values: Floats, knee: Knee) -> bool:
    """Does the drop lead below all that came before, rather than back from a rise?"""
    return knee.start == 0 or bool(values[: knee.start].min() - values[knee.bottom] >= NEW * knee.fall)


def _rows(curve: Prepared, found: Fitted, knee: Knee) -> Floats:
    """Values on the flat part."""
    x, knots = found.points.x, found.fit.knots
    return curve.y[(x >= knots[knee.start]) & (x <= knots[knee.knee])]


def _level(values: Floats) -> float:
    """Mean without the tenth of the rows at either side, which may be blips."""
    cut = int(0.1 * values.size)
    middle = np.partition(values, (cut, values.size - cut - 1))[cut : values.size - cut]
    return float(np.mean(middle))


def _ended(curve: Prepared, found: Fitted, knee: Knee) -> Plateau:
    place, (left, right) = placed(found, knee.knee, level=knee.start == knee.knee - 1)
    inner = (found.fit.knots[knee.start], place, left, right)
    start, end, low, high = (float(step) for step in np.interp(inner, found.points.x, curve.steps))
    return Plateau(start, end, curve.value_of(_level(_rows(curve, found, knee))), True, (low, high))


def _unfinished(curve: Prepared, found: Fitted, scale: _Scale, after: int) -> Plateau | None:
    """The flat part that the curve stops in: from the floor on if it stays there, else a tail known to be flat."""
    fit, last = found.fit, float(curve.steps[-1])
    at_floor = int(np.argmax(fit.values <= scale.worst(2 * found.sd)))
    stays = after == 0 and scale.known and np.ptp(fit.values[at_floor:]) <= max(0.1 * scale.way, 2 * found.sd)
    band = max(0.1 * (min(scale.span, scale.way) if scale.known else scale.span), 2 * found.sd)
    for first in [at_floor] if stays else tails(fit, _clocks(curve, found), doubts(found), band):
        inside = found.points.x >= fit.knots[first]
        if inside.sum() < max(SHORTEST_ROWS, SHORTEST_TAIL * inside.size):
            return None
        level = _level(curve.y[inside])
        known_flat = stays or (scale.known and abs(level - scale.start) <= max(0.1 * scale.way, 2 * found.sd))
        if first >= after and (known_flat or settles(curve, found, first, band)):
            kind = _kind(curve, found, scale, first, level)
            if kind != "collapsed" and not scale.is_plateau(level, 2 * found.sd):
                return None
            start = float(np.interp(fit.knots[first], found.points.x, curve.steps))
            return Plateau(start, last, curve.value_of(level), False, (last, math.inf), kind)
    return None


def _kind(curve: Prepared, found: Fitted, scale: _Scale, first: int, level: float) -> Kind:
    """What the flat part from knot ``first`` on is, by what the curve did before it."""
    before = found.fit(found.points.x[found.points.x < found.fit.knots[first]])
    noise = 3 * found.sd
    held = max(SHORTEST_ROWS, math.ceil(BLIP * curve.y.size))
    if before.size >= held:
        best = float(np.sort(before)[held - 1])
        if level - best > max(noise, NEW * (max(scale.start, level) - best)):
            return "collapsed"
    if scale.ceiling is not None or before.size == 0:
        return "plateau"
    came = (before.max() if scale.floor is None else scale.floor) - level
    return "levels off" if came > max(noise, SMALLEST_FALL * scale.span) else "plateau"
