"""Which architectures are let in: those that keep the laws of decomposable models, on a tiny instance of their own.

Documentation promises little about masks; behaviour is what can be relied on.
"""

import copy
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from unplateau.decompose import Decomposable
from unplateau.errors import LawError, SpecError, demand, in_words
from unplateau.integrations.huggingface.behaviour import FAILURES, part_names
from unplateau.integrations.huggingface.parts import PartNames, Parts, find_parts, model_type
from unplateau.integrations.huggingface.passes import MASKED_KERNELS, entering, mask_kernel
from unplateau.layout import CUTS, Attention
from unplateau.rng import apart, fold
from unplateau.tensors import TokenPrompts
from unplateau.testing.models import check_model


@dataclass(frozen=True)
class Admission:
    """What is known of an architecture that is let in: ``refused`` attentions mean nothing in it, with the reason."""

    names: PartNames
    refused: Mapping[str, str]


_CHECKED: dict[tuple[str, str, str], Admission] = {}


class TokenModel(Decomposable, Protocol):
    """A language model taken apart, as far as its laws need it."""

    parts: Parts
    refused: Mapping[str, str]

    def token_states(self, inputs: TokenPrompts, attention: Attention, n_layers: int) -> Tensor:
        """(B, T, D): the unnormalised states after this many blocks."""


def admitted(model: nn.Module, take_apart: Callable[[nn.Module], TokenModel]) -> Admission:
    """See :func:`~unplateau.integrations.huggingface.check_architecture`; ``take_apart`` checks nothing."""
    key = _architecture(model)
    if key not in _CHECKED:
        with apart(0, "admission"):
            _CHECKED[key] = _check(*_tiny_or_copy(model), model_type(model), take_apart)
    return _CHECKED[key]


def _architecture(model: Any) -> tuple[str, str, str]:
    """What tells architectures apart: the class, the implementation of attention, and the config without its sizes."""
    try:
        settings = tiny_config(model.config).to_dict()
    except Exception:  # any failure of a foreign config: then its sizes count as well
        settings = model.config.to_dict()
    described = {name: value for name, value in settings.items() if not name.startswith("_")}
    kernel = getattr(model.config, "_attn_implementation", None)
    return f"{type(model).__module__}.{type(model).__name__}", str(kernel), repr(sorted(described.items()))


def check_decoder(decoder: TokenModel, inputs: TokenPrompts) -> None:
    """The laws of :func:`~unplateau.testing.check_model` and those of decoders on these prompts; LawError if broken.

    Short cuts (fewer blocks, item positions alone) give the states of the whole model, padding on either side changes
    nothing, and cut ``zero`` is what attention with zero weights gives.
    """
    meaningful = tuple(cut for cut in CUTS if cut not in decoder.refused)
    check_model(decoder, inputs, cuts=meaningful)
    with torch.no_grad():
        attentions: tuple[Attention, ...] = ("causal", *meaningful)
        for attention in attentions:
            states = decoder(inputs, attention).hidden
            for n_layers in range(decoder.n_layers + 1):
                short = decoder.component(inputs, attention, n_layers)
                same = _close(short, inputs.at_known(states[n_layers]))
                demand(same, decoder, f"fewer blocks and fewer positions give the same states (attention {attention})")
            _check_padding(decoder, inputs, attention, states)


def _check_padding(decoder: TokenModel, inputs: TokenPrompts, attention: Attention, states: Tensor) -> None:
    assert inputs.mask is not None and inputs.units is not None  # noqa: PT018
    for side, added in (("right", (0, 3)), ("left", (3, 0))):
        mask = functional.pad(inputs.mask, added)
        units = functional.pad(inputs.units, added, value=-1)
        longer = TokenPrompts(functional.pad(inputs.tokens, added, value=1), mask, units)
        same = _close(decoder.token_states(longer, attention, decoder.n_layers)[mask].float(), states[-1][inputs.mask])
        demand(same, decoder, f"padding on the {side} changes no real position (attention {attention})")


def _check(tiny: Any, what: str, name: str, take_apart: Callable[[nn.Module], TokenModel]) -> Admission:
    """Checks everything on ``tiny``, which is ``what``; the message of a broken law names the model type."""
    try:
        inputs = _prompts(int(tiny.get_input_embeddings().num_embeddings))
        names = _check_structure(tiny, inputs)
        decoder = take_apart(tiny)
        decoder.refused = _meaningless(decoder, inputs)
        check_decoder(decoder, inputs)
    except LawError as error:
        raise SpecError(f"{name}: not admitted: {error}") from error
    except FAILURES as error:
        raise SpecError(f"{name}: not admitted: {what} fails ({in_words(error)})") from error
    return Admission(names, decoder.refused)


def _check_structure(tiny: nn.Module, inputs: TokenPrompts) -> PartNames:
    """A model that looks ahead is named as such, whether its parts can be found or not."""
    try:
        names = part_names(tiny)
        find_parts(tiny, names)
    except SpecError:
        with suppress(*FAILURES):
            _check_plain_causality(tiny, inputs)
        raise
    _check_plain_causality(tiny, inputs)
    return names


def _check_plain_causality(tiny: Any, inputs: TokenPrompts) -> None:
    half, highest = inputs.tokens.shape[1] // 2, int(inputs.tokens.max())
    changed = inputs.tokens.clone()
    changed[:, half:] = changed[:, half:] % highest + 1
    with torch.no_grad():
        before, after = (tiny(input_ids=tokens).logits[:, :half] for tokens in (inputs.tokens, changed))
    if not _close(after, before):
        raise LawError("later tokens change earlier logits: it has no causal mask (bidirectional attention)")


