"""The losses that need no annotation, as pure functions of tensors.

A prompt is its own annotation: pairs with the same label share what the prompt hides, so each can be told from what
stands before it. Legend: B prompts, M items, K labels, Q queries, H heads, D width. In a prompt x_1 y_1 ... x_K y_K
there are K of each.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

LEAST = 1e-6
"""Probability that is added before a logarithm is taken, and least mean square that is divided by."""


def earlier(there: Tensor) -> Tensor:
    """(B, K, K) bool: pair j stands before pair k; neither is padding (``there`` (B, K) bool, False at padding)."""
    n_pairs = there.shape[1]
    before = torch.ones(n_pairs, n_pairs, dtype=torch.bool, device=there.device).tril(-1)
    return before & there[:, :, None] & there[:, None]


def match_loss(states: Tensor, labels: Tensor, seen: Tensor, *, scale: Tensor | float = 10.0) -> Tensor:
    """How badly an item's label is told by a vote of the items that look like it: do items stand out?

    ``states`` (B, M, D): of each item by itself; only directions count. ``labels`` (B, M): classes (int64) or numbers
    (float). ``seen`` (B, M, M) bool: item k may be told from item j, as :func:`earlier` says. ``scale``: a cosine is
    multiplied by it before the softmax.

    Returns a scalar, see :func:`vote_loss`. This is a matching network (Vinyals et al. 2016) on the prompt itself.
    """
    directions = functional.normalize(states, dim=-1)
    scores = scale * directions @ directions.transpose(1, 2)  # (B, M, M)
    votes = scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(-1)
    return vote_loss(votes, labels, labels, seen)


def bind_loss(label_states: Tensor, item_states: Tensor, owner: Tensor, *, scale: Tensor | float = 10.0) -> Tensor:
    """How badly the state of a label tells which item of its prompt stood before it: are labels bound to their items?

    ``label_states`` (B, K, D) and ``item_states`` (B, M, D): only directions count. ``owner`` (B, K, M) bool: the items
    that a label may name, its own and those equal to it; none for padding. Items without a label are no candidates.
    ``scale``: as in :func:`match_loss`.

    Returns the mean over labels of -ln p(owner), in nats; chance is about ln M. What it asks for is what previous-token
    heads do (Olsson et al. 2022).
    """
    label_states, item_states = (functional.normalize(states, dim=-1) for states in (label_states, item_states))
    scores = scale * label_states @ item_states.transpose(1, 2)  # (B, K, M)
    log_p = scores.masked_fill(~owner.any(1, keepdim=True), torch.finfo(scores.dtype).min).log_softmax(-1)
    named = log_p.masked_fill(~owner, torch.finfo(log_p.dtype).min).logsumexp(-1)
    return -_mean(named, owner.any(-1))


def look_loss(attention: Tensor, targets: Tensor, labels: Tensor, seen: Tensor) -> Tensor:
    """How badly a query's label is told by a vote of the labels that it attends to: do queries look at the right ones?

    ``attention`` (B, H, Q, K): of each head, from query to label, as shares of all that the query attends to.
    ``targets`` (B, Q) and ``labels`` (B, K): classes (int64) or numbers (float). ``seen`` (B, Q, K) bool: the labels
    that a query may look at.

    Returns a scalar, see :func:`vote_loss`; heads vote together. A loss on attention towards right labels was used in
    fine-tuning (arXiv 2505.14233); an attention biased by an oracle removes plateaus (arXiv 2506.13688, 2606.25010).
    """
    return vote_loss(attention.mean(1), targets, labels, seen)


def vote_loss(votes: Tensor, targets: Tensor, labels: Tensor, seen: Tensor) -> Tensor:
    """How badly targets (B, Q) are told by votes (B, Q, K) for labels (B, K); only those that are ``seen`` count.

    Classes: the mean of -ln(sum of the votes for the right class), in nats, over targets whose class was seen. Numbers:
    the mean squared error of the sum of votes times labels, scaled as fits best, in units of the targets' mean square
    (that is 1 - R^2), over targets with anything to be told from; both are taken from the mean target on, and any one
    factor will do because a softmax can look but not multiply. 0 with a gradient if there is no such target.
    """
    votes = votes.masked_fill(~seen, 0)
    if not labels.is_floating_point():
        right = seen & (targets[:, :, None] == labels[:, None])
        log_p = ((votes * right).sum(-1) + LEAST).log() - math.log1p(LEAST)  # 0 where all votes are right
        return -_mean(log_p, right.any(-1))
    told = seen.any(-1)
    centre = _mean(targets, told)
    vote = (votes @ (labels - centre)[..., None]).squeeze(-1).masked_fill(~told, 0)
    wanted = (targets - centre).masked_fill(~told, 0)
    explained = (vote * wanted).sum().square() / (vote.square().sum() * wanted.square().sum()).clamp_min(LEAST**2)
    return told.any().to(explained.dtype) - explained


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    return values.masked_fill(~counted, 0).sum() / counted.sum().clamp_min(1)
