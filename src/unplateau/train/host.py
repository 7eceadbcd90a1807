"""Our own loop as a host of loss terms: what a term sees of a batch of a task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unplateau.decompose import Attentive, Decomposable
from unplateau.errors import SpecError
from unplateau.layout import Cut, TaskShape, Tokens
from unplateau.models.initialise import Init, initialise_linear
from unplateau.rng import apart, fold
from unplateau.strategies.base import Ask, Host, ItemStates, LabelStates, Looks, LossTerm, Seen
from unplateau.strategies.functional import earlier
from unplateau.tasks.base import Task
from unplateau.tasks.loss import prediction_loss
from unplateau.tensors import Batch, Prediction, Prompts
from unplateau.train.given import Given, Kept


class FactorHead(nn.Module):
    """One linear read-out for each of several factors."""

    def __init__(self, width: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.linear = nn.Linear(width, sum(sizes))

    def loss(self, states: Tensor, classes: Tensor) -> Tensor:
        """Mean cross-entropy over items and factors; ``states`` (N, D), ``classes`` (N, F)."""
        logits = self.linear(states).split(self.sizes, dim=-1)
        losses = [functional.cross_entropy(one, truth) for one, truth in zip(logits, classes.unbind(-1), strict=True)]
        return torch.stack(losses).mean()


class NumberHead(nn.Linear):
    """A linear read-out of one number."""

    def loss(self, states: Tensor, classes: Tensor) -> Tensor:
        """Mean squared error; ``states`` (N, D), ``classes`` (N, 1) float: the numbers."""
        return prediction_loss(self(states), classes[:, 0])


class ClassHead(nn.Linear):
    """A linear read-out of one class."""

    def loss(self, states: Tensor, classes: Tensor) -> Tensor:
        """Mean cross-entropy; ``states`` (N, D), ``classes`` (N, 1)."""
        return functional.cross_entropy(self(states), classes[:, 0])


@dataclass(frozen=True)
class TaskHost:
    """A model in training on a task of this shape."""

    n_layers: int
    width: int
    shape: TaskShape
    shows_attention: bool

    @property
    def refused(self) -> Mapping[str, str]:
        """What the items or the prompts of this task do not have."""
        layout, items = self.shape.layout, self.shape.items
        one_position = layout.item_length == 1 or layout.in_lists
        refused: dict[str, str] = {}
        if not self.shape.factors:
            refused |= dict.fromkeys(("hidden", "all"), "the items of this task have no factors to predict")
        if not (isinstance(items, Tokens) and one_position and items.at_once == 1):
            refused["identity"] = "factors 'identity' needs items that are one token each (words)"
        if len(self.shape.choices) < 2:
            refused["choice"] = "the prompts of this task hide one factor at most, so there is nothing to predict"
        if layout.in_lists and not self.shape.labels_are_tokens:
            why = "which item of a list a label stands for is not known"
            refused |= {"items": why, "labels": why, "attention": why}
        if not self.shows_attention:
            refused["attention"] = "this model does not show where its blocks look (attention_weights)"
        return refused

    def read_out(self, ask: Ask) -> nn.Module:
        """Linear read-outs."""
        shape = self.shape
        if ask == "label" and shape.labels_are_numbers:
            return NumberHead(self.width, 1)
        if ask in ("choice", "label"):
            return ClassHead(self.width, shape.n_labels if ask == "label" else shape.n_hidden)
        if ask == "identity":
            assert isinstance(shape.items, Tokens)
            return FactorHead(self.width, [shape.items.vocabulary])
        return FactorHead(self.width, [shape.factor_sizes[factor] for factor in _factors(shape, ask)])


@dataclass(frozen=True)
class BatchView:
    """One step of one term: ``passed`` is what ``model`` made of ``batch``, which ``task`` was sampled for."""

    term: LossTerm
    model: Decomposable
    task: Task
    batch: Batch
    passed: Prediction
    given: Given
    seed: int
    head: Any

    @property
    def step(self) -> int:
        """Updates made before; a step that is recorded is replayed with another number."""
        if isinstance(self.given, Kept):
            raise SpecError(f"{type(self.term).__name__}: reads the step, so it cannot be recordable")
        return self.given.step

    def final(self, ask: Ask = "hidden") -> Seen:
        """At the known positions for what is asked of items, at the queries for what is asked of prompts."""
        self.term.check_view("final", ask, self.model.n_layers, self.model.n_layers)
        batch, passed = self.batch, self.passed
        if ask in ("choice", "label"):
            wanted = batch.targets if ask == "label" else batch.hidden_factor[:, None].expand_as(batch.targets)
            return self._seen(passed.at_queries, wanted[..., None])
        of_items = not self.task.shape.layout.in_lists  # which are known where their labels are predicted
        return self._seen(passed.at_queries if of_items else batch.inputs.at_known(passed.last()), self._classes(ask))

    def weights(
        self, layer: int, cut: Cut, ask: Ask = "hidden", *, rows: int | None = None, items: int | None = None
    ) -> Seen:
        """At the known positions of these rows, or of fresh items, each at a random item position."""
        self.term.check_view("weights", ask, layer, self.model.n_layers)
        if ask in ("choice", "label"):
            name = type(self.term).__name__
            raise SpecError(f"{name}: the weights component of an item says nothing of the {ask} of its prompt")
        if items is None:
            inputs = self.batch.inputs.map(lambda tensor: tensor[:rows])
            return self._seen(self.model.component(inputs, cut, layer), self._classes(ask)[:rows])
        task, seed = self.task, self.seed

        def drawn(step: int) -> tuple[Tensor, Tensor, Tensor]:
            alone = task.sample_items(step, n_items=items, seed=seed)
            positions = _positions(task.shape, items, fold(seed, "component loss positions", step))
            factors = alone.factors[:, _factors(task.shape, ask)] if ask != "identity" else alone.inputs[:, -1] - 1
            return alone.inputs, positions, factors

        alone, positions, classes = self.given.tensors(drawn)
        states = self.model.component_alone(alone, positions, cut, layer)
        return self._seen(states[:, None], classes[:, None])

    @property
    def n_layers(self) -> int:
        """Of the model."""
        return self.model.n_layers

    @property
    def n_rows(self) -> int:
        """Of the batch."""
        return len(self.batch.targets)

    def items(self, layer: int, *, rows: int | None = None, elsewhere: bool = False) -> ItemStates:
        """At the known positions of these rows, or each item at a random one of them."""
        self.term.check_view("items", "hidden", layer, self.model.n_layers)
        prompts, shape = self._prompts(rows), self.task.shape
        cut: Cut = "item" if shape.layout.item_length > 1 else "self"
        if elsewhere:
            items = prompts.items.flatten(1, 2)[:, :, None] if shape.layout.in_lists else prompts.items
            n_items, seed, stream = items.shape[0] * items.shape[1], self.seed, f"items elsewhere/{self.term.name}"
            (places,) = self.given.tensors(lambda step: [_positions(shape, n_items, fold(seed, stream, step))])
            states = self.model.component_alone(items.flatten(0, 1), places, cut, layer)
            states = states.unflatten(0, items.shape[:2])
        else:
            states = self.model.component(prompts, cut, layer)
        labels, seen = prompts.labels, _all_earlier(prompts)
        if shape.layout.in_lists:  # of a list of words, one is the label and the others are not
            length, words = shape.layout.item_length, prompts.items.flatten(2)
            labels = (words == labels[..., None] + 1).long().flatten(1)
            seen = seen.repeat_interleave(length, 1).repeat_interleave(length, 2)
        return ItemStates(self.model.normalise(states), labels, seen)

    def labels(self, layer: int, *, rows: int | None = None) -> LabelStates:
        """At the labels of these rows."""
        self.term.check_view("labels", "hidden", layer, self.model.n_layers)
        prompts = self._prompts(rows)
        states = prompts.at_labels(self.passed.after(layer)[: len(prompts.labels)])
        return LabelStates(self.model.normalise(states), self._owner(prompts), prompts.labels, _all_earlier(prompts))

    def attention(self, layer: int, *, rows: int | None = None) -> Looks:
        """From the queries to the labels of these rows."""
        self.term.check_view("attention", "hidden", layer, self.model.n_layers)
        prompts, model = self._prompts(rows), self.model
        if not isinstance(model, Attentive):
            raise SpecError(f"{type(self.term).__name__}: {type(model).__name__} has no attention_weights")
        weights = model.attention_weights(self.passed.after(layer - 1)[: len(prompts.labels)], layer)
        at_queries = prompts.at_queries(weights)  # (R, H, K, T)
        to_labels = prompts.at_labels(at_queries.transpose(2, 3)).transpose(2, 3)
        # all answers that were chosen from lists share what the prompt hides
        labels = torch.zeros_like(prompts.labels) if prompts.layout.in_lists else prompts.labels
        return Looks(to_labels, labels, labels, _all_earlier(prompts))

    def _prompts(self, rows: int | None) -> Prompts:
        prompts = self.batch.inputs.map(lambda tensor: tensor[:rows])
        assert isinstance(prompts, Prompts)
        return prompts

    def _owner(self, prompts: Prompts) -> Tensor:
        """(R, K, M) bool: the items that equal the one before a label; in lists, the words that are the label."""
        items = prompts.items
        if self.task.shape.layout.in_lists:
            return items.flatten(1)[:, None] == prompts.labels[..., None] + 1
        return (items[:, :, None] == items[:, None]).flatten(3).all(3)

    def _classes(self, ask: Ask) -> Tensor:
        """(B, M, A): what is asked of the items of the batch."""
        if ask != "identity":
            return torch.stack([self.batch.factors[..., one] for one in _factors(self.task.shape, ask)], -1)
        assert isinstance(self.batch.inputs, Prompts)
        return self.batch.inputs.items[..., :1].flatten(1, 2) - 1

    def _seen(self, states: Tensor, classes: Tensor) -> Seen:
        """From (R, P, D) and (R, P, A)."""
        row = torch.arange(len(states), device=states.device).repeat_interleave(states.shape[1])
        return Seen(self.model.normalise(states).flatten(0, 1), classes.flatten(0, 1), row)


def _all_earlier(prompts: Prompts) -> Tensor:
    return earlier(torch.ones_like(prompts.labels, dtype=torch.bool))


def _positions(shape: TaskShape, n_items: int, generator: torch.Generator) -> Tensor:
    """(N,): a random known position for each item."""
    known = torch.tensor(shape.layout.known)
    return known[torch.randint(len(known), (n_items,), generator=generator)]


def _factors(shape: TaskShape, ask: Ask) -> list[int]:
    return list(shape.asked if ask == "hidden" else range(len(shape.factors)))


def head_key(name: str) -> str:
    """A key that a ``ModuleDict`` takes: without dots, and no name of an attribute of its own, such as ``values``."""
    key = name.replace(".", "_")
    return f"{key}[]" if hasattr(nn.ModuleDict(), key) else key


def build_head(term: LossTerm, host: Host, *, init: Init, seed: int) -> nn.Module:
    """The head of a term. Its weights are a function of term and seed, and touch nobody else's random numbers."""
    with apart(seed, f"head/{term.name}"):
        head = term.build_head(host)
    generator = fold(seed, f"head/{term.name}")
    for module in head.modules():
        if isinstance(module, nn.Linear):
            initialise_linear(module, init, generator)
    return head
