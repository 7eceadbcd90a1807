"""What every format becomes: rows of cells by column."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from unplateau.errors import DataError
from unplateau.logs.cells import Comma, Number, number

Cells = dict[str, Any]
Row = tuple[int, Cells]
"""The line (or the number) of a row, and its cells by column; a column that a row lacks is a gap."""


class Range(NamedTuple):
    """How many numbers a column has, the least and the largest, and how many cells are words."""

    n: int
    low: float
    high: float
    words: int = 0

    def __str__(self) -> str:
        return f"{self.low:.6g} to {self.high:.6g}" if self.n else "no numbers"


@dataclass(frozen=True)
class Log:
    """A log as it was found. ``form`` says in words what the file is, ``notes`` what was done to read it.

    ``place``: what the number of a row counts. ``repeated``: names that several columns have, and where they stand.
    ``carried``: a line may belong to the step that was named before it, as in a text log.
    """

    name: str
    form: str
    rows: list[Row]
    notes: tuple[str, ...] = ()
    place: str = "line"
    comma: Comma = "thousands"
    carried: bool = False
    repeated: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def columns(self) -> dict[str, Range]:
        """Every column with its numbers, in the order in which they appear."""
        found: dict[str, list[float]] = {}
        for _, cells in self.rows:
            for name, cell in cells.items():
                column = found.setdefault(name, [0, math.inf, -math.inf, 0])
                try:
                    read = number(cell, self.comma)
                except ValueError:
                    column[3] += 1
                    continue
                if read is not None and math.isfinite(read.value):
                    column[0] += 1
                    column[1], column[2] = min(column[1], read.value), max(column[2], read.value)
        return {name: Range(int(n), low, high, int(words)) for name, (n, low, high, words) in found.items()}

    @cached_property
    def names(self) -> list[str]:
        """The columns in the order in which they appear."""
        return list(dict.fromkeys(name for _, cells in self.rows for name in cells))

    def numbers(self, name: str) -> Iterator[Number | None]:
        """One for each row, None for a gap. Raises DataError for a word or a mixture of units, with its place."""
        unit: str | None = None
        for at, cells in self.rows:
            try:
                found = number(cells.get(name), self.comma)
            except ValueError:
                said = str(cells[name])[:40]
                raise DataError(f"{self.where(at)}, column '{name}': {said!r} is not a number") from None
            if found is not None:
                if unit is not None and found.unit != unit:
                    mixed = " and ".join(f"'{one}'" if one else "no unit" for one in (unit, found.unit))
                    raise DataError(f"{self.where(at)}, column '{name}': units change between {mixed}")
                unit = found.unit
            yield found

    def is_beside(self, name: str, value: str) -> bool:
        """Is there a cell of it in most of the rows that have a value?"""
        both = [cells for _, cells in self.rows if cells.get(value) not in (None, "")]
        return sum(cells.get(name) not in (None, "") for cells in both) * 2 > len(both)

    def where(self, at: int) -> str:
        """``log.csv: line 7``."""
        return f"{self.name}: {self.place} {at}"


def flattened(value: Mapping[str, Any], before: str = "") -> Cells:
    """Cells of a nested object: ``eval.loss``, and ``scores.0`` for a list of numbers; of equal names the first."""
    found: Cells = {}
    for key, inside in value.items():
        name = f"{before}{key}"
        if isinstance(inside, Mapping):
            nested = flattened(inside, f"{name}.")
        elif isinstance(inside, list):
            plain = all(isinstance(one, int | float) and not isinstance(one, bool) for one in inside)
            nested = {f"{name}.{place}": one for place, one in enumerate(inside)} if plain else {}
        else:
            nested = {name: inside}
        found = {**nested, **found} if not found else found | {k: v for k, v in nested.items() if k not in found}
    return found
