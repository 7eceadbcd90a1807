"""How well plateaus are found, on synthetic curves with known ends.

    python benchmarks/detector.py [--curves 200] [--first-seed 2000]

Seeds below 2000 were used to build and test the detector; the published figures are from seeds 2000 on. A curve has 200
to 5,000 rows, a drop of 2.2 and noise of sd 0.03 to 0.2; half are logged at equal distances, half at growing ones (the
end is then drawn either in steps or in rows). Errors are shares of the curve's length in rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.optimize import curve_fit
from scipy.signal import lfilter

from unplateau.plateau.detect import Plateau, Smoothed, find_plateaus

Floats = NDArray[np.float64]
DROP = 2.2
LOGISTIC_KNEE = 2.4
"""Widths before the middle at which a rounded plateau counts as ended: between the tangent in the middle of a logistic
drop, which meets the level at 2.0, and the best straight ramp, which leaves it at 2.6."""
DROPS = ("ramp", "exponential", "step", "sigmoid")
OTHERS = ("power", "exponential", "line", "noise")


@dataclass(frozen=True)
class Synthetic:
    """A curve and the rows (real numbers) at which its plateaus end."""

    steps: Floats
    values: Floats
    ends: tuple[float, ...]


Finder = Callable[[Synthetic], Sequence[Plateau | Smoothed]]


def drop(kind: str, x: Floats, start: float, width: float) -> Floats:
    """0 before ``start``, 1 after about ``width``."""
    z = (x - start) / max(width, 1e-12)
    if kind == "ramp":
        return np.clip(z, 0.0, 1.0)
    if kind == "exponential":
        return 1.0 - np.exp(-3.0 * np.maximum(z, 0.0))
    if kind == "sigmoid":
        return 1.0 / (1.0 + np.exp(-np.clip(2 * LOGISTIC_KNEE * (z - 0.5), -500.0, 500.0)))
    return (z >= 0).astype(np.float64)


def grid(rng: np.random.Generator, rows: int | None = None, log: bool | None = None) -> tuple[Floats, Floats]:
    """Steps, and a clock from 0 to 1 in which shapes are drawn: rows or steps."""
    n_rows = rows or int(np.exp(rng.uniform(np.log(200), np.log(5000))))
    in_rows = np.linspace(0.0, 1.0, n_rows)
    if not (rng.integers(2) if log is None else log):
        return np.arange(n_rows) * float(rng.choice([1, 10, 100])), in_rows
    steps = np.geomspace(1.0, 10 ** rng.uniform(3, 6), n_rows)
    return steps, in_rows if rng.integers(2) else steps / steps[-1]


def noise(rng: np.random.Generator, size: int, smooth: bool) -> Floats:
    """White, or a moving average over up to a twentieth of the rows."""
    white = rng.normal(size=size)
    return uniform_filter1d(white, int(rng.integers(2, size // 20)), mode="reflect") if smooth else white


def one_plateau(
    seed: int,
    kind: str,
    *,
    smooth: bool = False,
    initial: bool = False,
    rows: int | None = None,
    log: bool | None = None,
) -> Synthetic:
    """Flat for 10 to 80 % of the clock, then a drop over up to 30 %; ``initial``: a fast first descent before it."""
    rng = np.random.default_rng([seed, 1])
    steps, x = grid(rng, rows, log)
    end = rng.uniform(0.3 if initial else 0.1, 0.8)
    width = min(rng.uniform(0.01, 0.3), 1 - end)
    values = -DROP * drop(kind, x, end, width) + rng.uniform(0.03, 0.2) * noise(rng, x.size, smooth)
    if initial:
        values += rng.uniform(0.3, 4.0) * np.exp(-x / rng.uniform(0.005, 0.04))
    return Synthetic(steps, values, (row_of(x, end),))


def two_plateaus(seed: int, *, rows: int | None = None) -> Synthetic:
    """A staircase, logged at equal distances: both flat parts at least 15 % long, both drops at least a quarter."""
    rng = np.random.default_rng([seed, 2])
    steps, x = grid(rng, rows, log=False)
    first, second = rng.uniform(0.15, 0.35), rng.uniform(0.55, 0.8)
    share = rng.uniform(0.25, 0.75)
    fall = share * drop("ramp", x, first, rng.uniform(0, second - first - 0.15)) + (1 - share) * drop(
        "ramp", x, second, rng.uniform(0, 1 - second)
    )
    values = -DROP * fall + rng.uniform(0.03, 0.2) * rng.normal(size=x.size)
    return Synthetic(steps, values, (row_of(x, first), row_of(x, second)))


def no_plateau(seed: int, kind: str, *, smooth: bool = False) -> Synthetic:
    """A curve that only slows down, or does not change at all: no plateau of it ends."""
    rng = np.random.default_rng([seed, 3])
    steps, _ = grid(rng)
    x = steps / steps[-1]
    shape = np.zeros_like(x)
    if kind == "power":
        shape = (x * 10 ** rng.uniform(0, 5) + 1) ** -float(np.exp(rng.uniform(np.log(0.05), np.log(3))))
    elif kind == "exponential":
        shape = np.exp(-x / 10 ** rng.uniform(-3, 1))
    elif kind == "line":
        shape = rng.uniform(-1, 1) * (1 - x)
    values = DROP * shape / (float(np.ptp(shape)) or 1.0) * rng.uniform(0.2, 1.0)
    return Synthetic(steps, values + rng.uniform(0.03, 0.2) * noise(rng, x.size, smooth), ())


def smoothed(curve: Synthetic, seed: int) -> Synthetic:
    """The same, signal and noise, as an exponential moving average that remembers 1.5 rows to a twentieth of all."""
    rng = np.random.default_rng([seed, 4])
    memory = np.exp(rng.uniform(np.log(1.5), np.log(min(99, curve.steps.size / 20))))
    weight = memory / (1 + memory)
    values, _ = lfilter([1 - weight], [1, -weight], curve.values, zi=weight * curve.values[:1])
    return replace(curve, values=values)


def unfinished(seed: int) -> Synthetic:
    """Flat from beginning to end."""
    return no_plateau(seed, "noise")


def row_of(x: Floats, place: float) -> float:
    """The row, as a real number, at which the clock shows ``place``."""
    return float(np.interp(place, x, np.arange(x.size)))


def ended(curve: Synthetic) -> list[Plateau]:
    """The plateaus found that have ended."""
    return [plateau for plateau in find_plateaus(curve.steps, curve.values) if plateau.ended]


def undone(curve: Synthetic) -> list[Plateau | Smoothed]:
    """The same, with the smoothing undone where it was noticed."""
    return [plateau.if_smoothed or plateau for plateau in ended(curve)]


def errors(curve: Synthetic, found: Sequence[Plateau | Smoothed]) -> list[float]:
    """Distance in rows of every end from the truth; infinite if their number is wrong."""
    if len(found) != len(curve.ends):
        return [np.inf] * len(curve.ends)
    rows = np.interp([each.end for each in found], curve.steps, np.arange(curve.steps.size))
    return [abs(float(row - truth)) for row, truth in zip(rows, curve.ends, strict=True)]


def covered(curve: Synthetic, found: Sequence[Plateau | Smoothed]) -> list[bool]:
    """Does the interval hold the truth?"""
    truths = np.interp(curve.ends, np.arange(curve.steps.size), curve.steps)
    return [each.interval[0] <= truth <= each.interval[1] for each, truth in zip(found, truths, strict=False)]


def accuracy(name: str, make: Callable[[int], Synthetic], seeds: range, find: Finder = ended) -> None:
    """One line of the table of ends."""
    rows, shares, inside, missed = [], [], [], 0
    for seed in seeds:
        curve = make(seed)
        found = find(curve)
        missed += len(found) != len(curve.ends)
        off = errors(curve, found)
        rows += off
        shares += [each / curve.steps.size for each in off]
        inside += covered(curve, found) if len(found) == len(curve.ends) else []
    finite = [share for share in shares if np.isfinite(share)]
    print(
        f"{name:34s} {100 * np.median(shares):7.2f} % {100 * max(finite):7.2f} % {np.median(rows):8.2f} "
        f"{missed:6d} {100 * np.mean(inside):7.0f} %",
        flush=True,
    )


def false_alarms(name: str, make: Callable[[int], Synthetic], seeds: range) -> None:
    """One line of the table of curves without an ended plateau."""
    alarms = sum(bool(ended(make(seed))) for seed in seeds)
    print(f"{name:34s} {alarms:6d} of {len(seeds)}", flush=True)


def noticed(name: str, make: Callable[[int], Synthetic], seeds: range) -> None:
    """How many curves are said to look as if they were smoothed exponentially."""
    said = sum(any(plateau.if_smoothed for plateau in ended(make(seed))) for seed in seeds)
    print(f"{name:34s} {said:6d} of {len(seeds)}", flush=True)


def speed(rows: int, repeats: int = 15) -> None:
    """CPU time of a call as a ratio to scipy fitting one exponential to the same curve, interleaved."""
    curve = one_plateau(0, "exponential", rows=rows)

    def rival() -> None:
        x = curve.steps / curve.steps[-1]
        curve_fit(lambda t, a, b, c: a + b * np.exp(-t / c), x, curve.values, p0=(0.0, 1.0, 0.3), maxfev=10_000)

    ratios, own = [], []
    for _ in range(repeats):
        start = time.process_time()
        find_plateaus(curve.steps, curve.values)
        middle = time.process_time()
        rival()
        own.append(middle - start)
        ratios.append((middle - start) / (time.process_time() - middle))
    print(f"{rows:6d} rows: {np.median(own):.3f} s a call, {np.median(ratios):.1f} x scipy.optimize.curve_fit")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=2000)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.curves)
    print(f"{'plateau end':34s} {'median':>9s} {'worst':>9s} {'rows':>8s} {'missed':>6s} {'covered':>9s}")
    accuracy("sharp ends, in turn", lambda seed: one_plateau(seed, DROPS[seed % 3]), seeds)
    for kind in DROPS[:3]:
        accuracy(kind, partial(one_plateau, kind=kind), seeds)
    accuracy(
        "sharp, 200 rows, equal distances", lambda seed: one_plateau(seed, DROPS[seed % 3], rows=200, log=False), seeds
    )
    accuracy("sigmoid, equal distances", partial(one_plateau, kind="sigmoid", log=False), seeds)
    accuracy("sigmoid, growing distances", partial(one_plateau, kind="sigmoid", log=True), seeds)
    accuracy("ramp, smoothed noise", partial(one_plateau, kind="ramp", smooth=True), seeds)
    accuracy("ramp, first descent before it", partial(one_plateau, kind="ramp", initial=True), seeds)
    accuracy("two plateaus", two_plateaus, seeds)
    for end, make in (
        ("sharp", lambda seed: smoothed(one_plateau(seed, DROPS[seed % 3]), seed)),
        ("rounded", lambda seed: smoothed(one_plateau(seed, "sigmoid", log=False), seed)),
    ):
        accuracy(f"{end}, smoothed exponentially", make, seeds)
        accuracy(f"{end}, the same undone", make, seeds, undone)
    print("\nsaid to look smoothed exponentially")
    noticed("sharp, smoothed exponentially", lambda seed: smoothed(one_plateau(seed, DROPS[seed % 3]), seed), seeds)
    noticed("sharp", lambda seed: one_plateau(seed, DROPS[seed % 3]), seeds)
    noticed("sharp, smoothed noise", lambda seed: one_plateau(seed, DROPS[seed % 3], smooth=True), seeds)
    print("\nfalse alarms")
    false_alarms("all four, in turn", lambda seed: no_plateau(seed, OTHERS[seed % 4]), seeds)
    for kind in OTHERS:
        false_alarms(kind, partial(no_plateau, kind=kind), seeds)
        false_alarms(f"{kind}, smoothed noise", partial(no_plateau, kind=kind, smooth=True), seeds)
    false_alarms(
        "all four, smoothed exponentially", lambda seed: smoothed(no_plateau(seed, OTHERS[seed % 4]), seed), seeds
    )
    flat = sum([each.ended for each in find_plateaus(c.steps, c.values)] == [False] for c in map(unfinished, seeds))
    print(f"\nflat and unfinished, found as such: {flat} of {len(seeds)}")
    for n_rows in (200, 5000):
        speed(n_rows)


if __name__ == "__main__":
    main()
