"""Whether the scores of a run that stays on its plateau say what it lacks, by the lines of ``unplateau diagnose``."""

import math
from collections.abc import Sequence

from unplateau.probe.diagnose import LINES
from unplateau.probe.diagnosis import ORDER
from unplateau.studies.accounts import SCORES, THINGS, Cells, Setting, cell_name, settings_of, share
from unplateau.studies.base import Row, Table, escape_of

READ = "By the scores halfway to the end and the lines of diagnose, without its controls and errors"
"""Rows have neither."""


def named(settings: Cells) -> Table:
    """Runs that were asked for two things and lack the third: does its score say so?

    That they lack it is known from the cells: with these two most runs stay flat to the end, and all three end the
    plateau early.
    """
    lines = []
    for thing in THINGS:
        others = tuple(other for other in THINGS if other != thing)
        lacking = [
            one for one in settings_of(settings) if _is_flat(one, others) and cell_name(tuple(THINGS)) in one.early
        ]
        told = [[first_missing(row) for row in one.cells[cell_name(others)]] for one in lacking]
        right = [(sum(name == thing for name in names), len(names)) for names in told]
        wrong = sum(name not in (thing, None) for names in told for name in names)
        lines.append([thing, "+".join(others), share(right), f"{wrong}"])
    note = (
        f"{READ}. Made on purpose: most runs of the two things that are asked for stay flat, and all three end the "
        "plateau early."
    )
    columns = ["what is missing", "asked for", "runs of which it is named", "another is named"]
    return Table("Bottlenecks made on purpose", columns, lines, note)


def _is_flat(setting: Setting, cell: Sequence[str]) -> bool:
    """Whether most runs of a cell, which is there, stay on their plateau to the end."""
    rows = setting.cells.get(cell_name(cell), ())
    return bool(rows) and math.isinf(escape_of(rows).high)


def first_missing(row: Row) -> str | None:
    """In the order items, labels, kept labels, queries; None where nothing that can be told is missing."""
    columns = {**SCORES, "kept labels": "keep"}
    in_lists = row.binding is None  # there models leave the plateau before items stand out
    for thing in ORDER[1:-1] if in_lists else ORDER[:-1]:
        score = getattr(row, columns[thing])
        if score is not None and not score.reaches(LINES[thing]):
            return thing
    return None
