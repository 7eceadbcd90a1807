"""Observers look at training and cannot touch it: an immutable event in, columns of the history out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from unplateau.decompose import Decomposable, predict
from unplateau.layout import Split
from unplateau.probe.measure import measure
from unplateau.rng import fold_seed
from unplateau.tasks.base import Task
from unplateau.tasks.floors import floors
from unplateau.tasks.loss import prediction_loss
from unplateau.tensors import Batch
from unplateau.train.spec import RunSpec


@dataclass(frozen=True)
class Event:
    """A moment of training: after ``step`` updates the model looks like this copy of it."""

    step: int
    spec: RunSpec
    model: Decomposable
    device: torch.device


class Observer(Protocol):
    """Something that looks every ``every`` steps (0: never), before the first update and after the last included."""

    @property
    def every(self) -> int:
        """Steps between two looks."""

    def __call__(self, event: Event) -> Mapping[str, Any]:
        """Columns to add to the row of this step."""


@dataclass(frozen=True)
class ProgressObserver:
    """Loss, accuracy and progress on fresh prompts of the target task, whatever the strategy trains on."""

    every: int
    n_prompts: int

    def __call__(self, event: Event) -> dict[str, float]:
        """``loss``, ``accuracy`` (numbers have none) and ``progress``, means over all queries."""
        return evaluate(event, "train", self.n_prompts)


@dataclass(frozen=True)
class ProbeObserver:
    """Weights, context and hidden scores of every layer, and progress on held-out items."""

    every: int
    n_prompts: int

    def __call__(self, event: Event) -> dict[str, Any]:
        """The columns of :class:`~unplateau.scores.Scores`."""
        task, seed = event.spec.task, fold_seed(event.spec.seed, "probe prompts")

        def prompts(split: Split) -> Batch:
            return task.sample_on(event.device, event.step, batch_size=self.n_prompts, split=split, seed=seed)

        scores = measure(event.model, prompts("train"), prompts("test"), task.shape, cut=event.spec.cut, seed=seed)
        held_out = evaluate(event, "test", self.n_prompts)
        return {f"test_{name}": value for name, value in held_out.items()} | scores.columns()


@dataclass(frozen=True)
class PromptObserver:
    """The model's guesses on two fixed held-out prompts, for the report."""

    every: int

    def __call__(self, event: Event) -> dict[str, Any]:
        """``guesses``: (2, K) labels; nothing where labels are numbers."""
        if event.spec.task.shape.labels_are_numbers:
            return {}
        logits = predict(event.model, shown_prompts(event.spec.task).to(event.device).inputs).logits
        return {"guesses": logits.argmax(2).tolist()}


def default_observers(spec: RunSpec) -> tuple[Observer, ...]:
    """What every run records unless told otherwise."""
    config = spec.train
    return (
        ProgressObserver(config.eval_every, config.eval_prompts),
        ProbeObserver(config.probe_every, config.probe_prompts),
        PromptObserver(config.probe_every),
    )


def due(observers: Sequence[Observer], step: int, last: int) -> list[Observer]:
    """The observers that look at this step."""
    return [one for one in observers if one.every and (step % one.every == 0 or step == last)]


def shown_prompts(task: Task) -> Batch:
    """The two held-out prompts that reports show, the same for all runs of a task."""
    return task.sample(0, batch_size=2, split="test", seed=fold_seed(0, "shown prompts"))


def evaluate(event: Event, split: Split, n_prompts: int) -> dict[str, float]:
    """``loss``, ``accuracy`` and ``progress`` on fresh prompts of the target task over this half of the items."""
    seed = fold_seed(event.spec.seed, f"evaluate/{split}/{n_prompts}")
    task = event.spec.task
    batch = task.sample_on(event.device, event.step, batch_size=n_prompts, split=split, seed=seed)
    loss, accuracy = loss_and_accuracy(predict(event.model, batch.inputs).logits, batch.targets)
    progress = floors(task).progress_of(loss=loss, accuracy=accuracy)
    return {"loss": loss, **({} if accuracy is None else {"accuracy": accuracy}), "progress": progress}


def loss_and_accuracy(logits: Tensor, targets: Tensor) -> tuple[float, float | None]:
    """Mean loss and accuracy over all queries; ``logits`` (B, K, C), ``targets`` (B, K). Numbers have no accuracy."""
    loss = float(prediction_loss(logits, targets))
    return loss, None if targets.is_floating_point() else float((logits.argmax(2) == targets).double().mean())
