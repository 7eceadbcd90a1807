"""A run that never began leaves nothing behind; one that did leaves all."""

from pathlib import Path

import pytest

from unplateau.errors import RunLockedError, StorageError
from unplateau.store import SPEC
from unplateau.train.begin import begun


class OddError(Exception):
    pass


def begin(path: Path, *files: str) -> None:
    with pytest.raises(OddError), begun(path):  # noqa: PT012 (what is written before the error matters)
        for name in files:
            (path / name).write_text("x")
        raise OddError


@pytest.mark.parametrize("files", [(), (".lock",), (".lock", "task.json", "prompts.npz")])
def test_what_has_no_spec_goes_with_the_folders_made_for_it(tmp_path: Path, files: tuple[str, ...]) -> None:
    begin(tmp_path / "runs" / "a" / "plain" / "seed-0", *files)
    assert list(tmp_path.iterdir()) == []


def test_what_has_begun_stays(tmp_path: Path) -> None:
    begin(tmp_path / "runs" / "seed-0", ".lock", SPEC)
    assert (tmp_path / "runs" / "seed-0" / SPEC).exists()


def test_folders_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "notes.txt").write_text("x")
    begin(tmp_path / "runs" / "mine")
    begin(tmp_path / "runs" / "plain" / "seed-0")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "mine", "notes.txt", "runs"]


def test_a_run_of_another_process_stays(tmp_path: Path) -> None:
    """Also one that has not written its spec yet."""
    path = tmp_path / "runs" / "seed-0"
    with begun(path):
        (path / "task.json").write_text("x")
        with pytest.raises(RunLockedError), begun(path):
            pass
        assert (path / "task.json").exists()


def test_a_directory_that_cannot_be_made_leaves_none_above_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError), begun(tmp_path / "runs" / ("x" * 300) / "seed-0"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_an_error_nothing_goes(tmp_path: Path) -> None:
    with begun(tmp_path / "runs"):
        pass
    assert (tmp_path / "runs").exists()
