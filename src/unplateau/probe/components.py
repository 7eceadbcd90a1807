"""Probes of a model on a task: what the weights alone know of an item, and what the context tells of the hidden factor.

What enters: a model and a task (or two batches of it). What leaves: scores of every layer, each with its cut, chance
level and control (Fu et al. 2024, section 4; there one layer and one pass of training, here all and to convergence).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from unplateau.decompose import decompose
from unplateau.errors import SpecError, suggest
from unplateau.models.base import Decomposable
from unplateau.probe.linear import PENALTY, Accuracies, Examples, Method, probe_accuracies
from unplateau.rng import fold_seed
from unplateau.tasks.base import Task
from unplateau.tensors import Batch, Components
from unplateau.types import Cut, ProbeScore, Split, TaskShape

Component = Literal["weights", "context", "hidden"]
HIDDEN_FACTOR = "hidden factor"
PROMPTS_AT_ONCE = 64


def probe_components(
    model: Decomposable,
    task: Task,
    *,
    component: Component = "weights",
    layers: Sequence[int] | None = None,
    cut: Cut = "self",
    n_train: int = 4096,
    n_test: int = 4096,
    seed: int = 0,
    method: Method = "ridge",
    penalty: float = PENALTY,
) -> list[ProbeScore]:
    """Held-out accuracies of linear probes, for every layer in ``layers`` (all of 0 .. L by default) and factor.

    ``weights``: from the weights component at the item positions to every factor of the item there. ``hidden``: the
    same from the full hidden state. ``context``: from the context component to the index of the hidden factor, at the
    item positions of the second half of the prompt, where there has been something to infer it from. ``n_train`` and
    ``n_test`` count examples, that is positions. Train examples come from train items, test examples from held-out
    items, so no item and no prompt is in both. Pure in its arguments. Raises SpecError for what does not exist.
    """
    chosen = _chosen_layers(model, component, layers)
    train = _draw_examples(model, task, component, "train", n_train, chosen, cut, seed)
    test = _draw_examples(model, task, component, "test", n_test, chosen, cut, seed)
    names, sizes = _targets(task.shape, component)
    result = probe_accuracies(train, test, sizes, method=method, penalty=penalty, seed=seed)
    return [
        ProbeScore(
            layer=layer,
            factor=name,
            accuracy=float(result.accuracy[row, factor]),
            chance=float(result.chance[factor]),
            control_accuracy=float(result.control[row, factor]),
            n_test=result.n_test,
            component=component,
            cut=cut,
        )
        for row, layer in enumerate(chosen)
        for factor, name in enumerate(names)
    ]


@dataclass(frozen=True)
class LayerScores:
    """Scores of layers 0 .. L (lists of L + 1 accuracies) under ``cut``, as they are logged during training.

    ``weights_*`` and ``hidden_score`` are means over the factors that a prompt may hide; ``weights_by_factor`` has
    every factor by itself. ``hidden_score`` has the chance level and, up to noise, the control of ``weights_score``.
    """

    cut: Cut
    weights_score: list[float]
    weights_control: list[float]
    weights_chance: float
    hidden_score: list[float]
    context_score: list[float]
    context_control: list[float]
    context_chance: float
    weights_by_factor: dict[str, list[float]]


def score_layers(
    model: Decomposable, train: Batch, test: Batch, *, cut: Cut = "self", seed: int = 0, method: Method = "ridge"
) -> LayerScores:
    """All probes of :func:`probe_components` on two batches, with one decomposition of each.

    ``train`` should hold train items and ``test`` held-out items (``task.sample(..., split=...)``). Leaves the model
    as it is and takes no random numbers but those of ``seed``.
    """
    shape = model.shape
    parts = [(_decompose(model, batch, cut), batch) for batch in (train, test)]
    item_train, item_test = (
        _stack([_examples(found, batch, shape, component) for component in ("weights", "hidden")])
        for found, batch in parts
    )
    context_train, context_test = (_examples(found, batch, shape, "context") for found, batch in parts)
    items = probe_accuracies(item_train, item_test, shape.factor_sizes, method=method, seed=seed)
    sizes = _targets(shape, "context")[1]
    return _layer_scores(
        items, probe_accuracies(context_train, context_test, sizes, method=method, seed=seed), shape, cut
    )


def _layer_scores(items: Accuracies, context: Accuracies, shape: TaskShape, cut: Cut) -> LayerScores:
    weights, hidden = items.accuracy.chunk(2)  # each (L + 1, F)
    asked = list(shape.hidden_factors)  # a score is a mean over the factors that a prompt may hide
    return LayerScores(
        cut=cut,
        weights_score=weights[:, asked].mean(1).tolist(),
        weights_control=items.control.chunk(2)[0][:, asked].mean(1).tolist(),
        weights_chance=float(items.chance[asked].mean()),
        hidden_score=hidden[:, asked].mean(1).tolist(),
        context_score=context.accuracy[:, 0].tolist(),
        context_control=context.control[:, 0].tolist(),
        context_chance=float(context.chance[0]),
        weights_by_factor={name: weights[:, factor].tolist() for factor, name in enumerate(shape.factor_names)},
    )


def _chosen_layers(model: Decomposable, component: str, layers: Sequence[int] | None) -> Sequence[int]:
    if component not in get_args(Component):
        raise SpecError(f"unknown component '{component}'{suggest(component, get_args(Component))}")
    existing = range(model.n_layers + 1)
    chosen = existing if layers is None else layers
    for layer in chosen:
        if layer not in existing:
            raise SpecError(f"layers: there is no layer {layer}; this model has 0 (the embedding) to {model.n_layers}")
    return chosen


def _draw_examples(
    model: Decomposable,
    task: Task,
    component: Component,
    split: Split,
    n_examples: int,
    layers: Sequence[int],
    cut: Cut,
    seed: int,
) -> Examples:
    """Exactly ``n_examples`` examples of these layers, from prompts of the probe's own stream of random numbers."""
    if n_examples < 1:
        raise SpecError(f"n_{split}: must be at least 1 (got {n_examples})")
    n_prompts = math.ceil(n_examples / len(_positions(task.shape, component)))
    batch_size = min(n_prompts, PROMPTS_AT_ONCE)
    parts = []
    for step in range(math.ceil(n_prompts / batch_size)):
        batch = task.sample(step, batch_size=batch_size, split=split, seed=fold_seed(seed, "probe"))
        found = _examples(_decompose(model, batch, cut), batch, task.shape, component)
        parts.append(Examples(found.features[list(layers)], found.labels, found.group))
    features = torch.cat([part.features for part in parts], 1)[:, :n_examples]
    labels = torch.cat([part.labels for part in parts])
    group = torch.cat([part.group + number * len(part.labels) for number, part in enumerate(parts)])[:n_examples]
    return Examples(features, labels[: int(group.max()) + 1], group)


