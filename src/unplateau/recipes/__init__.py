"""Recipes: functions that return a :class:`~unplateau.train.spec.RunSpec`, by name.

What enters: the name of a recipe. What leaves: a run as a value, to be trained as it is or varied with ``model_copy``,
``with_strategy`` and ``with_seed``.
"""

from __future__ import annotations

from collections.abc import Callable

from unplateau.errors import SpecError, suggest
from unplateau.recipes.images import demo, demo_strategies, digits
from unplateau.recipes.language import LANGUAGE, labelled_text, language, language_strategies, word_selection, words
from unplateau.train.spec import RunSpec

RECIPES: dict[str, Callable[[], RunSpec]] = {
    "demo": demo,
    "digits": digits,
    **LANGUAGE,
}

__all__ = [
    "RECIPES",
    "demo",
    "demo_strategies",
    "digits",
    "labelled_text",
    "language",
    "language_strategies",
    "recipe",
    "word_selection",
    "words",
]


def recipe(name: str) -> RunSpec:
    """The recipe of this name. Raises SpecError, with a suggestion, if there is none."""
    if name not in RECIPES:
        raise SpecError(f"unknown recipe '{name}'{suggest(name, RECIPES)}")
    return RECIPES[name]()
