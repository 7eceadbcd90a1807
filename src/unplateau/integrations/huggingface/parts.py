"""Where the parts of a causal language model are: blocks, attention modules, final norm, embedding, head.

They are found by structure, and by what modules do (``behaviour``), whatever their classes are called; what is found is
not yet admitted (``checks``).
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unplateau.errors import SpecError
from unplateau.integrations.huggingface.wrappers import bare


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
class PartNames:
    """``attentions``: what attention modules are called in blocks; ``final_norm``: what it is called beside these."""

    attentions: tuple[str, ...]
    final_norm: str


@dataclass(frozen=True)
class Parts:
    """Parts of a causal language model, as they are in it: nothing is copied.

    ``embed`` makes states of tokens: ``embedding`` itself, or an adapter around it.
    """

    backbone: nn.Module
    blocks: Slot
    attentions: tuple[nn.Module, ...]
    final_norm: nn.Module
    embedding: nn.Embedding
    embed: nn.Module
    head: Slot

    @property
    def block_list(self) -> nn.ModuleList:
        """The L blocks."""
        blocks = self.blocks.module
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def token_matrix(self) -> Tensor:
        """(V, D): the embedding of each token, with what an adapter adds to it."""
        weight = self.embedding.weight
        return weight if self.embed is self.embedding else self.embed(torch.arange(len(weight), device=weight.device))


def model_type(model: nn.Module) -> str:
    """``gpt2``, ``llama`` ...: what errors name."""
    return str(getattr(getattr(model, "config", None), "model_type", type(model).__name__))


def refuse_by_name(model: nn.Module) -> None:
    """Raises SpecError for what is no decoder-only language model with a head, before anything else is looked at."""
    name = model_type(model)
    config = getattr(model, "config", None)
    if config is None or not isinstance(getattr(model, "base_model", None), nn.Module):
        inside = [child for child, one in model.named_children() if hasattr(one, "get_output_embeddings")]
        hint = f"; it holds one: give .{inside[0]}" if inside else ""
        raise SpecError(f"{type(model).__name__}: not a model of transformers{hint}")
    if getattr(config, "is_encoder_decoder", False):
        raise SpecError(
            f"{name}: an encoder-decoder model; only decoder-only (causal) language models can be taken apart"
        )
    if _head(model) is None:
        raise SpecError(f"{name}: {type(model).__name__} has no language-model head; load it with AutoModelForCausalLM")
    if _has_experts(model):
        raise SpecError(
            f"{name}: a mixture of experts computes the tokens of one expert together, so that other tokens change the "
            "rounding of a token's own state: no cut isolates it bit for bit"
        )


def find_parts(model: Any, names: PartNames) -> Parts:
    """The parts of this model. Raises SpecError, naming the model type, where one cannot be found."""
    refuse_by_name(model)
    backbone = find_backbone(model)
    blocks = find_blocks(model, backbone)
    attentions = tuple(_attention(model, bare(block), names) for block in blocks.module.children())
    final_norm = getattr(blocks.parent, names.final_norm)
    if "position_ids" not in inspect.signature(backbone.forward).parameters:
        raise SpecError(
            f"{model_type(model)}: takes no position_ids, so that a token shown alone would lose its position"
        )
    embed, head = model.get_input_embeddings(), _head(model)
    embedding = bare(embed)
    if not isinstance(embedding, nn.Embedding):
        raise SpecError(f"{model_type(model)}: its tokens do not enter through one embedding")
    assert head is not None
    return Parts(backbone, blocks, attentions, final_norm, embedding, embedding if embed is embedding else embed, head)


def find_backbone(model: Any) -> nn.Module:
    """The model without its head; some releases of transformers lead there by another name."""
    return bare(model.base_model if model.base_model is not model else model.get_decoder())


def _has_experts(model: nn.Module) -> bool:
    """Whether tokens are sent to one expert or another, whatever these are called."""
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] in ("experts", "local_experts") or "expert" in type(module).__name__.lower():
            return True
    return False


def _head(model: Any) -> Slot | None:
    head = model.get_output_embeddings()
    for parent in model.modules() if head is not None else ():
        for name, child in parent.named_children():
            if child is head:
                return Slot(parent, name)
    return None


def find_blocks(model: Any, backbone: nn.Module) -> Slot:
    """The list of as many modules as the model says that it has layers."""
    n_layers = getattr(model.config, "num_hidden_layers", None)
    for parent in backbone.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == n_layers:
                return Slot(parent, name)
    raise SpecError(f"{model_type(model)}: no list of {n_layers} blocks found in {type(backbone).__name__}")


def _attention(model: nn.Module, block: nn.Module, names: PartNames) -> nn.Module:
    found = [getattr(block, name) for name in names.attentions if name in block._modules]
    if len(found) != 1:
        raise SpecError(
            f"{model_type(model)}: a block ({type(block).__name__}) has {len(found) or 'no'} attention modules"
        )
    return found[0]
