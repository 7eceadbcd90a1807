"""Plateaus on images: which attribute of a rendered object decides its label, within minutes; which digit it is."""

from __future__ import annotations

from unplateau.items.digits import Digits
from unplateau.items.shapes3d import Grid, Shapes3D
from unplateau.models.transformer import ModelConfig
from unplateau.tasks.factors import FactorTask
from unplateau.train.spec import RunSpec, TrainConfig


def demo() -> RunSpec:
    """Plain training on a reduced grid of 3D Shapes: is it the size or the shape of the object that decides the label?

    A linear read-out of the 32 components tells neither of them well, so the weights have something to learn.
    """
    source = Shapes3D(image_size=32, grid=Grid.small(), width=32)
    task = FactorTask(source=source, hidden=("scale", "shape"), n_pairs=12)
    return RunSpec(recipe="demo", task=task, model=ModelConfig(), train=TrainConfig(steps=1500, lr=2e-3))


def digits() -> RunSpec:
    """Ten classes, a fresh permutation of the labels in every prompt, 30 pairs."""
    return RunSpec(recipe="digits", task=FactorTask(source=Digits(), n_pairs=30), train=TrainConfig(steps=3000))
