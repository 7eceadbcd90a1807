"""A causal language model of transformers as a model that can be taken apart, without a change to it.

The model's own code runs; what it may attend to is a mask, what replaces an attention module's output is a hook that is
gone when the call returns.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from unplateau.errors import SpecError, suggest
from unplateau.integrations.huggingface.behaviour import part_names
from unplateau.integrations.huggingface.checks import Admission, admitted
from unplateau.integrations.huggingface.parts import find_parts, model_type, refuse_by_name
from unplateau.integrations.huggingface.passes import (
    LabelHead,
    evaluating,
    kernel_for_masks,
    masked,
    not_compiled,
    own_inputs,
    recorded,
    replaced,
    truncated,
    using_kernel,
    visible,
)
from unplateau.integrations.huggingface.wrappers import refuse_sharded, unwrapped
from unplateau.layout import Attention
from unplateau.tensors import Inputs, Output, TokenPrompts


class Decoder(nn.Module):
    """Makes a causal language model :class:`~unplateau.decompose.Decomposable`.

    ``label_tokens``: the C tokens that logits are restricted to, all of the vocabulary by default. ``check``: whether
    the laws of decomposable models are checked on a tiny instance of the same architecture, once per process.
    ``parameters()`` are the model's own. ``model`` may stand in wrappers that only call it, such as ``torch.compile``,
    DistributedDataParallel or peft; it is taken out of them, with the adapters that are in it.

    Every pass is made in evaluation mode, so that dropout does not enter the difference of two passes; the training
    flags are restored, and gradients flow. Raises SpecError for what cannot be taken apart, naming the model type.
    """

    refused: Mapping[str, str]
    """Attentions that mean nothing in this architecture, with the reason."""

    def __init__(self, model: nn.Module, *, label_tokens: Sequence[int] | None = None, check: bool = True) -> None:
        super().__init__()
        model = _taken_out(model)
        admission = _admitted(model) if check else Admission(part_names(model), {})
        self.refused = admission.refused
        self.model = model
        self.parts = find_parts(model, admission.names)
        self.n_layers = len(self.parts.block_list)
        self.label_tokens = None if label_tokens is None else tuple(label_tokens)

    def forward(self, inputs: Inputs, attention: Attention = "causal") -> Output:
        """Logits (B, K, C) at the queries and hidden states (L + 1, B, T, D), float32.

        Index 0 is what enters the first block, the last one is what enters the final norm.
        """
        states, logits = self._predict(inputs, attention)
        return Output(logits, torch.stack(states).float())

    def logits(self, inputs: Inputs) -> Tensor:
        """(B, K, C): the logits alone."""
        return self._predict(inputs, "causal")[1]

    def attentions(self, inputs: Inputs) -> Tensor | None:
        """(L, B, H, T, T): what each block attends to, float32; None for an architecture that does not return it."""
        given = _in_tokens(inputs)
        backbone = self.parts.backbone
        with evaluating(self.model), using_kernel(backbone, "eager"):
            output = backbone(
                input_ids=given.tokens, use_cache=False, output_attentions=True, return_dict=True, **own_inputs(given)
            )
        found = getattr(output, "attentions", None)
        if not found or len(found) != self.n_layers or any(one is None or one.ndim != 4 for one in found):
            return None
        return torch.stack(found).float()

    def token_states(self, inputs: TokenPrompts, attention: Attention, n_layers: int) -> Tensor:
        """(B, T, D): the unnormalised states after ``n_layers`` blocks, with gradients, in the model's own precision.

        Padding may be on the right or on the left. Only the first ``n_layers`` blocks run.
        """
        return self._run(self.parts.backbone, inputs, attention, n_layers)[0][-1]

    def component(self, inputs: Inputs, cut: Attention, n_layers: int) -> Tensor:
        """(B, M, D); where no position sees another, only the known positions run."""
        given = _in_tokens(inputs)
        if cut in ("causal", "item"):
            return given.at_known(self.token_states(given, cut, n_layers)).float()
        assert given.known is not None
        alone = TokenPrompts(given.tokens.gather(1, given.known), places=given.positions().gather(1, given.known))
        return self.token_states(alone, cut, n_layers).float()

    def component_alone(self, items: Tensor, positions: Tensor, cut: Attention, n_layers: int) -> Tensor:
        """(N, D): items (N, tokens) or (N, tokens, 1), -1 for none before short ones, ending at ``positions``."""
        tokens = items.flatten(1)  # (N, tokens)
        back = torch.arange(tokens.shape[1] - 1, -1, -1, device=positions.device)
        places = (positions[:, None] - back).clamp(min=0)
        alone = TokenPrompts(tokens.clamp(min=0), tokens >= 0, units=torch.zeros_like(tokens), places=places)
        return self.token_states(alone, cut, n_layers)[:, -1].float()

    def normalise(self, hidden: Tensor) -> Tensor:
        """(..., D): the model's final norm."""
        weight = next(self.parts.final_norm.parameters(), hidden)
        return self.parts.final_norm(hidden.to(weight.dtype)).float()

    def require_cut(self, attention: Attention) -> None:
        """Raises SpecError for an attention that is unknown, or means nothing in this architecture."""
        if attention not in get_args(Attention):
            raise SpecError(f"unknown attention '{attention}'{suggest(str(attention), get_args(Attention))}")
        if attention in self.refused:
            raise SpecError(f"{model_type(self.model)}: cut {attention} means nothing here: {self.refused[attention]}")

    def _predict(self, inputs: Inputs, attention: Attention) -> tuple[list[Tensor], Tensor]:
        given = _in_tokens(inputs)
        head = LabelHead(self.parts.head.module, given.queries, self.label_tokens)
        with self.parts.head.holding(head):
            states, output = self._run(self.model, given, attention, self.n_layers)
        return states, output.logits.float()

    def _run(
        self, module: nn.Module, given: TokenPrompts, attention: Attention, n_layers: int
    ) -> tuple[list[Tensor], Any]:
        """The inputs of blocks 1 .. n and of the final norm, and what ``module`` returns."""
        self.require_cut(attention)
        inputs = own_inputs(given) if attention == "causal" else self._masked(given, attention)
        states: list[Tensor] = []
        with (
            evaluating(self.model),
            not_compiled(),
            truncated(self.parts, n_layers),
            recorded(self.parts, states),
            kernel_for_masks(self.parts.backbone, attention),
            replaced(self.parts, attention),
        ):
            output = module(input_ids=given.tokens, use_cache=False, **inputs)
        return states, output

    def _masked(self, given: TokenPrompts, attention: Attention) -> dict[str, Tensor]:
        return masked(self.parts.backbone, visible(given, attention), given.positions())


def _in_tokens(inputs: Inputs) -> TokenPrompts:
    if not isinstance(inputs, TokenPrompts):
        raise SpecError("a language model reads TokenPrompts: wrap the task in TokenTask(task, tokenizer)")
    return inputs


def check_architecture(model: nn.Module) -> Mapping[str, str]:
    """Attentions that mean nothing in this architecture, each with the reason.

    The laws are checked once per process for each architecture (a model type and all of its settings but sizes), on a
    tiny random instance of the model's own class and config. Where none can be built, such as for a class whose
    constructor takes more than a config, they are checked on a copy of the model, in float32 on the CPU. Raises
    SpecError, one line, where a law is broken or neither can be had.
    """
    return _admitted(_taken_out(model)).refused


def _taken_out(model: nn.Module) -> nn.Module:
    """Raises SpecError for what has no parts that can be read by themselves."""
    refuse_sharded(model)
    model = unwrapped(model)
    refuse_by_name(model)
    return model


def _admitted(model: nn.Module) -> Admission:
    return admitted(model, partial(Decoder, label_tokens=range(1, 5), check=False))
