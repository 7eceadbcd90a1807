"""The heights of the plateau and of the optimum: exact predictors, averaged over prompts.

For each prompt the expected loss of an exact predictor is the cross-entropy between its own probabilities, so no label
noise enters the average.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from unplateau.layout import Split
from unplateau.plateau.progress import Floors
from unplateau.tasks.base import Task

FLOOR_SEED = 20_240_601  # its own stream: these prompts are shared by all runs of a task


@lru_cache(maxsize=16)
def floors(task: Task, *, split: Split = "test", n_prompts: int = 4096, seed: int = FLOOR_SEED) -> Floors:
    """Losses (nats) and accuracies per query position of the no-context and the Bayes-optimal predictor."""
    drawn = [_exact(task, step, size, split, seed) for step, size in enumerate(_chunks(n_prompts, 256))]
    no_context_loss, no_context_accuracy, bayes_loss, bayes_accuracy = map(torch.cat, zip(*drawn, strict=True))
    return Floors(
        no_context_loss=_means(no_context_loss),
        no_context_accuracy=_means(no_context_accuracy),
        bayes_loss=_means(bayes_loss),
        bayes_accuracy=_means(bayes_accuracy),
        bayes_loss_error=float(bayes_loss.mean(1).std() / n_prompts**0.5),
        n_prompts=n_prompts,
        progress=task.progress,
    )


def _exact(task: Task, step: int, size: int, split: Split, seed: int) -> tuple[Tensor, ...]:
    """Expected losses and accuracies (B, K) of both predictors on one batch, each by its own probabilities."""
    batch = task.sample(step, batch_size=size, split=split, seed=seed)
    both = (task.no_context_predictions(batch, split), task.bayes_predictions(batch))  # each (B, K, C)
    return tuple(
        value
        for predictions in both
        for value in (-torch.special.xlogy(predictions, predictions).sum(2), predictions.max(2).values)
    )


def _means(per_prompt: Tensor) -> tuple[float, ...]:
    return tuple(per_prompt.mean(0).tolist())


def _chunks(total: int, size: int) -> list[int]:
    return [size] * (total // size) + ([total % size] if total % size else [])
