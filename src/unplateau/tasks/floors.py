"""The heights of the plateau and of the optimum: exact predictors, averaged over prompts.

For each prompt the expected loss of an exact predictor is the cross-entropy between its own probabilities, so no label
noise enters the average.
"""

from functools import lru_cache

import torch
from torch import Tensor

from unplateau.layout import Split
from unplateau.plateau.progress import Floors
from unplateau.tasks.base import Task

SEED = 20_240_601  # its own stream: these prompts are shared by all runs of a task


@lru_cache(maxsize=16)
def floors(task: Task, *, split: Split = "test", n_prompts: int = 4096) -> Floors:
    """Losses (nats) and accuracies per query position of the no-context and the Bayes-optimal predictor."""
    sizes = map(len, torch.arange(n_prompts).split(256))
    exact = torch.cat([_exact(task, step, size, split) for step, size in enumerate(sizes)], 1)  # (4, n_prompts, K)
    no_context_loss, no_context_accuracy, bayes_loss, bayes_accuracy = (tuple(one.mean(0).tolist()) for one in exact)
    return Floors(
        no_context_loss=no_context_loss,
        no_context_accuracy=no_context_accuracy,
        bayes_loss=bayes_loss,
        bayes_accuracy=bayes_accuracy,
        bayes_loss_error=float(exact[2].mean(1).std() / n_prompts**0.5),
        n_prompts=n_prompts,
        progress=task.progress,
    )


def _exact(task: Task, step: int, size: int, split: Split) -> Tensor:
    """(4, B, K): expected loss and accuracy of each predictor on one batch, by its own probabilities."""
    batch = task.sample(step, batch_size=size, split=split, seed=SEED)
    both = (task.no_context_predictions(batch, split), task.bayes_predictions(batch))  # each (B, K, C)
    expected = ((-torch.special.xlogy(each, each).sum(2), each.max(2).values) for each in both)
    return torch.stack([value for pair in expected for value in pair])
