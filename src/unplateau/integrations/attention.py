"""Where any module looks: what its calls of PyTorch's attention functions are given, read without a change to it.

Legend: B rows, R the first of them, H heads, T positions, E width of a head.
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

SOFTMAX = (torch.softmax, functional.softmax, torch.special.softmax, Tensor.softmax)


class AttentionCapture(TorchFunctionMode):
    """While it is active, calls of attention are kept in ``found``; what they compute is left as it is.

    It knows ``scaled_dot_product_attention``, ``nn.MultiheadAttention`` and any softmax over positions. Nothing is
    computed before a call is read, so that recomputing activations (checkpointing) meets the same operations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Attended] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The call itself, noted if it is one of attention."""
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is functional.scaled_dot_product_attention:
            names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
            self.found.append(_Products(dict(zip(names, args, strict=False)) | kwargs))
        elif func is functional.multi_head_attention_forward:
            bound = inspect.signature(functional.multi_head_attention_forward).bind(*args, **kwargs)
            self.found.append(_MultiHead(bound.arguments))
        elif func in SOFTMAX and (args[1] if len(args) > 1 else kwargs.get("dim")) in (-1, result.ndim - 1):
            self.found.append(_Softmax(result))
        return result


def read(found: "Sequence[Attended]", n_rows: int, n_positions: int, rows: int) -> Tensor | None:
    """(R, H, T, T): of the first call that was attention over these positions, with its gradient; None without one.

    Where a block lets a context look at itself, and in another call the positions behind it look at the context, the
    two are put together. Calls in which positions look into themselves, as at the cells of a table, do not count.
    """
    sizes = [one.positions(n_rows, n_positions) for one in found]
    if (n_positions, n_positions) in sizes:
        return found[sizes.index((n_positions, n_positions))].shares(n_rows, rows)
    for number, size in enumerate(sizes):
        n_context = size[0] if size is not None else n_positions
        rest = (n_positions - n_context, n_context)
        if size == (n_context, n_context) and rest in sizes[number + 1 :]:
            parts = found[number], found[sizes.index(rest, number + 1)]
            both = torch.cat([one.shares(n_rows, rows) for one in parts], 2)  # (R, H, T, context)
            return functional.pad(both, (0, n_positions - n_context))
    return None


class Attended(Protocol):
    """A call of attention in B rows; where it has more, one for each column of a table, say, these count as heads."""

    def positions(self, n_rows: int, n_positions: int) -> tuple[int, int] | None:
        """From how many positions it looks, and at how many; None if it is not read, or was not about positions."""

    def shares(self, n_rows: int, rows: int) -> Tensor:
        """(R, H, Q, K): of each head, from position to position, in the first rows."""


@dataclass
class _Softmax:
    result: Tensor

    def positions(self, n_rows: int, n_positions: int) -> tuple[int, int] | None:
        shares = _by_head(self.result, n_rows, n_positions)
        return None if shares is None else (shares.shape[2], shares.shape[3])

    def shares(self, n_rows: int, rows: int) -> Tensor:
        return _rows(_by_head(self.result, n_rows), rows)


@dataclass
class _Products:
    given: dict[str, Any]

    def positions(self, n_rows: int, n_positions: int) -> tuple[int, int] | None:
        query, key = (_by_head(self.given[name], n_rows, n_positions) for name in ("query", "key"))
        return None if query is None or key is None else (query.shape[2], key.shape[2])

    def shares(self, n_rows: int, rows: int) -> Tensor:
        query, key = (_rows(_by_head(self.given[name], n_rows), rows) for name in ("query", "key"))
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)  # grouped queries share keys
        mask = self.given.get("attn_mask")
        if mask is not None and mask.ndim > 2:
            by_head = mask.ndim == 3 and (self.given["query"].ndim == 4 or len(mask) == 1)
            mask = _rows(_by_head(mask[None] if by_head else mask, n_rows), rows)
            mask = mask if mask.shape[1] == 1 else mask.repeat_interleave(query.shape[1] // mask.shape[1], 1)
        causal, scale = bool(self.given.get("is_causal")), self.given.get("scale")
        return _shares(query, key, mask, causal=causal, scale=scale)


@dataclass
class _MultiHead:
    given: dict[str, Any]

    def positions(self, n_rows: int, n_positions: int) -> tuple[int, int] | None:
        query, key = self.given["query"], self.given["key"]  # (T, B, D) both
        each, rest = divmod(query.shape[1], n_rows)
        one_more = self.given["bias_k"] is not None or self.given["add_zero_attn"]  # position than the prompt has
        if rest or each == n_positions > 1 or query.shape[1] != key.shape[1] or one_more:
            return None
        return len(query), len(key)

    def shares(self, n_rows: int, rows: int) -> Tensor:
        given = self.given
        n_heads, width = given["num_heads"], given["query"].shape[2]
        n_own = given["query"].shape[1] // n_rows * rows
        if given.get("use_separate_proj_weight"):
            weights = given["q_proj_weight"], given["k_proj_weight"]
        else:
            weights = given["in_proj_weight"][:width], given["in_proj_weight"][width : 2 * width]
        bias = given["in_proj_bias"]
        biases = (None, None) if bias is None else (bias[:width], bias[width : 2 * width])
        query, key = (
            functional.linear(given[name][:, :n_own], weight, own).unflatten(2, (n_heads, -1)).permute(1, 2, 0, 3)
            for name, weight, own in zip(("query", "key"), weights, biases, strict=True)
        )  # (N, H, T, E)
        masks = [given.get("attn_mask"), given.get("key_padding_mask")]
        if masks[0] is not None and masks[0].ndim == 3:
            masks[0] = masks[0].unflatten(0, (-1, n_heads))[:n_own]
        if masks[1] is not None:
            masks[1] = masks[1][:n_own, None, None]
        added = [_added(one, query, hides=True) for one in masks if one is not None]
        causal = bool(given.get("is_causal")) and masks[0] is None
        shares = _shares(query, key, sum(added[1:], added[0]) if added else None, causal=causal)
        return shares.unflatten(0, (rows, -1)).flatten(1, 2)


def _shares(
    query: Tensor, key: Tensor, mask: Tensor | None, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """(R, H, T, T), float32, from (R, H, T, E) each; a position that sees nothing has equal shares, never NaN."""
    query, key = query.float(), key.float()
    scores = query @ key.transpose(2, 3) * (1 / math.sqrt(query.shape[3]) if scale is None else scale)
    if causal:
        mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores + _added(mask, scores, hides=False)
    return scores.clamp_min(torch.finfo(scores.dtype).min / 2).softmax(-1)


def _added(mask: Tensor, like: Tensor, *, hides: bool) -> Tensor:
    """What is added to scores; where a mask of truth values is ``hides``, so much that nothing is left."""
    if mask.dtype != torch.bool:
        return mask.float()
    least = torch.finfo(torch.float32).min / 2
    return torch.zeros(mask.shape, device=like.device).masked_fill(mask if hides else ~mask, least)


def _by_head(tensor: Tensor, n_rows: int, n_positions: int | None = None) -> Tensor | None:
    """(B, H, T, E), from the same, (B C, H, T, E) or (B H, T, E); None for anything else, and where C is T."""
    if tensor.ndim == 3 and len(tensor) % n_rows == 0:
        return tensor.unflatten(0, (n_rows, -1))
    if tensor.ndim != 4 or (len(tensor) % n_rows and len(tensor) != 1):
        return None
    each = len(tensor) // n_rows
    if each > 1 and each == n_positions:
        return None
    return tensor.unflatten(0, (n_rows, -1)).flatten(1, 2) if each > 1 else tensor


def _rows(tensor: Tensor | None, rows: int) -> Tensor:
    """The first ones; what is there once for all is left so."""
    assert tensor is not None
    return tensor if len(tensor) == 1 else tensor[:rows]
