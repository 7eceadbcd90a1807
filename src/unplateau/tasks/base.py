"""What a task is: a pure source of batches, with the exact predictors that training is measured against."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unplateau.config import Kind
from unplateau.layout import Split, TaskShape
from unplateau.tasks.loss import log_likelihood
from unplateau.tensors import Batch, Items

AT_ONCE = 256
"""Prompts that the exact predictors read at a time."""


@dataclass(frozen=True)
class Shown:
    """A batch as people see it, as far as it can be seen.

    ``images`` (B, K, height, width, 3) uint8: pictures of the items. ``texts``: B lists of K, the items in words.
    ``labels``: the C labels in words. ``rules``: what each prompt hides, in a sentence; by default that its labels
    follow the hidden factor.
    """

    images: npt.NDArray[np.uint8] | None = None
    texts: list[list[str]] | None = None
    labels: tuple[str, ...] | None = None
    rules: list[str] | None = None


class Sampler(Protocol):
    """What a probe asks of a task."""

    @property
    def shape(self) -> TaskShape:
        """Sizes that a model needs to know."""

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        """The batch of this step."""


@runtime_checkable
class Written(Sampler, Protocol):
    """A sampler that writes the prompts of a task in tokens; ``label_tokens``: the token of each of the C labels."""

    task: Task
    label_tokens: tuple[int, ...]


class Task(Kind):
    """An in-context-learning task. A batch depends on (task, seed, split, step) and on nothing else."""

    noun = "task"

    @property
    def progress(self) -> Literal["loss", "accuracy"]:
        """What progress is read from: accuracy where the loss falls for another reason as well."""
        return "loss"

    @property
    def holds_out_items(self) -> bool:
        """Whether test items never occur in training.

        Not so where each item must be learnt by an embedding of its own: there training uses all items, and test
        prompts a fixed share of them.
        """
        return True

    @property
    def repeats_items(self) -> bool:
        """Whether a prompt may show an item twice."""
        return False

    @property
    @abstractmethod
    def shape(self) -> TaskShape:
        """Sizes that a model needs to know."""

    @abstractmethod
    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        """The batch of this step."""

    def sample_on(
        self, device: torch.device, step: int, *, batch_size: int, split: Split = "train", seed: int = 0
    ) -> Batch:
        """The same on this device; a task may make there what would be long on its way."""
        return self.sample(step, batch_size=batch_size, split=split, seed=seed).to(device)

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
    def no_context_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C) probabilities: the best prediction from the query's item alone and no other position: the plateau.

        An item is known by its true factor values, as in ``bayes_predictions``. For labels that are numbers (B, K, 2):
        mean and variance.
        """

    @abstractmethod
    def bayes_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C) probabilities: the Bayes-optimal prediction from the pairs before and the true factor values.

        For labels that are numbers (B, K, 2): mean and variance.
        """

    def choice_chances(self, batch: Batch) -> Tensor | None:
        """(B, K, V) exact: how probable each of the shape's V choices is, from a query's item and the pairs before.

        None where a task hides no choice, or cannot tell.
        """
        del batch
        return None

    def evidence(self, batch: Batch) -> Tensor:
        """(B,) float64: how probable the prompt's cue is under this task, for telling the tasks of a mixture apart."""
        return torch.ones(len(batch), dtype=torch.float64)

    def label_log_likelihood(self, batch: Batch) -> Tensor:
        """(B, K): log probability of each label given what stands before it, for telling the tasks of a mixture apart.

        Of numbers the log density, to be overridden where the predictive distribution is no Gaussian.
        """
        return log_likelihood(self.bayes_predictions(batch), batch.targets)

    def shown(self, batch: Batch) -> Shown:
        """How people see this batch; nothing unless the items are pictures or words."""
        del batch
        return Shown()


def exact_task(task: Sampler) -> Task | None:
    """What knows the exact predictors of this sampler: the task itself, or that which it writes; None without."""
    exact = task.task if isinstance(task, Written) else task
    return exact if isinstance(exact, Task) else None
