"""What is let in and what is refused, each with one line that names the model type and the reason."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertLMHeadModel,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from tiny_language_models import tiny_model, tiny_prompts
from unplateau.errors import SpecError
from unplateau.integrations.huggingface import Decoder, check_architecture, check_decoder
from unplateau.integrations.huggingface.behaviour import part_names
from unplateau.integrations.huggingface.checks import tiny_config
from unplateau.integrations.huggingface.parts import find_parts
from unplateau.tensors import TokenPrompts

SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 61}


def bert() -> Any:
    return BertLMHeadModel(BertConfig(**SMALL, num_attention_heads=2, intermediate_size=16, is_decoder=False))


def t5() -> Any:
    return T5ForConditionalGeneration(T5Config(vocab_size=61, d_model=16, d_ff=16, num_layers=2, num_heads=2, d_kv=8))


def mamba() -> Any:
    return MambaForCausalLM(MambaConfig(**SMALL))


def mixture(experts: int) -> Any:
    return MixtralForCausalLM(tiny_config(MixtralConfig(num_local_experts=experts)))


def latent(dense: int) -> Any:
    """Latent attention (MLA), with so many blocks before the first that has experts."""
    return DeepseekV3ForCausalLM(tiny_config(DeepseekV3Config(first_k_dense_replace=dense, n_routed_experts=8)))


def headless() -> Any:
    return GPT2Model(tiny_model("gpt2").config)


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (bert, ("bert", "no causal mask", "bidirectional")),
        (t5, ("t5", "encoder-decoder")),
        (mamba, ("mamba", "block 0 (MambaBlock)", "state-space", "cut self")),
        (lambda: mixture(8), ("mixtral", "mixture of experts", "bit for bit")),
        (lambda: mixture(2), ("mixtral", "mixture of experts")),
        (lambda: latent(1), ("deepseek_v3", "mixture of experts")),
        (headless, ("gpt2", "GPT2Model has no language-model head", "AutoModelForCausalLM")),
        (lambda: torch.nn.Linear(2, 2), ("Linear: not a model of transformers",)),
    ],
)
def test_refused_by_name(build: Any, parts: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as refused:
        Decoder(build())
    assert all(part in str(refused.value) for part in parts)
    assert "\n" not in str(refused.value)


def test_latent_attention_without_experts_is_admitted() -> None:
    decoder = Decoder(latent(2))
    assert decoder.refused == {}
    assert [type(one).__name__ for one in decoder.parts.attentions] == ["DeepseekV3Attention"] * 2
    MiniCPM3 = pytest.importorskip("transformers").MiniCPM3ForCausalLM  # noqa: N806
    assert check_architecture(MiniCPM3(tiny_config(MiniCPM3.config_class()))) == {}


class Renamed(GPT2LMHeadModel):
    """A model whose attention is called otherwise, beside a module that is called as attention is and is none."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        for block in self.transformer.h:
            block.attn = Looker(block.attn)
            block.mlp = AttentionOfNothing(block.mlp)


