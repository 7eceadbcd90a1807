"""Controls judged on rows that were made up, and planned as they say."""

from __future__ import annotations

from collections.abc import Sequence

from unplateau.studies import STUDIES
from unplateau.studies.base import Row
from unplateau.studies.controls import CASES

STUDY = STUDIES["controls"]


def rows(early: Sequence[str]) -> list[Row]:
    """These cells escape at 100, all others never."""
    return [
        Row(
            setting="shapes, scaled",
            cell=name,
            seed=seed,
            steps=1000,
            escape=100 if name in early else None,
            completion=None,
            progress=0.5,
            flops=1e12,
            weights=None,
            few_shot=None,
            binding=None,
            look=None,
            spec=f"{name}{seed}",
            commit=None,
            machine="x",
        )
        for name in CASES
        for seed in range(3)
    ]


def verdicts(early: Sequence[str]) -> dict[str, str]:
    (table,) = STUDY.judge(rows(early))
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
    assert verdicts(["unplateau"])["unplateau, frozen encoder"] == "REFUTED"


def test_the_plan_has_each_cell_where_it_means_something() -> None:
    planned = STUDY.plan([100, 101])
    assert len({one.spec.digest() for one in planned}) == len(planned)
    cells = {
        setting: {one.cell for one in planned if one.setting == setting} for setting in {one.setting for one in planned}
    }
    assert cells["shapes, gpt2"] == set(CASES)
    assert cells["recall, scaled"] == {name for name in CASES if not name.startswith(("w", "context", "component"))}
    frozen = [one.spec.train.frozen for one in planned if one.cell == "unplateau, frozen encoder"]
    assert set(frozen) == {("item_embedding",)}
    for one in planned[:40]:
        one.spec.check()
