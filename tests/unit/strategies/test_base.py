"""Strategies as values: names, combination, bad input."""

import pytest

from unplateau.config import parse
from unplateau.errors import SpecError
from unplateau.history import History
from unplateau.items.codes import RandomCodes
from unplateau.strategies.curricula import Mixed, WarmUp
from unplateau.strategies.losses import ComponentLoss, WeightsLoss
from unplateau.strategies.prompt_losses import BindLoss, LookLoss, MatchLoss
from unplateau.strategies.strategy import Strategy
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.mixture import Mixture

TASK = FactorTask(source=RandomCodes(), n_pairs=4)


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        (Strategy(), "plain"),
        (Strategy(WarmUp()), "warm-up"),
        (Strategy(Mixed(fraction=0.25)), "mixed[fraction=0.25]"),
        (Strategy(Mixed(), WeightsLoss()), "mixed+weights-loss"),
        (Strategy(ComponentLoss(items=64)), "component-loss[items=64]"),
    ],
)
def test_names_say_what_is_not_the_default(strategy: Strategy, name: str) -> None:
    assert strategy.name == name


@pytest.mark.parametrize("name", ["plain", "mixed", "warm-up+component-loss", "WeightsLoss", "context_loss"])
def test_a_strategy_can_be_given_by_name_and_read_back(name: str) -> None:
    strategy = parse(Strategy, name)
    assert parse(Strategy, strategy.model_dump(mode="json")) == strategy
    assert parse(Strategy, strategy.name) == strategy


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("mixd", "did you mean 'Mixed'?"),
        ("mixed+mixed", "same part twice"),
        ({"parts": [{"kind": "Mixed", "fraction": 1.5}]}, "less than 1 (got 1.5)"),
        ({"parts": [{"kind": "ComponentLoss", "rows": 2, "items": 2}]}, "not both"),
        ({"part": []}, "did you mean 'parts'?"),
    ],
)
def test_bad_input_is_one_clear_line(data: object, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(Strategy, data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weight_zero_is_absent() -> None:
    assert Strategy(WeightsLoss(weight=0)).loss_terms == ()


@pytest.mark.parametrize(
    ("strategy", "asked_for"),
    [
        (Strategy("plain"), set()),
        (Strategy("mixed+weights-loss"), {"items"}),
        (Strategy("unplateau"), {"items", "labels", "queries", "kept labels"}),
        (Strategy(MatchLoss(weight=0), BindLoss(control=True), LookLoss()), {"queries"}),
    ],
)
def test_what_is_asked_for_leaves_out_controls_and_what_is_absent(strategy: Strategy, asked_for: set[str]) -> None:
    assert strategy.asked_for == asked_for


def test_curricula_compose_in_order() -> None:
    strategy = Strategy(WarmUp(steps=10), Mixed())
    first, later = (strategy.choose(step, TASK, History(), Mixture.of) for step in (0, 10))
    assert first == Mixture(tasks=(TASK.fixed(), TASK.fixed()), shares=(0.5, 0.5))
    assert later == Mixture(tasks=(TASK.fixed(), TASK), shares=(0.5, 0.5))
