"""What a run has recorded so far: read-only rows, one per logged step. Curricula may read it; nobody can change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from unplateau.notebook import frame, table_html

Row = Mapping[str, Any]


class History(Sequence[Row]):
    """An immutable sequence of rows; every row has ``step``, the other columns only where they were measured."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._rows = tuple(MappingProxyType(dict(row)) for row in rows)

    def __getitem__(self, index: Any) -> Any:
        return History(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __reduce__(self) -> tuple[type[History], tuple[list[Row]]]:
        return History, ([dict(row) for row in self._rows],)  # to be sent to another process

    def __repr__(self) -> str:
        if not self._rows:
            return "History(no rows)"
        span = f"steps {self._rows[0]['step']} to {self._rows[-1]['step']}"
        return f"History({len(self)} rows, {span}; columns {', '.join(self._columns())})"

    def _repr_html_(self) -> str:
        names = self._columns(numbers=True)
        return table_html(names, [[row.get(name) for name in names] for row in self._rows], caption=f"{len(self)} rows")

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row for each row. Raises MissingExtraError without pandas."""
        return frame(self._rows)

    def _columns(self, *, numbers: bool = False) -> list[str]:
        """Names in the order in which they first came; with ``numbers`` of those that are single numbers."""
        pairs = [pair for row in self._rows for pair in row.items()]
        return list(dict.fromkeys(name for name, value in pairs if not numbers or isinstance(value, int | float)))

    def extended(self, row: Row) -> History:
        """A new history with one row more."""
        longer = History()
        longer._rows = (*self._rows, MappingProxyType(dict(row)))
        return longer

    def column(self, name: str) -> tuple[list[int], list[Any]]:
        """Steps and values of a column, at the rows that have it."""
        having = [row for row in self._rows if name in row]
        return [row["step"] for row in having], [row[name] for row in having]

    def curve(self, name: str) -> tuple[list[int], list[Any]]:
        """As ``column``, without nulls and with each step once: the last row of a step counts."""
        points = {row["step"]: row[name] for row in self._rows if row.get(name) is not None}
        return list(points), list(points.values())

    def last(self, name: str, default: Any = None) -> Any:
        """The newest value of a column."""
        return next((row[name] for row in reversed(self._rows) if name in row), default)
