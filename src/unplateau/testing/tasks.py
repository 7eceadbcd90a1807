"""Laws of tasks: batches are pure, the split is clean, D_fix is fixed, floors are true."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from unplateau.config import Kind, parse, parts_of
from unplateau.errors import demand
from unplateau.tasks.base import Task
from unplateau.tasks.floors import floors
from unplateau.tasks.loss import achieved, expected
from unplateau.tensors import Batch, Prompts, concatenate
from unplateau.testing.calibration import check_bayes, check_no_context

Mapped = Callable[[Batch], tuple[Tensor, Tensor]]


def check_task(task: Task, *, n_prompts: int = 2048, seed: int = 0, mapped: Mapped | None = None) -> None:
    """All laws of a task, on ``n_prompts`` prompts drawn with this seed. Raises LawError for the first broken one.

    ``mapped``: what the mapping of a prompt maps and onto what, so that in D_fix equal keys have equal values; both
    (n,) int64. By default values of the hidden factor are mapped to labels, or what else is hidden to cues. Where
    labels are numbers, it is not asked: in D_fix no label then tells anything of another.
    """
    for _, part in parts_of(task):
        if isinstance(part, Kind):
            part.check()
    _check_purity(task, seed)
    _check_split(task, seed)
    _check_fixed(task, seed, mapped or (_labels_of_values if task.shape.hides_factors else _cues_of_choices))
    _check_floors(task, n_prompts, seed)
    same = parse(type(task), task.model_dump(mode="json")) == task
    demand(same, task, "written as JSON and read back it is the same task")


def _equal(one: Any, other: Any) -> bool:
    """Bit-for-bit equality of tensors and of dataclasses of tensors."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if is_dataclass(one):
        return all(_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    return bool(one == other)


def _check_purity(task: Task, seed: int) -> None:
    alone = task.sample(3, batch_size=4, seed=seed)
    for step in range(3):
        task.sample(step, batch_size=4, seed=seed)
    state = torch.get_rng_state()
    demand(_equal(alone, task.sample(3, batch_size=4, seed=seed)), task, "step k alone equals step k after 0..k-1")
    demand(torch.equal(state, torch.get_rng_state()), task, "sampling consumes no global random numbers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        demand(_equal(alone, task.sample(3, batch_size=4, seed=seed)), task, "global seeds do not change a batch")
    other = (task.sample(4, batch_size=4, seed=seed), task.sample(3, batch_size=4, seed=seed + 1))
    demand(not any(_equal(alone, batch) for batch in other), task, "another step or another seed gives another batch")


def _check_split(task: Task, seed: int) -> None:
    def items(split: Any) -> set[int]:
        batches = [task.sample(step, batch_size=16, split=split, seed=seed) for step in range(8)]
        for batch in batches:
            index = batch.item_index.sort(1).values
            again = (index.diff(dim=1) == 0) & (index[:, 1:] >= 0)
            demand(task.repeats_items or not bool(again.any()), task, "a prompt never repeats an item")
        return {int(index) for batch in batches for index in batch.item_index.flatten() if index >= 0}

    shared = items("train") & items("test")
    demand(not (task.holds_out_items and shared), task, "train and test share no item")


def _check_fixed(task: Task, seed: int, mapped: Mapped) -> None:
    fixed = task.fixed()
    demand(fixed.fixed() == fixed, task, "fixed() of a fixed task is the same task")
    batch = concatenate([fixed.sample(step, batch_size=16, seed=seed) for step in range(8)])
    if task.shape.labels_are_numbers:
        others = fixed.bayes_predictions(replace(batch, targets=batch.targets.flip(0)))
        same = torch.allclose(others, fixed.bayes_predictions(batch), rtol=1e-9)
        demand(same, task, "in fixed() no label tells of another")
        return
    value_of: dict[int, int] = {}
    for key, value in zip(*(part.tolist() for part in mapped(batch)), strict=True):
        demand(value_of.setdefault(key, value) == value, task, "fixed() has one mapping per factor")


def _labels_of_values(batch: Batch) -> tuple[Tensor, Tensor]:
    hidden = batch.hidden_factor[:, None, None].expand(-1, batch.factors.shape[1], 1)
    values = batch.factors.gather(2, hidden)
    return (hidden * (int(batch.factors.max()) + 1) + values).flatten(), batch.targets.flatten()


def _cues_of_choices(batch: Batch) -> tuple[Tensor, Tensor]:
    cues = batch.inputs.cues if isinstance(batch.inputs, Prompts) else None
    return batch.hidden_factor, torch.zeros_like(batch.hidden_factor) if cues is None else cues


def _check_floors(task: Task, n_prompts: int, seed: int) -> None:
    """Predictors read what they may and make the most of it, and the floors are what they achieve on fresh labels."""
    batch = task.sample(0, batch_size=n_prompts, split="test", seed=seed)
    no_context, bayes = task.no_context_predictions(batch), task.bayes_predictions(batch)
    _check_sight(task, batch, no_context, bayes)
    _check_choices(task, batch)
    found = floors(task, n_prompts=n_prompts)
    for name, predictions, *stated in (
        ("no-context", no_context, found.no_context_loss, found.no_context_accuracy),
        ("Bayes", bayes, found.bayes_loss, found.bayes_accuracy),
    ):
        found_now = achieved(predictions, batch.targets)
        for measure, values, claim in zip(("loss", "accuracy"), found_now, stated, strict=True):
            demand((values is None) == (claim is None), task, "there is an accuracy unless labels are numbers")
            if values is None or claim is None:
                continue
            per_prompt = values.mean(1)
            error = 6 * float(per_prompt.std()) / n_prompts**0.5 + 6 * found.bayes_loss_error + 1e-9  # rounding
            close = abs(float(per_prompt.mean()) - fmean(claim)) <= error
            demand(close, task, f"the {name} {measure} equals its Monte-Carlo truth")
    losses, plain = (expected(one, numbers=task.shape.labels_are_numbers)[0].mean(1) for one in (bayes, no_context))
    lead = losses - plain
    ordered = float(lead.mean()) <= 6 * float(lead.std()) / n_prompts**0.5 + 1e-9
    demand(ordered, task, "the Bayes loss is at most the no-context loss")
    check_no_context(task, batch, no_context)
    check_bayes(task, batch, bayes)


def _check_sight(task: Task, batch: Batch, no_context: Tensor, bayes: Tensor) -> None:
    """Neither predictor may see what it predicts, or what the prompt hides."""
    hidden, first = batch.hidden_factor.roll(1), batch.targets.shape[1] // 2
    others = task.no_context_predictions(_relabelled(batch, batch.targets.roll(1, 0), hidden))
    demand(_alike(others, no_context), task, "the no-context predictor reads no label")
    if batch.targets.is_floating_point():
        changed = batch.targets + 1
    else:
        chances, second = no_context.scatter(2, batch.targets[..., None], -1).max(2)
        changed = torch.where(chances > 0, second, batch.targets)  # to a label that this item may have
    late = torch.arange(batch.targets.shape[1]) >= first
    others = task.bayes_predictions(_relabelled(batch, torch.where(late, changed, batch.targets), hidden))
    same = _alike(others[:, : first + 1], bayes[:, : first + 1])
    demand(same, task, "the Bayes predictor reads no label but those of the pairs before, nor what is hidden")
    if not task.shape.layout.cue:
        means = slice(1 if task.shape.labels_are_numbers else None)
        same = _alike(no_context[:, 0, means], bayes[:, 0, means])
        demand(same, task, "before any pair the Bayes prediction is that from the item alone")


def _check_choices(task: Task, batch: Batch) -> None:
    """What a prompt hides comes as often as claimed, and wherever it is thought to be certain it is that."""
    chances = task.choice_chances(batch)
    if chances is None:
        return
    came = (batch.hidden_factor[:, None] == torch.tensor(task.shape.hidden_numbers)).double()[:, None]  # (B, 1, V)
    demand(_alike(chances.sum(2), torch.ones_like(chances[..., 0])), task, "chances of what is hidden sum to 1")
    demand(bool((chances * came).sum(2).all()), task, "what is hidden is never thought impossible")
    surprise = ((came - chances) * chances).sum(2).mean(1)
    error = 6 * float(surprise.std()) / len(batch) ** 0.5 + 1e-9
    demand(abs(float(surprise.mean())) <= error, task, "what is hidden comes as often as it is thought to")


def _relabelled(batch: Batch, targets: Tensor, hidden_factor: Tensor) -> Batch:
    inputs = batch.inputs
    if isinstance(inputs, Prompts):
        inputs = replace(inputs, labels=targets)
    return replace(batch, inputs=inputs, targets=targets, hidden_factor=hidden_factor)


def _alike(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-6, atol=1e-9)
