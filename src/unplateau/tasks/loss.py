"""How a prediction is judged, in training as for exact predictors: cross-entropy of labels, squared error of numbers.

Labels are numbers where targets are floating-point. They have variance 1 by convention, so that the mean squared error
is in units of the labels' variance and the plateau is at 1.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

ROUNDING = 1e-12
"""Variance below which two numbers are the same: labels are float32, so that their rounding is noise of about 1e-7."""


def prediction_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over all queries: cross-entropy in nats (``logits`` (B, K, C)), or squared error of numbers (B, K, 1)."""
    if targets.is_floating_point():
        return functional.mse_loss(logits.squeeze(-1), targets)
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def expected(predictions: Tensor, *, numbers: bool) -> tuple[Tensor, Tensor | None]:
    """Loss and accuracy (B, K) of an exact predictor by its own account: probabilities, or mean and variance.

    The predicted variance is the expected squared error. Numbers have no accuracy.
    """
    if numbers:
        return predictions[..., 1], None
    return -torch.special.xlogy(predictions, predictions).sum(2), predictions.max(2).values


def achieved(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
    """Loss and accuracy (B, K) of an exact predictor on these labels."""
    if targets.is_floating_point():
        return (predictions[..., 0] - targets).square(), None
    losses = -predictions.gather(2, targets[..., None]).squeeze(2).log()
    return losses, (predictions.argmax(2) == targets).double()


def log_likelihood(predictions: Tensor, targets: Tensor) -> Tensor:
    """(B, K): log probability of each label, or log density of a Gaussian with this mean and variance."""
    if targets.is_floating_point():
        return log_density(targets - predictions[..., 0], predictions[..., 1].clamp_min(ROUNDING))
    return predictions.gather(2, targets[..., None]).squeeze(2).log()


def log_density(error: Tensor, variance: Tensor) -> Tensor:
    """Log density of a Gaussian at this distance from its mean."""
    return -(error.square() / variance + (2 * math.pi * variance).log()) / 2
