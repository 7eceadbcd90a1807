"""What the commands write: tables, and numbers in words; progress is in ``unplateau.train.progress``.

No colours in a pipe or under ``NO_COLOR``. Rich is imported where it is used, so that help needs none of it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from unplateau.terminal import message, one_line, unguarded

if TYPE_CHECKING:
    from rich.console import Console

BETWEEN = "   "
"""What stands between two columns."""


def console() -> Console:
    """A console that takes text literally: names such as ``mixed[fraction=0.25]`` are no markup."""
    from rich.console import Console  # noqa: PLC0415

    width = None if sys.stdout.isatty() else 240  # a table in a pipe is read by programs and should not be folded
    return Console(file=unguarded(sys.stdout), markup=False, emoji=False, highlight=False, width=width)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table; columns of numbers are aligned to the right, but for the first. One that is too wide is folded."""
    from rich.cells import cell_len  # noqa: PLC0415

    lines = [[*map(one_line, row)] for row in (columns, *rows)]
    right = [index > 0 and all(map(_is_number, column[1:])) for index, column in enumerate(zip(*lines, strict=True))]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    to = console()
    if sum(widths) + len(BETWEEN) * (len(widths) - 1) <= to.width:
        _print_whole(to, lines, right, widths)
    else:
        _print_folded(to, lines, right)


def _print_whole(to: Console, lines: Sequence[Sequence[str]], right: Sequence[bool], widths: Sequence[int]) -> None:
    """As rich writes it, in a hundredth of the time: for lists of thousands."""
    from rich.cells import cell_len  # noqa: PLC0415

    def written(line: Sequence[str]) -> str:
        gaps = [" " * (width - cell_len(cell)) for width, cell in zip(widths, line, strict=True)]
        return BETWEEN.join(
            gap + cell if last else cell + gap for gap, cell, last in zip(gaps, line, right, strict=True)
        )

    head, *rows = map(written, lines)
    rule = "─" if to.encoding.startswith("utf") else "-"
    print("\n".join([head, rule * cell_len(head), *rows]))


def _print_folded(to: Console, lines: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    """With as many lines for a row as its cells need."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name, numeric in zip(lines[0], right, strict=True):
        table.add_column(name, justify="right" if numeric else "left")
    for row in lines[1:]:
        table.add_row(*row)
    to.print(table)


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"|-|[<>]?\s*-?[\d.,]+(e[+-]?\d+)?", cell.strip()) is not None


def print_json(value: Any) -> None:
    """JSON on standard output, for programs; exact, and in letters that no terminal obeys."""
    print(json.dumps(value, indent=2, allow_nan=False).replace("\x7f", "\\u007f"))  # it writes all others so itself


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Lines of ``name  value``, aligned."""
    pairs = list(facts)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print(f"{name:<{width}}  {one_line(value)}".rstrip())


def number(value: float | None, digits: int = 2) -> str:
    """``0.87``; a dash where there is no value."""
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # no minus zero


def size(n_bytes: float) -> str:
    """``1.5 GB`` (powers of ten)."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def is_count(text: str) -> bool:
    """Is it a number of things, of a length that things have?"""
    return re.fullmatch(r"\d{1,18}", text, re.ASCII) is not None


def warn(text: str) -> None:
    """One line on standard error, safe to look at and not endless."""
    note(f"unplateau: {text}")


def note(text: str) -> None:
    """The same of what is no warning."""
    print(message(text), file=sys.stderr)
