"""Everything that a set of runs has to say, as one value: the content of ``summary.json``.

What enters: run records, finished or not, also of several experiments. What leaves: a :class:`Summary`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unplateau.analysis.compare import Comparison, compare_figures, experiment
from unplateau.analysis.runs import RunSummary, read_figures, records
from unplateau.store import RunRecord

BASELINE = "plain"


@dataclass(frozen=True)
class Summary:
    """Figures of each run, and for each experiment that has plain runs a comparison with them."""

    runs: tuple[RunSummary, ...]
    comparisons: tuple[Comparison, ...]

    def as_dict(self) -> dict[str, Any]:
        """The content of ``summary.json``: plain JSON values, unknown ones are null."""
        return {
            "runs": [run.as_dict() for run in self.runs],
            "comparisons": [comparison.as_dict() for comparison in self.comparisons],
        }


def summarise(runs: RunRecord | str | Path | Sequence[RunRecord | str | Path]) -> Summary:
    """Figures of these runs (records, run directories, or folders of them), ordered by experiment, strategy and seed.

    Raises SpecError if there is no run, or if an experiment has two runs of the same strategy and seed.
    """
    figures = [read_figures(record) for record in records(runs)]
    groups: dict[tuple[str, ...], list[RunSummary]] = {}
    for run in sorted(figures, key=lambda run: (run.recipe, run.strategy, run.seed)):
        groups.setdefault(tuple(experiment(run).values()), []).append(run)
    ordered = [run for members in groups.values() for run in members]
    compared = [
        compare_figures(members, BASELINE)
        for members in groups.values()
        if any(run.strategy == BASELINE for run in members)
    ]
    return Summary(tuple(ordered), tuple(compared))
