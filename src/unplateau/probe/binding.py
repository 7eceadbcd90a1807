"""Are labels bound to their items? Whether the state of a label tells which item of its prompt stood before it.

Knows nothing of models and tasks. Legend: L layers, B prompts, K labels, M items, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

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
    tried = torch.stack([_right(_mapped(fitted, chosen, penalty), chosen)[0].mean((1, 2)) for penalty in PENALTIES])
    penalties = torch.tensor(PENALTIES, dtype=torch.float64)[tried.argmax(0)]  # (L,)
    right, counted = _right(_mapped(train, test, penalties), test)
    other = Pairing(test.labels.roll(1, 1), test.items, test.owner)
    control, _ = _right(_mapped(train, other, penalties), other)
    by_prompt = right.sum(2) / counted.sum(1).clamp_min(1)  # (L, B)
    return Binding(
        accuracy=right.sum((1, 2)) / counted.sum(),
        error=by_prompt.std(1) / by_prompt.shape[1] ** 0.5,
        control=control.sum((1, 2)) / counted.sum(),
        chance=float((test.owner.double().mean(2) * counted).sum() / counted.sum()),
        n_test=int(counted.sum()),
    )


def _halves(pairing: Pairing) -> tuple[Pairing, Pairing]:
    held = torch.arange(len(pairing.items)) % HELD_BACK == 0
    fitted, chosen = (
        Pairing(pairing.labels[:, which], pairing.items[which], pairing.owner[which]) for which in (~held, held)
    )
    return fitted, chosen


def _mapped(train: Pairing, test: Pairing, penalty: float | Tensor) -> Tensor:
    """(L, B, K, M): how near what is predicted from each label of ``test`` is to each item."""
    states = train.labels.double().flatten(1, 2)  # (L, N, D)
    own = train.owner.double()
    own = own / own.sum(2, keepdim=True).clamp_min(1)
    wanted = (own @ train.items.double()).flatten(0, 1)  # (N, D): the item of each label
    mean, centre = states.mean(1, keepdim=True), wanted.mean(0)
    centred = states - mean
    gram = centred.mT @ centred / centred.shape[1]
    width = gram.shape[1]
    scale = gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(torch.float64).tiny)
    ridge = (scale * penalty)[:, None, None] * torch.eye(width, dtype=torch.float64)
    moment = centred.mT @ (wanted - centre) / centred.shape[1]
    weights = torch.cholesky_solve(moment, torch.linalg.cholesky(gram + ridge))
    predicted = (test.labels.double() - mean[:, None]) @ weights[:, None]  # (L, B, K, D)
    items = functional.normalize(test.items.double() - centre, dim=2)
    return functional.normalize(predicted, dim=3) @ items.mT


def _right(nearness: Tensor, pairing: Pairing) -> tuple[Tensor, Tensor]:
    """(L, B, K) float: whether a label's nearest item is its own; (B, K): whether it has one."""
    counted = pairing.owner.any(2)
    candidates = pairing.owner.any(1, keepdim=True)
    named = nearness.masked_fill(~candidates, -torch.inf).argmax(3, keepdim=True)  # (L, B, K, 1)
    right = pairing.owner.expand(len(nearness), -1, -1, -1).gather(3, named)[..., 0]
    return (right & counted).double(), counted
