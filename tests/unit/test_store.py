"""Run directories: rows that survive a crash, locks, refusals in words."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unplateau.errors import RunDirectoryError, RunLockedError, StorageError
from unplateau.store import RowFile, find_runs, load_run, locked, read_json, read_rows, write_atomically, write_json


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.floats(allow_nan=False, allow_infinity=False)), max_size=5))
def test_rows_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, float]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    file = RowFile(path, keep_bytes=0)
    numbered = [{"step": number, **row} for number, row in enumerate(rows)]
    for row in numbered:
        file.append(row)
    assert read_rows(path) == numbered


def test_a_row_that_was_cut_off_is_left_out_and_cut_away(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    file = RowFile(path, keep_bytes=0)
    file.append({"step": 0})
    size = file.size()
    file.append({"step": 1})
    with path.open("ab") as stream:
        stream.write(b'{"step": 2, "lo')
    assert [row["step"] for row in read_rows(path)] == [0, 1]
    assert [row["step"] for row in read_rows(RowFile(path, keep_bytes=size).path)] == [0]


def test_missing_rows_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="rows are missing"):
        RowFile(tmp_path / "rows.jsonl", keep_bytes=10)


def test_damaged_row_is_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"step": 0}\n{"stp": 1}\n')
    with pytest.raises(RunDirectoryError, match="line 2"):
        read_rows(tmp_path / "rows.jsonl")


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        RowFile(tmp_path / "rows.jsonl", keep_bytes=0).append({"step": 0, "loss": float("nan")})
    assert read_rows(tmp_path / "rows.jsonl") == []


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("inf")})
    assert read_json(path) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]


def test_refusal_of_the_system_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        write_atomically(tmp_path / "file" / "inside", b"x")
    assert "\n" not in str(caught.value)


def test_lock_is_exclusive_and_released(tmp_path: Path) -> None:
    with locked(tmp_path / "run"), pytest.raises(RunLockedError), locked(tmp_path / "run"):
        pass
    with locked(tmp_path / "run"):
        pass


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_json_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "env.json").write_text(text, encoding="latin-1")
    with pytest.raises(RunDirectoryError, match=r"env\.json"):
        read_json(tmp_path / "env.json")


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no such directory"):
        find_runs(tmp_path / "none")
    with pytest.raises(RunDirectoryError, match="no run below it"):
        find_runs(tmp_path)
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        load_run(tmp_path)
    (tmp_path / "spec.json").write_text("{}")
    (tmp_path / "env.json").write_text(json.dumps({"run": {}}))
    with pytest.raises(RunDirectoryError, match="must name recipe"):
        load_run(tmp_path)
