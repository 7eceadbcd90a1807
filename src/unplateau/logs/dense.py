"""Large tables of plain numbers, read into one array: a log of millions of rows takes a few times its size on disk.

What it is, and what its columns are called, is decided by its first rows and in the same way as for any other log. A
table in which anything else than a number stands, or a row of another length, is not read here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from unplateau.errors import DataError
from unplateau.inputs import PER_BYTE
from unplateau.limits import memory
from unplateau.logs.cells import Number, is_number
from unplateau.logs.jsons import json_lines, whole_json
from unplateau.logs.log import Log, Range
from unplateau.logs.source import Source, refuse_long_lines
from unplateau.logs.tables import SEEN, numbers_alone, table_with_header
from unplateau.plateau.progress import Floats

LARGE = 4_000_000
"""Bytes from which a table is read into an array."""
LONGEST_LINE, LONGEST = 10_000, 1_000_000
"""Bytes of a line: of the first ones, and about those of any other."""
SUREST: tuple[Callable[[Source], Log | None], ...] = (
    whole_json,
    json_lines,
    refuse_long_lines,
    table_with_header,
    numbers_alone,
)
"""Each recognises a format or returns None; one only says that no other needs to try."""
BETWEEN = {"a table between commas": ",", "a table between tabs": "\t"}


@dataclass(frozen=True)
class DenseLog(Log):
    """A table of which all cells are numbers. It has no ``rows``: ``in_full`` reads them, as those of any log."""

    header: tuple[str, ...] = field(kw_only=True)
    table: NDArray[np.float64] = field(kw_only=True)
    in_full: Callable[[], Log] = field(kw_only=True)

    @cached_property
    def columns(self) -> dict[str, Range]:
        """Every column with its numbers."""
        return {name: _range(self.column(name)) for name in self.header}

    @cached_property
    def names(self) -> list[str]:
        """The columns in the order in which they stand."""
        return list(self.header)

    def column(self, name: str) -> Floats:
        """(rows,), NaN for a gap."""
        return self.table[:, self.header.index(name)]

    def numbers(self, name: str) -> Iterator[Number | None]:
        """One for each row, None for a gap."""
        return (None if math.isnan(value) else Number(value) for value in map(float, self.column(name)))

    def is_beside(self, name: str, value: str) -> bool:
        """All rows have all cells."""
        return name in self.header and value in self.header


def dense_table(path: Path, in_full: Callable[[], Log]) -> DenseLog | None:
    """The table in a large file of numbers, with a line of names or without; None if the file is not that."""
    try:
        if not LARGE <= path.stat().st_size <= memory() // PER_BYTE:
            return None
        with path.open("rb") as file:
            lines = [file.readline(LONGEST_LINE) for _ in range(SEEN)]
            has_an_endless_line = any(len(part) == LONGEST and b"\n" not in part for part in _parts(file))
    except OSError:
        return None
    head = _log_of(path, lines)
    if has_an_endless_line or head is None or head.form not in BETWEEN or head.notes or head.repeated:
        return None
    names, between = tuple(head.names), BETWEEN[head.form]
    first = [cell.strip() for cell in lines[0].decode("utf-8-sig").split(between)]
    if first != list(names) and not all(map(is_number, first)):
        return None  # the names stand in a comment, or between quotes
    table = _numbers(path, between, skip=int(first == list(names)))
    if table is None or table.shape[1] != len(names):
        return None
    return DenseLog(head.name, head.form, [], comma=head.comma, header=names, table=table, in_full=in_full)


def _parts(file: BinaryIO) -> Iterator[bytes]:
    return iter(partial(file.read, LONGEST), b"")


def _log_of(path: Path, lines: list[bytes]) -> Log | None:
    try:
        source = Source(str(path), b"".join(lines).decode("utf-8-sig").replace("\r\n", "\n"))
        return next((log for each in SUREST if (log := each(source)) is not None), None)
    except (DataError, UnicodeDecodeError):
        return None


def _numbers(path: Path, between: str, skip: int) -> NDArray[np.float64] | None:
    try:
        with path.open(encoding="ascii") as file, warnings.catch_warnings():
            warnings.simplefilter("error")
            lines = islice(file, skip, None)
            return np.loadtxt(lines, delimiter=between, comments=None, ndmin=2)
    except (OSError, ValueError, UserWarning):
        return None


def _range(column: Floats) -> Range:
    finite = np.isfinite(column)
    known = column if finite.all() else column[finite]
    return Range(known.size, float(known.min()), float(known.max())) if known.size else Range(0, np.inf, -np.inf)
