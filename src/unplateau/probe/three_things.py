"""The three things that in-context learning waits for, each as a score of every layer or block of a model.

Items stand out (few_shot), labels are bound to their items (binding) and kept beside them (few_shot, of labels),
queries look at the labels of items like their own (looking): what MatchLoss, BindLoss, KeepLoss and LookLoss ask for,
measured where nobody asked.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unplateau.decompose import AttentionReader, Attentive, Readable, decompose
from unplateau.errors import DivergedError
from unplateau.layout import Cut, Split, TaskShape
from unplateau.limits import FLOAT, refuse_memory
from unplateau.probe.errors import known_error, of_layers
from unplateau.probe.few_shot import FewShot, few_shot_scores
from unplateau.probe.labels import Halves, alike_in_hidden, labels_are_bound, labels_are_kept, labels_there
from unplateau.probe.looking import Gaze, look_scores
from unplateau.rng import fold_seed
from unplateau.scores import ProbeScore
from unplateau.tasks.base import Sampler
from unplateau.tensors import Batch, Components, Inputs, Prompts, gathered

PROMPTS = 64
"""Prompts of each half, unless a caller wants others: about a thousand items, which are known to two per cent."""
AT_ONCE = 32
"""Prompts of which all attention is kept at a time."""
SPLITS: tuple[Split, Split] = ("train", "test")


def probe_three_things(
    model: Readable, task: Sampler, *, cut: Cut = "self", n_prompts: int = PROMPTS, seed: int = 0
) -> list[ProbeScore]:
    """All three of every layer, on so many test prompts; maps and heads are chosen on as many others.

    What a task or a model does not have is left out. Pure in its arguments. Raises DivergedError for states that are
    not finite.
    """
    halves = taken_apart(model, task, cut=cut, n_prompts=n_prompts, seed=seed)
    return three_things(model, halves, task.shape, range(len(task.shape.factors)), seed=seed)


def taken_apart(model: Readable, task: Sampler, *, cut: Cut, n_prompts: int, seed: int) -> Halves:
    """The prompts that these scores are of, train and test, each with what the model makes of it."""
    refuse_prompts(model, task, n_prompts)
    halves = []
    for split in SPLITS:
        batch = task.sample(0, batch_size=n_prompts, split=split, seed=fold_seed(seed, "three things"))
        batch = at_home(model, batch)
        halves.append((decompose(model, batch.inputs, cut=cut), batch))
    return halves


def refuse_prompts(model: Readable, task: Sampler, n_prompts: int) -> None:
    """Raises SpecError for more prompts than this machine can hold, their states counted as if they had one number."""
    states = 3 * (model.n_layers + 1) * task.shape.layout.n_positions
    refuse_memory(f"{n_prompts} prompts", 2 * n_prompts * (task.shape.prompt_bytes + FLOAT * states))


def at_home(model: Readable, batch: Batch) -> Batch:
    """The batch where the model's weights are."""
    parameter: Tensor | None = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return batch if parameter is None else batch.to(parameter.device)


def three_things(
    model: Readable, halves: Halves, shape: TaskShape, factors: Sequence[int], *, seed: int = 0
) -> list[ProbeScore]:
    """The same on prompts that have been taken apart; whether items stand out by these factors."""
    for components, _ in halves:
        if not bool(components.hidden.isfinite().all()):
            raise DivergedError("probe: the hidden states hold NaN or infinity; the model has diverged")
    halves = [(components, batch.to(components.hidden.device)) for components, batch in halves]
    stand_out = items_stand_out(halves[1], shape, factors, seed=seed)
    bound = labels_are_bound(model, halves, shape, seed=seed)
    return [
        *stand_out,
        *bound,
        *labels_are_kept(model, halves[1], shape, seed=seed),
        *queries_look(model, halves, shape),
    ]


def items_stand_out(
    test: tuple[Components, Batch], shape: TaskShape, factors: Sequence[int], *, seed: int = 0
) -> list[ProbeScore]:
    """Few-shot accuracy (``few-shot``) and share of the variance (``share``) of every layer and these factors.

    From the weights components of test items. A factor that says which item it is is told among items that may be
    equal; all others among items that are not. Factors of which no two items of a prompt share a value are left out.
    """
    components, batch = test
    states = batch.inputs.at_known(components.weights)  # (L + 1, B, M, D)
    own = torch.arange(batch.item_index.numel()).view_as(batch.item_index)
    cells = []
    for identity, item in ((True, own), (False, batch.item_index)):
        chosen = [factor for factor in factors if shape.factors[factor].identity is identity]
        if chosen:
            found = few_shot_scores(states, batch.factors[..., chosen], item, seed=seed)
            names = [shape.factors[factor].name for factor in chosen]
            cells += _of_factors(found, names, components.cut)
    return cells


