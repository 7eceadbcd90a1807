"""Accuracy of linear probes on arrays that they were not fitted to, with chance level and shuffled-label control.

Knows nothing of models and tasks, so that it can be checked against any other implementation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from unplateau.errors import DivergedError, SpecError, suggest
from unplateau.probe.solvers import logistic_predictions, ridge_predictions
from unplateau.rng import fold

Method = Literal["ridge", "logistic"]
PENALTY = 1e-3
"""Default penalty of both methods, relative to the variance of a feature."""
CONSTANT = 1e-6
"""A feature whose deviation is below this share of its size is constant up to float32 rounding, and is not used."""


@dataclass(frozen=True)
class Examples:
    """What a probe is trained or tested on.

    ``features`` (L, N, D). ``labels`` (G, F) int64: one row per group of examples that share their labels. ``group``
    (N,) int64: the group of each example. The control moves labels between groups, never inside one.
    """

    features: Tensor
    labels: Tensor
    group: Tensor


@dataclass(frozen=True)
class Accuracies:
    """``accuracy`` and ``control`` (L, F), ``chance`` (F,): float64 on the CPU; ``n_test``: examples tested on."""

    accuracy: Tensor
    control: Tensor
    chance: Tensor
    n_test: int


def probe_accuracies(
    train: Examples,
    test: Examples,
    sizes: Sequence[int],
    *,
    method: Method = "ridge",
    penalty: float = PENALTY,
    seed: int = 0,
) -> Accuracies:
    """Accuracies on the test examples of probes trained on the train examples, one per layer and factor.

    ``sizes``: number of classes of each of the F factors. The control is the same probe on labels shuffled between
    groups, in both halves as in a permutation test (against true test labels it would swing with the guesses for a
    handful of clusters). Features without variation give the commonest class of the train examples. Computed in
    float64 on the CPU, whatever the features live on. Raises SpecError for an unknown method, a penalty that is not
    above 0 or no examples, DivergedError for features that are not finite.
    """
    _check(train, test, method, penalty)
    labels, truth = (_with_shuffled(half, seed, step) for step, half in enumerate((train, test)))  # (N, 2F), (M, 2F)
    features = standardise(train.features.cpu().double(), test.features.cpu().double())
    predict = ridge_predictions if method == "ridge" else logistic_predictions
    predictions = predict(features[0], labels, features[1], [*sizes, *sizes], penalty=penalty)  # (L, M, 2F)
    accuracy, control = (predictions == truth).double().mean(1).chunk(2, 1)
    return Accuracies(accuracy, control, chance_levels(truth, sizes), len(truth))


def standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both (L, N, D) with the train examples' mean 0 and deviation 1; features constant over them become 0."""
    mean = train.mean(1, keepdim=True)
    centred = train - mean
    deviation = centred.square().mean(1, keepdim=True).sqrt()
    scale = torch.where(deviation > CONSTANT * mean.abs(), 1 / deviation, 0.0)
    return centred * scale, (test - mean) * scale


def _with_shuffled(examples: Examples, seed: int, step: int) -> Tensor:
    """(N, 2F): the labels of every example and, as further factors, those of the control."""
    order = torch.randperm(len(examples.labels), generator=fold(seed, "probe control", step))
    return torch.cat((examples.labels, examples.labels[order]), 1)[examples.group]


def chance_levels(labels: Tensor, sizes: Sequence[int]) -> Tensor:
    """(F,) float64: the frequency of the commonest class of each factor in ``labels`` (N, F)."""
    counts = [torch.bincount(labels[:, factor], minlength=size).max() for factor, size in enumerate(sizes)]
    return torch.stack(counts).double() / len(labels)


def _check(train: Examples, test: Examples, method: str, penalty: float) -> None:
    if method not in get_args(Method):
        raise SpecError(f"unknown probe method '{method}'{suggest(str(method), get_args(Method))}")
    if penalty <= 0:
        raise SpecError(f"penalty: must be above 0 (got {penalty})")
    for name, examples in (("train", train), ("test", test)):
        if not len(examples.group):
            raise SpecError(f"probe: no {name} examples; at least 1 is needed")
        if not examples.features.isfinite().all():
            raise DivergedError(
                f"probe: the {name} examples' hidden states hold NaN or infinity; the model has diverged"
            )
