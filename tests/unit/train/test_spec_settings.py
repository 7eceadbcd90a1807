"""Settings written as text: what they reach, and how they fail."""

import pytest

from unplateau.errors import SpecError
from unplateau.items.codes import RandomCodes
from unplateau.strategies.curricula import Mixed
from unplateau.strategies.losses import ComponentLoss
from unplateau.strategies.strategy import Strategy
from unplateau.tasks.factors import FactorTask
from unplateau.train.spec import RunSpec, read_value, split_setting, with_settings

PLAIN = RunSpec(task=FactorTask(source=RandomCodes(), n_pairs=4))


def applied(*settings: str) -> RunSpec:
    pairs = [split_setting(text) for text in settings]
    return with_settings(PLAIN, [(key, read_value(value, where=key)) for key, value in pairs])


def test_no_setting_changes_nothing() -> None:
    assert applied() == PLAIN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("300", 300),
        ("null", None),
        ("true", True),
        ("mixed+component-loss", "mixed+component-loss"),
        ("[1, 2]", [1, 2]),
    ],
)
def test_values_are_yaml(text: str, expected: object) -> None:
    assert read_value(text, where="here") == expected


def test_settings_reach_every_depth() -> None:
    spec = applied("train.steps=30", "task.n_mappings=7", "task.source.sizes=[3, 3]", "seed=4")
    assert (spec.train.steps, spec.task.n_mappings, spec.task.source.sizes, spec.seed) == (30, 7, (3, 3), 4)
    assert applied("task.n_mappings=7", "task.n_mappings=null") == PLAIN


def test_exponents_without_a_point_are_numbers() -> None:
    assert applied("train.lr=1e-4").train.lr == 1e-4


def test_a_strategy_by_name_can_be_refined() -> None:
    spec = applied("strategy=mixed+component-loss", "strategy.parts.0.fraction=0.25")
    assert spec.strategy == Strategy(Mixed(fraction=0.25), ComponentLoss())


def test_settings_that_are_valid_only_together() -> None:
    assert applied("train.eval_every=30", "train.probe_every=90").train.probe_every == 90


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("train.stepz=3", ("train.stepz", "did you mean 'steps'")),
        ("trian.steps=3", ("did you mean 'train'",)),
        ("train.steps=0", ("train.steps", "greater than or equal to 1", "got 0")),
        ("train.steps=many", ("train.steps", "'many'")),
        ("train.steps.x=3", ("train.steps is 2000", "'x'")),
        ("strategy=mixt", ("strategy", "did you mean 'Mixed'")),
        ("strategy.parts.0.fraction=0.3", ("no element '0'", "strategy.parts", "empty")),
        ("model.width=63", ("width 63", "n_heads 2")),
        ("train.steps", ("KEY=VALUE",)),
        ("=3", ("KEY=VALUE",)),
        ("task.hidden=[a, colour]", ("unknown factor 'colour'",)),
        ("train.lr=[", ("train.lr", "YAML")),
    ],
)
def test_wrong_settings_are_one_line_that_names_the_key(setting: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as caught:
        applied(setting)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


def test_a_setting_that_is_left_out_where_it_is_the_default_can_be_changed() -> None:
    assert applied("train.schedule=cosine").train.schedule == "cosine"
    assert applied("train.schedule=cosine", "train.schedule=constant") == PLAIN


def test_in_python_as_with_set() -> None:
    spec = PLAIN.with_settings({"train.steps": 30, "strategy": "mixed", "strategy.parts.0.fraction": 0.25})
    assert spec == applied("train.steps=30", "strategy=mixed", "strategy.parts.0.fraction=0.25")
    assert PLAIN.with_settings({}) == PLAIN
    assert PLAIN.with_settings({"strategy": Strategy(Mixed())}) == PLAIN.with_settings({"strategy": "mixed"})
    with pytest.raises(SpecError, match="did you mean 'steps'"):
        PLAIN.with_settings({"train.stpes": 30})


def test_values_reach_into_other_values() -> None:
    other = FactorTask(source=RandomCodes(sizes=(3, 3)), n_pairs=3)
    spec = PLAIN.with_settings({"task": other, "task.source.width": 12})
    assert spec.task == FactorTask(source=RandomCodes(sizes=(3, 3), width=12), n_pairs=3)


def test_what_is_not_written_where_it_is_the_default_can_be_set() -> None:
    spec = PLAIN.with_settings({"strategy": "match-loss"})
    changed = spec.with_settings({"strategy.parts.0.control": True, "train.schedule": "cosine", "grafts": []})
    assert changed.strategy.loss_terms[0].control  # type: ignore[attr-defined]
    assert changed.with_settings({"strategy.parts.0.control": False, "train.schedule": "constant"}) == spec
    assert changed.digest() != spec.digest()
