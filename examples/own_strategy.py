"""A curriculum and a loss term of your own, checked against the laws and combined with ours."""

import sys

import torch
from pydantic import Field
from torch import Tensor, nn

import unplateau as up
from unplateau.history import History
from unplateau.strategies.base import Curriculum, Host, LossTerm, Mix, Read, V, View
from unplateau.testing import check_curriculum, check_loss_term


class Anneal(Curriculum):
    """A share of D_fix rows that shrinks in four stages to nothing."""

    steps: int = Field(200, ge=4, description="steps until only the target task is left")

    def mix(self, step: int, target: V, history: History) -> Mix[V]:
        """Shares 0.8, 0.6, 0.4, 0.2 of D_fix, then the target task."""
        stage = 4 * step // self.steps
        share = round(0.8 - 0.2 * stage, 1)
        return [(share, target.fixed()), (1 - share, target)] if stage < 4 else [(1.0, target)]


class SmallStates(LossTerm):
    """Keeps a read-out of the final state small; a term can be any differentiable scalar, its head any module."""

    weight: float = Field(0.01, ge=0, description="factor of this term in the loss")

    @property
    def reads(self) -> tuple[Read, ...]:
        """A loop that cannot show the final state refuses this term by name."""
        return ("final",)

    def build_head(self, host: Host) -> nn.Module:
        """One linear read-out."""
        return nn.Linear(host.width, 1, bias=False)

    def value(self, view: View) -> Tensor:
        """Mean square of the read-out."""
        return torch.mean(view.head(view.final().states) ** 2)


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
