"""Which strategy ends which plateau: nine tasks, with and without annotation, on seeds that nothing was tuned on.

    python benchmarks/strategies.py [--out runs/strategies] [--only recall words] [--workers 2] [--costs] [--table]

Plain training first gets the learning rate that suits it best, out of as many as there are strategies, on development
seeds; every strategy has the recipe's own. Runs are kept in ``--out`` and taken up where they stopped; what they have
shown is written to benchmarks/results/strategies.csv, which is committed, and docs/results.md is made from that file
alone (``--table``: nothing else is done). FLOPs and seconds are steps times what a step takes, which ``--costs``
measures with the strategies in turn, so that other work on the machine does not count (results/step_costs.csv).
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

import optimisers
import torch
from pages import made_anew, markdown
from speed import OurStep, clock, seconds

import unplateau as up
from unplateau.analysis.runs import RunSummary, summarise_run
from unplateau.analysis.survival import Bounded, median_time
from unplateau.history import History
from unplateau.plateau.progress import WINDOW
from unplateau.store import RunRecord
from unplateau.studies.tasks import codes, hues
from unplateau.sweep.process import RunFailure

DEVELOPMENT, REPORTED = (0, 1), (100, 101, 102, 103, 104)
RATES = (0.5, 1.0, 2.0)
"""Learning rates tried for plain training, as multiples of the recipe's."""
HERE = Path(__file__).parent
RAW, COSTS, PAGE = (
    HERE / "results" / "strategies.csv",
    HERE / "results" / "step_costs.csv",
    HERE.parent / "docs" / "results.md",
)
NOT_KEPT = "match + bind + look"
FREE = {
    "match": "match-loss",
    "bind": "bind-loss",
    "look": "look-loss",
    NOT_KEPT: "match-loss+bind-loss+look-loss",
    "unplateau": "unplateau",
}
UNITS = ("seconds", "flops")
"""Of what a step costs."""
CARD = HERE.parent / "docs" / "cards" / "keep-loss.md"
TOLD = {"weights loss": "weights-loss", "component loss": "component-loss"}


@dataclass(frozen=True)
class Entry:
    """A task of the table, and for how many steps strategies and plain training are trained on it.

    ``tuning_steps``: of the runs in which plain training gets its learning rate, ``plain_steps`` if None. ``told``:
    whether its items have factors that a loss could be told.
    """

    name: str
    plain: up.RunSpec
    steps: int
    plain_steps: int
    tuning_steps: int | None = None
    told: bool = True

    def specs(self, strategy: str, seeds: Sequence[int], rate: float = 1.0) -> list[up.RunSpec]:
        """The runs of one strategy."""
        plain_steps = (self.tuning_steps or self.plain_steps) if set(seeds) <= set(DEVELOPMENT) else self.plain_steps
        steps = plain_steps if strategy == "plain" else self.steps
        changes = {"steps": steps, "lr": rate * self.plain.train.lr, "probe_every": 0}
        train = self.plain.train.model_copy(update=changes)
        spec = self.plain.model_copy(update={"recipe": self.folder, "train": train})
        return [spec.with_strategy(strategy).with_seed(seed) for seed in seeds]

    @property
    def folder(self) -> str:
        """Name under which its runs are kept."""
        return self.name.replace(" ", "-")

    @property
    def ways(self) -> dict[str, str]:
        """The strategies that plain training is compared with."""
        return FREE | TOLD if self.told else FREE


TASKS = (
    Entry("shapes", up.recipes.shapes(), 1500, 4000),
    Entry("two hues", hues(), 1000, 2500),
    Entry("random codes", codes(), 1500, 2500),
    Entry("words", up.recipes.words(), 1200, 1200),
    Entry("word selection", up.recipes.word_selection(), 1200, 1200),
    Entry("recall", up.recipes.recall(), 1000, 2500),
    Entry("clusters", up.recipes.clusters(), 1000, 2500),
    Entry("regression", up.recipes.regression(), 1500, 2500, told=False),
    Entry("parity", up.recipes.parity(), 1500, 5000, tuning_steps=2500),
)


def train(entries: Sequence[Entry], out: Path, workers: int) -> None:
    """Whatever has not been trained yet; raw results are written after the tuning and at the end of each task."""
    for entry in entries:
        keep(entry, [("plain", DEVELOPMENT, rate) for rate in RATES], out, workers)
        best = best_rate(read_raw(), entry.name)
        keep(entry, [("plain", REPORTED, best), *((way, REPORTED, 1.0) for way in entry.ways)], out, workers)


