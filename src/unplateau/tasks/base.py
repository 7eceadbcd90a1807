"""What a task is: a pure source of batches with exact floors.

What enters: a step, a batch size, a split and a seed. What leaves: a :class:`~unplateau.tensors.Batch`.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt
from torch import Tensor

from unplateau.config import Kind
from unplateau.tensors import Batch, Items
from unplateau.types import Split, TaskShape


class Task(Kind):
    """An in-context-learning task. A batch depends on (task, seed, split, step) and on nothing else."""

    noun = "task"

    @property
    @abstractmethod
    def shape(self) -> TaskShape:
        """Sizes that a model needs to know."""

    @abstractmethod
    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        """The batch of this step."""

    @abstractmethod
    def sample_items(self, step: int, *, n_items: int, split: Split = "train", seed: int = 0) -> Items:
        """Items of this step drawn alone, without a prompt."""

    @abstractmethod
    def fixed(self, variant: int = 0) -> Task:
        """D_fix: the same task with one mapping per factor; ``variant`` chooses which mapping."""

    @abstractmethod
    def shuffled(self) -> Task:
        """Control: the same task, but labels follow the factors of another item, drawn once for each item."""

    @abstractmethod
    def no_context_predictions(self, split: Split = "test") -> Tensor:
        """(C,) probabilities: the label marginals, the best prediction that ignores item and context."""

    @abstractmethod
    def bayes_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C) probabilities: the Bayes-optimal prediction from the pairs before and the true factor values."""

    def pictures(self, batch: Batch) -> npt.NDArray[np.uint8] | None:
        """(B, K, height, width, 3) pictures of the items for people to look at, where the task has any."""
        del batch
        return None
