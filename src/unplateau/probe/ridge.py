"""Linear probes in closed form: one-vs-all ridge regression on one-hot targets.

What enters: standardised features of all layers and the labels of all factors. What leaves: predicted classes. One
factorisation per layer serves every factor and every control, so probing all layers costs less than a forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def ridge_predictions(train: Tensor, labels: Tensor, test: Tensor, sizes: Sequence[int], *, penalty: float) -> Tensor:
    """Predicted classes (L, M, F) of the test examples.

    ``train`` (L, N, D) and ``test`` (L, M, D): standardised features, float64. ``labels`` (N, F) int64, column f below
    ``sizes[f]``. ``penalty``: weight of the squared weights against the mean squared error; with standardised features
    it is relative to the mean eigenvalue of their covariance. Above 0, every rank deficiency is harmless: a direction
    without variance gets no weight. The intercept is each class's frequency, unpenalised.
    """
    n_train, width = train.shape[1:]
    targets = one_hot_targets(labels, sizes)  # (N, sum of sizes)
    frequency = targets.mean(0)
    gram = train.mT @ train / n_train + penalty * torch.eye(width, dtype=train.dtype)
    moment = train.mT @ (targets - frequency) / n_train  # (L, D, sum of sizes)
    weights = torch.cholesky_solve(moment, torch.linalg.cholesky(gram))
    return strongest_class(test @ weights + frequency, sizes)


def one_hot_targets(labels: Tensor, sizes: Sequence[int]) -> Tensor:
    """(N, sum of sizes) float64: the one-hot codes of the F labels (N, F) side by side."""
    columns = [functional.one_hot(labels[:, factor], size) for factor, size in enumerate(sizes)]
    return torch.cat(columns, 1).double()


def strongest_class(scores: Tensor, sizes: Sequence[int]) -> Tensor:
    """(..., F): the class with the highest score in each factor's stretch of the last dimension."""
    return torch.stack([part.argmax(-1) for part in scores.split(list(sizes), -1)], -1)
