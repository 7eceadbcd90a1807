"""Tables of cells: with a header or without, between commas, semicolons, tabs, bars or spaces, after comments."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from unplateau.errors import DataError
from unplateau.logs.cells import EMPTY, Comma, comma_in, is_number
from unplateau.logs.log import Cells, Log, Row
from unplateau.logs.source import Source
from unplateau.tables import long_cells

SEEN = 300
"""Rows that decide whether a text is a table."""
AGREEING = 0.9
"""Share of them that must fit the header."""
_PIECE = re.compile(r"^[\[(<{|]|[=:]\s*[-+\d(\['\"]|[=:,]$|^\d+[%/|]")
_RULE = re.compile(r"[\s|:+=-]*-[\s|:+=-]*")

Line = tuple[int, list[str]]
"""Where a row ends, and its cells."""


class Between(NamedTuple):
    """What stands between two cells: its name, and how lines become rows."""

    words: str
    split: Callable[[Sequence[str]], list[Line]]


@dataclass(frozen=True)
class Body:
    """A text for one separator: its first rows, and the comment above them, which may name the columns."""

    rows: list[Line]
    comment: list[str]
    between: Between
    lines: Sequence[str]

    def all_rows(self) -> list[Line]:
        """Those that follow too."""
        return self.between.split(self.lines)


def table_with_header(source: Source) -> Log | None:
    """A table whose first row, or the comment above it, names the columns; None if the text is no such table."""
    for body in _bodies(source):
        (_, first), *rest = body.rows
        if _names_columns(first, rest, body.between):
            return _table(source, body, first, body.all_rows()[1:])
        if body.between.words == "commas" and _overflows(first, rest):
            raise DataError(_too_long(source.name, *rest[0], first, body))
        if len(body.comment) == len(first) and _fits(len(first), body.rows) and _has_numbers(body.rows):
            return _table(source, body, body.comment, body.all_rows())
    return None


def numbers_alone(source: Source) -> Log | None:
    """A table without a header in which everything is a number; columns are called by their place."""
    return _headerless(source, words=False)


def table_without_header(source: Source) -> Log | None:
    """A table without a header that has numbers besides words."""
    return _headerless(source, words=True)


def is_table_of_words(source: Source) -> bool:
    """Has it several columns, none of which has numbers?"""
    widths = [[len(cells) for _, cells in body.rows] for body in _bodies(source) if body.between.words != "spaces"]
    return any(len(each) > 1 and min(each) == max(each) > 1 for each in widths)


def _headerless(source: Source, *, words: bool) -> Log | None:
    for body in _bodies(source):
        width = len(body.rows[0][1])
        numeric = [_numeric(body.rows, place) for place in range(width)]
        enough = any(numeric) if words else all(numeric)
        if enough and (width > 1 or not words) and _fits(width, body.rows, exact=True):
            return _table(source, body, [f"column {place}" for place in range(1, width + 1)], body.all_rows())
    return None


def _bodies(source: Source) -> Iterator[Body]:
    """The text as rows, for each separator that is in it, and for none."""
    comment = ""
    kept: list[str] = []
    for line in source.text.split("\n"):
        is_comment = line.lstrip().startswith(("#", "%"))
        if is_comment and not any(kept):
            comment = line.lstrip(" #%\t")
        kept.append("" if is_comment or _RULE.fullmatch(line) else line.replace("\r", " "))
    first = next((at for at, line in enumerate(kept) if line.strip()), 0)
    for between in SEPARATORS:
        if rows := between.split(kept[: first + SEEN]):
            names = [cells for _, cells in between.split([comment])] if comment else []
            yield Body(rows, names[0] if names else _words(comment), between, kept)


def _words(comment: str) -> list[str]:
    return re.split(r"[,\s]+", comment.strip())


def _by(delimiter: str) -> Callable[[Sequence[str]], list[Line]]:
    def split(lines: Sequence[str]) -> list[Line]:
        if not any(delimiter in line for line in lines):
            return []
        reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, skipinitialspace=True)
        with long_cells():
            return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]

    return split


def _by_bars(lines: Sequence[str]) -> list[Line]:
    stripped = [line.strip().removeprefix("|").removesuffix("|") for line in lines]
    return _by("|")(stripped)


def _by_spaces(pattern: str) -> Callable[[Sequence[str]], list[Line]]:
    def split(lines: Sequence[str]) -> list[Line]:
        return [(at, re.split(pattern, line.strip())) for at, line in enumerate(lines, start=1) if line.strip()]

    return split


SEPARATORS = (
    Between("tabs", _by("\t")),
    Between("semicolons", _by(";")),
    Between("commas", _by(",")),
    Between("bars", _by_bars),
    Between("spaces", _by_spaces(r"\s{2,}|\t")),
    Between("spaces", _by_spaces(r"\s+")),
)


def _may_be_name(cell: str) -> bool:
    """Is it neither a number nor a piece of a sentence that gives one, such as ``loss:`` or ``step=0``?"""
    return not is_number(cell) and _PIECE.search(cell) is None


def _names_columns(header: Sequence[str], rows: Sequence[Line], between: Between) -> bool:
    """Words where the rows below have numbers, and as many cells."""
    if not all(map(_may_be_name, header)) or not any(letter.isalpha() for name in header for letter in name):
        return False
    if not rows:
        return len(header) > 1 and between.words != "spaces"
    if len(header) == 1 and any(" " in cells[0] for _, cells in rows):
        return False
    return _fits(len(header), rows) and any(
        name and _numeric(rows, place) and not is_number(name) for place, name in enumerate(header)
    )


def _fits(width: int, rows: Sequence[Line], *, exact: bool = False) -> bool:
    """Have (nearly) all rows this many cells? Those that lack some at the end do, unless ``exact``."""
    seen = [len(cells) for _, cells in rows]
    good = sum(n == width or (width > n > 1 and not exact) for n in seen)
    return good >= AGREEING * len(seen) or (len(seen) < 10 and good >= len(seen) - 1 > 0)


def _overflows(header: Sequence[str], rows: Sequence[Line]) -> bool:
    """Are there several names, and more whole numbers than names in every row?"""
    seen = [cells for _, cells in rows]
    words = len(header) > 1 and all(header) and not any(map(is_number, header))
    return bool(words and seen) and all(len(cells) > len(header) and all(map(is_number, cells)) for cells in seen)


def _has_numbers(rows: Sequence[Line]) -> bool:
    return any(_numeric(rows, place) for place in range(len(rows[0][1])))


def _numeric(rows: Sequence[Line], place: int) -> bool:
    """At least half of what stands there is a number, and something does."""
    cells = [row[place] for _, row in rows if place < len(row) and row[place].lower() not in EMPTY]
    return bool(cells) and sum(map(is_number, cells)) * 2 >= len(cells)


def _table(source: Source, body: Body, header: Sequence[str], lines: Sequence[Line]) -> Log:
    names = [name or f"column {place}" for place, name in enumerate(header, start=1)]
    counts = Counter(names)
    repeated = {
        name: " and ".join(str(place) for place, one in enumerate(names, start=1) if one == name)
        for name, n in counts.items()
        if n > 1
    }
    rows: list[Row] = []
    notes, n_headers = list(source.notes), 0
    notes += [f"columns {places} are all called '{name}': not used" for name, places in repeated.items()]
    for at, cells in lines:
        if cells == list(header):
            n_headers += 1
            continue
        if len(cells) > len(names) and any(cells[len(names) :]):
            raise DataError(_too_long(source.name, at, cells, names, body))
        rows.append((at, _cells(names, cells)))
    if n_headers:
        notes.append(f"{n_headers} repeated headers left out")
    if not source.text.endswith("\n") and len(rows) > 1 and len(lines[-1][1]) < len(names):
        rows.pop()
        notes.append("the last line is cut off: left out")
    if not rows:
        raise DataError(f"{source.name}: a table without rows; its columns are {', '.join(names)}")
    form = f"a table between {body.between.words}"
    return Log(source.name, form, rows, tuple(notes), comma=_comma(body, lines), repeated=repeated)


def _cells(names: Sequence[str], cells: Sequence[str]) -> Cells:
    found: Cells = {}
    for name, cell in zip(names, cells, strict=False):
        found.setdefault(name, cell)
    return found


def _comma(body: Body, lines: Sequence[Line]) -> Comma:
    with_comma = (cell for _, cells in lines for cell in cells if "," in cell)
    return comma_in(with_comma, likely="decimal" if body.between.words == "semicolons" else "thousands")


def _too_long(name: str, at: int, cells: Sequence[str], names: Sequence[str], body: Body) -> str:
    said = f"{name}: line {at} has {len(cells)} cells, and there are {len(names)} columns"
    whole = all(re.fullmatch(r"-?\d+", cell) for cell in cells if cell)
    hint = "; are commas decimal points there? Write them as points, or put semicolons between the cells"
    return said + (hint if body.between.words == "commas" and whole else "")
