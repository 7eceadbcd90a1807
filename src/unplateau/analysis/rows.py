"""Rows of a run without the weight of rows: columns as arrays, and a history that can be forgotten and read again."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unplateau.history import History
from unplateau.store import load_run

Column = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Steps (N,), and what was measured there: (N,), (N, L + 1) for scores of layers, (N, 2, K) for guesses."""

_SCORES = ("weights", "context", "few_shot", "binding", "keep", "look")
NAMES = (
    *("loss", "accuracy", "progress", "train_flops", "guesses"),
    *(f"{part}_{what}" for part in _SCORES for what in ("score", "control", "chance")),
)


class StoredHistory(History):
    """The rows of a run directory, which are read again if they are asked for after they were forgotten."""

    def __init__(self, path: Path, history: History) -> None:
        self._path = path
        self._known: tuple[Mapping[str, Any], ...] | None = history._rows

    @property
    def _rows(self) -> tuple[Mapping[str, Any], ...]:  # type: ignore[override]
        if self._known is None:
            self._known = load_run(self._path).history._rows
        return self._known

    def forget(self) -> None:
        """Frees the memory that the rows take."""
        self._known = None


class Columns:
    """The columns that pictures show, by name; one that was never measured is empty.

    Raises ValueError if what stands in a column is not numbers, or scores and their controls do not fit together.
    """

    def __init__(self, history: History) -> None:
        self._columns = {name: _column(name, *history.column(name)) for name in NAMES}
        for part in _SCORES:
            scores, control, chance = (self._columns[f"{part}_{what}"][1] for what in ("score", "control", "chance"))
            layers = scores.ndim == 2 or not scores.size
            if not layers or control.shape != scores.shape or chance.shape != scores.shape[:1]:
                raise ValueError(f"{part}_score, its control and its chance do not fit together")

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __contains__(self, name: str) -> bool:
        return self._columns[name][0].size > 0


def _column(name: str, steps: Sequence[int], values: Sequence[Any]) -> Column:
    found = np.asarray([math.nan if value is None else value for value in values])
    if found.size and found.dtype.kind not in "iuf":
        raise ValueError(f"{name} is not numbers")
    return np.asarray(steps, dtype=np.int64), found.astype(np.float64)
