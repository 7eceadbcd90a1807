"""What is let in and what is refused, each with one line that names the model type and the reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertLMHeadModel,
    GPT2Model,
    MambaConfig,
    MambaForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from tiny_language_models import tiny_model, tiny_prompts
from unplateau.errors import SpecError
from unplateau.integrations.huggingface import Decoder, admit
from unplateau.integrations.huggingface.architectures import find_parts
from unplateau.integrations.huggingface.tiny import tiny_config

SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 61}


def bert() -> Any:
    return BertLMHeadModel(BertConfig(**SMALL, num_attention_heads=2, intermediate_size=16, is_decoder=False))


def t5() -> Any:
    return T5ForConditionalGeneration(T5Config(vocab_size=61, d_model=16, d_ff=16, num_layers=2, num_heads=2, d_kv=8))


def mamba() -> Any:
    return MambaForCausalLM(MambaConfig(**SMALL))


def headless() -> Any:
    return GPT2Model(tiny_model("gpt2").config)


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (bert, ("bert", "no causal mask", "bidirectional")),
        (t5, ("t5", "encoder-decoder")),
        (mamba, ("mamba", "block 0 (MambaBlock)", "state-space", "cut self")),
        (headless, ("gpt2", "GPT2Model has no language-model head", "AutoModelForCausalLM")),
        (lambda: torch.nn.Linear(2, 2), ("Linear: not a model of transformers",)),
    ],
)
def test_refused_by_name(build: Any, parts: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as refused:
        Decoder(build())
    assert all(part in str(refused.value) for part in parts)
    assert "\n" not in str(refused.value)


def test_cut_that_means_nothing_is_refused_by_name() -> None:
    """OLMo 2 norms what leaves attention, not what enters it: there is no normed input to put in its place."""
    model = Olmo2ForCausalLM(tiny_config(Olmo2Config()))
    decoder = Decoder(model)
    tokens = tiny_prompts().tokens
    for attention in ("causal", "self", "zero"):
        decoder.token_states(tokens, None, attention, 1)
    with pytest.raises(SpecError, match=r"olmo2: cut identity means nothing here: .* not the output of a norm"):
        decoder.token_states(tokens, None, "identity", 1)


def test_unknown_architecture_is_found_by_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    for model_type in ("gpt2", "gpt_neox", "gemma2"):
        model = tiny_model(model_type)
        by_name = find_parts(model)
        with monkeypatch.context() as patch:
            patch.setattr("unplateau.integrations.huggingface.architectures.LAYOUTS", {})
            by_structure = find_parts(model)
        assert by_structure.attentions == by_name.attentions
        assert by_structure.final_norm is by_name.final_norm
        assert by_structure.block_list is by_name.block_list


def test_admission_takes_no_random_numbers_and_happens_once() -> None:
    model, state = tiny_model("qwen2"), torch.get_rng_state()
    first = admit(model)
    assert admit(model) is first
    assert torch.equal(state, torch.get_rng_state())


def test_setting_that_changes_the_architecture_is_looked_at_again() -> None:
    """A model type that is admitted may have been told to look ahead."""
    admit(tiny_model("gemma3_text"))
    with pytest.raises(SpecError, match=r"gemma3_text: not admitted: .*no causal mask"):
        admit(tiny_model("gemma3_text", use_bidirectional_attention=True))


def test_size_does_not() -> None:
    assert admit(tiny_model("llama")) is admit(tiny_model("llama", num_hidden_layers=1, intermediate_size=24))


def test_number_of_blocks_and_missing_segments() -> None:
    decoder, inputs = Decoder(tiny_model("gpt2")), tiny_prompts()
    with pytest.raises(SpecError, match="n_layers 3: this model has 2 blocks"):
        decoder.token_states(inputs.tokens, None, "self", 3)
    with pytest.raises(SpecError, match="needs the segments"):
        decoder.token_states(inputs.tokens, None, "item", 1)
    with pytest.raises(SpecError, match="without the shape"):
        _ = decoder.shape
    with pytest.raises(SpecError, match="did you mean 'self'"):
        decoder.token_states(inputs.tokens, None, "selff", 1)  # type: ignore[arg-type]
