"""Files: whole or not there, though a process is killed, the disk is full, or the cache is damaged."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.full_disk import CHILDREN, names, with_files_of_at_most

from unplateau.errors import RunDirectoryError, StorageError
from unplateau.files import (
    RowFile,
    held,
    is_held,
    read_json,
    read_rows,
    scratch,
    staged,
    write_json,
    write_whole,
)

SIZE = 300_000


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def killed_at_random(work: Callable[[], None], there: Path, check: Callable[[], None]) -> None:
    """``check`` holds from when ``there`` exists, while children ``work`` and after they were killed at any moment."""
    moments = random.Random(0)
    for _ in range(8):
        child = CHILDREN.Process(target=work)
        child.start()
        try:
            wait_until(there.exists)
            end = time.monotonic() + moments.uniform(0, 0.03)
            while time.monotonic() < end:
                check()
            assert child.exitcode is None, "it worked until it was killed"
        finally:
            child.kill()
            child.join()
        check()


# Whole writes.


def test_a_reader_sees_the_old_file_or_the_new_one_though_writers_are_killed(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def work() -> None:
        for number in count():
            write_whole(path, bytes([number % 256]) * SIZE)

    def check() -> None:
        content = path.read_bytes()
        assert len(content) == SIZE
        assert len(set(content)) == 1

    killed_at_random(work, path, check)
    assert all(name == "file" or (name.startswith(".file.") and name.endswith(".part")) for name in names(tmp_path))


def test_a_staged_folder_is_whole_or_not_there_though_its_makers_are_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"

    def work() -> None:
        for number in count(len(list(home.glob("folder-*"))) if home.exists() else 0):
            with staged(home / f"folder-{number}") as folder:
                (folder / "deep").mkdir()
                for name in ("a", "deep/b"):
                    (folder / name).write_bytes(bytes(SIZE))

    def check() -> None:
        for folder in home.glob("folder-*"):
            assert (folder / "a").stat().st_size == (folder / "deep" / "b").stat().st_size == SIZE

    killed_at_random(work, home, check)


def test_what_a_killed_maker_has_left_and_what_has_the_name_are_replaced(tmp_path: Path) -> None:
    for left in (".folder.part", "folder"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "old").write_bytes(b"half")
    with staged(tmp_path / "folder") as folder:
        (folder / "new").write_bytes(b"whole")
    assert names(tmp_path) == {"folder"}
    assert names(tmp_path / "folder") == {"new"}


def test_a_folder_whose_making_fails_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "folder") as folder:
        (folder / "new").write_bytes(bytes(1 // 0))
    assert not names(tmp_path)


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    assert with_files_of_at_most(1000, lambda: write_whole(path, bytes(SIZE))) == 0
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {"file"}


def test_a_full_disk_leaves_nothing_of_a_folder(tmp_path: Path) -> None:
    def work() -> None:
        with staged(tmp_path / "folder") as folder:
            (folder / "short").write_bytes(b"x")
            (folder / "long").write_bytes(bytes(SIZE))

    assert with_files_of_at_most(1000, work) == 0
    assert not names(tmp_path)


def test_refusal_of_the_system_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for refused in (lambda path: write_whole(path, b"x"), lambda path: staged(path).__enter__(), RowFile):
        with pytest.raises(StorageError, match="cannot be written") as caught:
            refused(tmp_path / "file" / "inside")
        assert "\n" not in str(caught.value)


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("inf")})
    assert read_json(path) == {"a": 1}
    assert names(tmp_path) == {"value.json"}


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_json_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "env.json").write_text(text, encoding="latin-1")
    with pytest.raises(RunDirectoryError, match=r"env\.json"):
        read_json(tmp_path / "env.json")


def test_scratch_folders_of_processes_that_are_gone_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in (f"unplateau-{2**22 + 1}-abc", f"unplateau-{os.getppid()}-abc", "unplateau-mine", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    with scratch() as folder:
        (folder / "file").touch()
        assert names(tmp_path) == {f"unplateau-{os.getppid()}-abc", "unplateau-mine", "other", folder.name}
    assert not folder.exists()


def test_temporary_files_of_processes_that_are_gone_go(tmp_path: Path) -> None:
    kept = {f".file.{os.getppid()}.part", ".file.x.part", ".other.4194305.part", "file.4194305.part"}
    for name in (*kept, f".file.{2**22 + 1}.part", f".file.{os.getpid()}.part"):
        (tmp_path / name).write_text("half")
    write_whole(tmp_path / "file", b"whole")
    assert names(tmp_path) == {*kept, "file"}


# Rows.


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
    RowFile(path).append({"step": 2})
    assert [row["step"] for row in read_rows(path)] == [0, 1, 2]
    assert [row["step"] for row in read_rows(RowFile(path, keep_bytes=size).path)] == [0]


def test_rows_survive_writers_that_are_killed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"

    def work() -> None:
        file = RowFile(path)
        for step in count(len(read_rows(path))):
            file.append({"step": step, "text": "x" * (step % 3000)})

    def check() -> None:
        rows = read_rows(path)
        assert [row["step"] for row in rows] == list(range(len(rows)))

    killed_at_random(work, path, check)


def test_a_full_disk_keeps_the_rows_before(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl", keep_bytes=0)
    file.append({"step": 0})
    assert with_files_of_at_most(1000, lambda: file.append({"step": 1, "text": "x" * SIZE})) == 0
    assert file.path.read_bytes() == b'{"step":0}\n'


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


# Locks.


def test_a_lock_is_exclusive_and_released(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / ".lock"
    with held(lock) as first, held(lock, wait=False) as second:
        assert (first, second) == (True, False)
        assert is_held(lock), "who did not get it has not released it"
    with held(lock, wait=False) as third:
        assert third
    assert not is_held(lock)


def test_a_lock_of_another_process_is_seen_waited_for_and_ends_with_the_process(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    assert not is_held(lock)

    def hold() -> None:
        with held(lock):
            time.sleep(60)

    child = CHILDREN.Process(target=hold)
    child.start()
    wait_until(lambda: is_held(lock))
    with held(lock, wait=False) as mine:
        assert not mine
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    with held(lock) as mine:
        assert mine
    child.join()
    assert not is_held(lock)


def test_looking_at_a_lock_keeps_nobody_from_it(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    lock.touch()
    assert not is_held(lock)
    with held(lock, wait=False) as mine:
        assert mine
    assert not is_held(tmp_path / "nowhere" / ".lock")


def test_a_lock_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file: cannot be written"), held(tmp_path / "file" / ".lock"):
        pass
