"""Named initialisations. At small sizes they matter more for the plateau than any strategy, so runs record them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from unplateau.rng import fold

if TYPE_CHECKING:
    from unplateau.models.transformer import Transformer

Init = Literal["scaled", "gpt2"]
POSITION_DEVIATION = 0.3
LABEL_DEVIATION = 0.5
GPT2_DEVIATION = 0.02


@torch.no_grad()
def initialise(model: Transformer, name: Init, *, seed: int) -> None:
    """Fills every weight from its own stream of random numbers, in place."""
    generator = fold(seed, "initial weights")
    for module in model.modules():
        if isinstance(module, nn.Linear):
            initialise_linear(module, name, generator)
        elif isinstance(module, nn.Embedding):
            deviation = _scaled_deviation(model, module) if name == "scaled" else GPT2_DEVIATION
            module.weight.normal_(0, deviation, generator=generator)
            if module.padding_idx is not None:
                module.weight[module.padding_idx] = 0
    if name == "gpt2":  # residual projections shrink with depth, as in GPT-2
        for block in model.blocks:
            for projection in (block.attention.project, block.contract):  # type: ignore[union-attr]
                projection.weight.div_(math.sqrt(2 * model.n_layers))  # type: ignore[union-attr, operator]


def _scaled_deviation(model: Transformer, embedding: nn.Embedding) -> float:
    if embedding is model.position_embedding:
        return POSITION_DEVIATION
    if embedding is model.item_embedding and model.shape.labels_are_tokens:
        return 1 / math.sqrt(model.width)  # it reads out as well: logits then start with a deviation of 1
    return LABEL_DEVIATION


@torch.no_grad()
def initialise_linear(layer: nn.Linear, name: Init, generator: torch.Generator) -> None:
    """PyTorch's default (uniform within 1/sqrt(inputs)) or GPT-2's N(0, 0.02) with zero bias."""
    if name == "gpt2":
        layer.weight.normal_(0, GPT2_DEVIATION, generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
    else:
        bound = 1 / math.sqrt(layer.in_features)
        layer.weight.uniform_(-bound, bound, generator=generator)
        if layer.bias is not None:
            layer.bias.uniform_(-bound, bound, generator=generator)
