"""Self-attention whose access is a named value: an argument of the forward pass, not a hook."""

import math
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from unplateau.errors import SpecError, suggest
from unplateau.layout import Attention
from unplateau.models.layers import Linear

EVERYWHERE = slice(None)
"""All positions."""


class SelfAttention(nn.Module):
    """Multi-head self-attention of GPT-2 (biases everywhere), on ``scaled_dot_product_attention``."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.width = width
        self.query_key_value = Linear(width, 3 * width)
        self.project = Linear(width, width)

    def forward(self, x: Tensor, attention: Attention, at: slice = EVERYWHERE) -> Tensor:
        """(B, T, D) -> (B, P, D): what the positions ``at`` read, all T by default."""
        if attention == "causal":
            return self.project(self._causal(x) if at == EVERYWHERE else self._causal_at(x, at))
        x = x[:, at]
        if attention == "identity":
            return x
        if attention == "zero":
            return torch.zeros_like(x)
        if attention == "self":  # a softmax over one position is 1: what is read is the position's own value
            return self.project(self.query_key_value.by_rows(x, slice(2 * self.width, None)))
        raise SpecError(f"unknown attention '{attention}'{suggest(attention, get_args(Attention))}")

    def read(self, x: Tensor, weights: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D): what is read where every head attends as ``weights`` (B, H, T, T) say."""
        value = self._heads(self.query_key_value(x))[2]
        return self.project((weights @ value).transpose(1, 2).reshape(x.shape))

    def weights(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, T): how much each position attends to which, under ``causal``."""
        length = x.shape[1]
        query, key = self._heads(self.query_key_value.by_rows(x, slice(2 * self.width)))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        hidden = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        return scores.masked_fill(hidden, -math.inf).softmax(-1)

    def _causal(self, x: Tensor) -> Tensor:
        query, key, value = self._heads(self.query_key_value(x))
        mixed = attend(query, key, value, is_causal=True)
        return mixed.transpose(1, 2).reshape(x.shape)

    def _causal_at(self, x: Tensor, at: slice) -> Tensor:
        """The same to rounding, without queries anywhere else."""
        length = x.shape[1]
        (query,) = self._heads(self.query_key_value.by_rows(x[:, at], slice(self.width)))
        key, value = self._heads(self.query_key_value.by_rows(x, slice(self.width, None)))
        seen = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()[at]
        mixed = attend(query, key, value, attn_mask=seen)
        return mixed.transpose(1, 2).flatten(2)

    def _heads(self, projected: Tensor) -> Tensor:
        """(B, T, parts D) -> (parts, B, heads, T, D / heads)."""
        size = self.width // self.n_heads
        return projected.unflatten(2, (-1, self.n_heads, size)).permute(2, 0, 3, 1, 4)


def attend(query: Tensor, key: Tensor, value: Tensor, **access: Any) -> Tensor:
    """(B, H, P, D / H), (B, H, T, D / H) twice -> (B, H, P, D / H): what is read, by PyTorch's fused attention.

    On a CPU always in float32: there the backward pass of the kernel for bfloat16 takes fifteen times as long (2.13).
    """
    if query.dtype == torch.bfloat16 and query.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            return attend(query.float(), key.float(), value.float(), **access)
    return functional.scaled_dot_product_attention(query, key, value, **access)
