"""Tiny random instances of an architecture, which have all that matters to its laws and none of its size.

What enters: a model. What leaves: a model of the same class with small sizes, in which a leak of one part in 10,000
would show. Its weights are larger than those of a fresh model, so that attention matters.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from unplateau.integrations.huggingface.passes import MASKED_KERNELS
from unplateau.rng import fold

VOCABULARY = 61
WINDOW = 4
TINY = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "query_pre_attn_scalar": 8,
    "rotary_dim": 4,
}


def tiny_instance(model: Any) -> nn.Module:
    """The same class and config with small sizes, random weights, in float32 on the CPU."""
    config = tiny_config(model.config)
    with torch.device("cpu"):
        tiny = type(model)(config).float().eval()
    generator = fold(0, "tiny instance")
    with torch.no_grad():
        for parameter in tiny.parameters():
            spread = 0.3 if parameter.ndim > 1 else 0.1
            noise = torch.randn(parameter.shape, generator=generator) * spread
            parameter.copy_(noise if parameter.ndim > 1 else parameter + noise)
    return tiny


def tiny_config(config: Any) -> Any:
    """A copy of the config with small sizes; every type of layer, sliding window and grouped heads stay in it."""
    tiny = copy.deepcopy(config)
    for name, value in _small(config).items():
        setattr(tiny, name, value)
    if tiny._attn_implementation not in MASKED_KERNELS:
        tiny._attn_implementation = None  # the model's own choice on this machine
    return tiny


def _small(config: Any) -> dict[str, Any]:
    """The sizes to change, of those that this config has."""
    small: dict[str, Any] = {name: value for name, value in TINY.items() if getattr(config, name, None) is not None}
    grouped = getattr(config, "num_key_value_heads", None)
    if grouped is not None:
        small["num_key_value_heads"] = 4 if grouped == config.num_attention_heads else min(grouped, 2)
    if getattr(config, "sliding_window", None) is not None:
        small["sliding_window"] = WINDOW
    types = getattr(config, "layer_types", None)
    kinds = list(dict.fromkeys(types)) if types else []
    small["num_hidden_layers"] = max(2, len(kinds))
    if kinds:
        small["layer_types"] = (kinds * 2)[: small["num_hidden_layers"]]
    special = ("pad_token_id", "bos_token_id", "eos_token_id")
    small |= {name: None for name in special if getattr(config, name, None) is not None}
    rope = getattr(config, "rope_parameters", None)
    if isinstance(rope, Mapping):
        small["rope_parameters"] = _plain_rope(rope)
    return small


def _plain_rope(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary positions without the stretching that depends on sizes."""
    if "rope_type" not in rope:
        return {name: _plain_rope(value) if isinstance(value, Mapping) else value for name, value in rope.items()}
    kept = ("rope_theta", "partial_rotary_factor")
    return {"rope_type": "default", **{name: rope[name] for name in kept if name in rope}}
