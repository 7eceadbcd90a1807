"""A user's table of texts or words: CSV, TSV or JSON lines with named columns.

What enters: a path. What leaves: column names and rows of strings, each with its line number for messages.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

from unplateau.data.decode import read_text
from unplateau.errors import DataError, suggest

JSON_LINES = {".jsonl", ".ndjson", ".json"}
LONGEST = 10**8
"""Characters in a cell; Python's own limit of 131,072 is less than a long document."""


@dataclass(frozen=True)
class Table:
    """``columns`` by name and the cells under them; ``lines[i]`` is where row ``i`` ends in the file."""

    path: Path
    columns: dict[str, tuple[str, ...]]
    lines: tuple[int, ...]

    def column(self, name: str) -> tuple[str, ...]:
        """Cells of one column. Raises DataError, naming the columns that there are, if it is missing."""
        if name not in self.columns:
            raise DataError(f"{self.path}: no column '{name}'{suggest(name, self.columns)}")
        return self.columns[name]


def read_table(path: str | Path) -> Table:
    """The table in a ``.jsonl``, ``.tsv`` or ``.csv`` file (by name; otherwise a tab in the first line means TSV).

    Raises DataError if the file is empty, not UTF-8, or a row has more or fewer cells than the first.
    """
    path = Path(path)
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    table = _json_lines(path, text) if path.suffix.lower() in JSON_LINES else _cells(path, text)
    if not table.lines:
        raise DataError(f"{path}: no rows below the names of the columns")
    return table


def _cells(path: Path, text: str) -> Table:
    tabs = path.suffix.lower() in {".tsv", ".tab"} or "\t" in text.split("\n", 1)[0]
    limit = csv.field_size_limit(LONGEST)
    try:
        # Quotes have a meaning in CSV; in TSV they are characters.
        quoting = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"delimiter": ",", "strict": True}
        reader = csv.reader(io.StringIO(text, newline=""), **quoting)  # type: ignore[arg-type]
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from error
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise DataError(f"{path}: the file is empty (nothing but separators)")
    header = [name.strip() for name in rows[0][1]]
    if len(set(header)) != len(header):
        raise DataError(f"{path}: two columns have the same name in the first line")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(f"{path}: line {line} has {len(row)} cells, the first line has {len(header)}")
    columns = {name: tuple(row[place].strip() for _, row in rows[1:]) for place, name in enumerate(header)}
    return Table(path, columns, tuple(line for line, _ in rows[1:]))


def _json_lines(path: Path, text: str) -> Table:
    rows = [(number, _object(path, number, line)) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    names = list(rows[0][1])
    for number, row in rows:
        if missing := [name for name in names if name not in row]:
            raise DataError(f"{path}: line {number} has no '{missing[0]}', the first line has")
    columns = {name: tuple("" if row[name] is None else str(row[name]).strip() for _, row in rows) for name in names}
    return Table(path, columns, tuple(number for number, _ in rows))


def _object(path: Path, number: int, line: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}: line {number} is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f'{path}: line {number} is not a JSON object; each line should be one, such as {{"text": ...}}')
    return row