def keep(entry: Entry, wanted: Sequence[tuple[str, Sequence[int], float]], out: Path, workers: int) -> None:
    """Trains strategies with seeds and learning rates, and writes what they have shown over what stood there."""
    planned = [
        (way, rate, spec) for way, seeds, rate in wanted for spec in entry.specs(entry.ways.get(way, way), seeds, rate)
    ]
    runs = up.run_many([spec for *_, spec in planned], out=out, workers=workers)
    rows = {(row["task"], row["way"], row["seed"], row["rate"]): row for row in read_raw()}
    for (way, rate, _), run in zip(planned, runs, strict=True):
        if isinstance(run, RunFailure):
            raise SystemExit(f"{entry.name}, {way}: {run}")
        row = {"task": entry.name, "way": way, "rate": f"{rate:g}", **measured(summarise_run(current(run, entry)))}
        rows[row["task"], row["way"], row["seed"], row["rate"]] = row
    RAW.parent.mkdir(exist_ok=True)
    with RAW.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, (*FIELDS, *TRACED), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))
    print(f"{entry.name}: {len(runs)} runs", flush=True)


def current(record: RunRecord, entry: Entry) -> RunRecord:
    """The run with progress between the floors of today, which may not be those that it was recorded with."""
    floors = up.floors(entry.plain.task)

    def between(row: Mapping[str, Any], test: str = "") -> Mapping[str, Any]:
        loss, accuracy = (row.get(f"{test}{name}") for name in ("loss", "accuracy"))
        return row if loss is None else {**row, f"{test}progress": floors.progress_of(loss=loss, accuracy=accuracy)}

    history = History(between(between(row), "test_") for row in record.history)
    return replace(record, history=history, done=record.done and between(record.done, "test_"))


FIELDS = ("task", "way", "rate", "seed", "steps", "escape", "completion", "progress", "held_out")
TRACED = ("spec", "commit", "machine")
"""From which run a row is."""


def measured(run: RunSummary) -> dict[str, str]:
    """What the tables are made from.

    ``progress``: mean of 100 steps, at the end of those that all strategies have.
    """
    steps, progress = run.record.history.column("progress")
    common = next(entry.steps for entry in TASKS if entry.folder == run.recipe)
    late = [value for step, value in zip(steps, progress, strict=True) if common - WINDOW < step <= common]
    values = {
        "seed": run.seed,
        "steps": run.steps,
        "escape": run.escape_step,
        "completion": run.completion_step,
        "progress": f"{fmean(late):.3f}",
        "held_out": f"{run.final_progress:.3f}",
        **{name: run.as_dict()[name] for name in TRACED},
    }
    return {name: "" if value is None else str(value) for name, value in values.items()}


def read_raw() -> list[dict[str, str]]:
    """The raw results, none if there are none yet."""
    return _read(RAW)


