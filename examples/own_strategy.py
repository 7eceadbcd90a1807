"""A curriculum and a loss term of your own, checked against the laws and combined with ours."""

import sys

import torch
from pydantic import Field
from torch import Tensor, nn

import unplateau as up
from unplateau.history import History
from unplateau.layout import TaskShape
from unplateau.strategies.base import Curriculum, LossTerm, StepState
from unplateau.testing import check_curriculum, check_loss_term


class Anneal(Curriculum):
    """A share of D_fix rows that shrinks in four stages to nothing."""

    steps: int = Field(200, ge=4, description="steps until only the target task is left")

    def task_at(self, step: int, task: up.Task, history: History) -> up.Task:
        """Shares 0.8, 0.6, 0.4, 0.2 of D_fix, then the target task."""
        stage = 4 * step // self.steps
        share = round(0.8 - 0.2 * stage, 1)
        return up.Mixture(tasks=(task.fixed(), task), shares=(share, 1 - share)) if stage < 4 else task


class SmallStates(LossTerm):
    """Keeps a read-out of the final state small; a term can be any differentiable scalar."""

    weight: float = Field(0.01, ge=0, description="factor of this term in the loss")

    def build_head(self, width: int, shape: TaskShape) -> nn.Module:
        """One linear read-out."""
        return nn.Linear(width, 1)

    def value(self, state: StepState) -> Tensor:
        """Mean square of the read-out."""
        return torch.mean(state.head(state.output.hidden[-1]) ** 2)


if __name__ == "__main__":
    out = sys.argv[1] if len(sys.argv) > 1 else "runs"
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 400
    task = up.FactorTask(source=up.RandomCodes(sizes=(4, 4), width=16), n_pairs=8)
    train = up.TrainConfig(steps=steps, batch_size=32)
    spec = up.RunSpec(recipe="own-strategy", task=task, model=up.ModelConfig(width=32), train=train)
    check_curriculum(Anneal(), task)
    check_loss_term(SmallStates(), spec)
    run = up.train(spec.with_strategy(up.Strategy(Anneal(), SmallStates(), up.WeightsLoss())), out=out)
    print(run.strategy, f"progress {run.history.last('progress'):.2f}")
