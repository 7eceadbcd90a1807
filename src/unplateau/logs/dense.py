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
from pydantic_core import from_json

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
PART = 1 << 16
"""Bytes that are understood at once."""
WRITTEN = b"0123456789+-.eE"
"""What numbers are written with."""
COMMAS = bytes.maketrans(b"\n\t", b",,")
"""What stands between numbers, as JSON has it."""
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
    """A table of which all cells are numbers. It has no ``rows``: ``in_full`` reads them, as those of any log.

    ``table`` (columns, rows): a column lies in one piece.
    """

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
        return self.table[self.header.index(name)]

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
            n_more = _count(file)
    except OSError:
        return None
    head = _log_of(path, lines)
    if n_more is None or head is None or head.form not in BETWEEN or head.notes or head.repeated:
        return None
    names, between = tuple(head.names), BETWEEN[head.form]
    first = [cell.strip() for cell in lines[0].decode("utf-8-sig").split(between)]
    if first != list(names) and not all(map(is_number, first)):
        return None  # the names stand in a comment, or between quotes
    skip = int(first == list(names))
    table = json_numbers(path, between, skip, (len(names), SEEN + n_more))
    table = any_numbers(path, between, skip) if table is None else table
    if table is None or len(table) != len(names):
        return None
    return DenseLog(head.name, head.form, [], comma=head.comma, header=names, table=table, in_full=in_full)


def _count(file: BinaryIO) -> int | None:
    """How many lines there are in the rest of a file, at most; None if one of them has no end in sight."""
    n_lines = 1
    for part in iter(partial(file.read, LONGEST), b""):
        here = int(np.count_nonzero(np.frombuffer(part, np.uint8) == ord("\n")))
        if not here and len(part) == LONGEST:
            return None
        n_lines += here
    return n_lines


def _log_of(path: Path, lines: list[bytes]) -> Log | None:
    try:
        source = Source(str(path), b"".join(lines).decode("utf-8-sig").replace("\r\n", "\n"))
        return next((log for each in SUREST if (log := each(source)) is not None), None)
    except (DataError, UnicodeDecodeError):
        return None


def json_numbers(path: Path, between: str, skip: int, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    """(columns, rows): a table of numbers that are all written as JSON has them, read three times as fast as others.

    None if one is not, or if there is any doubt. ``shape``: its columns, and the most rows that it may have.
    """
    width, n_rows, table = shape[0], 0, np.empty(shape)
    row, zeros = f"{between * (width - 1)}\n".encode(), (b"-0\n", f"-0{between}".encode())
    try:
        with path.open("rb") as file:
            if skip and not file.readline().isascii():
                return None
            while lines := file.read(PART) + file.readline():
                lines = lines.replace(b"\r\n", b"\n") if b"\r" in lines else lines
                lines = lines if lines.endswith(b"\n") else lines + b"\n"
                around = lines.translate(None, WRITTEN)
                here = len(around) // width
                if around != row * here:
                    return None  # there is another cell than a number, or one too few, or too many
                cells = from_json(b"[" + lines[:-1].translate(COMMAS) + b"]")
                numbers = np.fromiter(cells, np.float64, here * width)
                if not numbers.all() and any(zero in lines for zero in zeros):
                    return None  # the integer 0 has no sign in JSON
                table[:, n_rows : n_rows + here] = numbers.reshape(here, width).T
                n_rows += here
    except (OSError, ValueError, OverflowError):
        return None
    return table[:, :n_rows]


def any_numbers(path: Path, between: str, skip: int) -> NDArray[np.float64] | None:
    """(columns, rows): a table of numbers as Python has them; None if a cell is another, or a row of another length."""
    try:
        with path.open(encoding="ascii") as file, warnings.catch_warnings():
            warnings.simplefilter("error")
            lines = islice(file, skip, None)
            return np.loadtxt(lines, delimiter=between, comments=None, ndmin=2).T
    except (OSError, ValueError, UserWarning):
        return None


def _range(column: Floats) -> Range:
    finite = np.isfinite(column)
    known = column if finite.all() else column[finite]
    return Range(known.size, float(known.min()), float(known.max())) if known.size else Range(0, np.inf, -np.inf)
