"""Probes of a model on a task: what the weights alone know of an item, and what the context tells of the hidden factor.

Every layer, each score with its cut, chance level and control (Fu et al. 2024, section 4; there one layer and one pass
of training, here all and to convergence).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import get_args

import torch
from torch import Tensor

from unplateau.decompose import Readable, decompose, require_readable
from unplateau.errors import SpecError, suggest
from unplateau.layout import Cut, Split, TaskShape
from unplateau.limits import FLOAT, refuse_memory
from unplateau.probe.errors import known_error
from unplateau.probe.linear import Accuracies, Examples, Method, probe_accuracies
from unplateau.probe.three_things import at_home, three_things
from unplateau.rng import fold_seed
from unplateau.scores import Component, ProbeScore, Scores
from unplateau.tasks.base import Sampler
from unplateau.tensors import Batch, Components

PROMPTS_AT_ONCE = 64

MOST_DRAWS = 10
"""Where items are drawn for training and test alike, so many times more prompts may be needed for other items."""


def probe_components(
    model: Readable,
    task: Sampler,
    *,
    component: Component = "weights",
    layers: Sequence[int] | None = None,
    cut: Cut = "self",
    n_train: int = 4096,
    n_test: int = 4096,
    seed: int = 0,
    method: Method = "discriminant",
    penalty: float | None = None,
) -> list[ProbeScore]:
    """Accuracies of linear probes on items that they were not fitted to, for every layer and factor.

    ``layers``: all of 0 .. L by default. ``weights``: from the weights component at the item positions to every factor
    of the item there. ``hidden``: the same from the full hidden state. ``context``: from the context component to the
    index of the hidden factor, at the item positions of the second half of the prompt, where there has been something
    to infer it from. ``n_train`` and ``n_test`` count examples, that is positions. ``method`` and ``penalty``: see
    :func:`~unplateau.probe.linear.probe_accuracies`. Test examples come from the test items and train examples from
    other items, so no item and no prompt is in both; where a task holds out no items the model has trained on all. Pure
    in its arguments. Raises SpecError for what does not exist, such as a factor of an item, or several things that a
    prompt may hide, in a task without.
    """
    require_readable(model)
    chosen = _chosen_layers(model, component, layers)
    names, sizes = _targets(task.shape, component)
    if not names:
        raise SpecError(f"{component} component: {_NOTHING[component]}")

    def read(split: Split, step: int, n_prompts: int) -> Examples:
        batch = task.sample(step, batch_size=n_prompts, split=split, seed=fold_seed(seed, "probe"))
        found = _examples(_decompose(model, batch, cut), batch, component, task.shape)
        return replace(found, features=found.features[list(chosen)])

    layout = task.shape.layout
    per_prompt = layout.n_pairs - layout.n_pairs // 2 if component == "context" else len(layout.known)
    test = _drawn(read, "test", n_test, per_prompt)
    train = _drawn(read, "train", n_train, per_prompt, without=test.item)
    result = probe_accuracies(train, test, sizes, method=method, penalty=penalty, seed=seed)
    return cells_of(result, chosen, names, component, cut)


def measure(
    model: Readable,
    train: Batch,
    test: Batch,
    shape: TaskShape,
    *,
    cut: Cut = "self",
    seed: int = 0,
    method: Method = "discriminant",
) -> Scores:
    """All scores on two batches of a task of this shape, with one decomposition of each.

    Those of :func:`probe_components`, and those of the three things that in-context learning waits for.

    ``train`` should hold train items and ``test`` test items (``task.sample(..., split=...)``). Scores that a task
    of this shape does not have are None. Leaves the model as it is and takes no random numbers but those of ``seed``.
    """
    names, sizes = _targets(shape, "weights")
    choice, classes = _targets(shape, "context")
    halves = [(_decompose(model, batch, cut), batch) for batch in (train, test)]
    layers, cells = range(model.n_layers + 1), []
    if names:
        of_items: list[Examples] = []
        for components, batch in halves:
            weights, full = (_examples(components, batch, component, shape) for component in ("weights", "hidden"))
            of_items.append(replace(weights, features=torch.cat((weights.features, full.features))))  # further layers
        items = probe_accuracies(_without(of_items[0], of_items[1].item), of_items[1], sizes, method=method, seed=seed)
        cells += cells_of(items, layers, names, "weights", cut)
        cells += cells_of(items, layers, names, "hidden", cut, skipped=len(layers))
    if choice:
        train_half, test_half = (_examples(components, batch, "context", shape) for components, batch in halves)
        context = probe_accuracies(train_half, test_half, classes, method=method, seed=seed)
        cells += cells_of(context, layers, choice, "context", cut)
    cells += three_things(model, halves, shape, shape.asked, seed=seed)
    if not cells:
        return Scores(cut)
    return Scores.of(cells, [shape.factors[factor].name for factor in shape.asked])


def cells_of(
    result: Accuracies, layers: Sequence[int], names: Sequence[str], component: Component, cut: Cut, skipped: int = 0
) -> list[ProbeScore]:
    """One value for each layer and factor; the rows of these layers come after so many others."""
    return [
        ProbeScore(
            layer=layer,
            factor=name,
            accuracy=float(result.accuracy[row, factor]),
            chance=float(result.chance[factor]),
            control_accuracy=float(result.control[row, factor]),
            error=known_error(result.error[row, factor]),
            n_test=result.n_test,
            n_items=result.n_items,
            component=component,
            cut=cut,
        )
        for row, layer in enumerate(layers, start=skipped)
        for factor, name in enumerate(names)
    ]


def _chosen_layers(model: Readable, component: str, layers: Sequence[int] | None) -> Sequence[int]:
    if component not in get_args(Component):
        raise SpecError(f"unknown component '{component}'{suggest(component, get_args(Component))}")
    existing = range(model.n_layers + 1)
    chosen = existing if layers is None else layers
    for layer in chosen:
        if layer not in existing:
            raise SpecError(f"layers: there is no layer {layer}; this model has 0 (the embedding) to {model.n_layers}")
    return chosen


def _drawn(
    read: Callable[[Split, int, int], Examples],
    split: Split,
    n_examples: int,
    per_prompt: int,
    without: Tensor | None = None,
) -> Examples:
    """Exactly ``n_examples`` examples, none of an item in ``without``; ``read(split, step, prompts)`` gives some."""
    if n_examples < 1:
        raise SpecError(f"n_{split}: must be at least 1 (got {n_examples})")
    n_prompts = math.ceil(n_examples / per_prompt)
    refuse_memory(f"n_{split} {n_examples}", FLOAT * n_examples)  # at least: their width is known after the first draw
    parts: list[Examples] = []
    while sum(len(part.group) for part in parts) < n_examples:
        if len(parts) > MOST_DRAWS * math.ceil(n_prompts / PROMPTS_AT_ONCE):
            raise SpecError(f"n_{split}: no {n_examples} examples whose items are not among the test examples")
        parts.append(_without(read(split, len(parts), min(n_prompts, PROMPTS_AT_ONCE)), without))
        layers, _, width = parts[0].features.shape
        refuse_memory(f"n_{split} {n_examples}", FLOAT * layers * width * n_examples)
    return _first(parts, n_examples)


def _first(parts: Sequence[Examples], n_examples: int) -> Examples:
    """The first examples of several batches; groups of different batches are different groups."""
    offsets = accumulate((len(part.labels) for part in parts), initial=0)
    group = torch.cat([part.group + offset for part, offset in zip(parts, offsets, strict=False)])[:n_examples]
    items = [part.item for part in parts if part.item is not None]
    return Examples(
        torch.cat([part.features for part in parts], 1)[:, :n_examples],
        torch.cat([part.labels for part in parts])[: int(group.max()) + 1],
        group,
        torch.cat(items)[:n_examples] if items else None,
    )


def _examples(components: Components, batch: Batch, component: Component, shape: TaskShape) -> Examples:
    """All examples of a batch: groups are positions (each has its own item), or prompts for the hidden factor."""
    states = {"weights": components.weights, "context": components.context, "hidden": components.hidden}[component]
    if component != "context":
        labels = batch.factors[..., list(shape.probed)].flatten(0, 1).cpu()
        features = batch.inputs.at_known(states).flatten(1, 2)  # (L + 1, N, D)
        return Examples(features.cpu(), labels, torch.arange(len(labels)), batch.item_index.flatten().cpu())
    late = batch.inputs.at_queries(states)[:, :, batch.targets.shape[1] // 2 :]  # (L + 1, B, K / 2, D)
    group = torch.arange(len(batch)).repeat_interleave(late.shape[2])
    choice = torch.tensor([shape.hidden_numbers.index(number) for number in batch.hidden_factor.tolist()])  # (B,)
    return Examples(late.flatten(1, 2).cpu(), choice[:, None], group)


def _without(found: Examples, items: Tensor | None) -> Examples:
    """The examples whose items are not among these: nobody is examined on what the probe was fitted to."""
    if items is None or found.item is None:
        return found
    kept = ~torch.isin(found.item, items) | (found.item < 0)
    if bool(kept.all()):
        return found
    labels = found.labels[found.group][kept]
    return Examples(found.features[:, kept], labels, torch.arange(len(labels)), found.item[kept])


_NOTHING: dict[Component, str] = {
    "context": "all prompts of this task hide the same, so there is nothing to read off",
    **dict.fromkeys(
        ("weights", "hidden"), "the items of this task have no factors that could be read off items not seen before"
    ),
}


def _targets(shape: TaskShape, component: Component) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and numbers of classes of what is probed for; empty where there is nothing."""
    if component == "context":
        return (("hidden factor",), (len(shape.choices),)) if len(shape.choices) > 1 else ((), ())
    factors = [shape.factors[index] for index in shape.probed]
    return tuple(factor.name for factor in factors), tuple(factor.size for factor in factors)


def _decompose(model: Readable, batch: Batch, cut: Cut) -> Components:
    return decompose(model, at_home(model, batch).inputs, cut=cut)
