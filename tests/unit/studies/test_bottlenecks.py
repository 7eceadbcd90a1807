"""Runs that lack one thing on purpose, and what their scores say."""

from __future__ import annotations

from dataclasses import replace

from study_rows import MET, rows
from unplateau.studies import STUDIES

STUDY = STUDIES["crossing"]


def test_a_bottleneck_that_was_made_is_looked_for_in_the_scores_of_its_runs() -> None:
    """All three are needed, so each cell of two lacks the third; here their scores say what they were asked for."""
    made = rows("a", lambda cell: len(cell) == 3)
    names = {"items": "few_shot", "labels": "binding", "queries": "look"}
    honest = [replace(row, **{names[thing]: MET for thing in row.cell.split("+") if thing in names}) for row in made]
    told = {line[0]: line[2] for line in STUDY.judge(honest)[2].lines}
    assert told == {"items": "3 of 3", "labels": "3 of 3", "queries": "3 of 3"}
    assert {line[2] for line in STUDY.judge(made)[2].lines} == {"3 of 3", "0 of 3"}  # all say items
    assert {line[2] for line in STUDY.judge(rows("a", lambda cell: "items" in cell))[2].lines} == {"3 of 3", "-"}
