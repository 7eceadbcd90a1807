"""JSON in all the shapes that logs have: an object a line, an array of rows, columns, transformers' trainer state."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unplateau.errors import DataError
from unplateau.inputs import json_value
from unplateau.logs.log import Cells, Log, Row, flattened
from unplateau.logs.source import Source

SINCE_1970 = 1e8
"""Seconds; larger numbers are times."""
_OBJECT = re.compile(r"\s*(?:\[\s*[\[{]|\[\s*-?[\d.]+\s*,|\{\s*\"[^\"\n]*\"\s*:)")
"""How JSON begins, and nothing else."""
_WHOLE_NUMBER = re.compile(r"\d{1,100}", re.ASCII)


class _RepeatedError(ValueError):
    """Two members of an object have this name."""


def whole_json(source: Source) -> Log | None:
    """A file that is one JSON value; None if it is none, or a single row."""
    if source.text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = _loads(source.text)
    except _RepeatedError as error:
        raise DataError(f"{source.name}: an object has two members called '{error}'") from None
    except ValueError as error:
        if rows := _one_after_the_other(source.text):
            return Log(source.name, "JSON objects", list(enumerate(rows, start=1)), source.notes, place="object")
        if _OBJECT.match(source.text) and not _is_object(source.text.lstrip().split("\n", 1)[0]):
            raise DataError(f"{source.name}: looks like JSON and cannot be read as such ({error})") from error
        return None
    found = _rows_in(value)
    if found is None:
        if isinstance(value, dict) and any(isinstance(one, int | float | str) for one in value.values()):
            form = "JSON lines" if "\n" not in source.text.strip() else "a JSON object"
            return Log(source.name, form, [(1, flattened(value))], source.notes)
        raise DataError(f"{source.name}: looks like JSON; neither rows nor columns of numbers found in it")
    what, rows = found
    return Log(source.name, what, list(enumerate(rows, start=1)), source.notes, place="row")


def json_lines(source: Source) -> Log | None:
    """A file of JSON objects, one a line; None if its first line that begins like one is none.

    Lines of other text between them are left out and counted; the last may be cut off. Raises DataError for a line
    that begins like an object and is damaged.
    """
    lines = source.text.split("\n")
    first = next((line for line in lines if line.strip()), "")
    if not first.lstrip().startswith("{") or not _is_object(first):
        return None
    rows: list[Row] = []
    notes, n_other = list(source.notes), 0
    for at, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if not line.lstrip().startswith("{"):
            n_other += 1
            continue
        try:
            rows.append((at, flattened(_loads(line))))
        except _RepeatedError as error:
            raise DataError(f"{source.name}: line {at} has two members called '{error}'") from None
        except ValueError as error:
            if 1 < at == len(lines):
                notes.append("the last line is cut off: left out")
                break
            raise DataError(f"{source.name}: line {at} is not JSON ({error})") from error
    if n_other:
        notes.append(f"{n_other} lines that are not JSON left out")
    return Log(source.name, "JSON lines", rows, tuple(notes))


def _one_after_the_other(text: str) -> list[Cells]:
    """Objects that each take several lines; none if they take one, or there is anything else."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    found, at = [], len(text) - len(text.lstrip())
    while at < len(text):
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, dict) or "\n" not in text[at:end]:
            return []
        found.append(flattened(value))
        at = end + len(text[end:]) - len(text[end:].lstrip(" \t\n,"))
    return found


def _loads(text: str) -> Any:
    return json_value(text, pairs=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _RepeatedError(name)
        found[name] = value
    return found


def _is_object(line: str) -> bool:
    try:
        return isinstance(json_value(line, pairs=dict), dict)
    except ValueError:
        return False


def _rows_in(value: Any) -> tuple[str, list[Cells]] | None:
    """What it is in words, and its rows; None if there are none."""
    if isinstance(value, list):
        return _rows_of_list(value)
    if not isinstance(value, Mapping) or not value:
        return None
    if _is_rows(value.get("log_history")):
        return "trainer state of transformers", [flattened(row) for row in value["log_history"]]
    if all(map(_WHOLE_NUMBER.fullmatch, value)):
        return "a JSON object of rows by step", list(_rows_by_step(value))
    if columns := _columns(value):
        return "a JSON object of columns", list(_rows_of_columns(columns))
    return _longest_inside(value)


def _longest_inside(value: Mapping[str, Any]) -> tuple[str, list[Cells]] | None:
    inside = [(name, found) for name, one in value.items() if (found := _rows_in(one)) is not None]
    if not inside:
        return None
    name, (what, rows) = max(inside, key=lambda each: len(each[1][1]))
    return f"{what}, in '{name}'", rows


def _rows_of_list(value: Sequence[Any]) -> tuple[str, list[Cells]] | None:
    if _is_rows(value):
        return "a JSON array of rows", [flattened(row) for row in value]
    if value and all(isinstance(row, list) and len(row) == len(value[0]) for row in value):
        names = [f"column {place}" for place in range(1, len(value[0]) + 1)]
        if len(names) == 3 and all(isinstance(row[0], int | float) and row[0] > SINCE_1970 for row in value):
            names = ["wall time", "step", "value"]  # as TensorBoard exports a curve
        return "a JSON array of arrays", [dict(zip(names, row, strict=True)) for row in value]
    if value and all(map(_is_cell, value)) and any(isinstance(one, int | float) for one in value):
        return "a JSON array of numbers", [{"value": one} for one in value]
    return None


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str)


def _rows_by_step(value: Mapping[str, Any]) -> Iterator[Cells]:
    for step, row in value.items():
        cells = flattened(row) if isinstance(row, Mapping) else {"value": row}
        yield {"step": int(step)} | cells


def _columns(value: Mapping[str, Any], before: str = "") -> dict[str, list[Any]]:
    """Lists of cells by name, at any depth; objects with whole numbers for names, as pandas writes, count as lists."""
    found: dict[str, list[Any]] = {}
    for key, inside in value.items():
        if isinstance(inside, Mapping):
            if inside and all(map(_WHOLE_NUMBER.fullmatch, inside)) and all(map(_is_cell, inside.values())):
                found[f"{before}{key}"] = list(inside.values())
            else:
                found |= _columns(inside, f"{before}{key}.")
        elif isinstance(inside, list) and len(inside) > 1 and all(map(_is_cell, inside)):
            found[f"{before}{key}"] = inside
    return found


def _rows_of_columns(columns: Mapping[str, list[Any]]) -> Iterator[Cells]:
    """Columns of one length share their rows; those of another have rows of their own."""
    for length in dict.fromkeys(map(len, columns.values())):
        together = {name: cells for name, cells in columns.items() if len(cells) == length}
        for place in range(length):
            yield {name: cells[place] for name, cells in together.items()}
