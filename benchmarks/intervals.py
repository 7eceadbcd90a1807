"""What the intervals of `unplateau compare` cover, and how often its tests reject where nothing differs.

    python benchmarks/intervals.py [--repeats 1000]

Escape times of two strategies are drawn from four distributions, independently, 5, 10 or 20 runs a side; the slower
side is as fast or three times as slow, and 0, 30 or 60 % of its runs end before they got there: all at one step, or
each at its own, as in a sweep that is running. Counted is how often the 95 % intervals of the ratio of restricted means
and of the Kaplan-Meier median hold the truth, and, where both sides are alike, how often each p is below 0.05. Written
to benchmarks/results/intervals.csv.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from unplateau.analysis.survival import (
    Bounded,
    at_most,
    follow_up,
    logrank_p,
    median_band,
    paired_p,
    restricted_ratio,
)

RAW = Path(__file__).parent / "results" / "intervals.csv"
FIELDS = (
    "times",
    "slower",
    "censored",
    "ends",
    "runs",
    "ratio_covers",
    "median_covers",
    "logrank_rejects",
    "paired_rejects",
)
CENSORED = ((0.0, False), (0.3, False), (0.3, True), (0.6, False), (0.6, True))
"""The share of runs, and whether each ends at a step of its own, evenly spread, and not all at one."""
Times = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Times]


def _two_humps(random: np.random.Generator, n: int) -> Times:
    early = random.random(n) < 0.5
    return np.where(early, random.normal(500, 50, n), random.normal(1500, 150, n))


TIMES: dict[str, Draw] = {
    "log-normal, 0.4": lambda random, n: 1000 * np.exp(0.4 * random.standard_normal(n)),
    "log-normal, 0.9": lambda random, n: 1000 * np.exp(0.9 * random.standard_normal(n)),
    "exponential, from 200": lambda random, n: 200 + 1000 * random.exponential(size=n),
    "two humps": _two_humps,
}


def seen(values: Times, ends: Times) -> list[Bounded]:
    """What is known of times at the end of each run."""
    told = zip(values.tolist(), ends.tolist(), strict=True)
    return [Bounded.exactly(value) if value <= end else Bounded.above(end) for value, end in told]


def last_end(values: Times, censored: float, *, own: bool) -> float:
    """Where runs end, all of them or the longest, so that this share of the slower side is censored."""
    if not own:
        return float(np.quantile(values, 1 - censored))
    shares = np.random.default_rng(0).random(len(values))  # of a run's own end
    return float(brentq(lambda end: (values > shares * end).mean() - censored, values.min(), 100 * values.max()))


def study(repeats: int) -> Iterator[dict[str, str]]:
    """A row for each setting."""
    for number, (name, slower, (censored, own)) in enumerate(product(TIMES, (1, 3), CENSORED)):
        random, draw = np.random.default_rng(number), TIMES[name]
        theirs, ours = slower * draw(random, 400_000), draw(random, 400_000)
        last = last_end(theirs, censored, own=own) if censored else float(max(theirs.max(), ours.max()))
        for runs in (5, 10, 20):
            covered, rejected, known = np.zeros(2), np.zeros(2), 0
            for _ in range(repeats):
                values = [factor * draw(random, runs) for factor in (slower, 1)]
                ends = [last * (random.random(runs) if own else np.ones(runs)) for _ in values]
                one, other = map(seen, values, ends)
                budget = min(map(follow_up, (one, other), ends))
                found, band = restricted_ratio(one, other, budget), median_band(one)
                if found is not None:
                    known += 1
                    ratio = np.minimum(theirs, budget).mean() / np.minimum(ours, budget).mean()
                    covered[0] += found.low <= ratio <= found.high
                covered[1] += band.low <= np.median(theirs) <= band.high
                if slower == 1:
                    within = [[at_most(time, budget) for time in side] for side in (one, other)]
                    pairs = [*zip(one, other, strict=True)]
                    tests = logrank_p(*within), paired_p(pairs, np.minimum(*ends).tolist())
                    rejected += [p is not None and p < 0.05 for p in tests]
            shares = [f"{share:.3f}" for share in covered / [known, repeats]]
            shares += [f"{share:.3f}" for share in rejected / repeats] if slower == 1 else ["", ""]
            ended = "each at its own" if own else "all at one"
            yield dict(zip(FIELDS, map(str, (name, slower, censored, ended, runs, *shares)), strict=True))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    with RAW.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        for row in study(parser.parse_args().repeats):
            writer.writerow(row)
            file.flush()
            print(", ".join(row.values()), flush=True)


if __name__ == "__main__":
    main()
