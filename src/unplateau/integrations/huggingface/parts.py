"""Where the parts of a causal language model are: blocks, attention modules, final norm, embedding, head.

They are found by structure, whatever their names; what is found is not yet admitted (``checks``).
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from unplateau.errors import SpecError


@dataclass(frozen=True)
class Slot:
    """The place of a module in its parent."""

    parent: nn.Module
    name: str

    @property
    def module(self) -> nn.Module:
        """What is there."""
        return getattr(self.parent, self.name)

    @contextmanager
    def holding(self, other: nn.Module) -> Iterator[None]:
        """Something else is there for a while."""
        own = self.module
        setattr(self.parent, self.name, other)
        try:
            yield
        finally:
            setattr(self.parent, self.name, own)


@dataclass(frozen=True)
class Parts:
    """Parts of a causal language model, as they are in it: nothing is copied."""

    backbone: nn.Module
    blocks: Slot
    attentions: tuple[nn.Module, ...]
    final_norm: nn.Module
    embedding: nn.Embedding
    head: Slot

    @property
    def block_list(self) -> nn.ModuleList:
        """The L blocks."""
        blocks = self.blocks.module
        assert isinstance(blocks, nn.ModuleList)
        return blocks


def model_type(model: nn.Module) -> str:
    """``gpt2``, ``llama`` ...: what errors name."""
    return str(getattr(getattr(model, "config", None), "model_type", type(model).__name__))


def refuse_by_name(model: nn.Module) -> None:
    """Raises SpecError for what is no decoder-only language model with a head, before anything else is looked at."""
    name = model_type(model)
    config = getattr(model, "config", None)
    if config is None or not isinstance(getattr(model, "base_model", None), nn.Module):
        raise SpecError(f"{type(model).__name__}: not a model of transformers")
    if getattr(config, "is_encoder_decoder", False):
        raise SpecError(
            f"{name}: an encoder-decoder model; only decoder-only (causal) language models can be taken apart"
        )
    if _head(model) is None:
        raise SpecError(f"{name}: {type(model).__name__} has no language-model head; load it with AutoModelForCausalLM")


def find_parts(model: Any) -> Parts:
    """The parts of this model. Raises SpecError, naming the model type, where one cannot be found."""
    refuse_by_name(model)
    # the model without its head; some releases of transformers lead there by another name
    backbone = model.base_model if model.base_model is not model else model.get_decoder()
    blocks = _find_blocks(model, backbone)
    attentions = tuple(_find_attention(model, block, number) for number, block in enumerate(blocks.module.children()))
    final_norm = _find_final_norm(model, blocks.parent)
    if "position_ids" not in inspect.signature(backbone.forward).parameters:
        raise SpecError(
            f"{model_type(model)}: takes no position_ids, so that a token shown alone would lose its position"
        )
    embedding, head = model.get_input_embeddings(), _head(model)
    if not isinstance(embedding, nn.Embedding):
        raise SpecError(f"{model_type(model)}: its tokens do not enter through one embedding")
    assert head is not None
    return Parts(backbone, blocks, attentions, final_norm, embedding, head)


def _head(model: Any) -> Slot | None:
    head = model.get_output_embeddings()
    for parent in model.modules() if head is not None else ():
        for name, child in parent.named_children():
            if child is head:
                return Slot(parent, name)
    return None


def _find_blocks(model: Any, backbone: nn.Module) -> Slot:
    """The list of as many modules as the model says that it has layers."""
    n_layers = getattr(model.config, "num_hidden_layers", None)
    for parent in backbone.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == n_layers:
                return Slot(parent, name)
    raise SpecError(f"{model_type(model)}: no list of {n_layers} blocks found in {type(backbone).__name__}")


def _find_attention(model: nn.Module, block: nn.Module, number: int) -> nn.Module:
    found = [
        child
        for name, child in block.named_children()
        if "attention" in type(child).__name__.lower() and "cross" not in name
    ]
    if len(found) != 1:
        raise SpecError(
            f"{model_type(model)}: block {number} ({type(block).__name__}) has {len(found) or 'no'} attention modules; "
            "without exactly one in each block, as in state-space models, cut self is not defined"
        )
    return found[0]


def _find_final_norm(model: nn.Module, parent: nn.Module) -> nn.Module:
    norms = [child for child in parent.children() if "norm" in type(child).__name__.lower()]
    if not norms:
        raise SpecError(f"{model_type(model)}: no final norm found after the blocks in {type(parent).__name__}")
    return norms[-1]
