"""A strategy is two pure questions: which task do I sample at this step, and what do I add to the loss.

What enters: the target task and the step. What leaves: the task to sample, and loss terms with their read-out heads.
A strategy holds no trainer and no state; it is a value that can be written down.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from unplateau.config import Config, Kind
from unplateau.decompose import Decomposable
from unplateau.history import History
from unplateau.layout import TaskShape
from unplateau.tasks.base import Task
from unplateau.tensors import Batch, Output


class Part(Kind):
    """One ingredient of a strategy: a curriculum or a loss term."""

    noun = "strategy"

    @property
    def name(self) -> str:
        """``mixed``, or ``mixed[fraction=0.25]`` where a setting is not the default."""
        words = re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()
        changed = [
            f"{field}={getattr(self, field)}"
            for field, info in type(self).model_fields.items()
            if getattr(self, field) != info.default
        ]
        return f"{words}[{','.join(changed)}]" if changed else words


class Curriculum(Part):
    """Chooses the task of each step. Pure and total; after its last phase it returns the same task for ever."""

    @abstractmethod
    def task_at(self, step: int, task: Task, history: History) -> Task:
        """The task to sample at this step, where ``task`` is what would be sampled without this curriculum."""


@dataclass(frozen=True)
class StepState:
    """What a loss term may read at one step."""

    model: Decomposable
    head: nn.Module
    task: Task
    batch: Batch
    output: Output
    step: int
    seed: int


class LossTerm(Part):
    """Adds ``weight`` times its value to the loss. With weight 0 it is absent: no head, no computation."""

    weight: float = Field(ge=0, description="factor of this term in the loss (lambda)")

    @abstractmethod
    def build_head(self, width: int, shape: TaskShape) -> nn.Module:
        """The read-out that is trained along and thrown away at the end."""

    @abstractmethod
    def value(self, state: StepState) -> Tensor:
        """The unweighted loss of this step: a finite, differentiable scalar in nats."""

    def check_model(self, n_layers: int) -> None:
        """Raises ValueError if the term cannot work on a model of this depth."""
        del n_layers

    def check_task(self, shape: TaskShape) -> None:
        """Raises ValueError if the term cannot work on a task of this shape."""
        del shape


class Strategy(Config):
    """Any combination of curricula and loss terms; with none it is plain training.

    Curricula are applied in the order given, each to the task that the one before chose.
    """

    parts: tuple[Part, ...] = Field((), description="curricula and loss terms, in order")

    def __init__(self, *parts: Part, **data: Any) -> None:
        super().__init__(**(data if not parts else {**data, "parts": parts}))

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        if not isinstance(data, str):
            return data
        names = [name for name in data.split("+") if name != "plain"]
        return {"parts": tuple(Part.kind_named(name).model_validate({}) for name in names)}

    @model_validator(mode="after")
    def _no_part_twice(self) -> Self:
        names = [part.name for part in self.parts]
        if len(set(names)) < len(names):
            raise ValueError(f"a strategy cannot contain the same part twice: {'+'.join(names)}")
        return self

    @property
    def name(self) -> str:
        """``plain``, or the names of the parts joined by ``+``."""
        return "+".join(part.name for part in self.parts) or "plain"

    @property
    def loss_terms(self) -> tuple[LossTerm, ...]:
        """The terms that are present, i.e. whose weight is above 0."""
        return tuple(part for part in self.parts if isinstance(part, LossTerm) and part.weight > 0)

    def task_at(self, step: int, task: Task, history: History) -> Task:
        """The task to sample at this step."""
        for part in self.parts:
            if isinstance(part, Curriculum):
                task = part.task_at(step, task, history)
        return task
