"""What the executor refuses and how it names runs; real runs are in tests/runs."""

from pathlib import Path

import pytest

from unplateau.errors import SpecError
from unplateau.items.codes import RandomCodes
from unplateau.sweep.local import names, run_many
from unplateau.sweep.process import modules_of
from unplateau.tasks.factors import FactorTask
from unplateau.train.spec import RunSpec

PLAIN = RunSpec(task=FactorTask(source=RandomCodes(), n_pairs=4))


def test_names_are_short_where_they_can_be() -> None:
    assert names([PLAIN, PLAIN.with_strategy("mixed")]) == ["plain, seed 0", "mixed, seed 0"]


def test_names_tell_runs_apart() -> None:
    other = PLAIN.model_copy(update={"cut": "zero"})
    assert len(set(names([PLAIN, other]))) == 2
    assert PLAIN.digest() in names([PLAIN, other])[0]


@pytest.mark.parametrize("numbers", [{"workers": 0}, {"threads": 0}])
def test_no_workers_or_threads(tmp_path: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(SpecError, match="at least 1"):
        run_many([PLAIN], out=tmp_path, **numbers)


def test_the_same_run_twice(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="twice"):
        run_many([PLAIN, PLAIN], out=tmp_path)


def test_nothing_to_do(tmp_path: Path) -> None:
    assert run_many([], out=tmp_path) == []


def test_own_classes_are_imported_by_module(monkeypatch: pytest.MonkeyPatch) -> None:
    assert modules_of(PLAIN) == []
    monkeypatch.setattr(RandomCodes, "__module__", "a.module.of.mine")
    assert modules_of(PLAIN) == ["a.module.of.mine"]


def test_classes_of_a_script_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomCodes, "__module__", "__main__")
    with pytest.raises(SpecError, match="RandomCodes is defined in the script itself"):
        modules_of(PLAIN)
