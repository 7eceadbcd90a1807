"""A GPT-2-style decoder over prompts of items and labels, which returns the hidden state of every layer.

Pre-norm blocks, learned positions, tanh-GELU; item vectors enter through a linear layer, labels through an embedding
(Fu et al. 2024, section 3; labels there are one-hot vectors through the linear layer, which is the same map). Items
written in tokens enter through an embedding as well, and where labels are tokens too, one embedding reads, labels and
predicts. Labels that are numbers enter through a linear layer, and one number is predicted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from unplateau.decompose import Architecture
from unplateau.errors import CheckpointError, SpecError
from unplateau.layout import Attention, TaskShape, Tokens
from unplateau.limits import KEPT_BY_BLOCK
from unplateau.models.attention import EVERYWHERE, SelfAttention
from unplateau.models.initialise import POSITION_DEVIATION, initialise
from unplateau.models.layers import Embedding, Linear
from unplateau.tensors import Inputs, Output, Prediction, Prompts


class ModelConfig(Architecture):
    """Size and initialisation of a :class:`Transformer`."""

    n_layers: int = Field(3, ge=1, description="number of blocks (L)")
    width: int = Field(64, ge=1, description="width of the hidden state (D)")
    n_heads: int = Field(2, ge=1, description="attention heads; must divide the width")
    init: Literal["scaled", "gpt2"] = Field(
        "scaled",
        description="scaled: PyTorch's layer defaults, positions N(0, 0.3), labels and tokens N(0, 0.5) (deviation "
        "1/sqrt(width) where tokens are predicted); gpt2: N(0, 0.02)",
    )
    labels_carry_items: bool = Field(
        False, description="whether a label's position carries its item too: x_1, x_1 + y_1, x_2 ... (embeddings)"
    )

    label_gain: float = Field(
        1.0,
        gt=0,
        description="what the embeddings of labels are multiplied by at first; not where labels are tokens",
        exclude_if=lambda gain: gain == 1,  # as specs of before there was one
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.n_heads:
            raise ValueError(f"width {self.width} is not divisible by n_heads {self.n_heads}")
        return self

    def build(self, shape: TaskShape, *, seed: int) -> Transformer:
        """The Transformer of these sizes."""
        return Transformer(self, shape, seed=seed)

    def n_weights(self, shape: TaskShape) -> int:
        """All of them: embeddings, blocks (12 D^2 and 13 D each), final norm, read-out."""
        width, items = self.width, shape.items
        n_read = items.vocabulary + 1 if isinstance(items, Tokens) else items.width + 1  # with the bias
        n_rows = n_read + shape.n_cues + shape.layout.n_positions + 2
        total = width * n_rows + self.n_layers * (12 * width**2 + 13 * width)
        if shape.labels_are_tokens:
            return total
        labels = 2 if shape.labels_are_numbers else shape.n_labels
        return total + width * labels + (width + 1) * shape.n_labels

    @property
    def bytes_per_block(self) -> int:
        """Of its modules, as Python keeps them."""
        return 20_000

    @property
    def kept_by_block(self) -> int:
        """Norms, attention and a fourfold MLP."""
        return KEPT_BY_BLOCK

    @property
    def head_init(self) -> Literal["scaled", "gpt2"]:
        """As the model itself."""
        return self.init

    @property
    def shows_attention(self) -> bool:
        """It does."""
        return True


class Block(nn.Module):
    """One pre-norm block: attention, then a four times wider MLP."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, n_heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.expand = Linear(width, 4 * width)
        self.contract = Linear(4 * width, width)

    def forward(self, x: Tensor, attention: Attention, at: slice = EVERYWHERE) -> Tensor:
        """(B, T, D) -> (B, P, D): the states at the positions ``at``, all T by default."""
        return self.after_attention(x[:, at] + self.attention(self.attention_norm(x), attention, at))

    def after_attention(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D): the MLP."""
        return x + self.contract(nn.functional.gelu(self.expand(self.mlp_norm(x)), approximate="tanh"))

    def attention_weights(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, T): where it looks."""
        return self.attention.weights(self.attention_norm(x))


