"""Named initialisations. At small sizes they matter more for the plateau than any strategy, so runs record them."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from unplateau.rng import fold

Init = Literal["scaled", "gpt2"]
POSITION_DEVIATION = 0.3
LABEL_DEVIATION = 0.5
GPT2_DEVIATION = 0.02


@torch.no_grad()
def initialise(
    model: nn.Module,
    name: Init,
    *,
    seed: int,
    deviations: Mapping[nn.Embedding, float],
    residual: Sequence[nn.Linear],
) -> None:
    """Fills every weight of ``model`` from its own stream of random numbers, in place.

    ``deviations``: of embeddings under ``scaled``, ``LABEL_DEVIATION`` for those not named. ``residual``: the layers
    that write into the residual stream, which under ``gpt2`` shrink with their number, as in GPT-2.
    """
    generator = fold(seed, "initial weights")
    for module in model.modules():
        if isinstance(module, nn.Linear):
            initialise_linear(module, name, generator)
        elif isinstance(module, nn.Embedding):
            deviation = deviations.get(module, LABEL_DEVIATION) if name == "scaled" else GPT2_DEVIATION
            module.weight.normal_(0, deviation, generator=generator)
            if module.padding_idx is not None:
                module.weight[module.padding_idx] = 0
    for layer in residual if name == "gpt2" else ():
        layer.weight.div_(math.sqrt(len(residual)))


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
