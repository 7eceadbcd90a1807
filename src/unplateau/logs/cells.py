"""Numbers as people and programs write them (``1,000``, ``12.3 %``, ``0,35``, ``3k``, ``tensor(2.3)``), and gaps."""

import math
import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, get_args

Comma = Literal["thousands", "decimal"]
"""What a comma between digits means."""

EMPTY = frozenset({"", "nan", "null", "none", "na", "n/a", "-", "--", "no log", "<na>", "?"})
"""What a log writes where it has no number."""
MULTIPLES = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
"""Letters that follow a number and multiply it."""
UNITS = (
    r"(?:ns|us|µs|ms|s|sec|secs|seconds|m|min|mins|minutes|h|hr|hrs|hours|[KMGT]i?B|bytes|[TGP]?FLOPs?|x"
    r"|nats|bits|°C|W|J|[A-Za-zµ]+/[A-Za-z]+)"
)
"""Units that may stand behind a number, with a space or without."""

_NO_NUMBER = "{!r} is no number"
_WRAPPED = re.compile(
    r"(?:\w+\.)*(?:tensor|array|float\d*|float_|int\d*|Array)\(\s*\[?\s*([^,()\[\]]+?)\s*\]?\s*(?:,.*)?\)"
)
_PLAIN = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_SPACED = re.compile(r"[1-9]\d{0,2}(?:[ '\u00a0\u202f]\d{3})+(?:[.,]\d+)?")
_DECIMAL = re.compile(r"(?:\d+|[1-9]\d{0,2}(?:\.\d{3})+)?,\d+(?:[eE][-+]?\d+)?")
_PARTS = re.compile(
    rf"(?P<sign>[-+\u2212]?)(?P<body>[\d.,'\u00a0\u202f ]*\d\.?(?:[eE][-+]?\d+)?)"
    rf"[ \u00a0]?(?P<unit>%|[kKMBGT]|{UNITS})?"
)
_ONLY_DECIMAL = re.compile(
    r"[-+]?(?:0|\d{4,})?,\d+(?:[eE][-+]?\d+)?|[-+]?\d+,(?:\d{1,2}|\d{4,})(?:[eE][-+]?\d+)?|[-+]?\d[\d.]*\.\d{3},\d+"
)
_ONLY_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:(?:,\d{3}){2,}(?:\.\d+)?|(?:,\d{3})+\.\d+)")


class Number(NamedTuple):
    """A number, the unit behind it, and what had to be understood, in words; both empty for a plain one."""

    value: float
    unit: str = ""
    how: str = ""


def number(cell: Any, comma: Comma = "thousands") -> Number | None:
    """The number in a cell; None for a gap (NaN too). Raises ValueError for anything else."""
    if cell is None:
        return None
    if isinstance(cell, bool | list | dict):
        raise ValueError(_NO_NUMBER.format(cell))
    try:
        plain = float(cell)
    except OverflowError:
        raise ValueError(_NO_NUMBER.format(cell)) from None
    except ValueError:
        return _written(cell.strip().strip("\"'").strip(), comma)
    return None if math.isnan(plain) else Number(plain)


def _written(text: str, comma: Comma) -> Number | None:
    if text.lower() in EMPTY:
        return None
    if wrapped := _WRAPPED.fullmatch(text):
        return number(wrapped[1], comma)
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise ValueError(_NO_NUMBER.format(text))
    size, how = _size(parts["body"], comma)
    unit = parts["unit"] or ""
    if unit in MULTIPLES:
        size, unit, how = size * MULTIPLES[unit], "", how or f"'{unit}' read as {MULTIPLES[unit]:.0e}".replace("+0", "")
    return Number(-size if parts["sign"] in ("-", "\u2212") else size, unit, how)


def _size(body: str, comma: Comma) -> tuple[float, str]:
    if re.fullmatch(_PLAIN, body):
        return float(body), ""
    if comma == "decimal" and _DECIMAL.fullmatch(body):
        return float(body.replace(".", "").replace(",", ".")), "commas read as decimal points"
    if comma == "thousands" and _THOUSANDS.fullmatch(body):
        return float(body.replace(",", "")), "commas read as separators of thousands"
    if _SPACED.fullmatch(body):
        return float(re.sub(r"[ '\u00a0\u202f]", "", body).replace(",", ".")), "spaces read as separators of thousands"
    raise ValueError(_NO_NUMBER.format(body))


def comma_in(cells: Iterable[str], *, likely: Comma) -> Comma:
    """What commas mean in these cells; ``likely`` if they could mean both."""
    decimal = thousands = 0
    for cell in cells:
        decimal += _ONLY_DECIMAL.fullmatch(cell) is not None
        thousands += _ONLY_THOUSANDS.fullmatch(cell) is not None
    return likely if (decimal > 0) == (thousands > 0) else "decimal" if decimal else "thousands"


def is_number(cell: Any) -> bool:
    """Is it a number, whatever commas mean? A gap is none."""
    return any(_reads(cell, comma) for comma in get_args(Comma))


def _reads(cell: Any, comma: Comma) -> bool:
    try:
        return number(cell, comma) is not None
    except ValueError:
        return False
