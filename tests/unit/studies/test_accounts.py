"""Accounts judged on rows of worlds in which one of them is true."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from study_rows import rows
from unplateau.studies import STUDIES
from unplateau.studies.base import Table

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


def test_early_is_early_beside_plain_training_of_the_same_setting() -> None:
    late = rows("slow", lambda cell: len(cell) == 3, late=900)
    table = STUDY.judge([*late, *rows("never", lambda cell: False)])[0]
    marked = {
        line[0]: [name for name, cell in zip(table.columns, line, strict=True) if cell.endswith("*")]
        for line in table.lines
    }
    assert marked == {"never": [], "slow": ["items+labels+queries"]}
