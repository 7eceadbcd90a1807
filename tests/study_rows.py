"""Rows of studies that nobody trained, in which it was decided what happens."""

from collections.abc import Callable, Sequence
from typing import Any

from unplateau.studies.accounts import CELLS, cell_name
from unplateau.studies.base import Row, Score

MET, UNMET = Score(0.9, 0.2), Score(0.22, 0.2)


def row(setting: str, cell: str, seed: int, **known: Any) -> Row:
    """A run of 1,000 steps that never escaped, but for what is said."""
    given: dict[str, Any] = {"steps": 1000, "escape": None, "completion": None, "progress": 0.5, "flops": 1e12}
    given |= dict.fromkeys(("at", "then", "weights", "few_shot", "binding", "look", "commit"))
    given |= {"spec": f"{setting}/{cell}/{seed}", "machine": "x"}
    return Row(setting, cell, seed, **{**given, **known})


def rows(
    setting: str,
    early: Callable[[Sequence[str]], bool],
    has: Sequence[str] = (),
    n_seeds: int = 3,
    late: int | None = None,
) -> list[Row]:
    """A setting in which these cells escape at 200 and all others never, or late; plain training has some things."""
    scores = {
        name: MET if thing in has else UNMET
        for thing, name in (("items", "few_shot"), ("labels", "binding"), ("queries", "look"))
    }
    return [
        row(setting, cell_name(cell), seed, escape=200 + seed if cell and early(cell) else late, **scores)
        for cell in CELLS
        for seed in range(n_seeds)
    ]
