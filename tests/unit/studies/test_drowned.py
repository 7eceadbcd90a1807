"""Drowned labels on rows that were made up, and planned as they say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from study_rows import row
from unplateau.studies import STUDIES
from unplateau.studies.base import Row, Score
from unplateau.studies.drowned import CASES

STUDY = STUDIES["drowned"]


def rows(escape: Callable[[str], int | None], kept: float) -> list[Row]:
    return [
        row("shapes, gpt2", cell, seed, steps=600, escape=escape(cell), keep=Score(kept, 0.25))
        for cell in CASES
        for seed in range(3)
    ]


@pytest.mark.parametrize(
    ("kept", "helps", "held"), [(0.5, True, 5), (0.5, False, 3), (0.95, False, 5), (0.95, True, 3)]
)
def test_help_is_predicted_where_labels_are_drowned_and_nowhere_else(kept: float, helps: bool, held: int) -> None:
    table, _ = STUDY.judge(rows(lambda cell: 200 if helps and CASES[cell].helps else 500, kept))
    assert table.note.startswith(f"{held} of 5 predictions held.")
    assert [line[-1] for line in table.lines].count("REFUTED") == 5 - held
    assert table.lines[0][1:5] == ["three", f"{kept:.2f} (chance 0.25)", "500 (3/3)", ""]


def test_earlier_is_by_three_quarters_also_of_runs_that_never_escaped() -> None:
    for step, said in ((450, "held"), (460, "REFUTED")):
        table, _ = STUDY.judge(rows(lambda cell, step=step: step if cell == "three + keep" else None, 0.5))
        assert next(line for line in table.lines if line[1] == "three + keep")[-1] == said


def test_a_task_without_a_keep_score_predicts_nothing() -> None:
    table, _ = STUDY.judge([row("regression, gpt2", cell, 0, escape=100) for cell in ("three", "three + keep")])
    assert table.note.startswith("0 of 0")


def test_what_flat_runs_lack_is_named_by_their_scores() -> None:
    there = {"few_shot": Score(0.9, 0.2), "binding": Score(0.9, 0.2), "look": Score(0.9, 0.2)}
    made = [row("shapes, gpt2", "three", seed, keep=Score(0.25, 0.25), **there) for seed in range(3)]
    made += [row("shapes, gpt2", "keep alone", 0, keep=Score(1.0, 0.25), **{**there, "few_shot": Score(0.2, 0.2)})]
    made += [row("shapes, gpt2", "three + keep", 0, escape=300, keep=Score(1.0, 0.25), **there)]
    _, table = STUDY.judge(made)
    assert [line[1:] for line in table.lines] == [["three", "kept labels: 3 of 3"], ["keep alone", "items: 1 of 1"]]


def test_larger_labels_are_planned_where_labels_are_no_tokens() -> None:
    planned = STUDY.plan([100, 101])
    assert len({one.spec.digest() for one in planned}) == len(planned)
    gains = {one.cell: one.spec.model.label_gain for one in planned}  # type: ignore[attr-defined]
    assert gains == {cell: case.gain for cell, case in CASES.items()}
    assert not any("x 25" in one.cell for one in planned if one.setting.startswith("word-selection"))
    assert {one.cell for one in planned if one.setting.endswith("scaled")} == {"three", "three + keep"}
