"""What the decomposition and the loss terms ask of a model: hidden states under a named attention.

What enters: prompts and the name of an attention. What leaves: logits and the hidden state of every layer.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from unplateau.models.attention import Attention
from unplateau.tensors import Output, Prompts
from unplateau.types import TaskShape


class Decomposable(Protocol):
    """A model whose hidden states can be computed with and without access to other positions."""

    shape: TaskShape
    n_layers: int
    width: int

    def __call__(self, inputs: Prompts, attention: Attention = "causal") -> Output:
        """Logits (B, K, C) and hidden states (L + 1, B, T, D) under this attention."""

    def embed(self, inputs: Prompts) -> Tensor:
        """(B, T, D): the embedding that enters the first block."""

    def embed_items(self, vectors: Tensor, positions: Tensor) -> Tensor:
        """(N, 1, D): the embedding of N items shown alone; ``vectors`` (N, item width), ``positions`` (N,)."""

    def hidden_states(self, embedded: Tensor, attention: Attention, n_layers: int | None = None) -> list[Tensor]:
        """(B, T, D) for the embedding and after each of the first ``n_layers`` blocks (all by default)."""

    def normalise(self, hidden: Tensor) -> Tensor:
        """(..., D): the final layer norm, which stands between hidden states and any read-out."""
