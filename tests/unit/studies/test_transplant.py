"""Transplants are planned so that donors come first, and every module that is named is there."""

from __future__ import annotations

import pytest
import torch

from study_rows import row, rows
from unplateau.studies import STUDIES
from unplateau.studies.accounts import CELLS, cell_name
from unplateau.studies.transplant import MODULES
from unplateau.train.step import build_model

STUDY = STUDIES["transplant"]


def test_donors_are_planned_before_the_runs_that_take_their_weights() -> None:
    planned = STUDY.plan([100, 101], only=["recall", "shapes"])
    place = {one.spec.digest(): number for number, one in enumerate(planned)}
    assert len(place) == len(planned) == 2 * 2 * (3 + 8 + 3 + 8)
    for number, one in enumerate(planned):
        assert all(place[graft.donor.digest()] < number for graft in one.spec.grafts)
        assert (one.setting == "donors") is not one.spec.grafts


@pytest.mark.parametrize("task", STUDY.parts)
def test_each_module_is_there_and_no_weight_is_taken_twice(task: str) -> None:
    spec = STUDY.plan([100], only=[task])[0].spec
    names = [name for name, _ in build_model(spec, torch.device("cpu")).named_parameters()]
    taken = [
        name for modules in MODULES.values() for module in modules for name in names if name.startswith(f"{module}.")
    ]
    assert len(taken) == len(set(taken))
    for modules in MODULES.values():
        assert all(any(name.startswith(f"{module}.") for name in names) for module in modules)


def test_ways_into_a_plateau_are_judged_and_the_way_back_is_told() -> None:
    into = rows("recall, into a plateau", lambda cell: "labels" in cell, has=("items", "queries"))
    back = rows("recall, back", lambda cell: True)
    tables = STUDY.judge([*into, *back])
    assert [line[0] for line in tables[0].lines] == ["recall, into a plateau"]
    assert {line[0]: line[2] for line in tables[1].lines}["all three together"] == "7 of 7"
    assert [line[0] for line in tables[3].lines] == ["recall, back"]


@pytest.mark.parametrize(
    ("needed", "right"),
    [
        (("items",), {"representation first": 7, "attention pattern first": 3}),
        (("queries",), {"representation first": 3, "attention pattern first": 7}),
        (("labels", "queries"), {"induction circuit first": 7, "all three together": 7}),
    ],
)
def test_an_account_is_right_where_what_it_calls_needed_costs_steps_and_nothing_else(
    needed: tuple[str, ...], right: dict[str, int]
) -> None:
    into = rows("recall, into a plateau", lambda cell: len(cell) == 3, has=("items",))
    back = [row("recall, back", cell_name(cell), 0, escape=200 if {*cell} & {*needed} else 20) for cell in CELLS]
    found = {line[0]: line[1] for line in STUDY.judge([*into, *back])[4].lines}
    assert {account: found[account] for account in right} == {name: f"{n} of 7" for name, n in right.items()}
    assert found["the commoner answer"] == ("4 of 7" if len(needed) == 1 else "6 of 7")


def test_modules_of_another_run_on_its_plateau_should_change_nothing() -> None:
    into = rows("recall, into a plateau", lambda cell: False)
    controls = {"items, control": None, "labels, control": 100}
    into += [row("recall, into a plateau", cell, 0, escape=escape) for cell, escape in controls.items()]
    assert [line[-1] for line in STUDY.judge(into)[2].lines] == ["held", "REFUTED"]
