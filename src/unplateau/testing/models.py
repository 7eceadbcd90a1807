"""Laws of decomposable models: no look ahead, no leak through a cut, components that add up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from unplateau.decompose import Decomposable, decompose
from unplateau.errors import demand
from unplateau.layout import CUTS, Attention, Cut
from unplateau.tensors import Inputs, Prompts, TokenPrompts


@torch.no_grad()
def check_model(
    model: Decomposable,
    inputs: Inputs,
    *,
    cuts: tuple[Cut, ...] = CUTS,
    tolerance: float = 1e-5,
) -> None:
    """All laws of a model on these prompts; ``tolerance`` is relative to the largest hidden value (rounding)."""
    _check_causality(model, inputs, tolerance)
    for cut in cuts:
        _check_isolation(model, inputs, cut)
        parts = decompose(model, inputs, cut=cut)
        gap = (parts.weights + parts.context - parts.hidden).abs().max()
        demand(bool(gap <= tolerance * parts.hidden.abs().max()), model, f"hidden == weights + context (cut {cut})")
    parts = decompose(model, inputs, cut="self")
    first = parts.context[:, :, 0].abs().max() <= tolerance * parts.hidden.abs().max()
    demand(bool(first), model, "at position 0 the context component is zero under cut self")


class _Altered(ABC):
    """Prompts and how to change parts of them: a unit is what a cut must isolate from the others."""

    inputs: Inputs
    unit: str

    @abstractmethod
    def changed(self, kept: Tensor) -> Inputs:
        """The prompts with other content wherever ``kept`` (B, T) is False."""

    @abstractmethod
    def units(self) -> Tensor:
        """(B, T): the number of the unit that each position belongs to, rising from 0; -1 at padding."""

    def but_one(self) -> list[tuple[Tensor, Inputs]]:
        """Positions (B, T) of one unit, and the prompts with other content everywhere else."""
        units = self.units()
        last = int(units.max(1).values.min())  # of the shortest prompt
        masks = [units == unit for unit in sorted({0, (last + 1) // 2, last})]
        return [(mask, self.changed(mask)) for mask in masks]

    def later(self) -> tuple[Tensor, Inputs]:
        """The positions (B, T) of the first half of the units, and the prompts with other content after them."""
        units = self.units()
        mask = (units >= 0) & (units <= int(units.max()) // 2)
        return mask, self.changed(mask)


class _AlteredPairs(_Altered):
    """The unit is a pair; a cue before the first is never changed."""

    unit = "pair"

    def __init__(self, inputs: Prompts) -> None:
        self.inputs: Prompts = inputs

    def units(self) -> Tensor:
        n_rows, n_pairs = self.inputs.labels.shape
        pairs = torch.arange(n_pairs).repeat_interleave(self.inputs.layout.item_length + 1)
        cue = torch.full((self.inputs.layout.first,), -1)
        return torch.cat((cue, pairs)).expand(n_rows, -1).to(self.inputs.labels.device)

    def changed(self, kept: Tensor) -> Prompts:
        items, labels = self.inputs.items.clone(), self.inputs.labels.clone()
        pairs = ~kept[0, list(self.inputs.layout.queries)]
        taken = items[:, pairs].flip(0)
        items[:, pairs] = taken * -1.5 + 0.5 if taken.is_floating_point() else _others(taken, int(items.max()))
        labels[:, pairs] = self.other_labels().labels[:, pairs]
        return replace(self.inputs, items=items, labels=labels)

    def other_labels(self) -> Prompts:
        """Every label replaced by another one that occurs."""
        labels = (self.inputs.labels + 1) % (int(self.inputs.labels.max()) + 1)
        return replace(self.inputs, labels=labels)


class _AlteredTokens(_Altered):
    """The unit is a token, or an item where that is what the cut leaves together."""

    def __init__(self, inputs: TokenPrompts, cut: Attention) -> None:
        self.inputs: TokenPrompts = inputs
        self.unit = "item" if cut == "item" else "position"

    def mask(self) -> Tensor:
        """(B, T): False at padding."""
        mask = self.inputs.mask
        return torch.ones_like(self.inputs.tokens, dtype=torch.bool) if mask is None else mask

    def units(self) -> Tensor:
        tokens, mask = self.inputs.tokens, self.mask()
        units = (
            self.inputs.units
            if self.unit == "item" and self.inputs.units is not None
            else torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        )
        ranks = torch.stack([row.unique(return_inverse=True)[1] for row in units])
        return torch.where(mask, ranks, -1)

    def changed(self, kept: Tensor) -> TokenPrompts:
        tokens = self.inputs.tokens
        others = torch.where(kept | ~self.mask(), tokens, _others(tokens.flip(0), int(tokens.max())))
        return replace(self.inputs, tokens=others)


def _altered(inputs: Inputs, cut: Attention = "causal") -> _Altered:
    return _AlteredPairs(inputs) if isinstance(inputs, Prompts) else _AlteredTokens(inputs, cut)


def _check_causality(model: Decomposable, inputs: Inputs, tolerance: float) -> None:
    before = model(inputs)
    mask, changed = _altered(inputs).later()
    after = model(changed)
    gap = (before.hidden[:, mask] - after.hidden[:, mask]).abs().max()
    kept = gap <= tolerance * before.hidden.abs().max()
    demand(bool(kept), model, "later inputs never change earlier hidden states")
    early = inputs.at_queries(mask[..., None]).squeeze(-1)  # (B, K)
    if bool(early.any()):
        gap = (before.logits[early] - after.logits[early]).abs().max()
        kept = gap <= tolerance * before.logits.abs().max()
        demand(bool(kept), model, "later inputs never change earlier logits")


def _check_isolation(model: Decomposable, inputs: Inputs, cut: Attention) -> None:
    """Changing every unit but one leaves the states of that one as they were, bit for bit."""
    before, altered = model(inputs, attention=cut).hidden, _altered(inputs, cut)
    for mask, changed in altered.but_one():
        after = model(changed, attention=cut).hidden
        same = torch.equal(before[:, mask], after[:, mask])
        demand(same, model, f"under attention {cut} no other {altered.unit} changes a position, bit for bit")
    if isinstance(altered, _AlteredPairs):
        after = model(altered.other_labels(), attention=cut).hidden
        same = torch.equal(inputs.at_known(before), inputs.at_known(after))
        demand(same, model, f"under attention {cut} no label changes the states of items, bit for bit")


def _others(tokens: Tensor, vocabulary: int) -> Tensor:
    """Other tokens from 1 to ``vocabulary``; 0, which stands for none, becomes one as well."""
    return tokens % vocabulary + 1
