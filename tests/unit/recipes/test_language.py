"""The recipes of language: valid with every strategy, written down and read back as they are."""

import pytest

from unplateau.errors import SpecError
from unplateau.recipes import Experiment, experiments, recipe
from unplateau.train.spec import spec_of


@pytest.mark.parametrize("experiment", experiments("language"), ids=lambda one: one.plain.recipe)
def test_every_strategy_is_a_run_of_its_own(experiment: Experiment) -> None:
    specs = experiment.specs([0])
    assert len({spec.strategy.name for spec in specs}) == 5
    assert specs[0].strategy.name == "plain"
    assert all(spec_of(spec.model_dump(mode="json")) == spec for spec in specs)


@pytest.mark.parametrize("name", ["words", "word-selection"])
def test_recipes_need_no_download_and_are_found_by_name(name: str) -> None:
    assert recipe(name).recipe == name
    assert recipe(name) in [one.plain for one in experiments("language")]


def test_an_unknown_recipe_of_language_is_refused() -> None:
    with pytest.raises(SpecError, match="did you mean 'words'"):
        experiments("language", only="wrods")


def test_the_paper_scale_is_the_same_for_longer() -> None:
    (short,), (long,) = (experiments("language", scale=scale, only="words") for scale in ("cpu", "paper"))
    assert long.plain.train.steps > short.plain.train.steps
    assert long.plain.model_copy(update={"train": short.plain.train}) == short.plain
    assert long.strategies == short.strategies


def test_the_paper_scale_has_every_recipe() -> None:
    assert [one.plain.recipe for one in experiments("language", scale="paper")] == [
        "words",
        "word-selection",
        "labelled-text",
    ]
