"""The heights of the plateau and of the optimum: exact predictors, averaged over prompts.

For each prompt the expected loss of an exact predictor is the entropy of its own probabilities, or the variance of its
own prediction of a number, so no label noise enters the average.
"""

from functools import lru_cache

import torch
from torch import Tensor

from unplateau.layout import Split
from unplateau.plateau.floors import Floors
from unplateau.tasks.base import AT_ONCE, Task
from unplateau.tasks.loss import expected

SEED = 20_240_601  # its own stream: these prompts are shared by all runs of a task


@lru_cache(maxsize=16)
def floors(task: Task, *, split: Split = "test", n_prompts: int = 4096) -> Floors:
    """Losses and accuracies per query position of the no-context and the Bayes-optimal predictor."""
    sizes = map(len, torch.arange(n_prompts).split(AT_ONCE))
    exact = torch.cat([_exact(task, step, size, split) for step, size in enumerate(sizes)], 1)  # (2 or 4, n_prompts, K)
    no_context_loss, bayes_loss, *accuracies = (tuple(one.mean(0).tolist()) for one in exact)
    no_context_accuracy, bayes_accuracy = accuracies or (None, None)
    return Floors(
        no_context_loss=no_context_loss,
        no_context_accuracy=no_context_accuracy,
        bayes_loss=bayes_loss,
        bayes_accuracy=bayes_accuracy,
        bayes_loss_error=float(exact[1].mean(1).std() / n_prompts**0.5),
        n_prompts=n_prompts,
        progress=task.progress,
    )


def _exact(task: Task, step: int, size: int, split: Split) -> Tensor:
    """(4, B, K): expected losses and then accuracies of both predictors on one batch; (2, B, K) without accuracies."""
    batch = task.sample(step, batch_size=size, split=split, seed=SEED)
    both = (task.no_context_predictions(batch), task.bayes_predictions(batch))
    losses, accuracies = zip(*(expected(each, numbers=task.shape.labels_are_numbers) for each in both), strict=True)
    return torch.stack([value for value in (*losses, *accuracies) if value is not None])
