"""Recipes and experiments by name, and recipes of one's own by address."""

from __future__ import annotations

from pathlib import Path

import pytest

from unplateau.errors import SpecError
from unplateau.recipes import CLASSIC, Experiment, demo, experiments, recipe
from unplateau.train.spec import spec_of


def test_an_experiment_is_every_strategy_with_every_seed() -> None:
    (story,) = experiments("demo")
    specs = story.specs(range(3, 5))
    assert [spec.seed for spec in specs] == [3] * 5 + [4] * 5
    assert [spec.strategy for spec in specs[:5]] == list(story.strategies)
    assert specs[0].model_copy(update={"seed": 0}) == story.plain == demo()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("demoo", "unknown recipe 'demoo'; did you mean 'demo'"),
        ("zzz", "known: clusters, demo, .*, words; your own: package.module:function"),
        ("nowhere:mine", "module 'nowhere' cannot be imported"),
        ("unplateau.recipes:mine", "module 'unplateau.recipes' has no 'mine'"),
        ("unplateau.recipes:RECIPES", "'unplateau.recipes:RECIPES' is no recipe: it must be a function that returns"),
        ("os:getcwd", "is no recipe"),
    ],
)
def test_what_is_no_recipe(name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        recipe(name)


def test_a_recipe_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_recipes.py").write_text(
        "from unplateau.recipes import demo\ndef mine(): return demo().with_seed(7)"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert recipe("own_recipes:mine").seed == 7


def test_an_unknown_experiment() -> None:
    with pytest.raises(SpecError, match="did you mean 'language'"):
        experiments("langauge")


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


@pytest.mark.parametrize("name", CLASSIC)
def test_classic_tasks_are_recipes(name: str) -> None:
    spec = recipe(name)
    spec.check()
    assert spec.recipe == name
    assert spec_of(spec.model_dump(mode="json")) == spec


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
