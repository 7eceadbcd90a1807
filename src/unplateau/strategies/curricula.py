"""The two curricula of the paper: train on the fixed mapping first, or on a share of the rows throughout.

What enters: a step and the target task. What leaves: the task to sample. The number of rows never changes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unplateau.history import History
from unplateau.strategies.base import Curriculum
from unplateau.tasks.base import Task
from unplateau.tasks.mixture import Mixture


class WarmUp(Curriculum):
    """Weights warm-up: D_fix first, then the target task (Fu et al. 2024, section 5.1).

    ``mapping`` other than ``fixed`` turns it into a control of the same length: ``changing`` draws another fixed
    mapping at every step, ``shuffled`` lets labels follow another item's factors: there is nothing general to learn.
    """

    steps: int = Field(500, ge=0, description="length of the warm-up in steps, counted in the total")
    mapping: Literal["fixed", "changing", "shuffled"] = Field("fixed", description="D_fix, or a control")

    def task_at(self, step: int, task: Task, history: History) -> Task:
        """D_fix during the first ``steps`` steps."""
        del history
        if step >= self.steps:
            return task
        if self.mapping == "changing":
            return task.fixed(variant=1 + step)
        return task.fixed() if self.mapping == "fixed" else task.shuffled().fixed()


class Mixed(Curriculum):
    """Mixed training: a constant share of each batch uses the fixed mapping (Fu et al. 2024, section 5.2)."""

    fraction: float = Field(0.5, gt=0, lt=1, description="share of the rows drawn from the fixed mapping")

    def task_at(self, step: int, task: Task, history: History) -> Task:
        """The same mixture at every step."""
        del step, history
        return Mixture(tasks=(task.fixed(), task), shares=(self.fraction, 1 - self.fraction))
