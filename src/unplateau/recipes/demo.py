"""The demo: the plateau of plain training and four ways to end it, on rendered images, within minutes on two cores.

What enters: nothing. What leaves: the spec of plain training, and the strategies that it is compared with.
"""

from __future__ import annotations

from unplateau.models.transformer import ModelConfig
from unplateau.strategies.base import Strategy
from unplateau.strategies.curricula import Mixed, WarmUp
from unplateau.strategies.losses import ComponentLoss, WeightsLoss
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.shapes3d import Shapes3D
from unplateau.train.spec import RunSpec, TrainConfig


def demo() -> RunSpec:
    """Plain training on a reduced grid of 3D Shapes: which of hue, size and shape of the object decides the label?"""
    task = FactorTask(source=Shapes3D.small(), hidden=("object_hue", "scale", "shape"), n_pairs=16)
    return RunSpec(recipe="demo", task=task, model=ModelConfig(), train=TrainConfig(steps=2000))


def demo_strategies() -> tuple[Strategy, ...]:
    """Plain training, the paper's three strategies, and the loss on the weights component itself."""
    return (
        Strategy(),
        Strategy(WarmUp()),
        Strategy(Mixed()),
        Strategy(WeightsLoss()),
        Strategy(ComponentLoss()),
    )
