"""The tensors that travel along the chain, with their shapes.

Legend: B batch, K pairs of a prompt, T positions of a prompt (2K where items take one position each), M positions with
known factors (K unless every word of an item has its own), L layers, D width, F factors, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unplateau.layout import Cut


@dataclass(frozen=True)
class Prompts:
    """What a model reads: ``x_1 y_1 ... x_K y_K``.

    ``items``: vectors (B, K, item width) float, or tokens (B, K, positions of an item, P) int64, where the P tokens of
    a position (one for a word, several for its letters) enter as the sum of their embeddings and 0 stands for none.
    ``labels`` (B, K) int64. ``cues`` (B,) int64: what stands before the first item, where the task has cues.
    """

    items: Tensor
    labels: Tensor
    cues: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Prompts:
        """The same change to each tensor."""
        return Prompts(change(self.items), change(self.labels), None if self.cues is None else change(self.cues))


@dataclass(frozen=True)
class TokenPrompts:
    """Prompts as the tokenizer of a language model writes them, padded on the right.

    ``tokens`` (B, T) int64; ``mask`` (B, T) bool, False at padding. ``segments`` (B, T) int64: tokens of one item (of
    one word, where every word has factors) share a number, all others have one of their own. ``items`` (B, M):
    positions of the last token of each item, whose factors are known. ``queries`` (B, K): positions whose next token is
    the label.
    """

    tokens: Tensor
    mask: Tensor
    segments: Tensor
    items: Tensor
    queries: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> TokenPrompts:
        """The same change to each tensor."""
        tensors = (self.tokens, self.mask, self.segments, self.items, self.queries)
        return TokenPrompts(*(change(tensor) for tensor in tensors))


@dataclass(frozen=True)
class Batch:
    """One batch of prompts with everything that is known about it.

    ``inputs``: what the model reads. ``targets`` (B, K): the label to predict at each query position. ``factors``
    (B, M, F): true factor values at each item position. ``hidden_factor`` (B,): index (into the F factors, or into the
    shape's ``hidden_names``) of what decides the label. ``item_index`` (B, M): rows of the item source.
    """

    inputs: Prompts | TokenPrompts
    targets: Tensor
    factors: Tensor
    hidden_factor: Tensor
    item_index: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        rest = (self.targets, self.factors, self.hidden_factor, self.item_index)
        return Batch(self.inputs.map(lambda tensor: tensor.to(device)), *(tensor.to(device) for tensor in rest))


@dataclass(frozen=True)
class Items:
    """Items drawn alone, without a prompt.

    ``vectors`` (N, item width) float, or tokens (N, positions, P) int64, one position where each has factors of its
    own. ``factors`` (N, F) int64.
    """

    vectors: Tensor
    factors: Tensor


@dataclass(frozen=True)
class Output:
    """What a model returns.

    ``logits`` (B, K, C) at the query positions; ``hidden`` (L + 1, B, T, D), index 0 the embedding.
    """

    logits: Tensor
    hidden: Tensor


@dataclass(frozen=True)
class Components:
    """Hidden states taken apart: ``hidden == weights + context``, each (L + 1, B, T, D), under the named ``cut``."""

    hidden: Tensor
    weights: Tensor
    context: Tensor
    cut: Cut


def concatenate(batches: list[Batch]) -> Batch:
    """Rows of several batches of the same task shape, one after the other."""
    inputs = [batch.inputs for batch in batches]
    return Batch(
        _concatenate_prompts([one for one in inputs if isinstance(one, Prompts)]),
        torch.cat([batch.targets for batch in batches]),
        torch.cat([batch.factors for batch in batches]),
        torch.cat([batch.hidden_factor for batch in batches]),
        torch.cat([batch.item_index for batch in batches]),
    )


def _concatenate_prompts(prompts: list[Prompts]) -> Prompts:
    cues = [one.cues for one in prompts if one.cues is not None]
    return Prompts(
        torch.cat([one.items for one in prompts]),
        torch.cat([one.labels for one in prompts]),
        torch.cat(cues) if cues else None,
    )


def pad_tokens(rows: Sequence[Sequence[int]], *, left: bool = False) -> Tensor:
    """(N, longest row) int64: rows of tokens filled up with 0, on the right unless ``left``."""
    longest = max(map(len, rows), default=0)
    filled = [[0] * (longest - len(row)) + [*row] if left else [*row] + [0] * (longest - len(row)) for row in rows]
    return torch.tensor(filled, dtype=torch.int64).reshape(len(rows), longest)


def positions_of(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """(B, T): the place of each token (B, T) in its row; 0 at the first one that is not padding (``mask`` False)."""
    if mask is None:
        return torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    return (mask.long().cumsum(1) - 1).clamp(min=0)
