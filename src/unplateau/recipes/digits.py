"""Few-shot classification of real scanned digits with remapped labels: no download, no rendering.

What enters: nothing. What leaves: the spec of plain training.
"""

from __future__ import annotations

from unplateau.tasks.digits import Digits
from unplateau.tasks.factors import FactorTask
from unplateau.train.spec import RunSpec, TrainConfig


def digits() -> RunSpec:
    """Ten classes, a fresh permutation of the labels in every prompt, 30 pairs."""
    return RunSpec(recipe="digits", task=FactorTask(source=Digits(), n_pairs=30), train=TrainConfig(steps=3000))
