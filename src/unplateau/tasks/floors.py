"""The heights of the plateau and of the optimum: exact predictors, averaged over prompts.

What enters: a task. What leaves: :class:`~unplateau.types.Floors`. For each prompt the expected loss of an exact
predictor is the cross-entropy between its own probabilities, so no label noise enters the average.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from unplateau.tasks.base import Task
from unplateau.types import Floors, Split

FLOOR_SEED = 20_240_601  # its own stream: these prompts are shared by all runs of a task


@lru_cache(maxsize=16)
def floors(task: Task, *, split: Split = "test", n_prompts: int = 4096, seed: int = FLOOR_SEED) -> Floors:
    """Losses (nats) and accuracies per query position of the no-context and the Bayes-optimal predictor."""
    marginals = task.no_context_predictions(split)
    bayes = torch.cat(
        [
            task.bayes_predictions(task.sample(step, batch_size=size, split=split, seed=seed))
            for step, size in enumerate(_chunks(n_prompts, 256))
        ]
    )  # (n, K, C)
    n_pairs = bayes.shape[1]
    entropy = -torch.special.xlogy(bayes, bayes).sum(2)  # (n, K)
    return Floors(
        no_context_loss=(float(-torch.special.xlogy(marginals, marginals).sum()),) * n_pairs,
        no_context_accuracy=(float(marginals.max()),) * n_pairs,
        bayes_loss=_means(entropy),
        bayes_accuracy=_means(bayes.max(2).values),
        bayes_loss_error=float(entropy.mean(1).std() / n_prompts**0.5),
        n_prompts=n_prompts,
    )


def _means(per_prompt: Tensor) -> tuple[float, ...]:
    return tuple(per_prompt.mean(0).tolist())


def _chunks(total: int, size: int) -> list[int]:
    return [size] * (total // size) + ([total % size] if total % size else [])
