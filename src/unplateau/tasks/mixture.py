"""A mixture of tasks is a task: each batch takes a share of its rows from each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from unplateau.layout import Split, TaskShape
from unplateau.rng import fold_seed
from unplateau.tasks.base import Shown, Task
from unplateau.tasks.posterior import mixture_moments
from unplateau.tensors import Batch, Items, concatenate


class Mixture(Task):
    """Rows of several tasks over the same items, in constant shares.

    Fractions of a row are carried to later steps, so the shares are exact in the long run.
    """

    tasks: tuple[Task, ...] = Field(min_length=1, description="tasks of the same shape")
    shares: tuple[float, ...] = Field(description="share of the rows for each task; they sum to 1")

    @classmethod
    def of(cls, mix: Sequence[tuple[float, Task]]) -> Task:
        """The mixture of tasks with these shares, as curricula choose them."""
        return cls(tasks=tuple(task for _, task in mix), shares=tuple(share for share, _ in mix))

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if len(self.shares) != len(self.tasks):
            raise ValueError(f"{len(self.tasks)} tasks need as many shares, got {len(self.shares)}")
        if not are_shares(self.shares):
            raise ValueError(f"shares must be at least 0 and sum to 1, got {self.shares}")
        return self

    def check(self) -> None:
        """The tasks must have the same shape."""
        if len({task.shape for task in self.tasks}) > 1:
            raise ValueError("the tasks of a mixture must have the same shape (items, pairs, labels, factors)")

    @property
    def shape(self) -> TaskShape:
        """The common shape of all tasks."""
        return self.tasks[0].shape

    def fixed(self, variant: int = 0) -> Mixture:
        """The mixture of the tasks' D_fix."""
        return self.model_copy(update={"tasks": tuple(task.fixed(variant) for task in self.tasks)})

    def shuffled(self) -> Mixture:
        """The mixture of the tasks' shuffled controls."""
        return self.model_copy(update={"tasks": tuple(task.shuffled() for task in self.tasks)})

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        """Rows of each task in turn, each from its own stream of random numbers."""
        turns = self._turns(step, batch_size, seed)
        return concatenate([task.sample(step, batch_size=n, split=split, seed=own) for task, n, own in turns])

    def sample_items(self, step: int, *, n_items: int, split: Split = "train", seed: int = 0) -> Items:
        """Items of each task in turn, in the same shares."""
        turns = self._turns(step, n_items, seed)
        return concatenate([task.sample_items(step, n_items=n, split=split, seed=own) for task, n, own in turns])

    def _turns(self, step: int, n_rows: int, seed: int) -> list[tuple[Task, int, int]]:
        """The tasks that give rows at this step, how many, and the seed of each."""
        rows = enumerate(zip(self.tasks, rows_of(self.shares, step, n_rows), strict=True))
        return [(task, own, fold_seed(seed, f"mixture/{number}")) for number, (task, own) in rows if own]

    @property
    def progress(self) -> Literal["loss", "accuracy"]:
        """As the first task says."""
        return self.tasks[0].progress

    @property
    def holds_out_items(self) -> bool:
        """Whether all tasks do."""
        return all(task.holds_out_items for task in self.tasks)

    @property
    def repeats_items(self) -> bool:
        """Whether any task does."""
        return any(task.repeats_items for task in self.tasks)

    def no_context_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C): the predictions of the tasks, weighted by their shares."""
        predictions = torch.stack([task.no_context_predictions(batch) for task in self.tasks], -1)  # (B, K, C, M)
        return self._weighted(predictions, torch.tensor(self.shares, dtype=torch.float64))

    def bayes_predictions(self, batch: Batch) -> Tensor:
        """(B, K, C): each task predicts, weighted by its share times its probability of cue and labels so far."""
        predictions = torch.stack([task.bayes_predictions(batch) for task in self.tasks], -1)  # (B, K, C, M)
        weights = (
            self._log_weights(batch, self._likelihoods(batch)).softmax(2).nan_to_num(0)
        )  # nan: no task allows them
        return self._weighted(predictions, weights)

    def _weighted(self, predictions: Tensor, weights: Tensor) -> Tensor:
        """(B, K, C): these predictions (B, K, C, M) under these weights of the tasks, (M,) or (B, K, M)."""
        if self.shape.labels_are_numbers:
            return torch.stack(mixture_moments(weights, *predictions.unbind(2)), 2)
        return (predictions * weights[..., None, :]).sum(3)

    def label_log_likelihood(self, batch: Batch) -> Tensor:
        """(B, K): that of the tasks, weighted likewise."""
        likelihoods = self._likelihoods(batch)
        log_weights = self._log_weights(batch, likelihoods)
        return (log_weights.log_softmax(2) + likelihoods).logsumexp(2)

    def _likelihoods(self, batch: Batch) -> Tensor:
        """(B, K, M): log likelihood of each label under each task."""
        return torch.stack([task.label_log_likelihood(batch) for task in self.tasks], -1)

    def _log_weights(self, batch: Batch, likelihoods: Tensor) -> Tensor:
        """(B, K, M): log of share times probability of cue and labels before each query."""
        before = torch.cat((torch.zeros_like(likelihoods[:, :1]), likelihoods[:, :-1]), 1).cumsum(1)
        return self._joint_evidence(batch).log().T[:, None] + before

    def shown(self, batch: Batch) -> Shown:
        """As the first task shows them."""
        return self.tasks[0].shown(batch)

    def evidence(self, batch: Batch) -> Tensor:
        """(B,): that of the tasks, weighted by their shares."""
        return self._joint_evidence(batch).sum(0)

    def _joint_evidence(self, batch: Batch) -> Tensor:
        """(M, B): share of each task times its probability of the cue."""
        return torch.stack([share * task.evidence(batch) for share, task in zip(self.shares, self.tasks, strict=True)])


def are_shares(shares: Sequence[float]) -> bool:
    """Whether these are at least 0 and sum to 1, which none at all do not."""
    return min(shares, default=-1) >= 0 and math.isclose(sum(shares), 1, abs_tol=1e-9)


def rows_of(shares: Sequence[float], step: int, batch_size: int) -> list[int]:
    """How many rows of a step each share gets: differences of the running totals, exact in the long run."""
    before, after = (_rows_until(shares, batch_size * n) for n in (step, step + 1))
    return [high - low for low, high in zip(before, after, strict=True)]


def _rows_until(shares: Sequence[float], n_rows: int) -> list[int]:
    """How many of the first rows go to each: its share of what those before leave; never fewer later."""
    left, remaining, rows = 1.0, n_rows, []
    for share in shares[:-1]:
        own = remaining if share >= left else math.floor(remaining * share / left + 1e-9)
        rows.append(own)
        remaining, left = remaining - own, left - share
    return [*rows, remaining]
