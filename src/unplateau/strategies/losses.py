"""Loss terms that repair the weights component, and the control that does not.

What enters: the state of one step. What leaves: a scalar loss in nats. The read-out heads live for the training only.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from unplateau.layout import Cut, TaskShape
from unplateau.rng import fold
from unplateau.strategies.base import LossTerm, StepState
from unplateau.tensors import Batch, Prompts

Factors = Literal["hidden", "all", "identity"]
_FACTORS_HELP = (
    "what is read: the factors that a prompt may hide, all of the item's, or, without any annotation, which word it is"
)


class FactorHead(nn.Module):
    """One linear read-out for each of several factors."""

    def __init__(self, width: int, shape: TaskShape, which: Factors) -> None:
        super().__init__()
        self.factors = list(shape.hidden_factors if which == "hidden" else range(len(shape.factor_sizes)))
        self.sizes = [shape.factor_sizes[factor] for factor in self.factors]
        if which == "identity":  # one factor, with as many values as there are words
            self.factors, self.sizes = [0], [shape.vocabulary]
        self.linear = nn.Linear(width, sum(self.sizes))

    def loss(self, hidden: Tensor, factors: Tensor) -> Tensor:
        """Mean cross-entropy over items and factors; ``hidden`` (..., D), ``factors`` (..., F)."""
        logits = self.linear(hidden).flatten(0, -2).split(self.sizes, dim=-1)
        targets = factors[..., self.factors].flatten(0, -2).unbind(-1)
        losses = [functional.cross_entropy(one, target) for one, target in zip(logits, targets, strict=True)]
        return torch.stack(losses).mean()


class _FactorLoss(LossTerm):
    """What the weights losses share: what they read, and the head that they read it with."""

    factors: Factors = Field("hidden", description=_FACTORS_HELP)

    def check_task(self, shape: TaskShape) -> None:
        """The identity of an item can be read where it is one token."""
        one_position = shape.item_length == 1 or shape.factors_at == "position"
        one_token = shape.vocabulary and one_position and shape.tokens_per_position == 1
        if self.factors == "identity" and not one_token:
            raise ValueError(f"{type(self).__name__}: factors 'identity' needs items that are one token each (words)")

    def build_head(self, width: int, shape: TaskShape) -> nn.Module:
        """A linear read-out per factor."""
        return FactorHead(width, shape, self.factors)

    def factors_of(self, batch: Batch) -> Tensor:
        """(B, M, F): the factors of the batch's items, or (B, M, 1) which words they are."""
        if self.factors != "identity":
            return batch.factors
        assert isinstance(batch.inputs, Prompts)
        return batch.inputs.items[..., :1].flatten(1, 2) - 1


class WeightsLoss(_FactorLoss):
    """Extra weights loss: predict the factors of the current item from the final hidden state (Fu et al. 2024, 5.3)."""

    weight: float = Field(0.1, ge=0, description="factor of this term in the loss (lambda)")

    def value(self, state: StepState) -> Tensor:
        """Cross-entropy at the item positions of all rows."""
        assert isinstance(state.head, FactorHead)
        states = state.model.at_items(state.output.hidden[-1], state.batch.inputs)
        return state.head.loss(state.model.normalise(states), self.factors_of(state.batch))


class ComponentLoss(_FactorLoss):
    """Predict the factors from the *weights component* of a chosen layer: beyond the paper.

    The weights component needs no context, so the term can run on the whole batch (default), on its first ``rows``
    prompts, or on ``items`` items drawn alone at random item positions, for a fraction of the cost.
    """

    weight: float = Field(1.0, ge=0, description="factor of this term in the loss (lambda)")
    layer: int = Field(2, ge=1, description="block after which the component is read")
    cut: Cut = Field("self", description="what 'no access to other positions' means")
    rows: int | None = Field(None, ge=1, description="prompts of the batch to use; null: all of them")
    items: int | None = Field(None, ge=1, description="items drawn alone instead of prompts; null: use prompts")

    @model_validator(mode="after")
    def _rows_or_items(self) -> Self:
        if self.rows is not None and self.items is not None:
            raise ValueError("give rows (prompts of the batch) or items (drawn alone), not both")
        return self

    def check_model(self, n_layers: int) -> None:
        """The layer must exist."""
        if self.layer > n_layers:
            raise ValueError(f"ComponentLoss: layer {self.layer} is beyond the model's {n_layers} layers")

    def value(self, state: StepState) -> Tensor:
        """Cross-entropy of the read-out from the normalised weights component."""
        assert isinstance(state.head, FactorHead)
        component, factors = self._items_alone(state) if self.items else self._items_of_batch(state)
        return state.head.loss(state.model.normalise(component), factors)

    def _items_of_batch(self, state: StepState) -> tuple[Tensor, Tensor]:
        """Components (R, M, D) at the item positions of the first prompts, with their factors."""
        inputs = state.batch.inputs.map(lambda tensor: tensor[: self.rows])
        return state.model.states_at_items(inputs, self.cut, self.layer), self.factors_of(state.batch)[: self.rows]

    def _items_alone(self, state: StepState) -> tuple[Tensor, Tensor]:
        """Components (N, 1, D) of fresh items, each at a random item position."""
        assert self.items is not None
        items = state.task.sample_items(state.step, n_items=self.items, seed=state.seed)
        candidates = torch.tensor(state.model.shape.item_positions)
        generator = fold(state.seed, "component loss positions", state.step)
        positions = candidates[torch.randint(len(candidates), (self.items,), generator=generator)]
        device = state.batch.targets.device
        vectors, positions = items.vectors.to(device), positions.to(device)
        component = state.model.states_of_items(vectors, positions, self.cut, self.layer)
        factors = items.vectors[:, -1] - 1 if self.factors == "identity" else items.factors
        return component, factors.to(device)[:, None]


class ContextLoss(LossTerm):
    """Control for the weights losses: predict which factor is hidden, from the final hidden state."""

    weight: float = Field(0.1, ge=0, description="factor of this term in the loss (lambda)")

    def check_task(self, shape: TaskShape) -> None:
        """Something must be hidden."""
        if len(shape.hidden_choices) < 2:
            raise ValueError(
                "ContextLoss: the prompts of this task hide one factor only, so there is nothing to predict"
            )

    def build_head(self, width: int, shape: TaskShape) -> nn.Module:
        """A linear read-out over the F factors, or whatever else a prompt may hide."""
        return nn.Linear(width, len(shape.hidden_names or shape.factor_sizes))

    def value(self, state: StepState) -> Tensor:
        """Cross-entropy at the query positions of all rows."""
        states = state.model.at_queries(state.output.hidden[-1], state.batch.inputs)
        logits = state.head(state.model.normalise(states))  # (B, K, F)
        targets = state.batch.hidden_factor[:, None].expand(logits.shape[:2])
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
