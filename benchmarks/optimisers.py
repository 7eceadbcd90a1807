"""Optimisers beside the losses: when plain training and ``unplateau`` leave a plateau under Adam, Muon and SOAP.

    python benchmarks/optimisers.py [--out runs/optimisers] [--only demo recall] [--workers 2]

Every optimiser has the recipe's learning rate, which was chosen for Adam, and defaults otherwise. A row of each run is
kept in benchmarks/results/optimisers.jsonl, and a run that has one is not trained again. SOAP needs the extra
``optim``. The last section of docs/results.md is made from these rows (``python benchmarks/strategies.py --table``).
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from missing import train_missing
from pages import markdown

import unplateau as up
from unplateau.analysis.survival import Bounded, pooled
from unplateau.studies.base import PLAIN, Planned, Row, by_cell, escape_of, read_study, write_study

RAW = Path(__file__).parent / "results" / "optimisers.jsonl"
SEEDS = (100, 101, 102, 103, 104)
TASKS: Mapping[str, tuple[up.RunSpec, int]] = {
    "demo": (up.recipes.demo(), 1400),
    "recall": (up.recipes.recall(), 1000),
    "shapes": (up.recipes.shapes(), 1000),
}
"""By name, and for how many steps each way is trained on it."""
WAYS: Mapping[str, tuple[str, str]] = {
    PLAIN: ("plain", "Adam"),
    "plain, Muon": ("plain", "Muon"),
    "plain, SOAP": ("plain", "SOAP"),
    "unplateau": ("unplateau", "Adam"),
    "unplateau, Muon": ("unplateau", "Muon"),
}
"""Strategy and optimiser."""


def plan(task: str) -> list[Planned]:
    """All runs of one task, seed by seed."""
    plain, steps = TASKS[task]
    plain = plain.with_settings({"train.steps": steps, "train.probe_every": 0}).model_copy(
        update={"recipe": f"optimisers-{task}"}
    )
    return [
        Planned(task, way, plain.with_settings({"train.optimiser": optimiser}).with_strategy(strategy).with_seed(seed))
        for seed in SEEDS
        for way, (strategy, optimiser) in WAYS.items()
    ]


def train(task: str, out: Path, workers: int) -> None:
    """Whatever has no row yet."""
    rows = kept()
    new = [Row.of(planned, run) for planned, run in train_missing(plan(task), rows, out=out, workers=workers)]
    write_study(RAW, [*rows, *new])


def kept() -> list[Row]:
    """The rows so far."""
    return read_study(RAW) if RAW.exists() else []


INTRODUCTION = """## Optimisers

Made by `python benchmarks/optimisers.py` from benchmarks/results/optimisers.jsonl: the same seeds, every way at the
recipe's learning rate and schedule (the demo: a cosine), which were chosen with Adam, and each optimiser with its own
defaults. FLOPs are those of plain training with Adam to its escape divided by those of the line; factorisations
(SOAP's) are not counted. Progress is that on test items at the end.
"""

SAID = """The demo alone so far. Without a strategy Muon and SOAP leave the plateau earlier than Adam (480, 360 and 700
in the median), and `unplateau` with Adam earlier than both (240). On recall Muon and SOAP leave it three to five times
earlier than Adam, as development seeds say (docs/decisions.md); on seeds that count, that task and the others are still
to be run.
"""


def sections(rows: Sequence[Row]) -> list[str]:
    """The last of docs/results.md: a line for each way on each task, medians over seeds."""
    return [INTRODUCTION, _table(rows), SAID] if rows else []


def _table(rows: Sequence[Row]) -> str:
    head = ["task, steps", "strategy", "optimiser", "escape", "FLOPs to escape, x less", "progress"]
    lines = [head]
    for task, ways in by_cell(rows).items():
        for way, (strategy, optimiser) in WAYS.items():
            if way in ways:
                found = ways[way]
                ends = [row.progress for row in found]
                progress = f"{median(ends):.2f} ({min(ends):.2f} to {max(ends):.2f})"
                saved = "" if way == PLAIN else _saving(found, ways[PLAIN])
                lines.append([f"{task}, {found[0].steps:,}", strategy, optimiser, _escape(found), saved, progress])
    return markdown(lines)


def _escape(rows: Sequence[Row]) -> str:
    return f"{escape_of(rows).shown()} ({sum(row.escape is not None for row in rows)} of {len(rows)})"


def _saving(rows: Sequence[Row], plain: Sequence[Row]) -> str:
    """FLOPs of plain training with Adam to its escape by those of these runs, seed by seed."""
    theirs = {row.seed: _spent(row) for row in plain}
    return pooled_ratio([theirs[row.seed].over(_spent(row)) for row in rows if row.seed in theirs])


def pooled_ratio(ratios: Sequence[Bounded]) -> str:
    """``4.5 (> 3.3)``: median and range of ratios of which some are bounds."""
    middle, spread = pooled(ratios, median, median), pooled(ratios, min, max)
    if middle is None:
        return "?"
    return middle.shown(digits=1) + (f" ({spread.shown(digits=1)})" if spread else "")


def _spent(row: Row) -> Bounded:
    """FLOPs to the escape; costs are even over a run."""
    each = row.flops / row.steps
    return Bounded(each * row.time.low, each * row.time.high)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/optimisers"), help="folder of the runs")
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS), help="these tasks")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, with one thread each")
    given = parser.parse_args()
    for task in given.only:
        train(task, given.out, given.workers)


if __name__ == "__main__":
    main()