@torch.no_grad()
def _meaningless(decoder: TokenModel, inputs: TokenPrompts) -> dict[str, str]:
    """Cuts that replace the attention module's output, where that output is not attention and nothing else."""
    refused: dict[str, str] = {}
    if not _entering_is_normed(decoder, inputs):
        refused["identity"] = "what enters its attention modules is not the output of a norm"
    if not _zero_is_no_attention(decoder, inputs):
        reason = "its attention modules return more than attention (such as the residual stream)"
        refused |= {"identity": reason, "zero": reason}
    return refused


def _entering_is_normed(decoder: TokenModel, inputs: TokenPrompts) -> bool:
    normed: list[Tensor] = []
    read: list[Tensor] = []
    norms = [
        module
        for block in decoder.parts.block_list
        for module in block.children()
        if "norm" in type(module).__name__.lower()
    ]
    with ExitStack() as hooks:
        for norm in norms:
            hooks.enter_context(norm.register_forward_hook(lambda _module, _args, output: normed.append(output)))
        for module in decoder.parts.attentions:
            hook = module.register_forward_pre_hook(lambda _, *given: read.append(entering(*given)), with_kwargs=True)
            hooks.enter_context(hook)
        decoder(inputs)
    return all(any(one is other for other in normed) for one in read)


def _zero_is_no_attention(decoder: TokenModel, inputs: TokenPrompts) -> bool:
    """Whether cut ``zero`` gives what attention modules with zero weights give."""
    cut = decoder(inputs, "zero").hidden
    weights = [parameter for attention in decoder.parts.attentions for parameter in attention.parameters()]
    own = [weight.clone() for weight in weights]
    for weight in weights:
        weight.zero_()
    without = decoder(inputs).hidden
    for weight, before in zip(weights, own, strict=True):
        weight.copy_(before)
    return _close(without, cut)


def _tiny_or_copy(model: Any) -> tuple[nn.Module, str]:
    """What the laws are checked on, and what it is. The user's own model is neither run nor written to."""
    try:
        return tiny_instance(model), "its tiny instance"
    except MemoryError:
        raise
    except Exception as error:  # any failure of a foreign constructor
        why = in_words(error)
    try:
        copied = copy.deepcopy(model).cpu().float().eval()
        copied.config._attn_implementation = mask_kernel(copied)  # others may need another device or precision
        _fill_zeros(copied)
    except MemoryError:
        raise
    except Exception as error:
        raise SpecError(
            f"{model_type(model)}: not admitted: no tiny instance can be built ({why}), and the model cannot be copied "
            f"({in_words(error)})"
        ) from error
    return copied, "a copy of it"


@torch.no_grad()
def _fill_zeros(copied: nn.Module) -> None:
    """What starts at zero, as outputs of blocks may, would hide what a module does."""
    generator = fold(0, "zeros filled")
    for parameter in copied.parameters():
        if not parameter.any():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


def _prompts(vocabulary: int) -> TokenPrompts:
    """Three prompts of 11 tokens, the last one padded: two items of two tokens and a label in each, then one more."""
    generator = fold(0, "laws of decoders")
    tokens = torch.randint(1, min(vocabulary, VOCABULARY), (3, 11), generator=generator)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[2, 9:] = False
    units = torch.tensor([0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8]).repeat(3, 1)
    at = torch.tensor([[2, 6]]).repeat(3, 1)
    return TokenPrompts(tokens, mask, units, at, at)


def _close(found: Tensor, wanted: Tensor) -> bool:
    """Whether two ways to compute the same state agree, in float32."""
    return bool((found - wanted).abs().max() <= 1e-4 * wanted.abs().max())


VOCABULARY = 61

TINY: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "query_pre_attn_scalar": 8,
    "rotary_dim": 4,
    "sliding_window": 4,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
"""Settings to change, of those that a config has."""


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
    small = {name: value for name, value in TINY.items() if getattr(config, name, None) is not None}
    if getattr(config, "qk_rope_head_dim", None) is not None:
        small |= _small_latent(config)
    grouped = getattr(config, "num_key_value_heads", None)
    if grouped is not None:
        small["num_key_value_heads"] = 4 if grouped == config.num_attention_heads else min(grouped, 2)
    kinds = list(dict.fromkeys(getattr(config, "layer_types", None) or ()))
    small["num_hidden_layers"] = max(2, len(kinds))
    if kinds:
        small["layer_types"] = (kinds * 2)[: small["num_hidden_layers"]]
    rope = getattr(config, "rope_parameters", None)
    if isinstance(rope, Mapping):
        small["rope_parameters"] = _plain_rope(rope)
    tiny = copy.deepcopy(config)
    for name, value in small.items():
        setattr(tiny, name, value)
    if tiny._attn_implementation not in MASKED_KERNELS:
        tiny._attn_implementation = None  # the model's own choice on this machine
    return tiny


LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8}
"""Small sizes of multi-head latent attention (MLA)."""


def _small_latent(config: Any) -> dict[str, int]:
    """Sizes of heads that are sums of others stay so."""
    small = {name: size for name, size in LATENT.items() if getattr(config, name, None) is not None}
    rope, whole = config.qk_rope_head_dim, config.qk_rope_head_dim + config.qk_nope_head_dim
    for name in ("head_dim", "qk_head_dim"):
        size = getattr(config, name, None)
        if size is not None:
            small[name] = 4 if size == rope else 12 if size == whole else 8
    return small


def _plain_rope(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary positions without the stretching that depends on sizes."""
    if "rope_type" not in rope:
        return {name: _plain_rope(value) if isinstance(value, Mapping) else value for name, value in rope.items()}
    kept = ("rope_theta", "partial_rotary_factor")
    return {"rope_type": "default", **{name: rope[name] for name in kept if name in rope}}
