"""What the decomposition and the loss terms ask of a model: hidden states under a named attention.

What enters: prompts and the name of an attention. What leaves: logits and the hidden state of every layer.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from unplateau.models.attention import Attention
from unplateau.tensors import Output, Prompts, TokenPrompts
from unplateau.types import TaskShape


class Decomposable(Protocol):
    """A model whose hidden states can be computed with and without access to other positions."""

    @property
    def shape(self) -> TaskShape:
        """Sizes of the task that its prompts come from."""

    @property
    def n_layers(self) -> int:
        """Number of blocks (L)."""

    @property
    def width(self) -> int:
        """Width of the hidden state (D)."""

    def __call__(self, inputs: Prompts | TokenPrompts, attention: Attention = "causal") -> Output:
        """Logits (B, K, C) and hidden states (L + 1, B, T, D) under this attention."""

    def at_items(self, states: Tensor, inputs: Prompts | TokenPrompts) -> Tensor:
        """(..., B, T, D) -> (..., B, M, D): the states at the positions whose factors are known."""

    def at_queries(self, states: Tensor, inputs: Prompts | TokenPrompts) -> Tensor:
        """(..., B, T, D) -> (..., B, K, D): the states from which labels are predicted."""

    def states_at_items(self, inputs: Prompts | TokenPrompts, attention: Attention, n_layers: int) -> Tensor:
        """(B, M, D): the states at item positions after this many blocks, where no position sees another."""

    def states_of_items(self, items: Tensor, positions: Tensor, attention: Attention, n_layers: int) -> Tensor:
        """(N, 1, D): the same for items shown alone (:class:`~unplateau.tensors.Items`), ending at ``positions``."""

    def normalise(self, hidden: Tensor) -> Tensor:
        """(..., D): the final layer norm, which stands between hidden states and any read-out."""
