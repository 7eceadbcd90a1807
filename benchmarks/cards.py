"""The tables of docs/cards and the picture of the README, from what runs have shown; and what is kept of runs.

    python benchmarks/cards.py                              # all of them anew, from benchmarks/results alone
    python benchmarks/cards.py --keep words runs/language   # first keep the runs of this recipe below that folder

A table stands in its card between two comments, of which the first names the file that it is made from. Studies write
theirs themselves (``unplateau reproduce crossing``, runs/crossing/crossing.jsonl).
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import bottlenecks
import numpy as np
import planted
from pages import made_anew, markdown

from unplateau.analysis.runs import summaries
from unplateau.analysis.survival import Bounded, median_time
from unplateau.files import write_whole
from unplateau.plateau.progress import COMPLETION, ESCAPE, trailing_means
from unplateau.report.panels import Line, OverviewPanel
from unplateau.report.plots import compose, rendered
from unplateau.report.style import looks
from unplateau.studies import STUDIES
from unplateau.studies.base import read_study

HERE = Path(__file__).parent
RESULTS, DOCS = HERE / "results", HERE.parent / "docs"
LAST_ROWS = 5
"""Rows at the end whose accuracy is averaged."""
LEFT_OUT = ("path", "plateaus", "to_escape", "to_completion")
"""Of a run's entry in summary.json: what depends on the machine, or follows from the rest."""


def keep(recipe: str, folder: Path) -> None:
    """Writes one line for each finished run of a recipe below a folder.

    It is the run's entry in summary.json with its progress and its accuracy on training prompts at the end.
    """
    lines = []
    for run in summaries(folder):
        if run.finished and run.recipe == recipe:
            steps, values = run.record.history.column("progress")
            entry = {name: value for name, value in run.as_dict().items() if name not in LEFT_OUT}
            entry["progress"] = [[step, round(value, 3)] for step, value in zip(steps, values, strict=True)]
            entry["training_accuracy"] = fmean(run.record.history.column("accuracy")[1][-LAST_ROWS:])
            lines.append(entry)
    lines.sort(key=lambda entry: (entry["strategy"], entry["seed"]))
    write_whole(RESULTS / f"{recipe}.jsonl", "".join(json.dumps(entry) + "\n" for entry in lines).encode())


def kept(recipe: str) -> dict[str, list[dict[str, Any]]]:
    """The kept runs by strategy: plain training, then the earliest escape first."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for line in (RESULTS / f"{recipe}.jsonl").read_text().splitlines():
        entry = json.loads(line)
        runs.setdefault(entry["strategy"], []).append(entry)
    return dict(sorted(runs.items(), key=lambda item: (item[0] != "plain", reached(item[1], "escape").low)))


Entries = Sequence[Mapping[str, Any]]


def reached(runs: Entries, milestone: str) -> Bounded:
    """Median step of a milestone, over runs of which some may not have got there."""
    return median_time([_time(run["steps"], run[f"{milestone}_step"]) for run in runs])


def _time(steps: int, reached_at: int | None) -> Bounded:
    return Bounded.above(steps) if reached_at is None else Bounded.exactly(reached_at)


def _times(runs: Entries, milestone: str) -> str:
    there = sum(run[f"{milestone}_step"] is not None for run in runs)
    return f"{reached(runs, milestone).shown()} ({there} of {len(runs)})"


def _range(values: Iterable[float]) -> str:
    numbers = list(values)
    low, middle, high = (f"{value:z.2f}" for value in (min(numbers), median(numbers), max(numbers)))
    return middle if low == high else f"{middle} ({low} to {high})"


COLUMNS: Mapping[str, Callable[[Entries], str]] = {
    "escape": lambda runs: _times(runs, "escape"),
    "completion": lambda runs: _times(runs, "completion"),
    "progress at the end": lambda runs: _range(run["final_progress"] for run in runs),
    "accuracy in training": lambda runs: _range(run["training_accuracy"] for run in runs),
    "accuracy": lambda runs: _range(run["final_accuracy"] for run in runs),
    "weights score": lambda runs: _range(max(run["weights_score"]) for run in runs),
    "TFLOP": lambda runs: f"{median(run['train_flops'] for run in runs) / 1e12:.2f}",
}


def table_of_recipe(name: str) -> str:
    """A line for each strategy: medians over seeds, and ranges."""
    lines = [[strategy, *(column(runs) for column in COLUMNS.values())] for strategy, runs in kept(name).items()]
    return markdown([["strategy", *COLUMNS], *lines])


def tables_of_study(name: str) -> str:
    """All that the study prints."""
    return "\n".join(
        f"{table.heading}\n\n{markdown([table.columns, *table.lines])}" + (f"\n{table.note}\n" if table.note else "")
        for table in STUDIES[name].judge(read_study(RESULTS / f"{name}.jsonl"))
    )


def picture_of_recipe(name: str) -> bytes:
    """Progress of all its runs, as the report draws it: a PNG."""
    groups = kept(name)
    look = looks(list(groups))
    panel = OverviewPanel(
        title="",
        alt="",
        x_label="step",
        y_label="progress",
        limits=(0.0, max(run["steps"] for runs in groups.values() for run in runs), -0.12, 1.12),
        levels={"completion": COMPLETION, "escape": ESCAPE},
        groups=tuple((strategy, look[strategy], tuple(map(_line, runs))) for strategy, runs in groups.items()),
    )
    return rendered(compose([panel]), "png")


def _line(run: Mapping[str, Any]) -> Line:
    steps, values = zip(*run["progress"], strict=True)
    return Line(run["seed"], np.asarray(steps), trailing_means(steps, values))


def page(text: str) -> str:
    """A card with its tables made anew."""

    def table(file: str, part: str) -> str | None:
        if file == bottlenecks.RAW.name:
            return bottlenecks.TABLES[part](bottlenecks.kept())
        if file == planted.RAW.name:
            return planted.answers(planted.kept())
        name, ending, _ = file.partition(".jsonl")
        if not ending:  # benchmarks/strategies.py makes this one
            return None
        return tables_of_study(name) if name in STUDIES else table_of_recipe(name)

    return made_anew(text, table)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", nargs=2, metavar=("RECIPE", "FOLDER"), help="finished runs to keep")
    given = parser.parse_args()
    if given.keep:
        keep(given.keep[0], Path(given.keep[1]))
    write_whole(DOCS / "demo.png", picture_of_recipe("demo"))
    for card in (DOCS / "cards").glob("*.md"):
        card.write_text(page(card.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
