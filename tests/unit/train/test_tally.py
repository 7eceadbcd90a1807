"""Sums of losses: exact, whole after a resume, and honest about the first that is no number."""

import json
import math
from collections.abc import Sequence

import pytest
import torch

from unplateau.train.step import Losses
from unplateau.train.tally import STEPS, TOTAL, Tally

CPU = torch.device("cpu")


def losses(prediction: float, **terms: float) -> Losses:
    values = {name: torch.tensor(value) for name, value in terms.items()}
    return Losses(torch.tensor(prediction) + sum(values.values()), torch.tensor(prediction), values)


def test_sums_are_those_of_python_and_survive_a_resume() -> None:
    steps = [losses(0.1 * number, match=0.3 / number) for number in range(1, 30)]
    whole, first = Tally(["match"], CPU, {}), Tally(["match"], CPU, {})
    for number, one in enumerate(steps, 1):
        whole.add(number, one)
    for number, one in enumerate(steps[:11], 1):
        first.add(number, one)
    rest = Tally(["match"], CPU, json.loads(json.dumps(first.read()[0])))
    for number, one in enumerate(steps[11:], 12):
        rest.add(number, one)
    wanted = {
        STEPS: 29,
        "train_loss": sum(one.prediction.item() for one in steps),
        "term/match": sum(one.terms["match"].item() for one in steps),
    }
    assert whole.read() == rest.read() == (wanted, None)


def test_a_term_that_there_was_not_has_no_sum() -> None:
    tally = Tally(["match", "bind"], CPU, {})
    assert tally.read() == ({}, None)
    tally.add(1, losses(1.0, bind=2.0))
    tally.add(2, losses(3.0))
    assert tally.read()[0] == {STEPS: 2, "train_loss": 4.0, "term/bind": 2.0}


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("at", "name"), [([2], "train_loss"), ([5], "term/match"), ([5, 2], "train_loss"), ([7], TOTAL)]
)
def test_the_first_that_is_no_number_is_named(wrong: float, at: Sequence[int], name: str) -> None:
    tally = Tally(["match"], CPU, {})
    for step in range(1, 10):
        found = losses(wrong if 2 in at and step >= 2 else 1.0, match=wrong if 5 in at and step >= 5 else 1.0)
        if step in at and 7 in at:
            found = Losses(torch.tensor(wrong), found.prediction, found.terms)
        tally.add(step, found)
    assert tally.read()[1] == (name, min(at))
