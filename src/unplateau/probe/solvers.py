"""How a linear probe is fitted: ridge regression in closed form, or multinomial logistic regression to convergence.

In closed form one factorisation per layer serves every factor and every control, so probing all layers costs less than
a forward pass. The logistic one is the slower check on it.
"""

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


MAX_ITERATIONS = 2000

CLASSES = 4
"""Typical number of classes: the curvature of cross-entropy is about a C-th of the covariance. Any value converges."""


def logistic_predictions(
    train: Tensor, labels: Tensor, test: Tensor, sizes: Sequence[int], *, penalty: float
) -> Tensor:
    """Predicted classes (L, M, F) of the test examples; arguments as in ``ridge_predictions``.

    ``penalty``: half of it times the squared weights is added to the mean cross-entropy; scikit-learn's ``C`` is
    1 / (penalty x N). The intercept is not penalised.
    """
    weights, intercept = logistic_weights(train, labels, sizes, penalty=penalty)
    return strongest_class(test @ weights + intercept, sizes)


def logistic_weights(train: Tensor, labels: Tensor, sizes: Sequence[int], *, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights (L, D, sum of sizes) and intercepts (L, 1, sum of sizes) where the largest gradient is below 1e-5.

    All layers and factors are one L-BFGS problem: their losses add up and share nothing, so the optimum is each one's
    own. It is solved for whitened features, which halves the iterations, with the penalty on the weights themselves.
    The gradient is written out: it needs no autograd graph and works inside ``no_grad``.
    """
    whiten = _whitening(train, penalty)
    features, metric = train @ whiten, penalty * whiten.mT @ whiten
    targets = one_hot_targets(labels, sizes)
    inner = train.new_zeros(len(train), train.shape[2], targets.shape[1])  # weights == whiten @ inner
    intercept = train.new_zeros(len(train), 1, targets.shape[1])

    def loss() -> Tensor:
        scores = (features @ inner + intercept).split(list(sizes), -1)
        log_probability = torch.cat([part.log_softmax(-1) for part in scores], -1)
        residual = (log_probability.exp() - targets) / len(targets)
        pull = metric @ inner
        inner.grad = features.mT @ residual + pull
        intercept.grad = residual.sum(1, keepdim=True)
        return (inner * pull).sum() / 2 - (log_probability * targets).sum() / len(targets)

    optimizer = torch.optim.LBFGS(
        [inner, intercept],
        max_iter=MAX_ITERATIONS,
        max_eval=2 * MAX_ITERATIONS,
        tolerance_grad=1e-5,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(loss)
    return whiten @ inner, intercept


def _whitening(train: Tensor, penalty: float) -> Tensor:
    """(L, D, D): makes the covariance of the features near 1, short of directions that the penalty rules."""
    eye = torch.eye(train.shape[2], dtype=train.dtype)
    factor = torch.linalg.cholesky(train.mT @ train / train.shape[1] + CLASSES * penalty * eye)
    return torch.linalg.solve_triangular(factor.mT, eye.expand_as(factor), upper=True)
