"""Recipes, functions that return a :class:`~unplateau.train.spec.RunSpec`, and experiments that compare them, by name.

A run is a value: it is trained as it is, or varied with ``model_copy``, ``with_strategy`` and ``with_seed``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from unplateau.config import at_address, placed
from unplateau.errors import SpecError, suggest
from unplateau.recipes.images import demo, demo_strategies, digits
from unplateau.recipes.language import LANGUAGE, labelled_text, language, language_strategies, word_selection, words
from unplateau.strategies.base import Strategy
from unplateau.train.spec import RunSpec

RECIPES: dict[str, Callable[[], RunSpec]] = {
    "demo": demo,
    "digits": digits,
    **LANGUAGE,
}

__all__ = [
    "Experiment",
    "RECIPES",
    "demo",
    "demo_strategies",
    "digits",
    "experiments",
    "labelled_text",
    "language",
    "language_strategies",
    "recipe",
    "word_selection",
    "words",
]


def recipe(name: str) -> RunSpec:
    """The recipe of this name, or of one's own at ``package.module:function``.

    Raises SpecError, with a suggestion, if there is none.
    """
    if ":" not in name:
        if name not in RECIPES:
            raise SpecError(
                f"unknown recipe '{name}'{suggest(name, RECIPES, otherwise='your own: package.module:function')}"
            )
        return RECIPES[name]()
    with placed():
        own = at_address(name)
    made = own() if callable(own) else None
    if not isinstance(made, RunSpec):
        raise SpecError(f"'{name}' is no recipe: it must be a function that returns a RunSpec")
    return made


@dataclass(frozen=True)
class Experiment:
    """Plain training and what it is compared with."""

    plain: RunSpec
    strategies: tuple[Strategy, ...]

    def specs(self, seeds: Iterable[int]) -> list[RunSpec]:
        """Every strategy with every seed, those of one seed together."""
        return [self.plain.with_strategy(strategy).with_seed(seed) for seed in seeds for strategy in self.strategies]


def experiments(
    name: str, *, scale: Literal["cpu", "paper"] = "cpu", only: str | None = None
) -> tuple[Experiment, ...]:
    """The experiments of this name, ``demo`` or ``language``; ``scale`` and ``only`` as in :func:`language`.

    Raises SpecError, with a suggestion, if there are none.
    """
    if name == "demo":
        return (Experiment(demo(), demo_strategies()),)
    if name == "language":
        return tuple(Experiment(plain, language_strategies()) for plain in language(scale, only))
    raise SpecError(f"unknown experiment '{name}'{suggest(name, ('demo', 'language'))}")
