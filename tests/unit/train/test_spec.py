"""Runs as values."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unplateau.config import parse
from unplateau.errors import DataError, SpecError
from unplateau.items.codes import RandomCodes
from unplateau.recipes import RECIPES, experiments, recipe
from unplateau.strategies.losses import ComponentLoss
from unplateau.strategies.strategy import Strategy
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.mixture import Mixture
from unplateau.train.spec import RunSpec


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_reads_back_from_json(name: str) -> None:
    try:
        plain = recipe(name)
    except DataError as error:  # a recipe on data that is not shipped, where nobody has fetched it
        pytest.skip(str(error))
    for strategy in experiments("demo")[0].strategies:
        spec = plain.with_strategy(strategy)
        assert parse(RunSpec, spec.model_dump(mode="json")) == spec
        assert spec.directory("out").parts[:3] == ("out", name, strategy.name)


@settings(max_examples=20, derandomize=True, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_digest_tells_specs_apart(one: int, other: int) -> None:
    spec = recipe("demo")
    assert (spec.with_seed(one).digest() == spec.with_seed(other).digest()) == (one == other)


def test_unknown_recipe_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SpecError, match="did you mean 'demo'"):
        recipe("demoo")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"widht": 3}}, "model: unknown key 'widht' in ModelConfig; did you mean 'width'?"),
        ({"model": {"width": 63}}, "width 63 is not divisible by n_heads 2"),
        (
            {"train": {"sharded": True, "optimiser": {"kind": "Muon"}}},
            "train: sharded does not go with Muon, whose steps need whole matrices: leave it false, or choose Adam",
        ),
        ({"train": {"probe_every": 15}}, "not a multiple of eval_every"),
        ({"recipe": "a/b"}, "recipe"),
        ({"seed": -1}, "greater than or equal to 0"),
    ],
)
def test_bad_input_is_one_clear_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(RunSpec, {**recipe("demo").model_dump(mode="json"), **changes}, where="spec.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("spec.yaml: ")
    assert "\n" not in str(caught.value)


def test_only_a_sharded_run_says_that_it_is() -> None:
    plain = recipe("demo")
    assert "sharded" not in plain.model_dump(mode="json")["train"]
    assert plain.with_settings({"train.sharded": False}).digest() == plain.digest()
    assert plain.with_settings({"train.sharded": True}).digest() != plain.digest()


def test_parts_that_do_not_go_together_are_one_line() -> None:
    spec = recipe("demo").with_strategy(Strategy(ComponentLoss(layer=4)))
    with pytest.raises(SpecError, match=r"^spec.yaml: ComponentLoss: layer 4 is beyond the model's 3 layers$"):
        spec.check(where="spec.yaml")
    with pytest.raises(SpecError, match=r"^ComponentLoss: layer 4"):
        spec.check()


class Unreadable(RandomCodes):
    """Items whose data are not there."""

    def check(self) -> None:
        raise ValueError("too few items")


def test_a_check_names_the_place() -> None:
    task = FactorTask(source=Unreadable(), n_pairs=4)
    with pytest.raises(SpecError, match=r"^task.source: too few items$"):
        RunSpec(task=task).check()
    with pytest.raises(SpecError, match=r"^task.tasks.1.source: too few items$"):
        RunSpec(task=Mixture(tasks=(FactorTask(source=RandomCodes(), n_pairs=4), task), shares=(0.5, 0.5))).check()
