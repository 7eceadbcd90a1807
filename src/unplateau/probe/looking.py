"""Do queries look? How much of a query's attention falls on the labels that are right for it.

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
    label, where all earlier labels are right, so that those of another prompt are no control; else None.
    """

    attention: Tensor
    right: Tensor
    visible: Tensor
    beside: Tensor | None = None


@dataclass(frozen=True)
class Look:
    """``score`` (L,), float64: share of the attention on right labels.

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
