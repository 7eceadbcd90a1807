"""Plateaus on real words: attributes of words that decide labels, and words to be selected by their topic.

What enters: nothing. What leaves: the specs of plain training, and the strategies that they are compared with.
"""

from __future__ import annotations

from unplateau.models.transformer import ModelConfig
from unplateau.strategies.base import Strategy
from unplateau.strategies.curricula import Mixed, WarmUp
from unplateau.strategies.losses import ComponentLoss, WeightsLoss
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.selection import WordSelection
from unplateau.tasks.words import Words
from unplateau.train.spec import RunSpec, TrainConfig


def words() -> RunSpec:
    """Plain training: topic, initial or length of a word decides its label; the weights must learn every word."""
    return RunSpec(
        recipe="words",
        task=FactorTask(source=Words()),
        model=ModelConfig(labels_carry_items=True),
        train=TrainConfig(steps=1500),
    )


def word_selection() -> RunSpec:
    """Plain training: of three words, which belongs to the topic of the answers before?"""
    return RunSpec(recipe="word-selection", task=WordSelection(), train=TrainConfig(steps=1000))


def language_strategies() -> tuple[Strategy, ...]:
    """Plain training, the paper's three strategies, and the loss on the weights component of words drawn alone."""
    return (
        Strategy(),
        Strategy(WarmUp()),
        Strategy(Mixed()),
        Strategy(WeightsLoss()),
        Strategy(ComponentLoss(items=256)),
    )
