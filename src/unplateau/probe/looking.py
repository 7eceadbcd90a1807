"""Do queries look? How much of a query's attention falls on the labels that are right for it.

Of numbers no label is right by itself: there it is how much a vote of the labels that queries look at explains.

Knows nothing of models and tasks. Legend: L blocks, B prompts, H heads, Q queries, K labels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unplateau.probe.errors import standard_error


@dataclass(frozen=True)
class Gaze:
    """Where the queries of some prompts look.

    ``attention`` (L, B, H, Q, K): of each block and head, from query to label, as shares of all that the query looks
    at. ``right`` (B, Q, K) bool: labels of earlier items that are alike in what the prompt hides. ``visible`` (B, Q):
    how many positions a query may look at. ``beside`` (L, B, H, Q, K): the same from query to the position before each
    label, where all earlier labels are right, so that those of another prompt are no control; else None. ``numbers``
    (B, K): the labels, where they are numbers and none is right by itself; else None.
    """

    attention: Tensor
    right: Tensor
    visible: Tensor
    beside: Tensor | None = None
    numbers: Tensor | None = None


@dataclass(frozen=True)
class Look:
    """``score`` (L,), float64: share of the attention on right labels, or of the variance of numbers that is explained.

    ``control`` (L,): on those of another prompt, or beside the labels. ``error`` (L,): standard error of the score over
    prompts. ``chance``: if a query looked everywhere alike. ``n_test``: queries.
    """

    score: Tensor
    error: Tensor
    control: Tensor
    chance: float
    n_test: int


def look_scores(train: Gaze, test: Gaze) -> Look:
    """Of each block, that of the head which looks best in the train prompts; only queries with a right label count."""
    if train.numbers is not None and test.numbers is not None:
        return _of_numbers(train.attention, train.numbers, test.attention, test.numbers)
    best = _shares(train.attention, train.right).nanmean(1).argmax(1)  # (L,)
    rows = torch.arange(len(best))
    score = _shares(test.attention, test.right)[rows, :, best]  # (L, B)
    others = (test.attention, test.right.roll(1, 0)) if test.beside is None else (test.beside, test.right)
    control = _shares(*others)[rows, :, best]
    asked = test.right.any(2)
    uniform = test.right.sum(2) / test.visible
    known = asked.any(1)
    return Look(
        score=score.nanmean(1),
        error=standard_error(score[:, known], torch.arange(int(known.sum()))),
        control=control.nanmean(1),
        chance=float(uniform[asked].double().mean()),
        n_test=int(asked.sum()),
    )


def _shares(attention: Tensor, right: Tensor) -> Tensor:
    """(L, B, H): mean over the queries of a prompt that have a right label; NaN if none has."""
    on_right = (attention.double() * right[:, None]).sum(4)  # (L, B, H, Q)
    asked = right.any(2)[:, None].expand_as(on_right[0])
    return on_right.masked_fill(~asked, torch.nan).nanmean(3)


def _of_numbers(attention: Tensor, numbers: Tensor, test_attention: Tensor, test_numbers: Tensor) -> Look:
    """What :class:`~unplateau.strategies.prompt_losses.LookLoss` asks of numbers, of one head."""
    best = _explained(_products(attention, numbers, numbers).sum(1)).argmax(1)  # (L,)
    rows = torch.arange(len(best))
    products = _products(test_attention, test_numbers, test_numbers)[rows, :, best]  # (L, B, 3)
    others = _products(test_attention, test_numbers, test_numbers.roll(1, 0))[rows, :, best]
    everywhere = torch.ones_like(test_attention[:1, :, :1])
    n_prompts, left_out = products.shape[1], _explained(products.sum(1, keepdim=True) - products)  # (L, B)
    spread = (left_out - left_out.mean(1, keepdim=True)).square().mean(1)  # the jackknife, over prompts
    return Look(
        score=_explained(products.sum(1)),
        error=(spread * (n_prompts - 1)).sqrt() if n_prompts > 1 else torch.full_like(spread, torch.nan),
        control=_explained(others.sum(1)),
        chance=float(_explained(_products(everywhere, test_numbers, test_numbers).sum(1))),
        n_test=test_numbers[:, 1:].numel(),
    )


def _products(attention: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """(L, B, H, 3): sums over the queries of a prompt of vote x vote, vote x wanted and wanted x wanted.

    A query's vote is what it gives to each label before it, times that label; the first query has none.
    """
    labels, wanted = labels.double(), wanted.double()[:, 1:]
    centre = wanted.mean()
    earlier = torch.ones_like(attention[0, 0, 0], dtype=torch.double).tril(-1)
    votes = (attention.double() * earlier * (labels - centre)[:, None, None]).sum(4)[..., 1:]  # (L, B, H, Q - 1)
    wanted = (wanted - centre)[:, None].expand_as(votes)
    return torch.stack([(one * other).sum(3) for one, other in ((votes, votes), (votes, wanted), (wanted, wanted))], 3)


def _explained(products: Tensor) -> Tensor:
    """(..., 3) -> (...): the squared correlation."""
    own, both, theirs = products.unbind(-1)
    return both.square() / (own * theirs).clamp_min(torch.finfo(own.dtype).tiny)
