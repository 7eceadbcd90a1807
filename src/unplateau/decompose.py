"""Separation of hidden states into what the weights alone compute and what the context adds.

What enters: a model and prompts. What leaves: :class:`~unplateau.tensors.Components` of every layer. The weights
component is the hidden state that the same weights compute with no access to any other position; the context
component is the rest, so that hidden = weights + context (Fu et al. 2024, section 4).
"""

from __future__ import annotations

from typing import get_args

import torch

from unplateau.errors import SpecError, suggest
from unplateau.models.base import Decomposable
from unplateau.tensors import Components, Prompts, TokenPrompts
from unplateau.types import Cut


def decompose(model: Decomposable, inputs: Prompts | TokenPrompts, *, cut: Cut = "self") -> Components:
    """Hidden, weights and context components, each (L + 1, B, T, D); index 0 is the embedding.

    ``cut`` names what "no access" means: ``self`` (every position attends to itself only), ``item`` (to its own item
    only: the same where items take one position each, and the reading for items of several tokens), ``identity``
    (attention's output is its own layer-normed input, as in the paper's released code) or ``zero`` (attention adds
    nothing).
    Runs without gradients. Raises SpecError for an unknown cut.
    """
    if cut not in get_args(Cut):
        raise SpecError(f"unknown cut '{cut}'{suggest(str(cut), get_args(Cut))}")
    with torch.no_grad():
        hidden = model(inputs).hidden
        weights = model(inputs, attention=cut).hidden
    return Components(hidden, weights, hidden - weights, cut)