def _of_factors(found: FewShot, names: Sequence[str], cut: Cut) -> list[ProbeScore]:
    cells = []
    for number, name in enumerate(names):
        if not int(found.n_test[number]):
            continue
        counts: dict[str, Any] = {"n_test": int(found.n_test[number]), "n_items": int(found.n_items[number])}
        where: dict[str, Any] = {"factor": name, "component": "weights", "cut": cut, **counts}
        chance = float(found.chance[number])
        each = (found.accuracy[:, number], found.control[:, number], found.error[:, number], found.share[:, number])
        for layer, (accuracy, control, error, share) in enumerate(zip(*each, strict=True)):
            told = ProbeScore(
                layer,
                accuracy=float(accuracy),
                chance=chance,
                control_accuracy=float(control),
                error=known_error(error),
                **where,
            )
            shared = replace(told, accuracy=float(share), chance=0.0, control_accuracy=0.0, error=None)
            cells += [replace(told, kind="few-shot"), replace(shared, kind="share")]
    return cells


def queries_look(model: Readable, halves: Halves, shape: TaskShape) -> list[ProbeScore]:
    """Look score (``look``) of every block; none where a model does not show its attention.

    Answers chosen from lists all share what the prompt hides: there every earlier one is right.
    """
    train, test = (_gaze(model, components.hidden, batch, shape) for components, batch in halves)
    if train is None or test is None or not bool(test.right.any()):
        return []
    found = look_scores(train, test)
    each, cut = (found.score, found.control, found.error), halves[0][0].cut
    return of_layers(*each, chance=found.chance, n_test=found.n_test, kind="look", factor="label", cut=cut, first=1)


def _gaze(model: Readable, hidden: Tensor, batch: Batch, shape: TaskShape) -> Gaze | None:
    """None where it is not known where blocks look."""
    in_lists, parts, before = shape.layout.in_lists, [], []
    for start in range(0, len(batch), AT_ONCE):  # what every head attends to is large
        rows = torch.arange(start, min(start + AT_ONCE, len(batch)), device=batch.targets.device)
        part = batch.map(partial(torch.index_select, dim=0, index=rows)).inputs
        with torch.no_grad():
            shares = _attention(model, part, hidden[:, rows])
        if shares is None:
            return None
        parts.append(_to_labels(shares, part))
        if in_lists and isinstance(part, Prompts):
            before.append(part.at_queries(part.at_queries(shares).mT).mT)
    attention = torch.cat(parts, 1).cpu()  # (L, B, H, K, K), or one label less where the last one is not there
    n_pairs, n_labels = attention.shape[3:]
    right = torch.ones(n_pairs, n_labels, dtype=torch.bool).tril(-1).expand(len(batch), -1, -1)
    if not in_lists and not shape.labels_are_numbers:
        right = right & alike_in_hidden(batch, shape).cpu()[..., :n_labels]
    return Gaze(
        attention,
        right,
        _visible(batch.inputs).cpu(),
        beside=torch.cat(before, 1).cpu() if before else None,
        numbers=batch.targets.cpu() if shape.labels_are_numbers else None,
    )


def _attention(model: Readable, inputs: Inputs, hidden: Tensor) -> Tensor | None:
    """(L, B, H, T, T)."""
    if isinstance(model, Attentive):
        return torch.stack([model.attention_weights(hidden[at - 1], at) for at in range(1, len(hidden))])
    return model.attentions(inputs) if isinstance(model, AttentionReader) else None


def _to_labels(shares: Tensor, inputs: Inputs) -> Tensor:
    """(L, B, H, T, T) -> (L, B, H, K, K or K - 1): from queries to labels."""
    if isinstance(inputs, Prompts):
        return inputs.at_labels(inputs.at_queries(shares).mT).mT
    assert inputs.queries is not None
    by_head = gathered(shares.transpose(1, 2), inputs.queries)  # (L, H, B, K, T)
    there = int(labels_there(inputs).all(0).sum())
    return gathered(by_head.mT, inputs.queries[:, :there] + 1).mT.transpose(1, 2)


def _visible(inputs: Inputs) -> Tensor:
    """(B, K): how many positions a query may look at."""
    if isinstance(inputs, Prompts):
        return torch.tensor(inputs.layout.queries).expand(len(inputs.labels), -1) + 1
    assert inputs.queries is not None
    return inputs.positions().gather(1, inputs.queries) + 1
