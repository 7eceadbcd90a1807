"""Are labels bound to their items? Whether the state of a label tells which item of its prompt stood before it.

Knows nothing of models and tasks. Legend: L layers, B prompts, K labels, M items, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unplateau.probe.errors import standard_error

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Tried for the map, relative to the mean variance of a direction of the states."""
HELD_BACK = 4
"""One prompt in so many of those that the map is fitted on chooses the penalty."""


@dataclass(frozen=True)
class Pairing:
    """The labels and items of some prompts.

    ``labels`` (L, B, K, D): states of the labels. ``items`` (B, M, D): each item by itself, *not* at its own position,
    or the position would tell which label it goes with. ``owner`` (B, K, M) bool: the items that a label may name: its
    own and those that equal it; none where there is no label.
    """

    labels: Tensor
    items: Tensor
    owner: Tensor


@dataclass(frozen=True)
class Binding:
    """``accuracy`` and ``control`` (L,), float64: share of labels whose item is told; with labels of another prompt.

    ``error`` (L,): standard error of the accuracy over prompts. ``chance``: of naming any item of the prompt.
    ``n_test``: labels.
    """

    accuracy: Tensor
    error: Tensor
    control: Tensor
    chance: float
    n_test: int


def binding_scores(train: Pairing, test: Pairing) -> Binding:
    """How well a linear map from label to item, fitted on the train prompts, finds the right one of a test prompt.

    The map is ridge regression, with the penalty that is best on a quarter of the train prompts; the item whose
    direction is nearest to what it predicts is named. Scaling or rotating states changes nothing, nor does the order
    of pairs.
    """
    fitted, chosen = _halves(train)
    moments = _Moments.of(fitted)
    tried = torch.stack([_right(moments.map(one).nearness(chosen), chosen)[0].mean((1, 2)) for one in PENALTIES])
    penalties = torch.tensor(PENALTIES, dtype=torch.float64)[tried.argmax(0)]  # (L,)
    found = _Moments.of(train).map(penalties)
    right, counted = _right(found.nearness(test), test)
    other = Pairing(test.labels.roll(1, 1), test.items, test.owner)
    control, _ = _right(found.nearness(other), other)
    prompt = torch.arange(len(counted))[:, None].expand_as(counted)[counted]
    return Binding(
        accuracy=right.sum((1, 2)) / counted.sum(),
        error=standard_error(right[:, counted], prompt),
        control=control.sum((1, 2)) / counted.sum(),
        chance=float((test.owner.double().mean(2) * counted).sum() / counted.sum()),
        n_test=int(counted.sum()),
    )


def _halves(pairing: Pairing) -> tuple[Pairing, Pairing]:
    if len(pairing.items) < 2:
        return pairing, pairing
    held = torch.arange(len(pairing.items)) % HELD_BACK == 0
    fitted, chosen = (
        Pairing(pairing.labels[:, which], pairing.items[which], pairing.owner[which]) for which in (~held, held)
    )
    return fitted, chosen


@dataclass(frozen=True)
class _Map:
    """From labels to items: ``weights`` (L, D, D), ``mean`` (L, 1, D) of labels and ``centre`` (D,) of items."""

    weights: Tensor
    mean: Tensor
    centre: Tensor

    def nearness(self, pairing: Pairing) -> Tensor:
        """(L, B, K, M): cosine of what each label points at and each item."""
        n_rows, n_labels = pairing.labels.shape[1:3]
        predicted = (pairing.labels.double().flatten(1, 2) - self.mean) @ self.weights
        items = functional.normalize(pairing.items.double() - self.centre, dim=2)
        return functional.normalize(predicted, dim=2).unflatten(1, (n_rows, n_labels)) @ items.mT


@dataclass(frozen=True)
class _Moments:
    """Of the examples that a map is fitted on: covariance (L, D, D) of states, and with items (L, D, D)."""

    gram: Tensor
    moment: Tensor
    mean: Tensor
    centre: Tensor

    @classmethod
    def of(cls, train: Pairing) -> "_Moments":
        """Only labels that have an item count."""
        counted = train.owner.any(2)
        own = train.owner.double()
        wanted = ((own / own.sum(2, keepdim=True).clamp_min(1)) @ train.items.double())[counted]  # (N, D)
        states = train.labels.double()[:, counted]  # (L, N, D)
        mean, centre = states.mean(1, keepdim=True), wanted.mean(0)
        centred = states - mean
        return cls(centred.mT @ centred / len(wanted), centred.mT @ (wanted - centre) / len(wanted), mean, centre)

    def map(self, penalty: float | Tensor) -> _Map:
        """The ridge regression."""
        scale = self.gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(torch.float64).tiny)
        ridge = (scale * penalty)[:, None, None] * torch.eye(self.gram.shape[1], dtype=torch.float64)
        weights = torch.cholesky_solve(self.moment, torch.linalg.cholesky(self.gram + ridge))
        return _Map(weights, self.mean, self.centre)


def _right(nearness: Tensor, pairing: Pairing) -> tuple[Tensor, Tensor]:
    """(L, B, K) float: whether a label's nearest item is its own; (B, K): whether it has one."""
    counted = pairing.owner.any(2)
    candidates = pairing.owner.any(1, keepdim=True)
    named = nearness.masked_fill(~candidates, -torch.inf).argmax(3, keepdim=True)  # (L, B, K, 1)
    right = pairing.owner.expand(len(nearness), -1, -1, -1).gather(3, named)[..., 0]
    return (right & counted).double(), counted
