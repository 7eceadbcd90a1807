"""Users' files, CSV, TSV or JSON lines with named columns: tables of texts or words, and curves of any training log.

A table must be right in every row. A log is taken as it is: gaps are normal, words where numbers belong are not.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from unplateau.errors import DataError, suggest
from unplateau.plateau.progress import FEWEST_POINTS

EMPTY = frozenset({"", "nan", "null", "none", "na", "n/a", "-"})
"""What a log writes where it has no number."""
_NOT_THERE = object()

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
    data = _bytes_of(path)
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


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


@contextmanager
def long_cells() -> Iterator[None]:
    """Lets the csv module read long documents: its own limit is 131,072 characters in a cell."""
    limit = csv.field_size_limit(10**8)
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
        raise DataError(f"{path}: line {reader.line_num}: {error}") from error
    if not rows:
        raise DataError(f"{path}: the file is empty (nothing but separators)")
    header = [name.strip() for name in rows[0][1]]
    if len(set(header)) != len(header):
        raise DataError(f"{path}: two columns have the same name in the first line")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(f"{path}: line {line} has {len(row)} cells, the first line has {len(header)}")
    return header, rows[1:]


def _json_table(path: Path, text: str) -> tuple[list[str], list[Cells]]:
    rows = list(_json_rows(path, text.split("\n"), '; each line should be one, such as {"text": ...}'))
    names = list(rows[0][1])
    for number, row in rows:
        if missing := [name for name in names if name not in row]:
            raise DataError(f"{path}: line {number} has no '{missing[0]}', the first line has")
    return names, [(number, ["" if row[name] is None else str(row[name]) for name in names]) for number, row in rows]


def _json_rows(path: Path, lines: Sequence[str], wanted: str, *, unfinished: bool = False) -> Iterator[Row]:
    """The objects in lines that are not blank; ``wanted`` ends the message about one that is something else.

    ``unfinished``: the last of several lines may be cut off, as in a log that is still being written.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if unfinished and 1 < number == len(lines):
                return
            raise DataError(f"{path}: line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}: line {number} is not a JSON object{wanted}")
        yield number, row


@dataclass(frozen=True)
class Curve:
    """A curve with increasing steps; ``notes`` say in words what was done to the rows of the file."""

    steps: list[float]
    values: list[float]
    notes: tuple[str, ...]


def read_curve(path: str | Path, *, step: str, value: str) -> Curve:
    """The columns ``step`` and ``value`` of a log.

    Rows that lack a value (an empty cell, NaN, null, no such key) are left out and counted; unsorted steps are sorted;
    of rows with the same step the last one counts, as when a run was resumed. Raises DataError, one line with file and
    line number, if the file is no such log, a column is unknown, a cell is text, or fewer than 8 points are left.
    """
    path = Path(path)
    known: set[str] = set()
    missing = {step, value}
    points: list[tuple[float, float]] = []
    n_gaps = 0
    for number, row in _rows_of_log(path):
        known |= set(row)
        found = {name: _cell(row, name) for name in (step, value)}
        missing -= {name for name, cell in found.items() if cell is not _NOT_THERE}
        at, here = (_number(found[name], path, number, name) for name in (step, value))
        if at is None or here is None:
            n_gaps += 1
        else:
            points.append((at, here))
    for name in sorted(missing):
        raise DataError(f"{path}: has no column '{name}'{suggest(name, known)}")
    notes = [f"{n_gaps} rows without a value left out"] if n_gaps else []
    if any(later[0] < earlier[0] for earlier, later in pairwise(points)):
        notes.append("steps were not sorted")
    last = dict(points)
    if len(last) < len(points):
        notes.append(f"{len(points) - len(last)} repeated steps: the last value counts")
    if len(last) < FEWEST_POINTS:
        raise DataError(f"{path}: {len(last)} points with both '{step}' and '{value}'; at least {FEWEST_POINTS} needed")
    steps = sorted(last)
    return Curve(steps, [last[at] for at in steps], tuple(notes))


def _rows_of_log(path: Path) -> Iterator[Row]:
    try:
        text = _bytes_of(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not a text file in UTF-8; CSV or JSON lines are needed") from error
    if "\0" in text:
        raise DataError(f"{path}: is not a text file; CSV or JSON lines are needed")
    if not text.strip():
        raise DataError(f"{path}: is empty")
    if text.lstrip().startswith("{"):
        yield from _json_rows(path, text.splitlines(), " with named columns", unfinished=True)
        return
    header = re.sub(r'"[^"]*"', "", text.lstrip().splitlines()[0])
    delimiter = max(",\t;", key=header.count)
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        for row in reader:
            yield reader.line_num, {name: cell for name, cell in row.items() if name is not None}
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num + 1} is not CSV ({error})") from error


def _cell(row: Mapping[str, Any], name: str) -> Any:
    """A column, or a path through nested objects such as ``eval.loss``."""
    if name in row:
        return row[name]
    inside: Any = row
    for part in name.split("."):
        if not isinstance(inside, Mapping) or part not in inside:
            return _NOT_THERE
        inside = inside[part]
    return inside


def _number(cell: Any, path: Path, line: int, name: str) -> float | None:
    """A finite number, None for a gap."""
    if cell is None or cell is _NOT_THERE or (isinstance(cell, str) and cell.strip().lower() in EMPTY):
        return None
    try:
        if isinstance(cell, bool):
            raise TypeError
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{path}: line {line}, column '{name}': {str(cell)[:40]!r} is not a number") from None
    return number if math.isfinite(number) else None
