"""A GPT-2-style decoder over prompts of items and labels, which returns the hidden state of every layer.

What enters: :class:`~unplateau.tensors.Prompts`. What leaves: :class:`~unplateau.tensors.Output`. Pre-norm blocks,
learned positions, tanh-GELU; items enter through a linear layer, labels through an embedding (Fu et al. 2024,
section 3; labels there are one-hot vectors through the linear layer, which is the same map).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from unplateau.config import Config
from unplateau.errors import CheckpointError
from unplateau.models.attention import Attention, SelfAttention
from unplateau.models.initialise import initialise
from unplateau.tensors import Output, Prompts
from unplateau.types import TaskShape


class ModelConfig(Config):
    """Size and initialisation of a :class:`Transformer`."""

    n_layers: int = Field(3, ge=1, description="number of blocks (L)")
    width: int = Field(64, ge=1, description="width of the hidden state (D)")
    n_heads: int = Field(2, ge=1, description="attention heads; must divide the width")
    init: Literal["scaled", "gpt2"] = Field(
        "scaled",
        description="scaled: PyTorch's layer defaults, positions N(0, 0.3), labels N(0, 0.5); gpt2: N(0, 0.02)",
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.n_heads:
            raise ValueError(f"width {self.width} is not divisible by n_heads {self.n_heads}")
        return self


class Block(nn.Module):
    """One pre-norm block: attention, then a four times wider MLP."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, n_heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, attention: Attention) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.attention(self.attention_norm(x), attention)
        return x + self.contract(nn.functional.gelu(self.expand(self.mlp_norm(x)), approximate="tanh"))


class Transformer(nn.Module):
    """The model of the factor tasks; ``seed`` decides its initial weights and nothing else does."""

    def __init__(self, config: ModelConfig, shape: TaskShape, *, seed: int = 0) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.n_layers, self.width = config.n_layers, config.width
        self.item_embedding = nn.Linear(shape.item_width, config.width)
        self.label_embedding = nn.Embedding(shape.n_labels, config.width)
        self.position_embedding = nn.Embedding(shape.n_positions, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.n_heads) for _ in range(config.n_layers))
        self.final_norm = nn.LayerNorm(config.width)
        self.read_out = nn.Linear(config.width, shape.n_labels)
        initialise(self, config.init, seed=seed)

    def forward(self, inputs: Prompts, attention: Attention = "causal") -> Output:
        """Logits (B, K, C) at the item positions and hidden states (L + 1, B, T, D), index 0 the embedding."""
        states = self.hidden_states(self.embed(inputs), attention)
        at_queries = states[-1][:, self.shape.query_positions.start :: self.shape.query_positions.step]
        return Output(self.read_out(self.normalise(at_queries)), torch.stack(states))

    def embed(self, inputs: Prompts) -> Tensor:
        """(B, T, D): items and labels interleaved as x_1 y_1 x_2 y_2 ..., plus their positions."""
        items = self.item_embedding(inputs.items)  # (B, K, D)
        labels = self.label_embedding(inputs.labels)  # (B, K, D)
        tokens = torch.stack((items, labels), dim=2).flatten(1, 2)  # (B, T, D)
        return tokens + self.position_embedding.weight[: tokens.shape[1]]

    def embed_items(self, vectors: Tensor, positions: Tensor) -> Tensor:
        """(N, 1, D): items (N, item width) shown alone at these positions (N,) of the prompt."""
        return (self.item_embedding(vectors) + self.position_embedding(positions)).unsqueeze(1)

    def hidden_states(self, embedded: Tensor, attention: Attention, n_layers: int | None = None) -> list[Tensor]:
        """The embedding (B, T, D) and the states after each of the first ``n_layers`` blocks (all by default)."""
        states = [embedded]
        for block in self.blocks[:n_layers]:
            states.append(block(states[-1], attention))
        return states

    def normalise(self, hidden: Tensor) -> Tensor:
        """The final layer norm over (..., D)."""
        return self.final_norm(hidden)

    def load_gpt2(self, state: Mapping[str, Tensor]) -> None:
        """Takes blocks, positions and final norm from the state dict of a transformers ``GPT2Model``.

        GPT-2 stores linear layers transposed (``Conv1D``). Its token embedding has no place here and is not used.
        Raises CheckpointError if a tensor is missing or has another shape.
        """
        mine = dict(self.named_parameters())
        with torch.no_grad():
            for theirs, name, transposed in _gpt2_names(self.n_layers):
                if theirs not in state:
                    raise CheckpointError(f"GPT-2 state dict: '{theirs}' is missing; the model here has {self.config}")
                value = state[theirs].T if transposed else state[theirs]
                if name == "position_embedding.weight":
                    value = value[: len(mine[name])]
                if value.shape != mine[name].shape:
                    raise CheckpointError(
                        f"GPT-2 state dict: '{theirs}' has shape {tuple(value.shape)}, needed {tuple(mine[name].shape)}"
                    )
                mine[name].copy_(value)


def _gpt2_names(n_layers: int) -> list[tuple[str, str, bool]]:
    """(their name, our name, is it stored transposed) of every tensor that both models have."""
    inside = {
        "ln_1": "attention_norm",
        "attn.c_attn": "attention.query_key_value",
        "attn.c_proj": "attention.project",
        "ln_2": "mlp_norm",
        "mlp.c_fc": "expand",
        "mlp.c_proj": "contract",
    }
    names = [("wpe.weight", "position_embedding.weight", False)]
    modules = {"ln_f": "final_norm"}
    for layer in range(n_layers):
        modules |= {f"h.{layer}.{theirs}": f"blocks.{layer}.{ours}" for theirs, ours in inside.items()}
    for theirs, ours in modules.items():
        names.append((f"{theirs}.weight", f"{ours}.weight", ".c_" in theirs))
        names.append((f"{theirs}.bias", f"{ours}.bias", False))
    return names
