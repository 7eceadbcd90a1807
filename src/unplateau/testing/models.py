"""Laws of decomposable models: no look ahead, no leak through a cut, components that add up."""

from dataclasses import replace

import torch
from torch import Tensor

from unplateau.decompose import Readable, decompose, predict
from unplateau.errors import demand
from unplateau.layout import CUTS, Attention, Cut
from unplateau.tensors import Inputs, Prompts, TokenPrompts


@torch.no_grad()
def check_model(model: Readable, inputs: Inputs, *, cuts: tuple[Cut, ...] = CUTS, tolerance: float = 1e-5) -> None:
    """All laws of a model on these prompts; ``tolerance`` is relative to the largest hidden value (rounding)."""
    _check_causality(model, inputs, tolerance)
    _check_sparing(model, inputs, tolerance)
    for cut in cuts:
        _check_isolation(model, inputs, cut)
        parts = decompose(model, inputs, cut=cut)
        complete = _close(parts.weights + parts.context, parts.hidden, tolerance, parts.hidden)
        demand(complete, model, f"hidden == weights + context (cut {cut})")
    parts = decompose(model, inputs, cut="self")
    first = parts.context[:, :, 0]
    zero = _close(first, torch.zeros_like(first), tolerance, parts.hidden)
    demand(zero, model, "at position 0 the context component is zero under cut self")


def _check_causality(model: Readable, inputs: Inputs, tolerance: float) -> None:
    units = _units(inputs, "causal")
    early = (units >= 0) & (units <= int(units.max()) // 2)  # the positions of the first half of the units
    before, after = model(inputs), model(_changed(inputs, early))
    kept = _close(before.hidden[:, early], after.hidden[:, early], tolerance, before.hidden)
    demand(kept, model, "later inputs never change earlier hidden states")
    queries = inputs.at_queries(early[..., None]).squeeze(-1)  # (B, K)
    if bool(queries.any()):
        kept = _close(before.logits[queries], after.logits[queries], tolerance, before.logits)
        demand(kept, model, "later inputs never change earlier logits")


def _check_sparing(model: Readable, inputs: Inputs, tolerance: float) -> None:
    """What is predicted with less computed is the same up to rounding."""
    whole, spared = model(inputs), predict(model, inputs)
    same = _close(whole.logits, spared.logits, tolerance, whole.logits)
    demand(same, model, "predict_queries gives the logits of the forward pass")
    for layer, states in enumerate(whole.hidden):
        same = _close(states, spared.after(layer), tolerance, whole.hidden)
        demand(same, model, f"predict_queries gives the hidden states of the forward pass (layer {layer})")
    same = _close(inputs.at_queries(whole.hidden[-1]), spared.at_queries, tolerance, whole.hidden)
    demand(same, model, "predict_queries gives the last states at the queries")


def _close(one: Tensor, other: Tensor, tolerance: float, whole: Tensor) -> bool:
    """Equal up to rounding, which is relative to the largest value of ``whole``."""
    return bool((one - other).abs().max() <= tolerance * whole.abs().max())


def _check_isolation(model: Readable, inputs: Inputs, cut: Attention) -> None:
    """Changing every unit but one leaves the states of that one as they were, bit for bit."""
    before, units = model(inputs, attention=cut).hidden, _units(inputs, cut)
    name = "pair" if isinstance(inputs, Prompts) else "item" if cut == "item" else "position"
    last = int(units.max(1).values.min())  # of the shortest prompt
    for unit in sorted({0, (last + 1) // 2, last}):
        kept = units == unit
        after = model(_changed(inputs, kept), attention=cut).hidden
        same = torch.equal(before[:, kept], after[:, kept])
        demand(same, model, f"under attention {cut} no other {name} changes a position, bit for bit")
    if isinstance(inputs, Prompts):
        after = model(replace(inputs, labels=_other_labels(inputs)), attention=cut).hidden
        same = torch.equal(inputs.at_known(before), inputs.at_known(after))
        demand(same, model, f"under attention {cut} no label changes the states of items, bit for bit")


def _units(inputs: Inputs, cut: Attention) -> Tensor:
    """(B, T): what a cut must isolate from the rest, numbered from 0 as it follows in a prompt; -1: never changed.

    A pair (but no cue before the first); of tokens an item, where the cut leaves it together, else a token (but no
    padding).
    """
    if isinstance(inputs, Prompts):
        n_rows, n_pairs = inputs.labels.shape
        pairs = torch.arange(n_pairs).repeat_interleave(inputs.layout.item_length + 1)
        cue = torch.full((inputs.layout.first,), -1)
        return torch.cat((cue, pairs)).expand(n_rows, -1).to(inputs.labels.device)
    units = torch.arange(inputs.tokens.shape[1], device=inputs.tokens.device).expand_as(inputs.tokens)
    if cut == "item" and inputs.units is not None:
        units = inputs.units
    ranks = torch.stack([row.unique(return_inverse=True)[1] for row in units])
    return ranks if inputs.mask is None else ranks.where(inputs.mask, -1)


def _changed(inputs: Inputs, kept: Tensor) -> Inputs:
    """The prompts with other content wherever ``kept`` (B, T) is False, but for cues and padding."""
    if isinstance(inputs, TokenPrompts):
        kept = kept if inputs.mask is None else kept | ~inputs.mask
        others = _others(inputs.tokens.flip(0), int(inputs.tokens.max()))
        return replace(inputs, tokens=torch.where(kept, inputs.tokens, others))
    items, labels = inputs.items.clone(), inputs.labels.clone()
    pairs = ~kept[0, list(inputs.layout.queries)]
    taken = items[:, pairs].flip(0)
    items[:, pairs] = taken * -1.5 + 0.5 if taken.is_floating_point() else _others(taken, int(items.max()))
    labels[:, pairs] = _other_labels(inputs)[:, pairs]
    return replace(inputs, items=items, labels=labels)


def _other_labels(inputs: Prompts) -> Tensor:
    """(B, K): every label replaced by another one that occurs, or by another number."""
    if inputs.labels.is_floating_point():
        return inputs.labels * -1.5 + 0.5
    return (inputs.labels + 1) % (int(inputs.labels.max()) + 1)


def _others(tokens: Tensor, vocabulary: int) -> Tensor:
    """Other tokens from 1 to ``vocabulary``; 0, which stands for none, becomes one as well."""
    return tokens % vocabulary + 1
