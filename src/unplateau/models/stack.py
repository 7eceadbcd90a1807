"""Several Transformers of one shape computed as one: their prompts stand below each other, S models with B rows each.

Attention, activations and residual streams treat every row alike, so only the layers with weights need to know which
model a row belongs to. The weights stay those of the models, and gradients reach them there.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unplateau.models.layers import Embedding, Linear
from unplateau.models.transformer import Transformer
from unplateau.tensors import Inputs, Prediction, Prompts, concatenate

ALL = slice(None)


class Stack:
    """S Transformers of the same configuration and task shape."""

    def __init__(self, models: Sequence[Transformer]) -> None:
        self.models = models
        self._one = copy.deepcopy(models[0])
        for name, layer in models[0].named_modules():
            if isinstance(layer, Linear | Embedding | nn.LayerNorm):
                self._one.set_submodule(name, _together([model.get_submodule(name) for model in models]))

    def predict(self, inputs: Sequence[Inputs]) -> list[Prediction]:
        """What each model makes of its own prompts, to rounding; all have the same number of rows."""
        together = concatenate([prompts for prompts in inputs if isinstance(prompts, Prompts)])
        passed = self._one.predict_queries(together)
        logits, at_queries, *states = (self._apart(one) for one in (passed.logits, passed.at_queries, *passed.states))
        return [
            Prediction(logits[number], at_queries[number], own := [one[number] for one in states], _last(model, own))
            for number, model in enumerate(self.models)
        ]

    def _apart(self, rows: Tensor) -> tuple[Tensor, ...]:
        """(S B, ...) -> S times (B, ...)."""
        return rows.unflatten(0, (len(self.models), -1)).unbind()


def _last(model: Transformer, states: Sequence[Tensor]) -> Callable[[], Tensor]:
    return lambda: model.blocks[-1](states[-1], "causal")


def _together(layers: Sequence[nn.Module]) -> nn.Module:
    kinds: dict[type[nn.Module], type[Layers]] = {Linear: Linears, Embedding: Embeddings, nn.LayerNorm: LayerNorms}
    return kinds[type(layers[0])](layers)


class Layers(nn.Module):
    """S layers of one shape, for rows (S B, ...) of which B belong to each."""

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.layers = layers

    def stacked(self, name: str) -> Tensor:
        """(S, ...): these weights of all layers."""
        weights = torch.stack([getattr(layer, name) for layer in self.layers])
        if weights.requires_grad:  # gradients are laid out as the weights are, at once and not one by one
            weights.register_hook(Tensor.contiguous)
        return weights

    def apart(self, x: Tensor) -> Tensor:
        """(S B, ..., D) -> (S, B ..., D)."""
        return x.reshape(len(self.layers), -1, x.shape[-1])


class Linears(Layers):
    """In the place of :class:`~unplateau.models.layers.Linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(S B, ..., D) -> (S B, ..., R)."""
        return self.by_rows(x, ALL)

    def by_rows(self, x: Tensor, rows: slice) -> Tensor:
        """(S B, ..., D) -> (S B, ..., R): these outputs alone."""
        weight, bias = self.stacked("weight")[:, rows], self.stacked("bias")[:, rows]
        return torch.baddbmm(bias[:, None], self.apart(x), weight.mT).reshape(*x.shape[:-1], -1)


class Embeddings(Layers):
    """In the place of :class:`~unplateau.models.layers.Embedding`."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(S B, ...) -> (S B, ..., D)."""
        weight, padding = self.stacked("weight"), self.layers[0].padding_idx
        if padding is not None:  # it takes no gradient
            before, none, after = weight.split([padding, 1, weight.shape[1] - padding - 1], 1)
            weight = torch.cat((before, none.detach(), after), 1)
        first = torch.arange(len(weight), device=tokens.device) * weight.shape[1]
        rows = tokens.unflatten(0, (len(weight), -1)) + first.reshape(-1, *(1 for _ in tokens.shape))
        return functional.embedding(rows.flatten(0, 1), weight.flatten(0, 1))

    def by_rows(self, x: Tensor, rows: slice) -> Tensor:
        """(S B, ..., D) -> (S B, ..., R): the products with these vectors."""
        return torch.bmm(self.apart(x), self.stacked("weight")[:, rows].mT).reshape(*x.shape[:-1], -1)

    def added(self, x: Tensor) -> Tensor:
        """(S B, T, D) -> (S B, T, D): each position with its vector."""
        weight = self.stacked("weight")[:, None, : x.shape[1]]
        return (x.unflatten(0, (len(weight), -1)) + weight).flatten(0, 1)


class LayerNorms(Layers):
    """In the place of ``torch.nn.LayerNorm``."""

    def forward(self, x: Tensor) -> Tensor:
        """(S B, ..., D) -> (S B, ..., D)."""
        normed = functional.layer_norm(x, x.shape[-1:], eps=self.layers[0].eps)
        weight, bias = self.stacked("weight")[:, None], self.stacked("bias")[:, None]
        return torch.addcmul(bias, self.apart(normed), weight).reshape(x.shape)
