"""One pass through a causal language model: its inputs, and contexts around it that leave nothing behind.

Each puts back what it found, also when the pass fails.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unplateau.errors import SpecError
from unplateau.integrations.huggingface.parts import Parts
from unplateau.layout import Attention
from unplateau.tensors import TokenPrompts, gathered

MASKED_KERNELS = ("eager", "sdpa")
"""Implementations of attention that take a mask of any pattern; others make room for sdpa during a cut."""


def own_inputs(prompts: TokenPrompts) -> dict[str, Tensor]:
    """What the model's own forward pass is given besides tokens: nothing, where nothing is padded."""
    mask = prompts.mask
    if prompts.places is None and (mask is None or bool(mask.all())):
        return {}
    given = torch.ones_like(prompts.tokens) if mask is None else mask.long()
    return {"attention_mask": given, "position_ids": prompts.positions()}


def visible(prompts: TokenPrompts, attention: Attention) -> Tensor:
    """(B, T, T) bool: whether the position of a row sees that of a column. Every position sees itself."""
    tokens, units = prompts.tokens, prompts.units
    itself = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
    if attention != "item":
        return itself
    if units is None:
        raise SpecError("attention 'item' needs the units that say which tokens are one item")
    same = units[:, :, None] == units[:, None]
    seen = same if prompts.mask is None else same & prompts.mask[:, None]
    return seen.tril() | itself


def masked(backbone: Any, seen: Tensor, positions: Tensor) -> dict[str, Tensor]:
    """What a model is given beside tokens that may see each other where ``seen`` (B, T, T) says so."""
    seen = seen[:, None]  # (B, 1, T, T)
    if mask_kernel(backbone) == "eager":
        dtype = next(backbone.parameters()).dtype
        seen = torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    return {"attention_mask": seen, "position_ids": positions}


def isolating(backbone: Any, tokens: Tensor) -> dict[str, Tensor]:
    """The same where every token (B, T) sees itself only."""
    prompts = TokenPrompts(tokens)
    return masked(backbone, visible(prompts, "self"), prompts.positions())


class LabelHead(nn.Module):
    """The model's own head at the queries only, and for the labels only: what the model does to logits stays."""

    def __init__(self, head: nn.Module, queries: Tensor | None, label_tokens: tuple[int, ...] | None) -> None:
        super().__init__()
        self._kept = (head,)  # in a tuple: no submodule, so that nothing counts the head twice
        self.queries = queries
        self.label_tokens = None if label_tokens is None else list(label_tokens)

    @property
    def weight(self) -> Any:
        """The head's own, where other code looks for it."""
        return self._kept[0].weight

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> (B, K, C)."""
        head, hidden = self._kept[0], gathered(hidden, self.queries)
        if self.label_tokens is None:
            return head(hidden)
        if type(head) is not nn.Linear:
            return head(hidden)[..., self.label_tokens]
        bias = None if head.bias is None else head.bias[self.label_tokens]
        return functional.linear(hidden, head.weight[self.label_tokens], bias)


@contextmanager
def not_compiled() -> Iterator[None]:
    """Compiled code runs as it is written, so that hooks are called; PyTorch's compiler is not loaded for it."""
    with torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext():
        yield


def forget_compiled() -> None:
    """Compiled code is compiled again at its next call: else it would not see hooks that came after the first one."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; the flags are set by hand, since ``eval()`` may be overridden to do more."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """No gradients, evaluation mode and random numbers of its own, and everything as before at the end."""
    devices = [one.device.index or 0 for one in model.parameters() if one.device.type == "cuda"]
    with torch.random.fork_rng(devices=sorted(set(devices))), torch.no_grad(), evaluating(model):
        yield


@contextmanager
def truncated(parts: Parts, n_layers: int) -> Iterator[None]:
    """Only the first ``n_layers`` blocks are there."""
    blocks = parts.block_list
    if not 0 <= n_layers <= len(blocks):
        raise SpecError(f"n_layers {n_layers}: this model has {len(blocks)} blocks")
    if n_layers == len(blocks):
        yield
        return
    with parts.blocks.holding(nn.ModuleList(blocks[:n_layers])):
        yield


@contextmanager
def recorded(parts: Parts, states: list[Tensor]) -> Iterator[None]:
    """What enters each block and the final norm is appended to ``states``."""

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del module
        states.append(entering(args, kwargs))

    with ExitStack() as stack:
        for module in (*parts.block_list, parts.final_norm):
            stack.callback(module.register_forward_pre_hook(record, with_kwargs=True).remove)
        yield


@contextmanager
def replaced(parts: Parts, attention: Attention) -> Iterator[None]:
    """Under ``identity`` and ``zero``, what attention modules return is their own input, or zeros."""

    def replace(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        del module
        own = entering(args, kwargs)
        new = own if attention == "identity" else torch.zeros_like(own)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    with ExitStack() as stack:
        for module in parts.attentions if attention in ("identity", "zero") else ():
            stack.callback(module.register_forward_hook(replace, with_kwargs=True).remove)
        yield


@contextmanager
def kernel_for_masks(backbone: Any, attention: Attention) -> Iterator[None]:
    """An implementation of attention that takes masks of any pattern, where the model's own does not."""
    with using_kernel(backbone, "" if attention == "causal" else mask_kernel(backbone)):
        yield


@contextmanager
def using_kernel(backbone: Any, name: str) -> Iterator[None]:
    """This implementation of attention; the model's own where there is no name."""
    own = backbone.config._attn_implementation
    backbone.config._attn_implementation = name or own
    try:
        yield
    finally:
        backbone.config._attn_implementation = own


def mask_kernel(model: Any) -> str:
    """The model's own implementation of attention if it takes masks of any pattern, else one of its own that does."""
    own = model.config._attn_implementation
    if own in MASKED_KERNELS:
        return str(own)
    return "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"


def entering(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The hidden states among the arguments of a module: the first one."""
    return args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values()), None))