def _read(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def measure_steps(entries: Sequence[Entry]) -> None:
    """FLOPs of a step, and its seconds on one thread: the median over rounds in which each strategy makes one."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    found, now = dict(step_costs()), clock(cpu)
    for entry in entries:
        ways = ("plain", *entry.ways)
        steps = [OurStep(entry.specs(entry.ways.get(way, way), (0,))[0], cpu) for way in ways]
        rounds = [[seconds(step, now, 1) for step in steps] for _ in range(45)]
        for way, step, times in zip(ways, steps, zip(*rounds[5:], strict=True), strict=True):
            found[entry.name, way] = {"seconds": median(times), "flops": step.flops()}
            print(f"{entry.name}, {way}: {1000 * median(times):.1f} ms", flush=True)
    lines = [f"{task},{way},{one['seconds']:.5f},{one['flops']:.0f}" for (task, way), one in sorted(found.items())]
    COSTS.write_text("\n".join([",".join(("task", "way", *UNITS)), *lines, ""]))
    step_costs.cache_clear()


@cache
def step_costs() -> dict[tuple[str, str], dict[str, float]]:
    """What a step takes by task and strategy, as measured before."""
    return {(row["task"], row["way"]): {unit: float(row[unit]) for unit in UNITS} for row in _read(COSTS)}


def best_rate(rows: Sequence[dict[str, str]], task: str) -> float:
    """Of plain training on the development seeds: the earliest median escape, then most progress at the end.

    The lowest of those that are equally good, to two digits of progress.
    """

    def merit(rate: float) -> tuple[float, float]:
        found = [row for row in plain if float(row["rate"]) == rate]
        return reached(found, "escape").low, -round(median(float(row["held_out"]) for row in found), 2)

    plain = [row for row in rows if (row["task"], row["way"]) == (task, "plain") and int(row["seed"]) in DEVELOPMENT]
    return min(sorted({float(row["rate"]) for row in plain}), key=merit)


def reached(rows: Sequence[dict[str, str]], milestone: str) -> Bounded:
    """The median step, over runs of which some may not have got there."""
    return median_time([when(row, milestone) for row in rows])


def when(row: dict[str, str], milestone: str, unit: str = "steps") -> Bounded:
    """The step of a milestone, or what the run had cost by then (costs are even over a run)."""
    each = 1.0 if unit == "steps" else step_costs()[row["task"], row["way"]][unit]
    return Bounded.exactly(int(row[milestone]) * each) if row[milestone] else Bounded.above(int(row["steps"]) * each)


def page(rows: Sequence[dict[str, str]]) -> str:
    """docs/results.md."""
    reported = [row for row in rows if int(row["seed"]) in REPORTED]
    tasks = [entry.name for entry in TASKS if any(row["task"] == entry.name for row in reported)]
    tables = (table(reported, task, best_rate(rows, task)) for task in tasks)
    return "\n".join([INTRODUCTION, *tables, *optimisers.sections(optimisers.kept())])


INTRODUCTION = """# Results

Made by `python benchmarks/strategies.py` from benchmarks/results/strategies.csv: five seeds (100 to 104) that
no setting was tuned on (that KeepLoss is part of `unplateau`, and leaves numbers alone, was decided with them in view).
Escape and completion are median steps (Kaplan and Meier) with the number of runs that got
there; `>`: too few did. FLOPs and seconds are those of plain training to its escape divided by those of the
strategy: median over seeds, and range; a step costs what it does today (benchmarks/results/step_costs.csv, one thread),
whenever the runs were trained. `match + bind + look` was called `unplateau` before KeepLoss was part of it. Progress
is 0 for the best prediction without context and 1 for the Bayes-optimal one: after the steps that all strategies have,
and at the end on test items, which training never saw but in recall, words and word selection. Plain training has the
best of three learning rates on two development seeds, every strategy the recipe's; those without annotation have one
setting for all tasks.
"""


def table(rows: Sequence[dict[str, str]], task: str, rate: float) -> str:
    """One task."""
    plain = [row for row in rows if row["task"] == task and row["way"] == "plain" and float(row["rate"]) == rate]
    others = next(entry.steps for entry in TASKS if entry.name == task)
    head = ["strategy", "escape", "completion", "FLOPs to escape, x less", "seconds, x less", "progress", "test items"]
    lines = [head]
    for way in dict.fromkeys(["plain", *FREE, *TOLD]):
        found = plain if way == "plain" else [row for row in rows if row["task"] == task and row["way"] == way]
        if found:
            cells = [_times(found, "escape"), _times(found, "completion")]
            cells += [_saving(found, plain, unit) for unit in ("flops", "seconds")]
            cells += [_range([float(row[name]) for row in found]) for name in ("progress", "held_out")]
            lines.append([way, *cells])
    told = f"{others} steps, plain training {plain[0]['steps']} with {rate:g} times the learning rate of the recipe."
    return f"## {task[0].upper()}{task[1:]}\n\n{told}\n\n{markdown(lines)}"


def card(text: str) -> str:
    """docs/cards/keep-loss.md with its table made anew: the other three losses without KeepLoss and with it."""
    lines, found = [["task", "escape", "with KeepLoss", "progress at the end", "with KeepLoss"]], read_raw()
    for entry in TASKS:
        of_task = [row for row in found if row["task"] == entry.name]
        both = [[row for row in of_task if row["way"] == way] for way in (NOT_KEPT, "unplateau")]
        if all(both):
            ends = [_range([float(row["progress"]) for row in rows]) for rows in both]
            lines.append([entry.name, *(_times(rows, "escape") for rows in both), *ends])
    return made_anew(text, lambda file, _: markdown(lines) if file == RAW.name else None)


def _times(rows: Sequence[dict[str, str]], milestone: str) -> str:
    there = sum(bool(row[milestone]) for row in rows)
    return f"{reached(rows, milestone).shown()} ({there} of {len(rows)})"


def _saving(rows: Sequence[dict[str, str]], plain: Sequence[dict[str, str]], unit: str) -> str:
    if rows is plain:
        return ""
    theirs = {row["seed"]: when(row, "escape", unit) for row in plain}
    ratios = [theirs[row["seed"]].over(when(row, "escape", unit)) for row in rows if row["seed"] in theirs]
    return optimisers.pooled_ratio(ratios)


def _range(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/strategies"), help="folder of the runs")
    parser.add_argument("--only", nargs="+", choices=[entry.name for entry in TASKS], help="these tasks")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, with one thread each")
    parser.add_argument("--table", action="store_true", help="train nothing, only write docs/results.md anew")
    parser.add_argument("--costs", action="store_true", help="train nothing, only measure what a step takes")
    given = parser.parse_args()
    entries = [entry for entry in TASKS if not given.only or entry.name in given.only]
    if given.costs:
        measure_steps(entries)
    elif not given.table:
        train(entries, given.out, given.workers)
    PAGE.write_text(page(read_raw()), encoding="utf-8")
    CARD.write_text(card(CARD.read_text("utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
