"""Do items stand out? What a reader that has only the items of one prompt can tell of another one.

A linear probe has thousands of labelled items and finds a factor that carries two per cent of the variance; a reader of
a prompt has a dozen. Knows nothing of models and tasks. Legend: L layers, B prompts, M items, D width, F factors, V
values of one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unplateau.probe.errors import standard_error
from unplateau.rng import fold

TIE = 1e-6
"""Distances closer than this are the same; then the commoner value is named."""


@dataclass(frozen=True)
class FewShot:
    """Scores of one look, float64 on the CPU; NaN where no item shares its value with another of its prompt.

    ``accuracy`` (L, F): of naming an item's value by the nearest class mean among the other items of its prompt, over
    items whose value is among these. ``error`` (L, F): its standard error over distinct items. ``control`` (L, F): the
    same with values dealt to other items. ``chance`` (F,): of naming the commonest value of the others. ``share``
    (L, F): of the states' variance, that between the values' means, see :func:`variance_share`. ``n_test``, ``n_items``
    (F,): items that count, and how many of them are distinct.
    """

    accuracy: Tensor
    error: Tensor
    control: Tensor
    chance: Tensor
    share: Tensor
    n_test: Tensor
    n_items: Tensor


def few_shot_scores(states: Tensor, values: Tensor, item: Tensor, *, seed: int = 0) -> FewShot:
    """Few-shot scores and shares of every layer and factor.

    ``states`` (L, B, M, D): weights components, of which only directions count, so that scaling and rotating them
    changes nothing. ``values`` (B, M, F) int64. ``item`` (B, M): equal items share a number and do not tell of each
    other; a number below 0 is shared with none.
    """
    directions = functional.normalize(states.double().cpu(), dim=-1)
    values, item = values.cpu(), item.cpu()
    item = torch.where(item < 0, -1 - torch.arange(item.numel()).view_as(item), item)
    others = item[:, :, None] != item[:, None]  # (B, M, M)
    order = torch.randperm(item.numel(), generator=fold(seed, "few-shot control"))
    dealt = values.flatten(0, 1)[order].view_as(values)
    similar = directions @ directions.mT  # (L, B, M, M): all that distances need
    own = [_named(similar, of_one, others) for of_one in values.unbind(2)]
    control = [_named(similar, of_one, others) for of_one in dealt.unbind(2)]
    first = _firsts(item.flatten())
    distinct = directions.flatten(1, 2)[:, first]
    return FewShot(
        accuracy=torch.stack([right[:, counted].mean(1) for right, _, counted in own], 1),
        error=torch.stack([standard_error(right[:, counted], item[counted]) for right, _, counted in own], 1),
        control=torch.stack([right[:, counted].mean(1) for right, _, counted in control], 1),
        chance=torch.stack([chance[counted].mean() for _, chance, counted in own]),
        share=torch.stack([variance_share(distinct, of_one.flatten()[first]) for of_one in values.unbind(2)], 1),
        n_test=torch.tensor([int(counted.sum()) for _, _, counted in own]),
        n_items=torch.tensor([len(item[counted].unique()) for _, _, counted in own]),
    )


def variance_share(states: Tensor, values: Tensor) -> Tensor:
    """(L,): the share of the variance of states (L, N, D) that lies between the means of values (N,), omega squared.

    1 if values say all of states; about 0, and as often below as above, if they say nothing; 0 if nothing varies.
    """
    classes, of_item = values.unique(return_inverse=True)
    members = functional.one_hot(of_item, len(classes)).to(states)  # (N, V)
    centred = states - states.mean(1, keepdim=True)
    means = members.T @ centred / members.sum(0)[:, None]  # (L, V, D)
    total = centred.square().sum((1, 2))
    between = (members.sum(0)[:, None] * means.square()).sum((1, 2))
    within = (total - between) / max(1, len(values) - len(classes))
    share = (between - (len(classes) - 1) * within) / (total + within)
    return torch.where(total > TIE * TIE * len(values), share, 0.0)


def _named(similar: Tensor, values: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether an item's value is named (L, B, M), how often chance would (B, M), and whether it counts (B, M).

    Means of values leave out what equals the item that is asked for: sums over all items, less those of its equals.
    """
    members = functional.one_hot(values, int(values.max()) + 1).double()  # (B, M, V)
    equals = (~others).double()  # (B, M, M)
    counts = others.double() @ members  # (B, M asked, V)
    to_all, to_equals = similar @ members, (similar * equals) @ members  # (L, B, M, V)
    within = (members * to_all).sum(2, keepdim=True) - equals @ (members * (2 * to_all - to_equals))
    shots = counts.clamp_min(1)
    nearness = 2 * (to_all - to_equals) / shots - within / shots.square()
    nearness = (nearness / TIE).round() * TIE + TIE * counts / (2 * values.shape[1])
    named = nearness.masked_fill(counts == 0, -torch.inf).argmax(-1)
    commonest = (counts == counts.amax(-1, keepdim=True)).double()
    chance = (commonest * members).sum(-1) / commonest.sum(-1)
    return (named == values).double(), chance, (counts * members).sum(-1) > 0


def _firsts(item: Tensor) -> Tensor:
    """Where each distinct item (N,) stands for the first time."""
    number = item.unique(return_inverse=True)[1]
    return torch.full((int(number.max()) + 1,), len(item)).scatter_reduce(0, number, torch.arange(len(item)), "amin")
