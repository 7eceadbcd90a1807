"""How far a model has come on held-out prompts, and what its progress is not.

Progress lies between two exact predictors on the same prompts, so that luck with these is no progress. Where every
prompt has labels of its own, some can be had by naming those that have come at all, whatever their items; and what was
learnt may hold for items of the training only.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unplateau.decompose import Readable
from unplateau.errors import DivergedError
from unplateau.layout import Split
from unplateau.plateau.progress import COMPLETION, ESCAPE
from unplateau.probe.diagnosis import ERRORS, Stage, Standing
from unplateau.probe.three_things import at_home
from unplateau.rng import fold, fold_seed
from unplateau.tasks.base import Sampler, Task, Written, exact_task
from unplateau.tasks.loss import achieved
from unplateau.tensors import Batch, Prompts

AT_ONCE = 64
WORSE = -0.2
"""Progress below which a model is on no plateau: as far from it as one that escapes."""
MOST_LOST = 0.1
"""Share of its gain that a model may lose, when items are dealt anew, that does not look at them."""


@dataclass(frozen=True)
class _Asked:
    """What is asked whom: ``task`` as the model reads it, ``exact`` as its exact predictors do."""

    model: Readable
    task: Sampler
    exact: Task
    n_prompts: int
    seed: int

    def batches(self, split: Split) -> Iterator[tuple[Batch, Batch]]:
        """The same prompts for the exact predictors and for the model: a TokenTask writes its task in words."""
        for step in range(-(-self.n_prompts // AT_ONCE)):
            seed = fold_seed(self.seed, "diagnose")
            batch, shown = (
                one.sample(step, batch_size=AT_ONCE, split=split, seed=seed) for one in (self.exact, self.task)
            )
            yield batch, shown

    def heights(self, batch: Batch, shown: Batch) -> Tensor | None:
        """(3, B, K): what progress is read from, of the model and of the no-context and the Bayes-optimal predictor."""
        if (predictions := self.predictions(shown)) is None:
            return None
        exact = (self.exact.no_context_predictions(batch), self.exact.bayes_predictions(batch))
        return torch.stack([self.height(batch, one) for one in (predictions, *exact)])

    def predictions(self, shown: Batch) -> Tensor | None:
        """(B, K, C) of the model; None where it predicts something else than the task's labels."""
        with torch.no_grad():
            logits = self.model(at_home(self.model, shown).inputs).logits.cpu()
        numbers, n_labels = self.task.shape.labels_are_numbers, self.task.shape.n_labels
        if n_labels < logits.shape[-1] and isinstance(self.task, Written):
            logits = logits[..., list(self.task.label_tokens)]
        if not bool(logits.isfinite().all()):
            raise DivergedError("diagnose: the predictions hold NaN or infinity; the model has diverged")
        if logits.shape[-1] != (1 if numbers else n_labels):
            return None
        return logits if numbers else logits.double().softmax(-1)

    def height(self, batch: Batch, predictions: Tensor) -> Tensor:
        """(B, K): the less, the better."""
        loss, accuracy = achieved(predictions, batch.targets)
        return (loss if accuracy is None or self.exact.progress == "loss" else -accuracy).double()


def standing(model: Readable, task: Sampler, *, n_prompts: int, seed: int = 0) -> Standing:
    """Of a model on a task; unknown where it is without exact predictors, or the model without predictions of labels.

    Raises DivergedError for predictions that are not finite.
    """
    if (exact := exact_task(task)) is None:
        return Standing("unknown")
    asked = _Asked(model, task, exact, n_prompts, seed)
    parts, hidden = [], []
    for batch, shown in asked.batches("test"):
        if (found := asked.heights(batch, shown)) is None:
            return Standing("unknown")
        parts.append(found)
        hidden.append(batch.hidden_factor)
    queries, choice = torch.cat(parts, 1), torch.cat(hidden)  # (3, N, K), (N,)
    heights = queries.mean(2)
    if (progress := _between(heights)) is None:
        return Standing("nothing to learn")
    stage: Stage = "plateau" if progress < ESCAPE else "on its way" if progress < COMPLETION else "arrived"
    if progress + ERRORS * _error(heights) < WORSE:
        stage = "before"
    told = Standing(stage, progress, *_by_choice(task, heights, choice))
    if stage != "arrived" and (by_heart := _by_heart(asked, heights)) is not None:
        return replace(told, stage="by heart", by_heart=by_heart)
    if stage == "on its way" and (by_labels := _by_labels(asked, queries[..., -1])) is not None:
        return replace(told, stage="plateau", by_labels=by_labels)
    return told


