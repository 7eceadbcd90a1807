"""Labels: does their state tell which item stood before them (binding), and still which label they are (keep)?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unplateau.decompose import Decomposable, Readable
from unplateau.layout import Cut, TaskShape
from unplateau.probe.binding import Pairing, binding_scores
from unplateau.probe.errors import of_layers
from unplateau.probe.few_shot import few_shot_scores
from unplateau.rng import fold
from unplateau.scores import ProbeScore
from unplateau.tensors import Batch, Components, Inputs, Prompts, TokenPrompts, gathered

Halves = Sequence[tuple[Components, Batch]]
"""Train prompts and test prompts, each with what was made of them."""


def labels_are_bound(
    model: Readable, halves: Halves, shape: TaskShape, *, alike: bool = False, seed: int = 0
) -> list[ProbeScore]:
    """Binding accuracy (``binding``) of every layer; none where a label belongs to a list of words.

    ``alike``: items that are alike in what the prompt hides count as one.
    """
    if shape.layout.in_lists:
        return []
    cut = halves[0][0].cut
    train, test = (_pairing(model, components.hidden, batch, cut, seed) for components, batch in halves)
    if alike:
        train, test = (_widened(half, batch, shape) for half, (_, batch) in zip((train, test), halves, strict=True))
    found = binding_scores(train, test)
    each = (found.accuracy, found.control, found.error)
    return of_layers(*each, chance=found.chance, n_test=found.n_test, kind="binding", factor="item", cut=cut)


def best_binding(model: Readable, halves: Halves, *, seed: int = 0) -> float:
    """The binding accuracy of labels that hold their item and nothing else: items may hardly differ from each other."""
    cut, found = halves[0][0].cut, []
    for components, batch in halves:
        items = batch.inputs.at_known(components.hidden[:1])
        pairing = _pairing(model, components.hidden, batch, cut, seed)
        found.append(replace(pairing, labels=items[:, :, : pairing.labels.shape[2]].cpu()))
    return float(binding_scores(*found).accuracy)


def labels_are_kept(
    model: Readable, test: tuple[Components, Batch], shape: TaskShape, *, seed: int = 0
) -> list[ProbeScore]:
    """Few-shot accuracy of labels by their own states (``keep``), of every block: is which label it is not drowned?

    The labels of each prompt are dealt anew, so that what is told is the label and not the item that it goes with. None
    where labels are numbers, or belong to lists of words.
    """
    components, batch = test
    if shape.labels_are_numbers or shape.layout.in_lists:
        return []
    inputs, labels = _dealt_anew(batch, seed)
    with torch.no_grad():
        states = _at_labels(model(inputs).hidden, inputs)
    n_labels = min(states.shape[2], labels.shape[1])  # the last one may not be there
    own = torch.arange(len(batch) * n_labels).view(len(batch), n_labels)
    found = few_shot_scores(states[1:, :, :n_labels], labels[:, :n_labels, None], own, seed=seed)
    if not int(found.n_test[0]):
        return []
    each = (found.accuracy[:, 0], found.control[:, 0], found.error[:, 0])
    chance, n_test = float(found.chance[0]), int(found.n_test[0])
    told: dict[str, Any] = {"kind": "keep", "factor": "label", "cut": components.cut, "first": 1}
    return of_layers(*each, chance=chance, n_test=n_test, **told)


def _dealt_anew(batch: Batch, seed: int) -> tuple[Inputs, Tensor]:
    """The prompts with their labels in another order, those that there are, and which label now stands where."""
    inputs, labels = batch.inputs, batch.targets
    if not isinstance(inputs, Prompts):
        labels = labels[:, : int(labels_there(inputs).all(0).sum())]
    order = _shuffled(labels, "labels dealt anew", seed)
    if isinstance(inputs, Prompts):
        return replace(inputs, labels=inputs.labels.gather(1, order)), labels.gather(1, order)
    assert inputs.queries is not None
    at = inputs.queries[:, : labels.shape[1]] + 1
    tokens = inputs.tokens.scatter(1, at, inputs.tokens.gather(1, at).gather(1, order))
    return replace(inputs, tokens=tokens), labels.gather(1, order)


def _shuffled(pairs: Tensor, name: str, seed: int) -> Tensor:
    """(B, K) int64: another order of the pairs of each prompt (B, K), for each name and seed."""
    return torch.rand(pairs.shape, generator=fold(seed, name), dtype=torch.float32).argsort(1).to(pairs.device)


def _at_labels(hidden: Tensor, inputs: Inputs) -> Tensor:
    """(L + 1, B, K, D) at the labels; prompts have one less if the last is not there, tokens have something else."""
    if isinstance(inputs, Prompts):
        return inputs.at_labels(hidden)
    assert inputs.queries is not None
    return gathered(hidden, (inputs.queries + 1).clamp(max=inputs.tokens.shape[1] - 1))


def labels_there(inputs: TokenPrompts) -> Tensor:
    """(B, K): whether a label follows its item."""
    assert inputs.queries is not None
    return inputs.queries + 1 < inputs.tokens.shape[1]


def _pairing(model: Readable, hidden: Tensor, batch: Batch, cut: Cut, seed: int) -> Pairing:
    """Items are shown in another order of the same prompt, so that none need stand where it stood."""
    prompts = batch.inputs
    order = _shuffled(batch.targets, "binding: items elsewhere", seed)
    rows = torch.arange(len(order), device=order.device)[:, None]
    if isinstance(prompts, Prompts):
        items = _embedded(model, replace(prompts, items=prompts.items[rows, order]), cut)[rows, order.argsort(1)]
        labels = _at_labels(hidden, prompts)
        return Pairing(labels.cpu(), items.cpu(), _same(batch)[:, : labels.shape[2]].cpu())
    assert prompts.known is not None
    places = prompts.positions().clone()
    places[rows, prompts.known] = prompts.positions()[rows, prompts.known][rows, order]
    items = _embedded(model, replace(prompts, places=places), cut)
    there = labels_there(prompts)[..., None]
    return Pairing(_at_labels(hidden, prompts).cpu(), items.cpu(), (_same(batch) & there).cpu())


def _widened(pairing: Pairing, batch: Batch, shape: TaskShape) -> Pairing:
    there = pairing.owner.any(2, keepdim=True) & pairing.owner.any(1, keepdim=True)
    also = alike_in_hidden(batch, shape).cpu()[:, : pairing.owner.shape[1]]
    return replace(pairing, owner=pairing.owner | (also & there))


def alike_in_hidden(batch: Batch, shape: TaskShape) -> Tensor:
    """(B, K, K) bool: items with the same value of what the prompt hides; with the same label where it is no factor."""
    if len(shape.asked) == 1:
        values = batch.factors[..., shape.asked[0]]
    elif shape.hides_factors and shape.asked:
        values = batch.factors.gather(2, batch.hidden_factor[:, None, None].expand(*batch.factors.shape[:2], 1))[..., 0]
    else:
        values = batch.targets
    return values[:, :, None] == values[:, None]


def _same(batch: Batch) -> Tensor:
    """(B, M, M) bool: items that are one and the same, or differ in nothing that has a name (noisy copies)."""
    index, factors = batch.item_index, batch.factors
    same = (index[:, :, None] == index[:, None]) & (index[:, None] >= 0)
    if factors.shape[-1]:
        same |= (factors[:, :, None] == factors[:, None]).all(3)
    return same | torch.eye(index.shape[1], dtype=torch.bool, device=index.device)


def _embedded(model: Readable, inputs: Inputs, cut: Cut) -> Tensor:
    """(B, M, D): what enters the first block where the factors of items are known."""
    with torch.no_grad():
        if isinstance(model, Decomposable):
            return model.component(inputs, cut, 0)
        return inputs.at_known(model(inputs, attention=cut).hidden[0])