class Transformer(nn.Module):
    """The model of the factor tasks; ``seed`` decides its initial weights and nothing else does."""

    def __init__(self, config: ModelConfig, shape: TaskShape, *, seed: int = 0) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.n_layers, self.width = config.n_layers, config.width
        self.item_embedding: Embedding | Linear = _item_embedding(shape, config.width)
        if not shape.labels_are_tokens:
            self.label_embedding: Embedding | Linear = _label_embedding(shape, config.width)
        if shape.n_cues:
            self.cue_embedding = Embedding(shape.n_cues, config.width)
        self.position_embedding = Embedding(shape.layout.n_positions, config.width)
        blocks = [Block(config.width, config.n_heads) for _ in range(config.n_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = nn.LayerNorm(config.width)
        if not shape.labels_are_tokens:
            self.read_out = Linear(config.width, shape.n_labels)
        deviations: dict[nn.Embedding, float] = {self.position_embedding: POSITION_DEVIATION}
        if isinstance(self.item_embedding, Embedding) and shape.labels_are_tokens:
            deviations[self.item_embedding] = 1 / math.sqrt(config.width)  # it reads out too: logits of deviation 1
        residual = [layer for block in blocks for layer in (block.attention.project, block.contract)]
        initialise(self, config.init, seed=seed, deviations=deviations, residual=residual)
        if config.label_gain != 1:
            if shape.labels_are_tokens:
                raise SpecError("model.label_gain: labels of this task are tokens like its items; leave it at 1")
            with torch.no_grad():
                self.label_embedding.weight.mul_(config.label_gain)

    def forward(self, inputs: Inputs, attention: Attention = "causal") -> Output:
        """Logits (B, K, C) at the query positions and hidden states (L + 1, B, T, D), index 0 the embedding."""
        return self.output(self.hidden_states(self.embed(inputs), attention), inputs)

    def output(self, states: list[Tensor], inputs: Inputs) -> Output:
        """What is made of the states (B, T, D) of all layers."""
        return Output(self.logits(inputs.at_queries(states[-1])), torch.stack(states))

    def logits(self, final: Tensor) -> Tensor:
        """(..., D) after the last block -> (..., C)."""
        final = self.normalise(final)
        if self.shape.labels_are_tokens:
            return self.item_embedding.by_rows(final, slice(1, self.shape.n_labels + 1))
        return self.read_out(final)

    def predict_queries(self, inputs: Inputs) -> Prediction:
        """As :meth:`forward`, to rounding, without the last block where nothing is predicted: at labels and cues."""
        states = self.hidden_states(self.embed(inputs), "causal", self.n_layers - 1)
        last, queries = self.blocks[-1], self.shape.layout.queries
        final = last(states[-1], "causal", slice(queries.start, None, queries.step))
        return Prediction(self.logits(final), final, states, lambda: last(states[-1], "causal"))

    def embed(self, inputs: Inputs) -> Tensor:
        """(B, T, D): what :meth:`read_in` gives, plus positions."""
        return self.position_embedding.added(self.read_in(inputs))

    def read_in(self, inputs: Inputs) -> Tensor:
        """(B, T, D): cue, items and labels as c x_1 y_1 x_2 y_2 ..., without their positions."""
        assert isinstance(inputs, Prompts), "this model reads items and labels, not the tokens of a language model"
        items = self.embed_items(inputs.items)  # (B, K, positions of an item, D)
        if self.shape.labels_are_tokens:
            labels = self.item_embedding(inputs.labels + 1)  # token 0 stands for none
        else:
            numbers = self.shape.labels_are_numbers
            labels = self.label_embedding(inputs.labels[..., None] if numbers else inputs.labels)
        labels = labels[:, :, None]  # (B, K, 1, D)
        if self.config.labels_carry_items:
            labels = labels + items[:, :, -1:]
        states = torch.cat((items, labels), dim=2).flatten(1, 2)
        if inputs.cues is not None:
            states = torch.cat((self.cue_embedding(inputs.cues)[:, None], states), dim=1)
        return states

    def embed_items(self, items: Tensor) -> Tensor:
        """Vectors (..., item width) -> (..., 1, D), or tokens (..., positions, P) -> (..., positions, D)."""
        if items.is_floating_point():
            return self.item_embedding(items)[..., None, :]
        return self.item_embedding(items).sum(-2)

    def component(self, inputs: Inputs, cut: Attention, n_layers: int) -> Tensor:
        """(B, M, D); where no position sees another, the known positions are taken out of the prompt first."""
        embedded = self.embed(inputs)
        if cut == "item":
            return inputs.at_known(self.hidden_states(embedded, cut, n_layers)[-1])
        return self.hidden_states(inputs.at_known(embedded), cut, n_layers)[-1]

    def component_alone(self, items: Tensor, positions: Tensor, cut: Attention, n_layers: int) -> Tensor:
        """(N, D)."""
        embedded = self.embed_items(items)  # (N, positions of an item, D)
        back = torch.arange(embedded.shape[1] - 1, -1, -1, device=positions.device)
        embedded = embedded + self.position_embedding(positions[:, None] - back)
        alone: Attention = "causal" if cut == "item" else cut
        return self.hidden_states(embedded, alone, n_layers)[-1][:, -1]

    def hidden_states(self, embedded: Tensor, attention: Attention, n_layers: int | None = None) -> list[Tensor]:
        """The embedding (B, T, D) and the states after each of the first ``n_layers`` blocks (all by default)."""
        if attention == "item" and self.shape.layout.in_lists:
            attention = "self"  # the items are the single words of a list
        if attention == "item":
            return self._states_by_item(embedded, n_layers)
        states = [embedded]
        for block in self.blocks[:n_layers]:
            states.append(block(states[-1], attention))
        return states

    def _states_by_item(self, embedded: Tensor, n_layers: int | None) -> list[Tensor]:
        """Cue and pairs as sequences of their own."""
        first, length = self.shape.layout.first, self.shape.layout.item_length + 1
        pairs = embedded[:, first:].unflatten(1, (-1, length))  # (B, K, length of a pair, D)
        cues = self.hidden_states(embedded[:, :first], "causal", n_layers) if first else []
        alone = self.hidden_states(pairs.flatten(0, 1), "causal", n_layers)
        states = [state.unflatten(0, pairs.shape[:2]).flatten(1, 2) for state in alone]
        return [torch.cat(both, 1) for both in zip(cues, states, strict=True)] if cues else states

    def attention_weights(self, hidden: Tensor, layer: int) -> Tensor:
        """(B, H, T, T), each row a distribution over the positions up to its own."""
        block = self.blocks[layer - 1]
        assert isinstance(block, Block)
        return block.attention_weights(hidden)

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
            for theirs, name, transposed in gpt2_names(self.n_layers):
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


def _item_embedding(shape: TaskShape, width: int) -> Embedding | Linear:
    if isinstance(shape.items, Tokens):
        return Embedding(shape.items.vocabulary + 1, width, padding_idx=0)
    return Linear(shape.items.width, width)


def _label_embedding(shape: TaskShape, width: int) -> Embedding | Linear:
    return Linear(1, width) if shape.labels_are_numbers else Embedding(shape.n_labels, width)


def gpt2_names(n_layers: int) -> list[tuple[str, str, bool]]:
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
