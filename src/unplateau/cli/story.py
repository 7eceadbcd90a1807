"""What a set of runs has shown: a table at once, and files to keep.

What enters: run directories of one experiment. What leaves: a table on standard output, ``report.html`` and
``summary.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unplateau.analysis.compare import Comparison, summarise
from unplateau.cli.console import print_table
from unplateau.files import write_json
from unplateau.report import write_report
from unplateau.report.tables import results_table, savings_table

HEADINGS = ("escape", "completion", "accuracy", "score: plateau", "score: end", "FLOPs", "time", "energy")
"""The columns of ``results_table`` where there is room for one line."""


def tell_story(runs: Sequence[Path], out: Path) -> None:
    """Prints the table, writes both files and says where they are."""
    summary = summarise(list(runs))
    comparison = next(iter(summary.comparisons), None)
    compared = comparison.strategies if comparison else ()
    names = dict.fromkeys([*(one.strategy for one in compared), *(run.strategy for run in summary.runs)])
    groups = {name: tuple(run for run in summary.runs if run.strategy == name) for name in names}
    results = results_table(groups)
    ratios = _ratios(comparison)
    rows = [
        (name, *_with_ratios([cell.text for cell in cells], ratios.get(name, ("", "")))) for name, cells in results.rows
    ]
    print_table(("strategy", *_with_ratios(HEADINGS, ("x", "x"))), rows)
    print(f"\n{results.caption}")
    print(f"Score: {results.groups[2][0]}. x: steps of plain training / steps of the strategy.")
    write_json(out / "summary.json", summary.as_dict())
    print(f"\nreport   {write_report(list(runs), out / 'report.html')}\nsummary  {out / 'summary.json'}")


def _ratios(comparison: Comparison | None) -> dict[str, tuple[str, str]]:
    """Savings in steps to escape and to completion, by the name that tables show."""
    table = savings_table(comparison) if comparison else None
    rows = table.rows if table else ()
    return {name: (cells[0].text, cells[len(cells) // 2].text) for name, cells in rows}


def _with_ratios(cells: Sequence[str], ratios: tuple[str, str]) -> tuple[str, ...]:
    """Each ratio after the step that it is about."""
    return (cells[0], ratios[0], cells[1], ratios[1], *cells[2:])
