"""The crossing judged on rows whose bottleneck was made on purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from study_rows import MET, rows
from unplateau.errors import DataError, SpecError
from unplateau.strategies.prompt_losses import BindLoss, LookLoss, MatchLoss
from unplateau.studies import STUDIES
from unplateau.studies.base import Table, read_study, write_study

STUDY = STUDIES["crossing"]


def right(tables: Sequence[Table]) -> dict[str, str]:
    """Of each account, how many cells it got right."""
    return {line[0]: line[2].split(" (")[0] for line in tables[1].lines}


def test_each_account_is_borne_out_where_the_world_is_as_it_says() -> None:
    worlds: dict[str, Callable[[Sequence[str]], bool]] = {
        "representation first": lambda cell: "items" in cell,
        "attention pattern first": lambda cell: "queries" in cell,
        "induction circuit first": lambda cell: {"labels", "queries"} <= set(cell),
        "all three together": lambda cell: len(cell) == 3,
    }
    for account, early in worlds.items():
        found = right(STUDY.judge(rows("a", early)))
        assert found[account] == "7 of 7"
        assert sum(one == "7 of 7" for one in found.values()) == 1


def test_what_plain_training_has_need_not_be_asked_for() -> None:
    found = right(STUDY.judge(rows("a", lambda cell: "labels" in cell, has=("items", "queries"))))
    assert found["all three together"] == "7 of 7"
    assert found["representation first"] == "3 of 7"


def test_where_a_score_is_not_known_the_account_says_nothing_of_cells_that_need_it() -> None:
    unknown = [replace(row, look=None) for row in rows("a", lambda cell: len(cell) == 3)]
    assert right(STUDY.judge(unknown))["all three together"] == "6 of 6"  # not of items+labels


def test_a_bottleneck_that_was_made_is_looked_for_in_the_scores_of_its_runs() -> None:
    """All three are needed, so each cell of two lacks the third; here their scores say what they were asked for."""
    made = rows("a", lambda cell: len(cell) == 3)
    names = {"items": "few_shot", "labels": "binding", "queries": "look"}
    honest = [replace(row, **{names[thing]: MET for thing in row.cell.split("+") if thing in names}) for row in made]
    told = {line[0]: line[2] for line in STUDY.judge(honest)[2].lines}
    assert told == {"items": "3 of 3", "labels": "3 of 3", "queries": "3 of 3"}
    assert {line[2] for line in STUDY.judge(made)[2].lines} == {"3 of 3", "0 of 3"}  # all say items
    assert {line[2] for line in STUDY.judge(rows("a", lambda cell: "items" in cell))[2].lines} == {"3 of 3", "-"}


def test_early_is_early_beside_plain_training_of_the_same_setting() -> None:
    late = rows("slow", lambda cell: len(cell) == 3, late=900)
    table = STUDY.judge([*late, *rows("never", lambda cell: False)])[0]
    marked = {
        line[0]: [name for name, cell in zip(table.columns, line, strict=True) if cell.endswith("*")]
        for line in table.lines
    }
    assert marked == {"never": [], "slow": ["items+labels+queries"]}


def test_the_plan_has_all_cells_of_each_setting_once_and_asks_for_what_they_say() -> None:
    planned = STUDY.plan([100, 101], only=["recall", "parity"])
    assert len({one.spec.digest() for one in planned}) == len(planned) == 2 * 4 * 8 * 2
    terms = {"items": MatchLoss, "labels": BindLoss, "queries": LookLoss}
    for one in planned:
        asked = [] if one.cell == "plain" else one.cell.split("+")
        assert [type(part) for part in one.spec.strategy.parts] == [terms[thing] for thing in asked]
    deep = {one.setting: (one.spec.model.n_layers, one.spec.model.init) for one in planned}  # type: ignore[attr-defined]
    assert deep["recall, deep, gpt2"] == (6, "gpt2")
    assert deep["recall, shallow, scaled"] == (2, "scaled")
    longer = STUDY.plan([100], scale="paper", only=["recall"])
    assert {one.spec.train.steps for one in longer if one.cell == "plain"} == {4000}
    assert {one.spec.train.steps for one in longer if one.cell != "plain"} == {2000}  # half: early or not is known
    with pytest.raises(SpecError, match="no part 'recal'; did you mean 'recall'"):
        STUDY.plan([1], only=["recal"])


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    made = rows("a, b", lambda cell: "items" in cell)
    path = tmp_path / "crossing.jsonl"
    write_study(path, reversed(made))
    assert sorted(read_study(path), key=lambda row: row.spec) == sorted(made, key=lambda row: row.spec)
    path.write_text('{"setting": 1}\n')
    with pytest.raises(DataError, match="not the rows of a study"):
        read_study(path)
