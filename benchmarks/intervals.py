"""What the intervals of `unplateau compare` cover, and how often its tests reject where nothing differs.

    python benchmarks/intervals.py [--repeats 1000]

Escape times of two strategies are drawn from four distributions, independently, 5, 10 or 20 runs a side; the slower
side is as fast or three times as slow, and ends before 0, 30 or 60 % of its runs got there. Counted is how often the
95 % intervals of the ratio of restricted means and of the Kaplan-Meier median hold the truth, and, where both sides are
alike, how often each p is below 0.05. Written to benchmarks/results/intervals.csv.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unplateau.analysis.survival import Bounded, logrank_p, median_band, paired_p, restricted_ratio

RAW = Path(__file__).parent / "results" / "intervals.csv"
FIELDS = ("times", "slower", "censored", "runs", "ratio_covers", "median_covers", "logrank_rejects", "paired_rejects")
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


def _two_humps(random: np.random.Generator, n: int) -> NDArray[np.float64]:
    early = random.random(n) < 0.5
    return np.where(early, random.normal(500, 50, n), random.normal(1500, 150, n))


TIMES: dict[str, Draw] = {
    "log-normal, 0.4": lambda random, n: 1000 * np.exp(0.4 * random.standard_normal(n)),
    "log-normal, 0.9": lambda random, n: 1000 * np.exp(0.9 * random.standard_normal(n)),
    "exponential, from 200": lambda random, n: 200 + 1000 * random.exponential(size=n),
    "two humps": _two_humps,
}


def seen(values: NDArray[np.float64], budget: float) -> list[Bounded]:
    """What is known of times at the end of the budget."""
    return [Bounded.exactly(float(value)) if value <= budget else Bounded.above(budget) for value in values]


def study(repeats: int) -> Iterator[dict[str, str]]:
    """A row for each setting."""
    for number, (name, slower, censored) in enumerate(product(TIMES, (1, 3), (0.0, 0.3, 0.6))):
        random, draw = np.random.default_rng(number), TIMES[name]
        theirs, ours = slower * draw(random, 400_000), draw(random, 400_000)
        budget = float(np.quantile(theirs, 1 - censored)) if censored else float(max(theirs.max(), ours.max()))
        ratio = float(np.minimum(theirs, budget).mean() / np.minimum(ours, budget).mean())
        for runs in (5, 10, 20):
            covered = np.zeros(2)
            rejected = np.zeros(2)
            known = 0
            for _ in range(repeats):
                one, other = (seen(factor * draw(random, runs), budget) for factor in (slower, 1))
                found, band = restricted_ratio(one, other, budget), median_band(one)
                if found is not None:
                    known += 1
                    covered[0] += found.low <= ratio <= found.high
                covered[1] += band.low <= np.median(theirs) <= band.high
                if slower == 1:
                    tests = logrank_p(one, other), paired_p([*zip(one, other, strict=True)], budget)
                    rejected += [p is not None and p < 0.05 for p in tests]
            shares = [f"{share:.3f}" for share in covered / [known, repeats]]
            shares += [f"{share:.3f}" for share in rejected / repeats] if slower == 1 else ["", ""]
            yield dict(zip(FIELDS, map(str, (name, slower, censored, runs, *shares)), strict=True))


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
