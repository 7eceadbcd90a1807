"""Rows of a log as named numbers, for programs that draw one curve for each name.

What enters: a run or rows. What leaves: numbers by tag, and plateaus in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unplateau.errors import DataError
from unplateau.history import History, Row
from unplateau.plateau import Plateau, find_plateaus
from unplateau.store import RunRecord, read_rows


def rows_of(run: RunRecord | Iterable[Row] | str | Path) -> History:
    """The rows of a run, of a file, or those given. Raises DataError for a file that is not there."""
    if isinstance(run, RunRecord):
        return run.history
    if isinstance(run, (str, Path)):
        if not Path(run).is_file():
            raise DataError(f"{run}: no such file; rows of JSON lines are needed, such as metrics.jsonl")
        return History(read_rows(Path(run)))
    return History(run)


def scalars(row: Row) -> dict[str, float]:
    """All numbers of a row by tag; lists count layers, mappings name factors; text and nulls are left out."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if name != "step":
            _collect(name, value, found)
    return found


def plateau_text(rows: History, plateaus: Sequence[Plateau] | None) -> str:
    """One line for each plateau; None: those of the column ``loss``."""
    if plateaus is None:
        points = {step: loss for step, loss in zip(*rows.column("loss"), strict=True) if loss is not None}
        plateaus = find_plateaus(list(points), list(points.values()))
    lines = [
        f"from step {one.start:g} to {one.end:g} at {one.level:.4g}" + ("" if one.ended else " (has not ended)")
        for one in plateaus
    ]
    return "\n".join(lines) or "no plateau found"


def _collect(name: str, value: Any, found: dict[str, float]) -> None:
    if isinstance(value, Mapping):
        for key, inside in value.items():
            _collect(f"{name}/{key}", inside, found)
    elif isinstance(value, (list, tuple)):
        if all(isinstance(one, (int, float)) for one in value):  # lists of lists are guesses, not scores
            found.update({f"{name}/layer_{layer}": float(one) for layer, one in enumerate(value)})
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found[name] = float(value)
