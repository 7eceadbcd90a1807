"""Text that programs print: names and the numbers behind them, in any of the ways that people write these.

``iter 250: loss 4.1, time 12ms``, ``step:250/3000 val_loss:3.9``, ``| lm loss: 6.1E+00 |``, ``{'loss': 2.3}``,
``Epoch [1/10], Step [100/600], Loss: 2.3``, ``INFO {"loss": 2.3}``, or one name a line in blocks.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from unplateau.errors import DataError
from unplateau.inputs import json_value
from unplateau.logs.cells import UNITS, Comma
from unplateau.logs.log import Cells, Log, Row, flattened
from unplateau.logs.source import Source
from unplateau.logs.tables import is_table_of_words

COUNT = "count"
"""The name of a number that has none, but a total (``50/1000``) or brackets at the start of the line (``[50]``)."""
MOST_WORDS = 6
"""Words of a name; longer ones are sentences."""

_STAMP = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"  # a date with its time
    r"|\b[IWEF]\d{4,8} \d\d:\d\d:\d\d\.\d+\s+\d+"  # as Google's programs write it, with the thread
    r"|\b\d{4}[-/]\d\d[-/]\d\d\b|\b\d\d/\d\d/\d\d(?:\d\d)?\b|\b\d\d-\d\d(?= \d\d:\d\d)"  # a date
    r"|(?<![\w.:])(?:\d+:)?\d{1,3}:\d\d(?:[.,]\d+)?(?![\w:.])"  # a time
)
_BAR = re.compile(r"\d{1,3}%\s*\|[^|]*\|")
"""How far a progress bar is."""
AFTER_BAR = "\0"
"""Stands in for it; there is no such character in a text."""
_LEVEL = re.compile(r"\b(?:INFO|DEBUG|WARN(?:ING)?|ERROR|CRITICAL|TRACE|NOTICE)\b")
_WRAPPER = re.compile(r"(?:\b\w+\.)*\b(?:tensor|array|float(?:16|32|64)|int(?:32|64))\(\s*\[?(?=[-+.\d])")
_NUMBER = re.compile(
    rf"(?<![\w.\-@#])(?<![\w\]]/)(?P<number>[-+\u2212]?(?:[1-9]\d{{0,2}}(?:,\d{{3}})+(?!\d)(?:\.\d+)?|\d+,\d+(?=\s|;|$)|\d+\.?\d*|\.\d+)"
    rf"(?:[eE][-+]?\d+)?|[-+]?(?:nan|NaN|inf|Infinity)\b)"
    rf"(?P<unit>%|[kKMBGT](?![\w/])|{UNITS}(?![\w/])|(?:[A-Za-zµ]+(?:/[A-Za-z]+)?)?)(?!\w|\.\d)"
    rf"(?P<total>\s*/\s*[1-9][\d,]*[a-z]*(?![\w.]))?"
)
_NAME = re.compile(r"[A-Za-z_\u00c0-\uffff](?:[\w./@+\- ]|(?<=\w)'(?=s ))*(?:\([^()]*\))?$")
_UNIT_FIRST = re.compile(rf"^\s*(?:{UNITS}|%)(?=[\s,;|)\]}}]|$)")
_FIRST = re.compile(r"^(?:(?:and|at|with|in|on|for|after|of|is|the|to)\s+)+", re.IGNORECASE)
_LAST = re.compile(r"\s+(?:is|was|of|equals|at|=)$", re.IGNORECASE)
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_RULE = re.compile(r"\W*")


class Pair(NamedTuple):
    """A name and what stands behind it, and the words before, which tell two of the same name apart."""

    name: str
    cell: str
    before: str


def text_log(source: Source) -> Log | None:
    """Lines of names and numbers; None if fewer than half of the lines, and fewer than 8, have any."""
    text = source.text.replace("\r", "\n")
    comma: Comma = "decimal" if _decimal_commas(text) else "thousands"
    rows, n_without = _rows(text, comma)
    if not rows or (len(rows) < 8 and len(rows) < n_without):
        return None
    notes = list(source.notes)
    if n_without:
        notes.append(f"{n_without} lines without a name and a number left out")
    return Log(source.name, "a text log", rows, tuple(notes), comma=comma, carried=True)


def what_it_looks_like(source: Source) -> DataError:
    """For a text that is no log."""
    at = next(at for at, line in enumerate(source.text.split("\n"), start=1) if line.strip())
    if is_table_of_words(source):
        return DataError(f"{source.name}: looks like a table of words; none of its columns has numbers")
    wanted = "no name/value pairs (such as 'loss: 2.3' or 'loss=2.3')"
    return DataError(
        f"{source.name}: looks like a text log; {wanted} found in line {at}, and no columns of numbers below it"
    )


def _decimal_commas(text: str) -> bool:
    """Numbers such as ``0,35`` behind a colon or an equals sign, and none with a point there."""
    behind = r"[:=]\s*[-+]?"
    with_comma = re.findall(rf"{behind}\d+,\d+(?=[\s;|)\]}}]|$)", text, re.MULTILINE)
    return len(with_comma) >= 2 and not re.search(rf"{behind}\d+\.\d", text)


def _rows(text: str, comma: Comma) -> tuple[list[Row], int]:
    """Rows, and how many lines that are not blank have no part in one. Lines of one pair each make a row together."""
    rows: list[Row] = []
    block: Cells | None = None
    n_without = 0
    for at, line in enumerate(text.split("\n"), start=1):
        if _RULE.fullmatch(line):
            block = None
            continue
        cells = _cells(line, comma)
        if not cells:
            n_without += 1
        elif len(cells) > 1:
            rows.append((at, cells))
            block = None
        elif block is not None and not set(cells) & set(block):
            block |= cells
        else:
            block = cells
            rows.append((at, cells))
    return rows, n_without


def _cells(line: str, comma: Comma) -> Cells:
    start, end = line.find("{"), line.rfind("}")
    if 0 <= start < end:
        try:
            inside = flattened(json_value(line[start : end + 1], pairs=dict))
        except (ValueError, AttributeError):
            inside = {}
        if inside:
            return _named(line[:start], comma) | inside
    return _named(line, comma)


def _named(line: str, comma: Comma) -> Cells:
    found: Cells = {}
    for name, cell, before in _pairs(line, comma):
        if name in found and (longer := f"{before} {name}".strip()) not in found:
            found[longer] = cell
        elif name not in found:
            found[name] = cell
    return found


def _pairs(line: str, comma: Comma) -> Iterator[Pair]:
    plain = _WRAPPER.sub("", _LEVEL.sub("|", _STAMP.sub("|", _BAR.sub(AFTER_BAR, line))))
    end = 0
    for match in _NUMBER.finditer(plain):
        between = plain[end : match.start()]
        name, before = _name(_UNIT_FIRST.sub("", between) if end else between)
        in_brackets = between.strip() == "[" and not end and plain[match.end() :].startswith("]")
        end = match.end()
        if (match["total"] and AFTER_BAR in between) or (not name and (in_brackets or (match["total"] and not before))):
            name = COUNT
        if name:
            yield Pair(name, _cell(match["number"], comma) + match["unit"], before)


def _cell(number: str, comma: Comma) -> str:
    """The number without a comma that only ends it."""
    if comma == "thousands" and "," in number and not _THOUSANDS.fullmatch(number):
        return number.split(",", maxsplit=1)[0]
    return number


@lru_cache(maxsize=4096)  # lines of a log are alike
def _name(between: str) -> tuple[str, str]:
    """The name at the end of what stands between two numbers, and the words before it."""
    text = between.rstrip(" \t:=|>[({\"'~<-*")
    match = _NAME.search(text)
    if match is None:
        return "", ""
    name = match[0].split(" - ")[-1]
    name = _FIRST.sub("", _LAST.sub("", " ".join(name.split()))).strip("-. ")
    before = " ".join(re.findall(r"\w+", text[: match.start()]))
    return (name, before) if name and len(name.split()) <= MOST_WORDS else ("", before)
