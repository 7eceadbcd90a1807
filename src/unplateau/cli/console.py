"""Formatting shared by the commands: a console that is plain where it has to be, tables, numbers in words.

What enters: values. What leaves: text on standard output; no colours in a pipe or under ``NO_COLOR``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH_OF_PIPES = 240
"""Characters; a table in a pipe is read by programs and should not be folded."""


def console(*, stderr: bool = False) -> Console:
    """A console that takes text literally: names such as ``mixed[fraction=0.25]`` are no markup."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_OF_PIPES
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=width)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table; columns of numbers are aligned to the right, but for the first."""
    cells = [list(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, name in enumerate(columns):
        numeric = index > 0 and all(_is_number(row[index]) for row in cells)
        table.add_column(name, justify="right" if numeric else "left")
    for row in cells:
        table.add_row(*row)
    console().print(table)


def print_json(value: Any) -> None:
    """JSON on standard output, for programs."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Lines of ``name  value``, aligned."""
    pairs = list(facts)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print(f"{name:<{width}}  {value}".rstrip())


def number(value: float | None, digits: int = 2) -> str:
    """``0.87``; a dash where there is no value."""
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # no minus zero


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(n_bytes: float) -> str:
    """``1.5 GB`` (powers of ten)."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"|-|[<>]?\s*-?[\d.,]+(e[+-]?\d+)?", cell.strip()) is not None
