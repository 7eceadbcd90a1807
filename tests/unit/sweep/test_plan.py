"""What a sweep says before it begins: names, and what is there."""

import shutil
from pathlib import Path

import pytest

from small_runs import SPEC, copied, trained
from unplateau import store
from unplateau.errors import SpecError
from unplateau.store import load_run
from unplateau.sweep.plan import names, plan, waves


def test_names_are_short_where_they_can_be() -> None:
    plain = SPEC.with_strategy("plain")
    assert names([plain, plain.with_strategy("mixed")]) == ["plain, seed 0", "mixed, seed 0"]


def test_names_tell_runs_apart() -> None:
    plain = SPEC.with_strategy("plain")
    other = plain.model_copy(update={"cut": "zero"})
    assert len(set(names([plain, other]))) == 2
    assert plain.digest() in names([plain, other])[0]


def test_what_is_there_of_each_run(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole").path
    copied(whole, tmp_path, unfinished=True)
    found = plan([SPEC, SPEC.with_seed(1)], tmp_path)
    assert [(one.found, one.step) for one in found] == [("begun", 7), ("to do", 0)]
    with store.locked(found[0].path):
        assert plan([SPEC], tmp_path)[0].found == "running"
    shutil.copy(whole / store.DONE, found[0].path)
    assert plan([SPEC], tmp_path)[0].found == "done"
    assert load_run(found[0].path).done


def test_whose_weights_are_taken_is_in_an_earlier_wave() -> None:
    donor = SPEC.with_seed(9)
    child = SPEC.with_seed(1).init_from(donor)
    grandchild = SPEC.with_seed(2).init_from(child)
    specs = [grandchild, SPEC, child, donor]
    assert waves(specs, range(4)) == [[1, 3], [2], [0]]
    assert waves(specs, [0, 1]) == [[1], [0]]
    assert waves(specs, []) == []


def test_a_run_that_is_asked_for_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="twice"):
        plan([SPEC, SPEC], tmp_path)
