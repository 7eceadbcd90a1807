"""The crossing is planned as its cells say, and its rows are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from study_rows import rows
from unplateau.errors import DataError, SpecError
from unplateau.strategies.prompt_losses import BindLoss, LookLoss, MatchLoss
from unplateau.studies import STUDIES
from unplateau.studies.base import read_study, write_study

STUDY = STUDIES["crossing"]


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