def _by_choice(task: Sampler, heights: Tensor, choice: Tensor) -> tuple[dict[str, float], dict[str, float]]:
    """Of the prompts that hide each of several things, with its standard error."""
    shape = task.shape
    if len(shape.choices) < 2:
        return {}, {}
    named = zip(shape.choices, shape.hidden_numbers, strict=True)
    each = {name: heights[:, choice == number] for name, number in named}
    known = {name: value for name, of_one in each.items() if (value := _between(of_one)) is not None}
    return known, {name: _error(each[name]) for name in known}


def _by_heart(asked: _Asked, held_out: Tensor) -> float | None:
    """Progress on other prompts of the training's items, if that on held-out ones is less than half of it.

    Not where a table says what each item is called: of those held out nobody could know it.
    """
    shape, tables = asked.exact.shape, getattr(asked.exact, "n_mappings", None) is not None
    if not asked.exact.holds_out_items or (tables and any(shape.factors[one].identity for one in shape.asked)):
        return None
    parts = [found.mean(2) for one in asked.batches("train") if (found := asked.heights(*one)) is not None]
    of_known = torch.cat(parts, 1)
    known, new = _between(of_known), _between(held_out)
    if known is None or new is None or known < ESCAPE:
        return None
    error = math.hypot(_error(of_known) / 2, _error(held_out))
    return known if known / 2 - new > ERRORS * error else None


def _by_labels(asked: _Asked, last: Tensor) -> float | None:
    """Progress of the last query with the items before it dealt anew, if hardly any of it is lost by that.

    ``last`` (3, N): its heights as they are. Asked only where labels mean nothing but what the pairs of a prompt say.
    """
    shape = asked.exact.shape
    told = getattr(asked.exact, "n_mappings", 1) is not None or shape.n_cues or shape.layout.in_lists
    if told or asked.exact is not asked.task or shape.layout.n_pairs < 3:
        return None
    parts = []
    for step, (batch, _) in enumerate(asked.batches("test")):
        if (predictions := asked.predictions(_dealt(batch, step, asked.seed))) is None:
            return None
        parts.append(asked.height(batch, predictions)[:, -1])
    (model, start, end), dealt_anew = last, torch.cat(parts)
    lost, gained = dealt_anew - model, start - model
    if lost.mean() + ERRORS * lost.std() / math.sqrt(len(lost)) > MOST_LOST * gained.mean():
        return None
    return _between(torch.stack((dealt_anew, start, end)))


def _dealt(batch: Batch, step: int, seed: int) -> Batch:
    """All items but the last in another order, while the labels stay where they are."""
    assert isinstance(batch.inputs, Prompts)
    items = batch.inputs.items
    order = torch.rand(items.shape[0], items.shape[1] - 1, generator=fold(seed, "dealt", step)).argsort(1)
    moved = items[torch.arange(len(items))[:, None], order]
    return replace(batch, inputs=replace(batch.inputs, items=torch.cat((moved, items[:, -1:]), 1)))


def _between(heights: Tensor) -> float | None:
    """0 at the no-context predictor, 1 at the Bayes-optimal one; None below two prompts, or if both are alike."""
    if heights.shape[1] < 2:
        return None
    model, start, end = heights.mean(1).tolist()
    return None if math.isclose(start, end, rel_tol=1e-6) else (start - model) / (start - end)


def _error(heights: Tensor) -> float:
    """Standard error of a progress, which is a ratio of two means over the same prompts."""
    model, start, end = heights
    gained, whole = start - model, start - end
    left = gained - gained.mean() / whole.mean() * whole
    return float(left.std() / math.sqrt(len(left)) / whole.mean().abs())
