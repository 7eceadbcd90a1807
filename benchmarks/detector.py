"""How well plateaus are found, on synthetic curves with known ends.

    python benchmarks/detector.py [--curves 200] [--first-seed 2000] [--rivals]

Seeds below 2000 were used to build and test the detector; the published figures are from seeds 2000 on. A curve has 200
to 5,000 rows, a drop of 2.2 and noise of sd 0.03 to 0.2; half are logged at equal distances, half at growing ones (the
end is then drawn either in steps or in rows). Errors are shares of the curve's length in rows. ``--rivals`` prints only
the comparison with ruptures and pwlf, which ``pip install ruptures pwlf`` brings.
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
QUIET = (0.002, 0.02)
"""Standard deviation of the noise of quiet curves, a thousandth to a hundredth of the drop."""
LOGISTIC_KNEE = 2.4
"""Widths before the middle at which a rounded plateau counts as ended: between the tangent in the middle of a logistic
drop, which meets the level at 2.0, and the best straight ramp, which leaves it at 2.6."""
DROPS = ("ramp", "exponential", "step", "sigmoid")
OTHERS = ("power", "exponential", "line", "noise")


@dataclass(frozen=True)
class Synthetic:
    """A curve, the rows (real numbers) at which its plateaus end, and the weight that it was smoothed by."""

    steps: Floats
    values: Floats
    ends: tuple[float, ...]
    weight: float = 0.0


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
    loudness: tuple[float, float] = (0.03, 0.2),
) -> Synthetic:
    """Flat for 10 to 80 % of the clock, then a drop over up to 30 %; ``initial``: a fast first descent before it."""
    rng = np.random.default_rng([seed, 1])
    steps, x = grid(rng, rows, log)
    end = rng.uniform(0.3 if initial else 0.1, 0.8)
    width = min(rng.uniform(0.01, 0.3), 1 - end)
    values = -DROP * drop(kind, x, end, width) + rng.uniform(*loudness) * noise(rng, x.size, smooth)
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


NOISES = (0.0, 0.003, 0.02, 0.1)
"""Noise sd of the curves below, as shares of their range."""


def still_falling(seed: int, kind: str) -> Synthetic:
    """A curve that slows down all the way: a law of any exponent, a sum of three, a logarithm; with a warm-up or spike.

    40 to 4,000 rows over 100,000 steps, half of them at growing distances; no noise, or one of three levels of it.
    """
    rng = np.random.default_rng([seed, 5])
    rows = int(np.exp(rng.uniform(np.log(40), np.log(4000))))
    steps = np.linspace(0, 1e5, rows) if seed % 2 else np.unique(np.round(np.geomspace(1, 1e5, rows)))
    x = np.maximum(steps - (rng.uniform(200, 2000) if kind == "warm-up" else 0.0), 0.0)

    def law() -> Floats:
        return rng.uniform(0.5, 6.0) * (1 + x / 10 ** rng.uniform(1, 4)) ** -float(rng.uniform(0.05, 1))

    values = -np.log(1 + x / 10 ** rng.uniform(0, 4)) if kind == "logarithm" else law()
    if kind == "sum":
        values += law() + law()
    if kind == "spike":
        values += 3 * np.ptp(values) * np.exp(-(((np.arange(x.size) - 0.02 * x.size) / 2) ** 2))
    return Synthetic(steps, values + NOISES[seed // 2 % 4] * np.ptp(values) * rng.normal(size=x.size), ())


def arrived(seed: int, kind: str) -> Synthetic:
    """Learning that is over by two thirds of the curve: an exponential, a ramp or a logistic drop, then flat.

    ``collapse``: a ramp that is learned and lost again.
    """
    rng = np.random.default_rng([seed, 6])
    rows = int(np.exp(rng.uniform(np.log(60), np.log(4000))))
    x, place, width = np.linspace(0, 1, rows), rng.uniform(0.1, 0.4), rng.uniform(0.02, 0.15)
    values = np.exp(-1.5 * x / width) if kind == "exponential" else 1 - drop(kind, x, place, width)
    if kind == "collapse":
        values = 1 - drop("ramp", x, place, width) + drop("ramp", x, place + 0.3, 0.1)
    return Synthetic(1000 * x, values + (0.0, 0.01, 0.03, 0.06)[seed % 4] * rng.normal(size=rows), ())


def early_step(seed: int) -> Synthetic:
    """A small step, then a drop of 1.5: only the end of the second plateau is asked for."""
    rng = np.random.default_rng([seed, 7])
    rows = int(np.exp(rng.uniform(np.log(60), np.log(1500))))
    steps = np.geomspace(1, 1e4, rows) if seed % 2 else np.linspace(0, 1e4, rows)
    x, end = np.linspace(0, 1, rows), rng.uniform(0.5, 0.8)
    small = rng.choice([0.05, 0.1, 0.2, 0.3]) * drop("ramp", x, rng.uniform(0.03, 0.3), 0.03)
    values = -small - 1.5 * drop("ramp", x, end, rng.uniform(0.01, 0.15))
    return Synthetic(steps, values + (0.0, 0.005, 0.02, 0.05)[seed // 2 % 4] * rng.normal(size=rows), (row_of(x, end),))


DENSITIES = (25, 33, 47, 64, 90, 130, 180, 260, 400, 700, 1300, 3000)


def at_densities(seed: int, kind: str, *, log: bool = False) -> list[Synthetic]:
    """One curve, logged at each of ``DENSITIES``; a third, by seed, has a little noise, anew at each density.

    ``stairs``: a slow rise before the drop, a seventh of it.
    """
    rng = np.random.default_rng([seed, 8])
    end, width = rng.uniform(0.2, 0.6), rng.uniform(0.05, 0.3)
    curves = []
    for rows in DENSITIES:
        x = np.linspace(0, 1, rows)
        shape = 1 - drop(kind, x, end, width) if kind != "stairs" else np.interp(x, *stairs(end, width))
        values = shape + (0.02 if seed % 3 == 0 else 0.0) * rng.normal(size=rows)
        steps = np.geomspace(1, 1e4, rows) if log else 1e4 * x
        curves.append(Synthetic(steps, values, (row_of(x, end),)))
    return curves


def stairs(end: float, width: float) -> tuple[list[float], list[float]]:
    """Corners of a curve that rises slowly before it rises fast."""
    return [0.0, end / 3, end, end + width, 1.0], [1.0, 1.0, 0.93, 0.1, 0.1]


def agree(curves: Sequence[Synthetic]) -> int:
    """At how many densities are the ends those of the densest, within the wider of both intervals?"""
    dense, agreed = ended(curves[-1]), 0
    for curve in curves:
        found = ended(curve)
        agreed += len(found) == len(dense) and all(
            abs(one.end - other.end) <= max(np.ptp(one.interval), np.ptp(other.interval))
            for one, other in zip(found, dense, strict=True)
        )
    return agreed


def smoothed(curve: Synthetic, seed: int, *, much: bool = False) -> Synthetic:
    """The same, signal and noise, as an exponential moving average that remembers 1.5 rows to a twentieth of all.

    ``much``: at least a sixtieth.
    """
    rng, most = np.random.default_rng([seed, 4]), curve.steps.size / 20
    memory = np.exp(
        rng.uniform(np.log(most / 3), np.log(most)) if much else rng.uniform(np.log(1.5), np.log(min(99, most)))
    )
    weight = memory / (1 + memory)
    values, _ = lfilter([1 - weight], [1, -weight], curve.values, zi=weight * curve.values[:1])
    return replace(curve, values=values, weight=float(weight))


def unfinished(seed: int) -> Synthetic:
    """Flat from beginning to end."""
    return no_plateau(seed, "noise")


def row_of(x: Floats, place: float) -> float:
    """The row, as a real number, at which the clock shows ``place``."""
    return float(np.interp(place, x, np.arange(x.size)))


def ended(curve: Synthetic, smoothing: float = 0.0) -> list[Plateau]:
    """The plateaus found that have ended."""
    found = find_plateaus(curve.steps, curve.values, smoothing=smoothing)
    return [plateau for plateau in found if plateau.ended]


def undone(curve: Synthetic) -> list[Plateau | Smoothed]:
    """The same, with the smoothing undone where it was noticed."""
    return [plateau.if_smoothed or plateau for plateau in ended(curve)]


def told(curve: Synthetic) -> list[Plateau]:
    """The same where it is said by which weight the curve was smoothed."""
    return ended(curve, curve.weight)


def errors(curve: Synthetic, found: Sequence[Plateau | Smoothed]) -> list[float]:
    """Distance in rows of every end from the truth; infinite if their number is wrong."""
    if len(found) != len(curve.ends):
        return [np.inf] * len(curve.ends)
    rows = np.interp([each.end for each in found], curve.steps, np.arange(curve.steps.size))
    return [abs(float(row - truth)) for row, truth in zip(rows, curve.ends, strict=True)]


def nearest(curve: Synthetic) -> list[float]:
    """Distance in rows of every end found from the only one asked for."""
    rows = np.interp([each.end for each in ended(curve)], curve.steps, np.arange(curve.steps.size))
    return [float(row - curve.ends[0]) for row in rows]


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


def claims(name: str, make: Callable[[int], Synthetic], seeds: range) -> None:
    """How many curves are said to be flat where they stop."""
    said = sum(any(not part.ended for part in find_plateaus(c.steps, c.values)) for c in map(make, seeds))
    print(f"{name:34s} {said:6d} of {len(seeds)}", flush=True)


def called(name: str, make: Callable[[int], Synthetic], kind: str, seeds: range) -> None:
    """How many curves are said to stop in a flat part of this kind."""
    found = (find_plateaus(c.steps, c.values) for c in map(make, seeds))
    said = sum(bool(parts) and not parts[-1].ended and parts[-1].kind == kind for parts in found)
    print(f"{name:34s} {said:6d} of {len(seeds)}", flush=True)


def rivals(seeds: range) -> None:
    """Median and worst error and seconds a curve beside ruptures and pwlf, which are told how many pieces there are."""
    import pwlf  # noqa: PLC0415 (optional)
    import ruptures  # noqa: PLC0415 (optional)

    def by_ruptures(curve: Synthetic, pieces: int) -> float:
        search = ruptures.Dynp(model="clinear", min_size=3, jump=1).fit(curve.values)
        return float(search.predict(n_bkps=pieces - 1)[0])

    def by_pwlf(curve: Synthetic, pieces: int) -> float:
        np.random.seed(0)  # pwlf draws from the global generator
        rows = np.arange(curve.steps.size, dtype=np.float64)
        return float(pwlf.PiecewiseLinFit(rows, curve.values).fitfast(pieces, pop=3)[1])

    def ours(curve: Synthetic, _: int) -> float:
        found = ended(curve)
        return float(np.interp(found[0].end, curve.steps, np.arange(curve.steps.size))) if found else np.inf

    print(f"\n{'200 rows, equal distances':34s} {'median':>9s} {'worst':>9s} {'seconds':>9s}")
    for kind, pieces in (("ramp", 3), ("step", 3), ("exponential", 4), ("sigmoid", 4)):
        curves = [one_plateau(seed, kind, rows=200, log=False) for seed in seeds]
        for name, find in (("unplateau", ours), ("ruptures", by_ruptures), ("pwlf", by_pwlf)):
            start = time.process_time()
            off = [abs(find(curve, pieces) - curve.ends[0]) / 200 for curve in curves]
            spent = (time.process_time() - start) / len(curves)
            shown = f"{100 * np.median(off):7.2f} % {100 * max(off):7.2f} % {spent:9.2f}"
            print(f"{kind + ', ' + name:34s} {shown}", flush=True)


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
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=2000)
    parser.add_argument("--rivals", action="store_true")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.curves)
    if options.rivals:
        rivals(seeds)
    else:
        tables(seeds)


def tables(seeds: range) -> None:
    """All tables but that of the rivals."""
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
        ("much", lambda seed: smoothed(one_plateau(seed, DROPS[seed % 3]), seed, much=True)),
        ("quiet", lambda seed: smoothed(one_plateau(seed, DROPS[seed % 3], loudness=QUIET), seed)),
    ):
        accuracy(f"{end}, smoothed exponentially", make, seeds)
        accuracy(f"{end}, undone where noticed", make, seeds, undone)
        accuracy(f"{end}, undone where told", make, seeds, told)
    print("\nsaid to look smoothed exponentially")
    noticed("sharp, smoothed exponentially", lambda seed: smoothed(one_plateau(seed, DROPS[seed % 3]), seed), seeds)
    noticed("quiet", lambda seed: smoothed(one_plateau(seed, DROPS[seed % 3], loudness=QUIET), seed), seeds)
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
    print("\nsaid to be flat where it stops, though it still falls")
    for kind in ("law", "sum", "logarithm", "warm-up", "spike"):
        claims(kind, partial(still_falling, kind=kind), seeds)
    print("\nsaid to level off")
    for kind in ("exponential", "ramp", "sigmoid"):
        called(f"{kind}, then flat", partial(arrived, kind=kind), "levels off", seeds)
    print("\nsaid to have collapsed")
    called("learned and lost again", partial(arrived, kind="collapse"), "collapsed", seeds)
    print("\nlarge drop found after a small step")
    hit = sum(any(abs(off) < 0.03 * c.steps.size for off in nearest(c)) for c in map(early_step, seeds))
    print(f"{'equal and growing distances':34s} {hit:6d} of {len(seeds)}")
    print("\nsame end at each of 12 densities")
    for kind, log in (("ramp", False), ("ramp", True), ("stairs", False), ("sigmoid", False), ("sigmoid", True)):
        few = seeds[: max(1, len(seeds) // 10)]
        agreed = sum(agree(at_densities(seed, kind, log=log)) for seed in few)
        name = f"{kind}, {'growing' if log else 'equal'} distances"
        print(f"{name:34s} {agreed:6d} of {len(few) * len(DENSITIES)}", flush=True)
    flat = sum([each.ended for each in find_plateaus(c.steps, c.values)] == [False] for c in map(unfinished, seeds))
    print(f"\nflat and unfinished, found as such: {flat} of {len(seeds)}")
    for n_rows in (200, 5000):
        speed(n_rows)


if __name__ == "__main__":
    main()
