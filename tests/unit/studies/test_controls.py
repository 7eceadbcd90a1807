"""Controls judged on rows that were made up, and planned as they say."""

from __future__ import annotations

from collections.abc import Sequence

from study_rows import row
from unplateau.studies import STUDIES
from unplateau.studies.controls import CASES

STUDY = STUDIES["controls"]


def verdicts(early: Sequence[str]) -> dict[str, str]:
    """Where these cells escape at 100, and all others never."""
    made = [
        row("shapes, scaled", name, seed, escape=100 if name in early else None) for name in CASES for seed in range(3)
    ]
    (table,) = STUDY.judge(made)
    return {line[1]: line[-1] for line in table.lines}


REAL = [name for name, case in CASES.items() if not case.of and name != "plain"]
BETTER = [name for name, case in CASES.items() if case.early]


def test_all_is_as_predicted_where_only_the_real_ones_work() -> None:
    found = verdicts([*REAL, *BETTER])
    assert {found[name] for name, case in CASES.items() if case.of} == {"held"}
    assert {found[name] for name in REAL} == {""}


def test_a_control_that_works_refutes_and_one_of_nothing_says_nothing() -> None:
    found = verdicts(["match", "match, control", "warm-up, shuffled"])
    assert found["match, control"] == "REFUTED"
    assert found["warm-up, shuffled"] == "nothing to control: warm-up is not early"
    assert verdicts(["three"])["three, frozen encoder"] == "REFUTED"


def test_a_control_of_what_was_not_run_says_nothing() -> None:
    made = [row("shapes, scaled", name, 0) for name in ("plain", "three, control")]
    (table,) = STUDY.judge(made)
    assert [line[-1] for line in table.lines if line[1] == "three, control"] == ["not known: three has not been run"]


def test_the_plan_has_each_cell_where_it_means_something() -> None:
    planned = STUDY.plan([100, 101])
    assert len({one.spec.digest() for one in planned}) == len(planned)
    cells = {
        setting: {one.cell for one in planned if one.setting == setting} for setting in {one.setting for one in planned}
    }
    assert cells["shapes, gpt2"] == set(CASES)
    assert cells["recall, scaled"] == {name for name in CASES if not name.startswith(("w", "context", "component"))}
    frozen = [one.spec.train.frozen for one in planned if one.cell == "three, frozen encoder"]
    assert set(frozen) == {("item_embedding",)}
    for one in planned[:40]:
        one.spec.check()
