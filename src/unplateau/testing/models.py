"""Laws of decomposable models: no look ahead, no leak through a cut, components that add up.

What enters: a model and prompts. What leaves: nothing, or a LawError.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unplateau.decompose import decompose
from unplateau.models.attention import Attention
from unplateau.models.base import Decomposable
from unplateau.tensors import Prompts
from unplateau.testing.law import demand
from unplateau.types import CUTS


@torch.no_grad()
def check_model(model: Decomposable, inputs: Prompts, *, tolerance: float = 1e-5) -> None:
    """All laws of a model on these prompts; ``tolerance`` is relative to the largest hidden value (rounding)."""
    _check_causality(model, inputs, tolerance)
    for cut in CUTS:
        _check_isolation(model, inputs, cut)
        parts = decompose(model, inputs, cut=cut)
        gap = (parts.weights + parts.context - parts.hidden).abs().max()
        demand(bool(gap <= tolerance * parts.hidden.abs().max()), model, f"hidden == weights + context (cut {cut})")
    parts = decompose(model, inputs, cut="self")
    first = parts.context[:, :, 0].abs().max() <= tolerance * parts.hidden.abs().max()
    demand(bool(first), model, "at position 0 the context component is zero under cut self")


def _check_causality(model: Decomposable, inputs: Prompts, tolerance: float) -> None:
    before = model(inputs)
    half = inputs.items.shape[1] // 2
    after = model(_changed(inputs, slice(half, None)))
    gap = (before.hidden[:, :, : 2 * half] - after.hidden[:, :, : 2 * half]).abs().max()
    kept = gap <= tolerance * before.hidden.abs().max()
    demand(bool(kept), model, "later inputs never change earlier hidden states")
    gap = (before.logits[:, :half] - after.logits[:, :half]).abs().max()
    demand(bool(gap <= tolerance * before.logits.abs().max()), model, "later inputs never change earlier logits")


def _check_isolation(model: Decomposable, inputs: Prompts, cut: Attention) -> None:
    """Changing every pair but one leaves the states of that one as they were, bit for bit."""
    before = model(inputs, attention=cut).hidden
    n_pairs = inputs.items.shape[1]
    for kept in {0, n_pairs // 2, n_pairs - 1}:
        others = torch.tensor([pair for pair in range(n_pairs) if pair != kept], dtype=torch.int64)
        after = model(_changed(inputs, others), attention=cut).hidden
        same = torch.equal(before[:, :, 2 * kept : 2 * kept + 2], after[:, :, 2 * kept : 2 * kept + 2])
        demand(same, model, f"under attention {cut} no other pair changes a position, bit for bit")
    after = model(Prompts(inputs.items, _other_labels(inputs.labels)), attention=cut).hidden
    same = torch.equal(before[:, :, ::2], after[:, :, ::2])
    demand(same, model, f"under attention {cut} no label changes the states of items, bit for bit")


def _changed(inputs: Prompts, pairs: slice | Tensor) -> Prompts:
    items, labels = inputs.items.clone(), inputs.labels.clone()
    items[:, pairs] = items[:, pairs].flip(0) * -1.5 + 0.5
    labels[:, pairs] = _other_labels(labels)[:, pairs]
    return Prompts(items, labels)


def _other_labels(labels: Tensor) -> Tensor:
    """Every label replaced by another one that occurs."""
    return (labels + 1) % (int(labels.max()) + 1)