class Looker(torch.nn.Module):
    def __init__(self, inside: torch.nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inside(*args, **kwargs)


class AttentionOfNothing(Looker):
    pass


class Scaling(torch.nn.Module):
    """A norm that is not called so."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(width))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.weight * states / states.square().mean(-1, keepdim=True).sqrt()


class Unnamed(Renamed):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        self.transformer.ln_f = Scaling(config.n_embd)


@pytest.mark.parametrize("kind", [Renamed, Unnamed])
def test_parts_are_found_by_what_they_do_and_not_by_their_names(kind: Any) -> None:
    model = kind(tiny_config(GPT2Config()))
    decoder = Decoder(model)
    assert decoder.parts.attentions == tuple(block.attn for block in model.transformer.h)
    assert decoder.parts.final_norm is model.transformer.ln_f
    assert decoder.refused == {}
    check_decoder(Decoder(model, label_tokens=range(1, 5)), tiny_prompts())


class Conv(torch.nn.Module):
    """Mixes positions, and heeds no mask, whatever it is called."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(width, width) * 0.1)

    def forward(self, states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return torch.nn.functional.pad(states, (0, 0, 1, 0))[:, :-1] @ self.weight, None


class ConvAttention(Conv):
    pass


@pytest.mark.parametrize("kind", [Conv, ConvAttention])
def test_what_mixes_positions_and_heeds_no_mask_is_no_attention(kind: Any) -> None:
    class Convolved(GPT2LMHeadModel):
        def __init__(self, config: GPT2Config) -> None:
            super().__init__(config)
            for block in self.transformer.h:
                block.attn = kind(config.n_embd)

    with pytest.raises(SpecError, match=r"block 0 \(GPT2Block\) has no attention modules"):
        Decoder(Convolved(tiny_config(GPT2Config())))


def test_cut_that_means_nothing_is_refused_by_name() -> None:
    """OLMo 2 norms what leaves attention, not what enters it: there is no normed input to put in its place."""
    model = Olmo2ForCausalLM(tiny_config(Olmo2Config()))
    decoder = Decoder(model)
    tokens = tiny_prompts().tokens
    for attention in ("causal", "self", "zero"):
        decoder.token_states(TokenPrompts(tokens), attention, 1)
    with pytest.raises(SpecError, match=r"olmo2: cut identity means nothing here: .* not the output of a norm"):
        decoder.token_states(TokenPrompts(tokens), "identity", 1)


@pytest.mark.parametrize(
    ("model_type", "blocks", "attention", "final_norm"),
    [
        ("gpt2", "h", "attn", "ln_f"),
        ("gpt_neox", "layers", "attention", "final_layer_norm"),
        *(
            (name, "layers", "self_attn", "norm")
            for name in ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
        ),
    ],
)
def test_structure_finds_what_the_names_say(model_type: str, blocks: str, attention: str, final_norm: str) -> None:
    model = tiny_model(model_type)
    parts = find_parts(model, part_names(model))
    assert parts.block_list is getattr(model.base_model, blocks)
    assert parts.attentions == tuple(getattr(block, attention) for block in parts.block_list)
    assert parts.final_norm is getattr(model.base_model, final_norm)


def test_admission_takes_no_random_numbers_and_happens_once() -> None:
    model, state = tiny_model("qwen2"), torch.get_rng_state()
    first = check_architecture(model)
    assert check_architecture(model) is first
    assert torch.equal(state, torch.get_rng_state())


def test_admission_seeds_no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generators of other devices are not put back, so they must not be touched."""
    seeded: list[int] = []
    model = tiny_model("gpt2", scale_attn_by_inverse_layer_idx=True)  # a setting that no other test has
    for place in ("cuda.manual_seed_all", "mps.manual_seed", "xpu.manual_seed_all"):
        monkeypatch.setattr(f"torch.{place}", seeded.append)
    state = torch.get_rng_state()
    check_architecture(model)
    assert seeded == []
    assert torch.equal(state, torch.get_rng_state())


class Named(GPT2LMHeadModel):
    """A user's own class, whose constructor takes more than a config: no tiny instance can be built."""

    def __init__(self, config: GPT2Config, name: str) -> None:
        super().__init__(config)
        self.own_name = name


def named(vocabulary: int = 24) -> Any:
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=32, n_embd=16, n_head=2, n_layer=2, bos_token_id=None, eos_token_id=None
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Named(config, "mine")


@pytest.fixture
def _nothing_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unplateau.integrations.huggingface.checks._CHECKED", {})


@pytest.mark.usefixtures("_nothing_admitted")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_a_tiny_instance_a_copy_is_checked_and_the_model_is_left_alone(dtype: torch.dtype) -> None:
    model = named().to(dtype).train()
    state = copy.deepcopy(model.state_dict())
    versions = [parameter._version for parameter in model.parameters()]
    assert check_architecture(model) == {}
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [parameter._version for parameter in model.parameters()] == versions, "weights were written to"
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.usefixtures("_nothing_admitted")
def test_copy_that_breaks_a_law_is_not_admitted() -> None:
    class Ahead(Named):
        def forward(self, input_ids: Any = None, **given: Any) -> Any:
            output = super().forward(input_ids=input_ids, **given)
            output.logits = output.logits + output.logits.mean(1, keepdim=True)
            return output

    with pytest.raises(SpecError, match=r"^gpt2: not admitted: .*no causal mask"):
        check_architecture(Ahead(named().config, "mine"))


@pytest.mark.usefixtures("_nothing_admitted")
def test_neither_a_tiny_instance_nor_a_copy() -> None:
    model = named()
    model.last_state = model.transformer.wte.weight * 2  # of a graph: PyTorch copies no such tensor
    with pytest.raises(SpecError, match=r"^gpt2: not admitted: no tiny instance can be built \(TypeError: .*name.*\)"):
        check_architecture(model)


def test_setting_that_changes_the_architecture_is_looked_at_again() -> None:
    """A model type that is admitted may have been told to look ahead."""
    check_architecture(tiny_model("gemma3_text"))
    with pytest.raises(SpecError, match=r"gemma3_text: not admitted: .*no causal mask"):
        check_architecture(tiny_model("gemma3_text", use_bidirectional_attention=True))


def test_size_does_not() -> None:
    assert check_architecture(tiny_model("llama")) is check_architecture(
        tiny_model("llama", num_hidden_layers=1, intermediate_size=24)
    )


def test_number_of_blocks_and_missing_units() -> None:
    decoder, inputs = Decoder(tiny_model("gpt2")), tiny_prompts()
    with pytest.raises(SpecError, match="n_layers 3: this model has 2 blocks"):
        decoder.token_states(TokenPrompts(inputs.tokens), "self", 3)
    with pytest.raises(SpecError, match="needs the units"):
        decoder.token_states(TokenPrompts(inputs.tokens), "item", 1)
    with pytest.raises(SpecError, match="did you mean 'self'"):
        decoder.token_states(TokenPrompts(inputs.tokens), "selff", 1)  # type: ignore[arg-type]