def _examples(components: Components, batch: Batch, shape: TaskShape, component: Component) -> Examples:
    """All examples of a batch: groups are positions (each has its own item), or prompts for the hidden factor."""
    states = {"weights": components.weights, "context": components.context, "hidden": components.hidden}[component]
    positions = _positions(shape, component)
    features = states[:, :, positions.start : positions.stop : positions.step].flatten(1, 2)  # (L + 1, N, D)
    if component != "context":
        labels = batch.factors.flatten(0, 1).cpu()
        return Examples(features.cpu(), labels, torch.arange(len(labels)))
    index = torch.full((len(shape.factor_sizes),), -1)
    index[list(shape.hidden_factors)] = torch.arange(len(shape.hidden_factors))
    group = torch.arange(len(batch)).repeat_interleave(len(positions))
    return Examples(features.cpu(), index[batch.hidden_factor.cpu()][:, None], group)


def _targets(shape: TaskShape, component: Component) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and numbers of classes of what is probed for."""
    if component == "context":
        return (HIDDEN_FACTOR,), (len(shape.hidden_factors),)
    return shape.factor_names, shape.factor_sizes


def _positions(shape: TaskShape, component: Component) -> range:
    queries = shape.query_positions
    return queries[len(queries) // 2 :] if component == "context" else queries


def _stack(parts: Sequence[Examples]) -> Examples:
    """Examples that differ in their features only, as further layers of one."""
    return Examples(torch.cat([part.features for part in parts]), parts[0].labels, parts[0].group)


def _decompose(model: Decomposable, batch: Batch, cut: Cut) -> Components:
    parameter: Tensor | None = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return decompose(model, batch.inputs if parameter is None else batch.to(parameter.device).inputs, cut=cut)
