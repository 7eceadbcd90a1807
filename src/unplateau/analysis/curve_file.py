"""Reads one curve out of any training log: CSV (comma, tab, semicolon) or JSON lines.

What enters: a file and the names of two columns. What leaves: a :class:`Curve` with sorted steps, and notes on what was
left out or put in order. A log is taken as it is: gaps are normal, words where numbers belong are not.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from unplateau.errors import DataError, suggest

FEWEST_POINTS = 8
_NOT_THERE = object()
EMPTY = frozenset({"", "nan", "null", "none", "na", "n/a", "-"})


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
    for number, row in _rows(path):
        known |= set(row)
        found = {name: _cell(row, name) for name in (step, value)}
        missing -= {name for name, cell in found.items() if cell is not _NOT_THERE}
        cells = [_number(found[name], path, number, name) for name in (step, value)]
        if None in cells:
            n_gaps += 1
        else:
            points.append((cells[0], cells[1]))  # type: ignore[arg-type]
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


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line number, row) of every data row."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not a text file in UTF-8; CSV or JSON lines are needed") from error
    if "\0" in text:
        raise DataError(f"{path}: is not a text file; CSV or JSON lines are needed")
    if not text.strip():
        raise DataError(f"{path}: is empty")
    return _json_rows(path, text) if text.lstrip().startswith("{") else _csv_rows(path, text)


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines) and number > 1:
                return  # a log that is still being written, or was cut off
            raise DataError(f"{path}: line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}: line {number} is not a JSON object with named columns")
        yield number, row


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
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
