"""Amplified factors grow by what was asked for, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unplateau.errors import SpecError
from unplateau.items.amplified import Amplified
from unplateau.items.codes import RandomCodes
from unplateau.items.words import Words
from unplateau.probe.few_shot import variance_share
from unplateau.tasks.factors import FactorTask
from unplateau.testing import check_task
from unplateau.train.spec import RunSpec

CODES = RandomCodes(sizes=(4, 3, 5), width=24)


def vectors(source: Amplified | RandomCodes) -> Tensor:
    return source.vectors(source.split("train")).double()


def share(source: Amplified | RandomCodes, factor: int) -> float:
    values = source.factors()[source.split("train"), factor]
    return float(variance_share(vectors(source)[None], values))


def test_a_gain_of_one_changes_nothing_and_more_makes_the_factor_stand_out() -> None:
    doses = [Amplified(source=CODES, factors_amplified=("b",), gain=gain) for gain in (1.0, 2.0, 4.0, 16.0)]
    assert torch.allclose(vectors(doses[0]), vectors(CODES), atol=1e-5)
    shares = [share(one, 1) for one in doses]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(share(CODES, 1), abs=1e-4)
    assert shares[-1] > 0.8
    assert share(doses[-1], 0) < share(CODES, 0)
    for one in doses:
        assert float(vectors(one).var()) == pytest.approx(float(vectors(CODES).var()), rel=0.02)


def test_what_is_added_by_another_items_values_makes_no_factor_stand_out() -> None:
    control = Amplified(source=CODES, factors_amplified=("b",), gain=16.0, control=True)
    assert share(control, 1) < share(CODES, 1) + 0.02


def test_it_is_a_source_like_the_one_that_it_is_made_of() -> None:
    source = Amplified(source=CODES, factors_amplified=("a", "b"), gain=3.0)
    check_task(FactorTask(source=source, n_pairs=6), n_prompts=256)
    assert torch.equal(source.split("test"), CODES.split("test"))
    assert source.images(torch.tensor([0])).shape == (1, 64, 64, 3)  # type: ignore[union-attr]


def test_what_cannot_be_amplified_is_refused() -> None:
    with pytest.raises(SpecError, match="unknown factor 'd'"):
        Amplified(source=CODES, factors_amplified=("d",))
    words = Amplified(source=Words(), factors_amplified=("topic",))
    with pytest.raises(SpecError, match="writes its items in tokens"):
        RunSpec(task=FactorTask(source=words)).check()
