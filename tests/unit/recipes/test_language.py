"""The recipes of language: valid with every strategy, written down and read back as they are."""

import pytest

from unplateau.errors import SpecError
from unplateau.recipes import language, language_strategies, recipe
from unplateau.train.spec import RunSpec, spec_of


@pytest.mark.parametrize("plain", language("cpu"), ids=lambda spec: spec.recipe)
def test_every_strategy_is_a_run_of_its_own(plain: RunSpec) -> None:
    specs = [plain.with_strategy(strategy) for strategy in language_strategies()]
    assert len({spec.strategy.name for spec in specs}) == 5
    assert specs[0].strategy.name == "plain"
    assert all(spec_of(spec.model_dump(mode="json")) == spec for spec in specs)


@pytest.mark.parametrize("name", ["words", "word-selection"])
def test_recipes_need_no_download_and_are_found_by_name(name: str) -> None:
    assert recipe(name).recipe == name
    assert recipe(name) in language("cpu")


def test_an_unknown_recipe_of_language_is_refused() -> None:
    with pytest.raises(SpecError, match="did you mean 'words'"):
        language("cpu", "wrods")


def test_the_paper_scale_is_the_same_for_longer() -> None:
    (short,), (long,) = language("cpu", "words"), language("paper", "words")
    assert long.train.steps > short.train.steps
    assert long.model_copy(update={"train": short.train}) == short
