"""A run trained in a stack is the run trained alone, to rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import unplateau as up
from tiny_run import TINY
from unplateau.models.stack import Stack
from unplateau.models.transformer import Transformer
from unplateau.tasks.base import Task
from unplateau.tensors import Batch
from unplateau.train.spec import RunSpec
from unplateau.train.stack import SMALL, can_stack, gains, shape_of
from unplateau.train.steps import Steps
from unplateau.train.training import Training

CPU = torch.device("cpu")


class Exact(Training):
    """A run that computes in float64."""

    def __init__(self, spec: RunSpec, path: Path) -> None:
        super().__init__(spec, path, CPU, (), (), lambda *_: None)
        assert isinstance(self.model, Transformer)
        self.model.double()
        self.heads.double()

    def draw(self) -> tuple[Task, Batch]:
        task, batch = super().draw()
        return task, batch.map(lambda one: one.double() if one.is_floating_point() else one)

    def weights(self) -> list[torch.Tensor]:
        """Of the model and of its heads."""
        return [one.detach() for part in (self.model, self.heads) for one in part.parameters()]


def test_fifty_steps_in_a_stack_are_fifty_steps_alone(tmp_path: Path) -> None:
    """Strategies, seeds, learning rates, schedules, clipping, optimisers and lengths differ within one stack."""
    spec = TINY.with_settings({"train.steps": 60, "train.batch_size": 4})
    specs = [
        spec,
        spec.with_strategy("unplateau").with_seed(1).with_settings({"train.lr": 3e-3, "train.clip_norm": 0.5}),
        spec.with_strategy("weights-loss").with_settings(
            {"train.schedule": "cosine", "train.optimiser": "muon", "train.steps": 70}
        ),
        spec.with_strategy("mixed").with_settings({"train.frozen": ["position_embedding"]}),
    ]
    alone, together = ([Exact(one, tmp_path / side / one.digest()) for one in specs] for side in ("alone", "together"))
    stack = Stack([run.model for run in together if isinstance(run.model, Transformer)])
    for steps in (*(Steps([run]) for run in alone), Steps(together, stack)):
        for _ in range(50):
            steps.update()
    for one, other in zip(alone, together, strict=True):
        for weight, its in zip(one.weights(), other.weights(), strict=True):
            assert weight.dtype == torch.float64
            assert (weight - its).abs().max() <= 1e-9
        assert one.sums() == pytest.approx(other.sums(), rel=1e-9)


def begun(spec: RunSpec, folder: Path) -> Training:
    return Training(spec, folder / spec.digest(), CPU, (), (), lambda *_: None)


def test_bfloat16_is_what_it_is_alone(tmp_path: Path) -> None:
    spec = TINY.with_settings({"train.precision": "bfloat16"})
    runs = [begun(one, tmp_path) for one in (spec, spec.with_seed(1))]
    stack = Stack([run.model for run in runs if isinstance(run.model, Transformer)])
    alone = Steps(runs).losses()
    for run, one, other in zip(runs, Steps(runs, stack).losses(), alone, strict=True):
        full = begun(run.spec.with_settings({"train.precision": "float32"}), tmp_path)
        exact = Steps([full]).losses()[0].total
        assert abs(one.total - other.total) < 2e-2
        assert abs(one.total - exact) > 1e-6  # it is not computed in float32


def test_runs_that_differ_in_shape_are_told_apart() -> None:
    same = [TINY, TINY.with_seed(3), TINY.with_strategy("unplateau"), TINY.with_settings({"train.lr": 0.1})]
    assert len({shape_of(one) for one in same}) == 1
    changed = ({"train.batch_size": 9}, {"model.width": 16}, {"task.n_pairs": 5}, {"train.precision": "bfloat16"})
    for change in changed:
        assert shape_of(TINY.with_settings(change)) != shape_of(TINY)


def test_where_a_stack_gains() -> None:
    """On a CPU with small models, on a GPU always."""
    assert can_stack(TINY)
    assert gains(TINY, CPU)
    assert not gains(up.recipes.demo(), CPU)
    assert gains(up.recipes.demo(), torch.device("cuda"))
    assert SMALL > 0
