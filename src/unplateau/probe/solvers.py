"""How a linear probe is fitted: discriminant analysis in closed form, or multinomial logistic regression.

Both give linear scores of classes, as log probabilities. Legend: L layers, N examples, D width, C the sizes of all
factors together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor
from torch.nn import functional

LEAST = 1e-3
"""A single example, of a class that was not there to fit on, must not decide how good a probe is."""
MAX_ITERATIONS = 2000

CLASSES = 4
"""Typical number of classes: the curvature of cross-entropy is about a C-th of the covariance. Any value converges."""


@dataclass(frozen=True)
class Scorer:
    """The scores of classes: features @ ``weights`` (L, D, C) + ``intercept`` (L, 1, C)."""

    weights: Tensor
    intercept: Tensor

    def scores(self, features: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
        """(L, N, classes) of each factor, for features (L, N, D)."""
        return (features @ self.weights + self.intercept).split(list(sizes), -1)

    def classes(self, features: Tensor, sizes: Sequence[int]) -> Tensor:
        """(L, N, F): the class with the highest score."""
        return torch.stack([part.argmax(-1) for part in self.scores(features, sizes)], -1)

    def losses(self, features: Tensor, labels: Tensor, sizes: Sequence[int]) -> Tensor:
        """(L, F): mean cross-entropy of scores as log probabilities; a class is never less likely than LEAST."""
        own = zip(self.scores(features, sizes), labels.unbind(1), strict=True)
        chosen = [part.log_softmax(-1).gather(-1, of_one.expand(len(part), -1)[..., None]) for part, of_one in own]
        return -torch.cat(chosen, -1).clamp_min(log(LEAST)).mean(1)


class Discriminant:
    """Linear discriminant analysis of some examples; one factorisation per penalty serves all factors.

    The log probability of Gaussian classes. Of features with deviation 1 their covariance is W = (S + penalty I) /
    (1 + penalty), that of the examples S drawn towards I (Friedman 1989; penalised as in Hastie, Buja and Tibshirani
    1995). Other than least squares it sees a class whose mean lies between two others. Classes without examples are
    never named. With a penalty above 0 every rank deficiency is harmless.
    """

    def __init__(self, features: Tensor, targets: Tensor, sizes: Sequence[int]) -> None:
        """``features`` (L, N, D), one-hot classes ``targets`` (N, C)."""
        self.sizes, frequency = list(sizes), targets.mean(0)
        self.mean = features.mean(1, keepdim=True)  # (L, 1, D)
        centred = features - self.mean
        self.covariance = centred.mT @ centred / len(targets)
        self.roots = frequency.sqrt()
        means = centred.mT @ targets / len(targets) / self.roots.clamp_min(torch.finfo(targets.dtype).tiny)
        self.means = means  # (L, D, C): means of classes times the roots of their frequencies

    def __call__(self, penalty: float) -> Scorer:
        """The fit with this penalty.

        With A the covariance of all examples + penalty I, and U the means, W (1 + penalty) is A - U U' for each factor,
        so its inverse takes that of A and of a matrix as small as the factor.
        """
        ridge = penalty * torch.eye(self.covariance.shape[1], dtype=self.covariance.dtype)
        solved = torch.cholesky_solve(self.means, torch.linalg.cholesky(self.covariance + ridge))
        parts = (part.split(self.sizes, -1) for part in (self.means, solved, self.roots))
        weights, intercepts = [], []
        for means, of_all, root in zip(*parts, strict=True):
            rest = torch.eye(len(root), dtype=root.dtype) - means.mT @ of_all
            inverse = torch.where(root > 0, 1 / root, 0.0)
            weights.append(torch.linalg.solve(rest, of_all, left=False) * (1 + penalty) * inverse)
            lengths = (means * weights[-1]).sum(1, keepdim=True) * inverse
            intercepts.append(2 * root.log() - lengths / 2)
        found = torch.cat(weights, -1)
        return Scorer(found, torch.cat(intercepts, -1) - self.mean @ found)


def one_hot_targets(labels: Tensor, sizes: Sequence[int]) -> Tensor:
    """(N, C) float64: the one-hot codes of the F labels (N, F) side by side."""
    columns = [functional.one_hot(labels[:, factor], size) for factor, size in enumerate(sizes)]
    return torch.cat(columns, 1).double()


def logistic(
    features: Tensor,
    targets: Tensor,
    sizes: Sequence[int],
    *,
    penalty: float,
    start: Scorer | None = None,
    tolerance: float = 1e-4,
) -> Scorer:
    """Multinomial logistic regression on features (L, N, D) and one-hot classes (N, C).

    ``penalty``: half of it times the squared weights is added to the mean cross-entropy; scikit-learn's ``C`` is
    1 / (penalty x N). The intercept is not penalised. ``tolerance``: of the largest gradient. ``start``: an answer that
    is near.

    All layers and factors are one L-BFGS problem: their losses add up and share nothing, so the optimum is each one's
    own. It is solved for whitened features, which halves the iterations, with the penalty on the weights themselves.
    The gradient is written out: it needs no autograd graph and works inside ``no_grad``.
    """
    whiten = _whitening(features, penalty)
    whitened, metric = features @ whiten, penalty * whiten.mT @ whiten
    if start is None:
        inner = features.new_zeros(len(features), features.shape[2], targets.shape[1])  # weights == whiten @ inner
        intercept = features.new_zeros(len(features), 1, targets.shape[1])
    else:
        inner = torch.linalg.solve_triangular(whiten, start.weights, upper=True)
        intercept = start.intercept.clone()

    def loss() -> Tensor:
        scores = (whitened @ inner + intercept).split(list(sizes), -1)
        log_probability = torch.cat([part.log_softmax(-1) for part in scores], -1)
        residual = (log_probability.exp() - targets) / len(targets)
        pull = metric @ inner
        inner.grad = whitened.mT @ residual + pull
        intercept.grad = residual.sum(1, keepdim=True)
        return (inner * pull).sum() / 2 - (log_probability * targets).sum() / len(targets)

    optimizer = torch.optim.LBFGS(
        [inner, intercept],
        max_iter=MAX_ITERATIONS,
        max_eval=2 * MAX_ITERATIONS,
        tolerance_grad=tolerance,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(loss)
    return Scorer(whiten @ inner, intercept)


class LogisticPath:
    """Logistic fits of one penalty after the other, each from where the one before has ended."""

    def __init__(self, features: Tensor, targets: Tensor, sizes: Sequence[int]) -> None:
        self.features, self.targets, self.sizes = features, targets, sizes
        self.last: Scorer | None = None

    def __call__(self, penalty: float) -> Scorer:
        """The fit with this penalty."""
        self.last = logistic(self.features, self.targets, self.sizes, penalty=penalty, start=self.last)
        return self.last


def _whitening(features: Tensor, penalty: float) -> Tensor:
    """(L, D, D): makes the covariance of the features near 1, short of directions that the penalty rules."""
    eye = torch.eye(features.shape[2], dtype=features.dtype)
    factor = torch.linalg.cholesky(features.mT @ features / features.shape[1] + CLASSES * penalty * eye)
    return torch.linalg.solve_triangular(factor.mT, eye.expand_as(factor), upper=True)
