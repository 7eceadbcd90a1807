"""Loss terms that repair the weights component, and the control that does not.

What enters: the state of one step. What leaves: a scalar loss in nats. The read-out heads live for the training only.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from unplateau.rng import fold
from unplateau.strategies.base import LossTerm, StepState
from unplateau.tensors import Prompts
from unplateau.types import Cut, TaskShape

Factors = Literal["hidden", "all"]
_FACTORS_HELP = "which factors are read: those that a prompt may hide, or all of the item's"


class FactorHead(nn.Module):
    """One linear read-out for each of several factors."""

    def __init__(self, width: int, shape: TaskShape, which: Factors) -> None:
        super().__init__()
        self.factors = list(shape.hidden_factors if which == "hidden" else range(len(shape.factor_sizes)))
        self.sizes = [shape.factor_sizes[factor] for factor in self.factors]
        self.linear = nn.Linear(width, sum(self.sizes))

    def loss(self, hidden: Tensor, factors: Tensor) -> Tensor:
        """Mean cross-entropy over items and factors; ``hidden`` (..., D), ``factors`` (..., F)."""
        logits = self.linear(hidden).flatten(0, -2).split(self.sizes, dim=-1)
        targets = factors[..., self.factors].flatten(0, -2).unbind(-1)
        losses = [functional.cross_entropy(one, target) for one, target in zip(logits, targets, strict=True)]
        return torch.stack(losses).mean()


class WeightsLoss(LossTerm):
    """Extra weights loss: predict the factors of the current item from the final hidden state (Fu et al. 2024, 5.3)."""

    weight: float = Field(0.1, ge=0, description="factor of this term in the loss (lambda)")
    factors: Factors = Field("hidden", description=_FACTORS_HELP)

    def build_head(self, width: int, shape: TaskShape) -> nn.Module:
        """A linear read-out per factor."""
        return FactorHead(width, shape, self.factors)

    def value(self, state: StepState) -> Tensor:
        """Cross-entropy at the item positions of all rows."""
        assert isinstance(state.head, FactorHead)
        return state.head.loss(_final_state_at_items(state), state.batch.factors)


class ComponentLoss(LossTerm):
    """Predict the factors from the *weights component* of a chosen layer: beyond the paper.

    The weights component needs no context, so the term can run on the whole batch (default), on its first ``rows``
    prompts, or on ``items`` items drawn alone at random item positions, for a fraction of the cost.
    """

    weight: float = Field(1.0, ge=0, description="factor of this term in the loss (lambda)")
    layer: int = Field(2, ge=1, description="block after which the component is read")
    cut: Cut = Field("self", description="what 'no access to other positions' means")
    rows: int | None = Field(None, ge=1, description="prompts of the batch to use; null: all of them")
    items: int | None = Field(None, ge=1, description="items drawn alone instead of prompts; null: use prompts")
    factors: Factors = Field("hidden", description=_FACTORS_HELP)

    @model_validator(mode="after")
    def _rows_or_items(self) -> Self:
        if self.rows is not None and self.items is not None:
            raise ValueError("give rows (prompts of the batch) or items (drawn alone), not both")
        return self

    def check_model(self, n_layers: int) -> None:
        """The layer must exist."""
        if self.layer > n_layers:
            raise ValueError(f"ComponentLoss: layer {self.layer} is beyond the model's {n_layers} layers")

    def build_head(self, width: int, shape: TaskShape) -> nn.Module:
        """A linear read-out per factor."""
        return FactorHead(width, shape, self.factors)

    def value(self, state: StepState) -> Tensor:
        """Cross-entropy of the read-out from the normalised weights component."""
        assert isinstance(state.head, FactorHead)
        embedded, factors = self._items_alone(state) if self.items else self._items_of_batch(state)
        component = state.model.hidden_states(embedded, self.cut, n_layers=self.layer)[-1]
        return state.head.loss(state.model.normalise(component), factors)

    def _items_of_batch(self, state: StepState) -> tuple[Tensor, Tensor]:
        """Embeddings (R, K, D) of the item positions; without access to others they can be taken out of the prompt."""
        inputs = Prompts(state.batch.inputs.items[: self.rows], state.batch.inputs.labels[: self.rows])
        queries = state.model.shape.query_positions
        return state.model.embed(inputs)[:, queries.start :: queries.step], state.batch.factors[: self.rows]

    def _items_alone(self, state: StepState) -> tuple[Tensor, Tensor]:
        """Embeddings (N, 1, D) of fresh items, each at a random item position."""
        assert self.items is not None
        items = state.task.sample_items(state.step, n_items=self.items, seed=state.seed)
        queries = state.model.shape.query_positions
        generator = fold(state.seed, "component loss positions", state.step)
        positions = torch.randint(len(queries), (self.items,), generator=generator) * queries.step + queries.start
        device = state.batch.targets.device
        embedded = state.model.embed_items(items.vectors.to(device), positions.to(device))
        return embedded, items.factors.to(device)[:, None]


class ContextLoss(LossTerm):
    """Control for the weights losses: predict which factor is hidden, from the final hidden state."""

    weight: float = Field(0.1, ge=0, description="factor of this term in the loss (lambda)")

    def build_head(self, width: int, shape: TaskShape) -> nn.Module:
        """A linear read-out over the F factors."""
        return nn.Linear(width, len(shape.factor_sizes))

    def value(self, state: StepState) -> Tensor:
        """Cross-entropy at the item positions of all rows."""
        logits = state.head(_final_state_at_items(state))  # (B, K, F)
        targets = state.batch.hidden_factor[:, None].expand(logits.shape[:2])
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _final_state_at_items(state: StepState) -> Tensor:
    """(B, K, D): the normalised state after the last block at the item positions."""
    queries = state.model.shape.query_positions
    return state.model.normalise(state.output.hidden[-1][:, queries.start :: queries.step])
