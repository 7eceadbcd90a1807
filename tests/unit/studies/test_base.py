"""What all studies share: which look a row is of, and whose rows are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from small_runs import SPEC, trained
from study_rows import row, rows
from unplateau.analysis.runs import summarise_run
from unplateau.errors import DataError
from unplateau.store import load_run
from unplateau.studies import STUDIES
from unplateau.studies.base import Planned, Row, write_study


def test_rows_of_another_study_are_refused(tmp_path: Path) -> None:
    path, crossing = tmp_path / "rows.jsonl", STUDIES["crossing"]
    made = [*rows("recall, deep, gpt2", lambda _: True), *rows("shapes, deep, gpt2", lambda _: True)]
    write_study(path, made)
    assert len(crossing.read(path)) == len(made)
    assert {one.setting for one in crossing.read(path, ["recall"])} == {"recall, deep, gpt2"}
    with pytest.raises(DataError, match=r"rows.jsonl: not rows of figure-3, which has no '.*' of 'recall, deep, gpt2'"):
        STUDIES["figure-3"].read(path)


def test_a_file_that_an_editor_has_touched_is_read_and_an_empty_one_is_not(tmp_path: Path) -> None:
    path, crossing = tmp_path / "rows.jsonl", STUDIES["crossing"]
    write_study(path, [row("recall, deep, gpt2", "plain", 100)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n\n")
    assert [one.seed for one in crossing.read(path)] == [100]
    path.write_text("")
    with pytest.raises(DataError, match="holds no rows"):
        crossing.read(path)


def test_a_row_is_of_the_look_in_the_middle_of_the_plateau(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run that had escaped before its first step that is the first look; without looks before it there is one."""
    planned, record = Planned("small", "plain", SPEC), load_run(trained(tmp_path).path)
    assert Row.of(planned, record).at == 4
    assert [one.at for one in Row.of_looks(planned, record)] == [4]
    escaped = replace(summarise_run(record), escape_step=0)
    monkeypatch.setattr("unplateau.studies.base.summarise_run", lambda _: escaped)
    assert Row.of(planned, record).at == 0
    (only,) = Row.of_looks(planned, record)
    assert (only.at, only.escape, only.few_shot) == (None, 0, None)
