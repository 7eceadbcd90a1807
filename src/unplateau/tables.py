"""Users' tables of texts or words, CSV, TSV or JSON lines with named columns; they must be right in every row."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unplateau.errors import DataError, suggest
from unplateau.inputs import json_value, read_file

MOST_CELL = 10_000_000
"""Characters of a cell."""

Cells = tuple[int, list[str]]
Row = tuple[int, Mapping[str, Any]]
"""The line that a row ends in, and its cells in order or by column."""


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
    text = _text_of_table(path)
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    names, rows = (
        _json_table(path, text) if path.suffix.lower() in {".jsonl", ".ndjson", ".json"} else _cell_table(path, text)
    )
    if not rows:
        raise DataError(f"{path}: no rows below the names of the columns")
    columns = {name: tuple(cells[place].strip() for _, cells in rows) for place, name in enumerate(names)}
    return Table(path, columns, tuple(line for line, _ in rows))


def _text_of_table(path: Path) -> str:
    data = read_file(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        found = "is UTF-16, not UTF-8" if wide else f"not UTF-8 at byte {error.start} (0x{data[error.start]:02x})"
        convert = f"iconv -f {'UTF-16' if wide else 'CP1252'} -t UTF-8 {path.name} > utf8-{path.name}"
        raise DataError(f"{path}: {found}; convert it: {convert}") from error
    if "\0" in text:
        raise DataError(f"{path}: not a text file (a zero byte at {data.index(0)})")
    return text


@contextmanager
def long_cells() -> Iterator[None]:
    """Lets the csv module read long documents: its own limit is 131,072 characters in a cell."""
    limit = csv.field_size_limit(MOST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _cell_table(path: Path, text: str) -> tuple[list[str], list[Cells]]:
    tabs = path.suffix.lower() in {".tsv", ".tab"} or "\t" in text.split("\n", 1)[0]
    # Quotes have a meaning in CSV; in TSV they are characters.
    quoting: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"strict": True}
    reader = csv.reader(io.StringIO(text, newline=""), **quoting)
    try:
        with long_cells():
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {_said(error)}") from error
    if not rows:
        raise DataError(f"{path}: the file is empty (nothing but separators)")
    header = [name.strip() for name in rows[0][1]]
    if len(set(header)) != len(header):
        raise DataError(f"{path}: two columns have the same name in the first line")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(f"{path}: line {line} has {len(row)} cells, the first line has {len(header)}")
    return header, rows[1:]


def _said(error: csv.Error) -> str:
    """What the csv module says, of a long cell in other words."""
    return f"a cell has more than {MOST_CELL:,} characters" if "field limit" in str(error) else str(error)


def _json_table(path: Path, text: str) -> tuple[list[str], list[Cells]]:
    rows = list(_json_rows(path, text.split("\n")))
    names = list(rows[0][1])
    for number, row in rows:
        if missing := [name for name in names if name not in row]:
            raise DataError(f"{path}: line {number} has no '{missing[0]}', the first line has")
    return names, [(number, ["" if row[name] is None else str(row[name]) for name in names]) for number, row in rows]


def _json_rows(path: Path, lines: Sequence[str]) -> Iterator[Row]:
    """The objects in lines that are not blank."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json_value(line)
        except ValueError as error:
            raise DataError(f"{path}: line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(
                f'{path}: line {number} is not a JSON object; each line should be one, such as {{"text": ...}}'
            )
        yield number, row
