"""The tensors that travel along the chain, with their shapes.

Legend: B batch, K pairs of a prompt, T = 2K positions, L layers, D width, F factors, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unplateau.types import Cut


@dataclass(frozen=True)
class Prompts:
    """What a model reads: ``x_1 y_1 ... x_K y_K``. ``items`` (B, K, item width) float; ``labels`` (B, K) int64."""

    items: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Batch:
    """One batch of prompts with everything that is known about it.

    ``inputs``: Prompts. ``targets`` (B, K): the label to predict at each query position. ``factors`` (B, K, F): true
    factor values of every item. ``hidden_factor`` (B,): index (into the F factors) of the one that decides the label.
    ``item_index`` (B, K): rows of the item source, for showing a prompt.
    """

    inputs: Prompts
    targets: Tensor
    factors: Tensor
    hidden_factor: Tensor
    item_index: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        inputs = Prompts(self.inputs.items.to(device), self.inputs.labels.to(device))
        rest = (self.targets, self.factors, self.hidden_factor, self.item_index)
        return Batch(inputs, *(tensor.to(device) for tensor in rest))


@dataclass(frozen=True)
class Items:
    """Items drawn alone, without a prompt. ``vectors`` (N, item width) float; ``factors`` (N, F) int64."""

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
    inputs = Prompts(
        torch.cat([batch.inputs.items for batch in batches]),
        torch.cat([batch.inputs.labels for batch in batches]),
    )
    return Batch(
        inputs,
        torch.cat([batch.targets for batch in batches]),
        torch.cat([batch.factors for batch in batches]),
        torch.cat([batch.hidden_factor for batch in batches]),
        torch.cat([batch.item_index for batch in batches]),
    )
