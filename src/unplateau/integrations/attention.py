"""Where any module looks: what its calls of PyTorch's attention functions are given, read without a change to it.

Legend: B rows, R the first of them, H heads, T positions, E width of a head.
"""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Shares = Callable[[int, int, int], Tensor | None]
"""(B, T, R) -> (R, H, T, T): of each head, from position to position; None if it was no attention over T positions."""


class AttentionCapture(TorchFunctionMode):
    """While it is active, calls of attention are kept in ``found``; what they compute is left as it is.

    It knows ``scaled_dot_product_attention``, ``nn.MultiheadAttention`` and any softmax over positions. Nothing is
    computed before a call is read, so that recomputing activations (checkpointing) meets the same operations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Shares] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The call itself, noted if it is one of attention."""
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is functional.scaled_dot_product_attention:
            self.found.append(partial(_of_products, args, kwargs))
        elif func is functional.multi_head_attention_forward:
            self.found.append(partial(_of_multi_head, args, kwargs))
        elif func in (torch.softmax, functional.softmax, torch.special.softmax, Tensor.softmax):
            dim = args[1] if len(args) > 1 else kwargs.get("dim")
            if dim in (-1, result.ndim - 1):
                self.found.append(partial(_of_softmax, result))
        return result


def read(found: list[Shares], n_rows: int, n_positions: int, rows: int) -> Tensor | None:
    """(R, H, T, T): of the first call that was attention over these positions, with its gradient; None without one."""
    every = (shares(n_rows, n_positions, rows) for shares in found)
    return next((one for one in every if one is not None), None)


def _of_softmax(result: Tensor, n_rows: int, n_positions: int, rows: int) -> Tensor | None:
    shares = _by_head(result, n_rows)
    return shares[:rows] if shares is not None and shares.shape[2:] == (n_positions, n_positions) else None


def _of_products(args: Any, kwargs: Any, n_rows: int, n_positions: int, rows: int) -> Tensor | None:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    given = dict(zip(names, args, strict=False)) | kwargs
    query, key = (_by_head(given[name], n_rows) for name in ("query", "key"))
    if query is None or key is None or not query.shape[2] == key.shape[2] == n_positions:
        return None
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)  # grouped queries share keys
    mask = given.get("attn_mask")
    if mask is not None:
        mask = mask[None] if mask.ndim == 3 and len(mask) != n_rows * query.shape[1] else mask
        mask = mask if mask.ndim == 2 else _by_head(mask, n_rows)
        mask = mask if mask is None or mask.ndim == 2 or len(mask) == 1 else mask[:rows]
    return _shares(query[:rows], key[:rows], mask, causal=bool(given.get("is_causal")), scale=given.get("scale"))


def _of_multi_head(args: Any, kwargs: Any, n_rows: int, n_positions: int, rows: int) -> Tensor | None:
    given = inspect.signature(functional.multi_head_attention_forward).bind(*args, **kwargs).arguments
    query, key, n_heads = given["query"], given["key"], given["num_heads"]  # (T, B, D) both
    if query.shape[:2] != (n_positions, n_rows) or key.shape[:2] != (n_positions, n_rows):
        return None
    if given["bias_k"] is not None or given["add_zero_attn"]:
        return None  # one more position than the prompt has
    width = query.shape[2]
    if given.get("use_separate_proj_weight"):
        weights = given["q_proj_weight"], given["k_proj_weight"]
    else:
        weights = given["in_proj_weight"][:width], given["in_proj_weight"][width : 2 * width]
    bias = given["in_proj_bias"]
    biases = (None, None) if bias is None else (bias[:width], bias[width : 2 * width])
    query, key = (
        functional.linear(one[:, :rows], weight, own).unflatten(2, (n_heads, -1)).permute(1, 2, 0, 3)
        for one, weight, own in zip((query, key), weights, biases, strict=True)
    )  # (R, H, T, E)
    masks = [given.get("attn_mask"), given.get("key_padding_mask")]
    if masks[0] is not None and masks[0].ndim == 3:
        masks[0] = masks[0].unflatten(0, (n_rows, n_heads))[:rows]
    if masks[1] is not None:
        masks[1] = masks[1][:rows, None, None]
    added = [_added(one, query, hides=True) for one in masks if one is not None]
    causal = bool(given.get("is_causal")) and masks[0] is None
    return _shares(query, key, sum(added[1:], added[0]) if added else None, causal=causal)


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


def _by_head(tensor: Tensor, n_rows: int) -> Tensor | None:
    """(B, H, T, E), from the same or (B H, T, E); None for anything else."""
    if tensor.ndim == 3 and len(tensor) % n_rows == 0:
        tensor = tensor.unflatten(0, (n_rows, -1))
    return tensor if tensor.ndim == 4 and len(tensor) in (1, n_rows) else None
