"""Accuracy of linear probes on arrays that they were not fitted to, with standard error, chance and control.

Knows nothing of models and tasks, so that it can be checked against any other implementation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from unplateau.errors import DivergedError, SpecError, suggest
from unplateau.probe.errors import standard_error
from unplateau.probe.solvers import Discriminant, LogisticPath, one_hot_targets
from unplateau.rng import fold

Method = Literal["discriminant", "logistic"]
PENALTIES = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Tried, relative to the variance of a feature; where nothing can be tried, the first is taken."""
PARTS, FEW = 4, 200
"""The penalty is chosen on one of so many parts of the train items; on each in turn where there are few items."""
FITS: dict[Method, type[Discriminant | LogisticPath]] = {"discriminant": Discriminant, "logistic": LogisticPath}
CONSTANT = 1e-6
"""A feature whose deviation is below this share of its size is constant up to float32 rounding, and is not used."""


@dataclass(frozen=True)
class Examples:
    """What a probe is trained or tested on.

    ``features`` (L, N, D). ``labels`` (G, F) int64: one row per group of examples that share their labels. ``group``
    (N,) int64: the group of each example. The control moves labels between groups, never inside one. ``item`` (N,)
    int64: what each example shows, of which no two examples are independent; its group if None, something of its own
    if below 0.
    """

    features: Tensor
    labels: Tensor
    group: Tensor
    item: Tensor | None = None

    @property
    def shown(self) -> Tensor:
        """(N,): a number for each item, or group."""
        if self.item is None:
            return self.group.cpu()
        item = self.item.cpu()
        return torch.where(item < 0, -1 - torch.arange(len(item)), item)


@dataclass(frozen=True)
class Accuracies:
    """``accuracy``, ``error`` (standard error over items) and ``control`` (L, F), ``chance`` (F,): float64 on the CPU.

    ``penalty`` (L, F): that of the probe. ``n_test``: examples tested on; ``n_items``: distinct items among them.
    """

    accuracy: Tensor
    error: Tensor
    control: Tensor
    chance: Tensor
    penalty: Tensor
    n_test: int
    n_items: int


def probe_accuracies(
    train: Examples,
    test: Examples,
    sizes: Sequence[int],
    *,
    method: Method = "discriminant",
    penalty: float | None = None,
    seed: int = 0,
) -> Accuracies:
    """Accuracies on the test examples of probes trained on the train examples, one per layer and factor.

    ``sizes``: number of classes of each of the F factors. ``penalty``: None for the one that is best on a quarter of
    the train items, each layer and factor its own. The control is the same probe on labels shuffled between
    groups, in both halves as in a permutation test (against true test labels it would swing with the guesses for a
    handful of clusters). Features without variation give the commonest class of the train examples. Computed in
    float64 on the CPU, whatever the features live on. Raises SpecError for an unknown method, a penalty that is not
    above 0 or no examples, DivergedError for features that are not finite.
    """
    _check(train, test, method, penalty)
    labels, truth = (_with_shuffled(half, seed, step) for step, half in enumerate((train, test)))  # (N, 2F), (M, 2F)
    features, unseen = standardise(train.features.cpu().double(), test.features.cpu().double())
    n_factors, both = len(sizes), [*sizes, *sizes]
    if penalty is None:
        chosen = _best_penalties(features, labels[:, :n_factors], sizes, _parts(train.shown, seed), method)
    else:
        chosen = torch.full((len(features), n_factors), penalty, dtype=torch.float64)
    fit = FITS[method](features, one_hot_targets(labels, both), both)
    right = torch.zeros(len(features), *truth.shape, dtype=torch.float64)  # (L, M, 2F)
    for value in chosen.unique().flip(0).tolist():  # from the largest, as a path goes
        found = (fit(value).classes(unseen, both) == truth).double()
        right = torch.where((chosen == value).repeat(1, 2)[:, None], found, right)
    accuracy, control = right.mean(1).chunk(2, 1)
    item = test.shown
    return Accuracies(
        accuracy=accuracy,
        error=standard_error(right[..., :n_factors], item),
        control=control,
        chance=chance_levels(truth, sizes),
        penalty=chosen,
        n_test=len(truth),
        n_items=len(item.unique()),
    )


def _best_penalties(
    features: Tensor, labels: Tensor, sizes: Sequence[int], parts: Sequence[Tensor], method: Method
) -> Tensor:
    """(L, F): of each layer and factor, the penalty that is best on parts of the examples if fitted on the others.

    By cross-entropy: which examples are named right is too coarse where they are few.
    """
    losses = torch.zeros(len(PENALTIES), len(features), len(sizes), dtype=torch.float64)
    for part in parts:
        fit = FITS[method](features[:, ~part], one_hot_targets(labels[~part], sizes), sizes)
        losses += torch.stack([fit(value).losses(features[:, part], labels[part], sizes) for value in PENALTIES])
    return torch.tensor(PENALTIES, dtype=torch.float64)[losses.argmin(0)]


def _parts(item: Tensor, seed: int) -> list[Tensor]:
    """Which examples (N,) are in each part that a penalty is chosen on; none where there is a single item."""
    distinct, number = item.unique(return_inverse=True)
    order = torch.randperm(len(distinct), generator=fold(seed, "probe parts"))
    n_parts = 1 if len(distinct) >= FEW else min(PARTS, len(distinct))
    return [order[number] % PARTS == part for part in range(n_parts)] if len(distinct) > 1 else []


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
    """(F,) float64: the frequency of the commonest class of each factor in ``labels`` (N, F or more)."""
    counts = [torch.bincount(labels[:, factor], minlength=size).max() for factor, size in enumerate(sizes)]
    return torch.stack(counts).double() / len(labels)


def _check(train: Examples, test: Examples, method: str, penalty: float | None) -> None:
    if method not in get_args(Method):
        raise SpecError(f"unknown probe method '{method}'{suggest(str(method), get_args(Method))}")
    if penalty is not None and penalty <= 0:
        raise SpecError(f"penalty: must be above 0 (got {penalty})")
    for name, examples in (("train", train), ("test", test)):
        if not len(examples.group):
            raise SpecError(f"probe: no {name} examples; at least 1 is needed")
        if not examples.features.isfinite().all():
            raise DivergedError(
                f"probe: the {name} examples' hidden states hold NaN or infinity; the model has diverged"
            )
