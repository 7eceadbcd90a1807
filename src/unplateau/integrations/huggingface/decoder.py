"""A causal language model of transformers as a model that can be taken apart, without a change to it.

What enters: :class:`~unplateau.tensors.TokenPrompts`, or tokens. What leaves: logits and the hidden state of every
layer under a named attention. The model's own code runs; what it may attend to is a mask, what replaces an attention
module's output is a hook that is gone when the call returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from unplateau.errors import SpecError, suggest
from unplateau.integrations.huggingface.parts import find_parts, model_type
from unplateau.integrations.huggingface.passes import (
    Given,
    LabelHead,
    evaluating,
    kernel_for_masks,
    mask_kernel,
    recorded,
    replaced,
    states_at,
    truncated,
)
from unplateau.layout import Attention, TaskShape
from unplateau.tensors import Output, Prompts, TokenPrompts


class Decoder(nn.Module):
    """Makes a causal language model :class:`~unplateau.decompose.Decomposable`.

    ``shape``: sizes of the task that prompts come from; not needed for ``token_states``. ``label_tokens``: the C tokens
    that logits are restricted to, all of the vocabulary by default. ``check``: whether the laws of decomposable models
    are checked on a tiny instance of the same architecture, once per process. ``parameters()`` are the model's own.

    Every pass is made in evaluation mode, so that dropout does not enter the difference of two passes; the training
    flags are restored, and gradients flow. Raises SpecError for what cannot be taken apart, naming the model type.
    """

    refused: Mapping[str, str]
    """Attentions that mean nothing in this architecture, with the reason."""

    def __init__(
        self,
        model: nn.Module,
        *,
        shape: TaskShape | None = None,
        label_tokens: Sequence[int] | None = None,
        check: bool = True,
    ) -> None:
        super().__init__()
        self.refused = _admitted(model) if check else {}
        self.model = model
        self.parts = find_parts(model)
        self.n_layers = len(self.parts.block_list)
        self.width = self.parts.embedding.embedding_dim
        self.label_tokens = None if label_tokens is None else tuple(label_tokens)
        self._shape = shape

    @property
    def shape(self) -> TaskShape:
        """Sizes of the task; SpecError where the decoder was made without one."""
        if self._shape is None:
            raise SpecError("this decoder was made without the shape of a task: Decoder(model, shape=...)")
        return self._shape

    @property
    def model_type(self) -> str:
        """``gpt2``, ``llama`` ..."""
        return model_type(self.model)

    @property
    def backbone(self) -> nn.Module:
        """The model without its head."""
        return self.parts.backbone

    @property
    def final_norm(self) -> nn.Module:
        """What stands between the last block and the head."""
        return self.parts.final_norm

    @property
    def input_embedding(self) -> nn.Embedding:
        """The embedding of tokens."""
        return self.parts.embedding

    def forward(self, inputs: Prompts | TokenPrompts, attention: Attention = "causal") -> Output:
        """Logits (B, K, C) at the queries and hidden states (L + 1, B, T, D), float32.

        Index 0 is what enters the first block, the last one is what enters the final norm.
        """
        states, logits = self._predict(inputs, attention)
        return Output(logits, torch.stack(states).float())

    def logits(self, inputs: Prompts | TokenPrompts, attention: Attention = "causal") -> Tensor:
        """(B, K, C): the logits alone."""
        return self._predict(inputs, attention)[1]

    def full_logits(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, V): the model's own logits of every next token, without dropout."""
        return self._run(self.model, Given(tokens, mask), "causal", self.n_layers)[1].logits

    def token_states(
        self,
        tokens: Tensor,
        mask: Tensor | None,
        attention: Attention,
        n_layers: int,
        *,
        segments: Tensor | None = None,
    ) -> Tensor:
        """(B, T, D): the unnormalised states after ``n_layers`` blocks, with gradients, in the model's own precision.

        ``mask`` (B, T) bool is False at padding, which may be on the right or on the left; ``segments`` (B, T) says
        which tokens are one item (needed for attention ``item``). Only the first ``n_layers`` blocks run.
        """
        return self._run(self.backbone, Given(tokens, mask, segments), attention, n_layers)[0][-1]

    def at_items(self, states: Tensor, inputs: Prompts | TokenPrompts) -> Tensor:
        """(..., B, T, D) -> (..., B, M, D)."""
        return states_at(states, Given.of_prompts(inputs).items)

    def at_queries(self, states: Tensor, inputs: Prompts | TokenPrompts) -> Tensor:
        """(..., B, T, D) -> (..., B, K, D)."""
        return states_at(states, Given.of_prompts(inputs).queries)

    def states_at_items(self, inputs: Prompts | TokenPrompts, attention: Attention, n_layers: int) -> Tensor:
        """(B, M, D); where no position sees another, only the item positions run."""
        given = Given.of_prompts(inputs)
        if attention in ("causal", "item"):
            return states_at(self._run(self.backbone, given, attention, n_layers)[0][-1], given.items).float()
        positions = given.positions().gather(1, given.items)
        alone = Given(given.tokens.gather(1, given.items), position_ids=positions)
        return self._run(self.backbone, alone, attention, n_layers)[0][-1].float()

    def states_of_items(self, items: Tensor, positions: Tensor, attention: Attention, n_layers: int) -> Tensor:
        """(N, 1, D): items (N, tokens) or (N, tokens, 1), -1 for none before short ones, ending at ``positions``."""
        tokens = items.flatten(1)  # (N, tokens)
        back = torch.arange(tokens.shape[1] - 1, -1, -1, device=positions.device)
        given = Given(
            tokens.clamp(min=0), tokens >= 0, torch.zeros_like(tokens), (positions[:, None] - back).clamp(min=0)
        )
        return self._run(self.backbone, given, attention, n_layers)[0][-1][:, -1:].float()

    def normalise(self, hidden: Tensor) -> Tensor:
        """(..., D): the model's final norm."""
        weight = next(self.final_norm.parameters(), hidden)
        return self.final_norm(hidden.to(weight.dtype)).float()

    def _predict(self, inputs: Prompts | TokenPrompts, attention: Attention) -> tuple[list[Tensor], Tensor]:
        given = Given.of_prompts(inputs)
        head = LabelHead(self.parts.head.module, given.queries, self.label_tokens)
        with self.parts.head.holding(head):
            states, output = self._run(self.model, given, attention, self.n_layers)
        return states, output.logits.float()

    def _run(self, module: nn.Module, given: Given, attention: Attention, n_layers: int) -> tuple[list[Tensor], Any]:
        """The inputs of blocks 1 .. n and of the final norm, and what ``module`` returns."""
        self.demand_meaning(attention)
        inputs = given.own() if attention == "causal" else self._masked(given, attention)
        states: list[Tensor] = []
        with (
            evaluating(self.model),
            truncated(self.parts, n_layers),
            recorded(self.parts, states),
            kernel_for_masks(self.backbone, attention),
            replaced(self.parts, attention),
        ):
            output = module(input_ids=given.tokens, use_cache=False, **inputs)
        return states, output

    def demand_meaning(self, attention: Attention) -> None:
        """Raises SpecError for an attention that is unknown, or means nothing in this architecture."""
        if attention not in get_args(Attention):
            raise SpecError(f"unknown attention '{attention}'{suggest(str(attention), get_args(Attention))}")
        if attention in self.refused:
            raise SpecError(f"{self.model_type}: cut {attention} means nothing here: {self.refused[attention]}")

    def _masked(self, given: Given, attention: Attention) -> dict[str, Tensor]:
        visible = given.visible(attention)[:, None]  # (B, 1, T, T)
        if mask_kernel(self.backbone) == "eager":
            dtype = self.parts.embedding.weight.dtype
            lowest = torch.finfo(dtype).min
            visible = torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, lowest)
        return {"attention_mask": visible, "position_ids": given.positions()}


def _admitted(model: nn.Module) -> Mapping[str, str]:
    from unplateau.integrations.huggingface.checks import admit  # noqa: PLC0415 (it makes decoders itself)

    return admit(model)
