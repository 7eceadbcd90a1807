"""Linear probes by multinomial logistic regression, trained on the full batch to convergence.

What enters: standardised features of all layers and the labels of all factors. What leaves: predicted classes. It is
the slower check on the closed form: one pass of training is not enough for a probe to be read as what a layer holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unplateau.probe.ridge import one_hot_targets, strongest_class

MAX_ITERATIONS = 2000
GRADIENT_TOLERANCE = 1e-5
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

    _minimise(loss, [inner, intercept])
    return whiten @ inner, intercept


def _whitening(train: Tensor, penalty: float) -> Tensor:
    """(L, D, D): makes the covariance of the features near 1, short of directions that the penalty rules."""
    eye = torch.eye(train.shape[2], dtype=train.dtype)
    factor = torch.linalg.cholesky(train.mT @ train / train.shape[1] + CLASSES * penalty * eye)
    return torch.linalg.solve_triangular(factor.mT, eye.expand_as(factor), upper=True)


def _minimise(loss: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=MAX_ITERATIONS,
        max_eval=2 * MAX_ITERATIONS,
        tolerance_grad=GRADIENT_TOLERANCE,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(loss)
