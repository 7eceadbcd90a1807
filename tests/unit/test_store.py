"""Run directories: found, held by one process, read while they grow."""

import json
import multiprocessing
import time
from pathlib import Path

import pytest

from unplateau.errors import RunDirectoryError, RunLockedError
from unplateau.files import is_held
from unplateau.store import LOCK, METRICS, TAIL, find_runs, load_run, locked, newest_row


def test_lock_is_exclusive_and_released(tmp_path: Path) -> None:
    with locked(tmp_path / "run"), pytest.raises(RunLockedError), locked(tmp_path / "run"):
        pass
    with locked(tmp_path / "run"):
        pass


def test_a_run_is_seen_to_run_while_another_process_holds_it(tmp_path: Path) -> None:
    def hold() -> None:
        with locked(tmp_path):
            time.sleep(60)

    assert not is_held(tmp_path / LOCK)
    holder = multiprocessing.get_context("fork").Process(target=hold)
    holder.start()
    while not is_held(tmp_path / LOCK) and holder.is_alive():
        pass
    with pytest.raises(RunLockedError, match=rf"{tmp_path}: another process is training in this run directory"):
        locked(tmp_path).__enter__()
    holder.kill()
    holder.join()
    assert not is_held(tmp_path / LOCK)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", {}),
        (b'{"step": 0', {}),
        (b'{"step": 0}\n', {"step": 0}),
        (b'{"step": 0}\n{"step": 1', {"step": 0}),
        (b'{"step": 0}\n' + b"x" * TAIL + b'\n{"step": 7}\n', {"step": 7}),
        (b'{"step": 0}\nnonsense\n', {}),
        (b"3\n", {}),
    ],
)
def test_the_last_complete_row(tmp_path: Path, content: bytes, expected: dict[str, int]) -> None:
    (tmp_path / METRICS).write_bytes(content)
    assert newest_row(tmp_path) == expected


def test_no_file_is_no_row(tmp_path: Path) -> None:
    assert newest_row(tmp_path / "nowhere") == {}


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
