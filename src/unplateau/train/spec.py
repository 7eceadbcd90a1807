"""A run as a value: everything that decides its numbers, and nothing else.

What enters: a task, a model, a strategy and how long to train. What leaves: a :class:`RunSpec`, which hashes to its
run directory. Devices, threads and output folders are not part of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from unplateau.config import Config
from unplateau.models.transformer import ModelConfig
from unplateau.strategies.base import Strategy
from unplateau.tasks.base import Task
from unplateau.types import Cut


class TrainConfig(Config):
    """How long and how to train, and how often to look."""

    steps: int = Field(2000, ge=1, description="updates of the weights")
    batch_size: int = Field(64, ge=1, description="prompts in a batch (rows); the same for every strategy")
    lr: float = Field(1e-3, gt=0, description="learning rate of Adam, constant")
    eval_every: int = Field(20, ge=1, description="steps between two rows of the history")
    eval_prompts: int = Field(64, ge=1, description="fresh prompts of the target task for each row")
    probe_every: int = Field(100, ge=0, description="steps between two probings, a multiple of eval_every; 0: never")
    probe_prompts: int = Field(64, ge=8, description="prompts to fit a probe on, and as many held-out ones")
    checkpoint_every: int = Field(250, ge=1, description="steps between two checkpoints; the last two are kept")
    final_prompts: int = Field(1024, ge=1, description="held-out prompts for the figures at the end")

    @model_validator(mode="after")
    def _probes_fall_on_rows(self) -> Self:
        if self.probe_every % self.eval_every:
            raise ValueError(f"probe_every {self.probe_every} is not a multiple of eval_every {self.eval_every}")
        return self


class RunSpec(Config):
    """One training run."""

    recipe: str = Field("run", pattern=r"^[\w.-]+$", description="name under which runs are kept together")
    task: Task = Field(description="the target task, on which progress is measured")
    model: ModelConfig = Field(default_factory=ModelConfig, description="size and initialisation of the Transformer")
    strategy: Strategy = Field(default_factory=Strategy, description="curricula and loss terms; none: plain training")
    train: TrainConfig = Field(default_factory=TrainConfig, description="length, batch, learning rate, cadence")
    cut: Cut = Field("self", description="cut under which the scores of this run are taken")
    seed: int = Field(0, ge=0, description="decides initial weights and batches")

    @model_validator(mode="after")
    def _terms_fit(self) -> Self:
        for term in self.strategy.loss_terms:
            term.check_model(self.model.n_layers)
            term.check_task(self.task.shape)
        return self

    def with_strategy(self, strategy: Strategy | str) -> RunSpec:
        """The same run with another strategy (or the name of one, such as ``mixed+component-loss``)."""
        return self.model_validate({**_fields(self), "strategy": strategy})

    def with_seed(self, seed: int) -> RunSpec:
        """The same run with another seed."""
        return self.model_validate({**_fields(self), "seed": seed})

    def directory(self, out: str | Path) -> Path:
        """``<out>/<recipe>/<strategy>/seed-<n>-<digest>``."""
        return Path(out) / self.recipe / self.strategy.name / f"seed-{self.seed}-{self.digest()}"


def _fields(spec: RunSpec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in RunSpec.model_fields}
