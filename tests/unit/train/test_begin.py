"""A run that never began leaves nothing behind; one that did leaves all."""

from pathlib import Path

import pytest

from unplateau.store import SPEC
from unplateau.train.begin import left_as_found


class OddError(Exception):
    pass


def begin(path: Path, *files: str) -> None:
    with pytest.raises(OddError), left_as_found(path):  # noqa: PT012 (what is written before the error matters)
        path.mkdir(parents=True, exist_ok=True)
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
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").mkdir()
    (tmp_path / "runs" / "mine" / "notes.txt").write_text("x")
    begin(tmp_path / "runs" / "mine", ".lock")
    begin(tmp_path / "runs" / "plain" / "seed-0", ".lock")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "mine", "notes.txt", "runs"]


def test_without_an_error_nothing_goes(tmp_path: Path) -> None:
    with left_as_found(tmp_path / "runs"):
        (tmp_path / "runs").mkdir()
    assert (tmp_path / "runs").exists()
