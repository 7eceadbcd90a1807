"""Language models of transformers keep the laws of decomposable models and are left as they were; a leak is caught."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from tiny_language_models import SUPPORTED, tiny_model, tiny_prompts
from unplateau.decompose import decompose
from unplateau.errors import LawError
from unplateau.integrations.huggingface import Decoder, check_decoder
from unplateau.integrations.huggingface.passes import own_inputs
from unplateau.layout import CUTS, Attention
from unplateau.tensors import TokenPrompts

LABELS = (3, 1, 4, 7)


def decoder_of(model: nn.Module) -> Decoder:
    return Decoder(model, label_tokens=LABELS)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", SUPPORTED)
def test_all_laws(model_type: str, kernel: str) -> None:
    if kernel == "sdpa" and model_type == "gemma2":
        pytest.skip("transformers has no sdpa for Gemma 2: its soft-capping needs eager attention")
    decoder = decoder_of(tiny_model(model_type, _attn_implementation=kernel))
    assert not decoder.refused
    check_decoder(decoder, tiny_prompts())


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_causal_states_and_logits_are_the_models_own(model_type: str) -> None:
    model, inputs = tiny_model(model_type), tiny_prompts()
    with torch.no_grad():
        own = model(
            input_ids=inputs.tokens, attention_mask=inputs.mask.long(), output_hidden_states=True, use_cache=False
        )
        found = decoder_of(model)(inputs)
        decoder = decoder_of(model)
    real = inputs.mask
    for layer, states in enumerate(own.hidden_states[:-1]):  # transformers' last one is after the final norm
        assert torch.equal(found.hidden[layer][real], states[real])
    torch.testing.assert_close(decoder.normalise(found.hidden[-1])[real], own.hidden_states[-1][real])
    logits = inputs.at_queries(own.logits)[..., list(LABELS)]
    kept = inputs.mask.gather(1, inputs.queries)
    torch.testing.assert_close(found.logits[kept], logits[kept], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", SUPPORTED)
def test_what_it_attends_to_is_causal_and_all_there_is(model_type: str, kernel: str) -> None:
    if kernel == "sdpa" and model_type == "gemma2":
        pytest.skip("transformers has no sdpa for Gemma 2: its soft-capping needs eager attention")
    model, inputs = tiny_model(model_type), tiny_prompts()
    model.config._attn_implementation = kernel
    shares = decoder_of(model).attentions(inputs)
    assert model.config._attn_implementation == kernel
    n_rows, n_positions = inputs.tokens.shape
    assert shares.shape[0] == len(decoder_of(model).parts.block_list)
    assert (shares.shape[1], *shares.shape[3:]) == (n_rows, n_positions, n_positions)
    assert torch.equal(shares, shares.tril())
    real = shares.permute(0, 2, 1, 3, 4)[:, :, inputs.mask]  # (L, H, positions that are there, T)
    torch.testing.assert_close(real.sum(-1), torch.ones(real.shape[:-1]))


@pytest.mark.parametrize("model_type", ["gpt2", "gemma2"])
def test_without_padding_the_full_logits_are_equal(model_type: str) -> None:
    model, tokens = tiny_model(model_type), tiny_prompts().tokens
    with torch.no_grad():
        everywhere = TokenPrompts(tokens, queries=torch.arange(tokens.shape[1]).expand_as(tokens))
        assert torch.equal(Decoder(model).logits(everywhere), model(input_ids=tokens, use_cache=False).logits)


def fingerprint(model: Any) -> dict[str, Any]:
    """All that a pass could leave behind."""
    return {
        "hooks": [
            (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for module in model.modules()
        ],
        "training": [module.training for module in model.modules()],
        "names": [name for name, _ in model.named_modules()],
        "config": model.config.to_dict(),
        "kernel": model.config._attn_implementation,
    }


@pytest.mark.parametrize(("model_type", "training"), [*((name, True) for name in SUPPORTED), ("gpt2", False)])
def test_model_is_untouched(model_type: str, training: bool) -> None:
    model, inputs = tiny_model(model_type), tiny_prompts()
    model.train(training)
    model.get_input_embeddings().eval()  # a flag that differs from the others must stay as well
    before, weights = fingerprint(model), copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    decoder = decoder_of(model)
    for attention in ("causal", *CUTS):
        decoder(inputs, attention)
        decoder.component(inputs, attention, 1)
    assert torch.equal(state, torch.get_rng_state())
    assert fingerprint(model) == before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("attention", ["causal", "self", "identity", "zero"])
def test_model_is_untouched_after_a_failure(attention: Attention) -> None:
    model = tiny_model("llama").train()
    decoder, before = decoder_of(model), fingerprint(model)

    class Broken(nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Tensor:
            raise RuntimeError("broken on purpose")

    own = model.model.layers[1].mlp
    model.model.layers[1].mlp = Broken()
    with pytest.raises(RuntimeError, match="on purpose"):
        decoder(tiny_prompts(), attention)
    model.model.layers[1].mlp = own
    assert fingerprint(model) == before


@pytest.mark.parametrize("attention", ["causal", *CUTS])
def test_dropout_does_not_enter(attention: Attention) -> None:
    model, inputs = tiny_model("gpt2"), tiny_prompts()
    calm = decoder_of(model)(inputs, attention).hidden
    assert torch.equal(decoder_of(model.train())(inputs, attention).hidden, calm)


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neox", "gemma2"])
@pytest.mark.parametrize("attention", ["causal", *CUTS])
def test_gradients_flow_to_the_blocks_that_ran_and_to_no_other(model_type: str, attention: Attention) -> None:
    model, inputs = tiny_model(model_type).train(), tiny_prompts()
    decoder = Decoder(model)
    states = decoder.token_states(inputs, attention, 1)
    states.square().mean().backward()
    first, second = decoder.parts.block_list
    reached = [float(parameter.grad.abs().sum()) for parameter in first.mlp.parameters()]
    assert min(reached) > 0
    assert decoder.parts.embedding.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in second.parameters())
    read = any(
        parameter.grad is not None and bool(parameter.grad.any())
        for parameter in decoder.parts.attentions[0].parameters()
    )
    assert read == (attention in ("causal", "self", "item"))


@pytest.mark.parametrize("cut", CUTS)
def test_gradient_checkpointing_changes_no_gradient(cut: Attention) -> None:
    """A block that is run again during the backward pass would run without its cut."""
    inputs = tiny_prompts()

    def gradient(checkpointing: bool) -> Tensor:
        model = tiny_model("llama").train()
        if checkpointing:
            newer = getattr(model, "activation_checkpointing_enable", None)  # its name in newer releases
            (newer or model.gradient_checkpointing_enable)()
        decoder = Decoder(model)
        decoder.token_states(inputs, cut, 2).square().sum().backward()
        return decoder.parts.embedding.weight.grad

    assert torch.equal(gradient(True), gradient(False))


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"])
def test_isolation_is_exact_in_long_prompts_and_in_bfloat16(model_type: str) -> None:
    """Kernels work in blocks of positions: 700 are more than one."""
    tokens = torch.randint(1, 60, (1, 700), generator=torch.Generator().manual_seed(1))
    other = tokens % 60 + 1
    other[:, 650] = tokens[:, 650]
    for dtype in (torch.float32, torch.bfloat16):
        decoder = Decoder(tiny_model(model_type, max_position_embeddings=1024).to(dtype))
        with torch.no_grad():
            states, changed = (decoder.token_states(TokenPrompts(one), "self", 2) for one in (tokens, other))
        assert torch.equal(states[:, 650], changed[:, 650])
        assert not torch.equal(states[:, 649], changed[:, 649])


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_weights_component_is_the_token_shown_alone(model_type: str) -> None:
    """The definition itself: a prompt of one token, at its position."""
    decoder, inputs = decoder_of(tiny_model(model_type)), tiny_prompts()
    weights = decompose(decoder, inputs).weights
    for position in (0, 5, 9):
        alone = decoder.component_alone(
            inputs.tokens[:, position, None], torch.full((3,), position), "causal", decoder.n_layers
        )
        torch.testing.assert_close(weights[-1][:, position], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("model_type", ["gpt2", "qwen3", "gemma2"])
def test_cut_item_is_the_item_shown_alone(model_type: str) -> None:
    decoder, inputs = decoder_of(tiny_model(model_type)), tiny_prompts()
    wanted = decoder.component(inputs, "item", 2)  # (B, M, D)
    none = torch.full((3, 1), -1)
    for number, end in enumerate(inputs.known[0].tolist()):
        items = torch.cat((none, inputs.tokens[:, end - 1 : end + 1]), 1) if number != 0 else inputs.tokens[:, 1:3]
        start = 0 if inputs.units[0, end - 1] == inputs.units[0, end] else 1
        items = items if start == 0 else torch.cat((none, none, inputs.tokens[:, end, None]), 1)
        alone = decoder.component_alone(items, torch.full((3,), end), "item", 2)
        torch.testing.assert_close(alone, wanted[:, number], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cut", CUTS)
def test_kernel_that_takes_no_masks_makes_room(cut: Attention) -> None:
    def kernel(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any) -> Any:
        assert mask is None, "this kernel takes no mask"
        return nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2), None

    AttentionInterface.register("without_masks", kernel)
    model, inputs = tiny_model("gpt2"), tiny_prompts()
    wanted = decoder_of(model)(inputs, cut).hidden
    model.set_attn_implementation("without_masks")
    assert torch.equal(decoder_of(model)(inputs, cut).hidden, wanted)
    assert model.config._attn_implementation == "without_masks"


class Leaking(Decoder):
    """Looks at all positions before, where it should look at itself only."""

    def _masked(self, given: TokenPrompts, attention: Attention) -> dict[str, Tensor]:
        return own_inputs(given) or {"attention_mask": torch.ones_like(given.tokens)}


class Shortened(Decoder):
    """Forgets where in the prompt an item stood."""

    def component(self, inputs: TokenPrompts, cut: Attention, n_layers: int) -> Tensor:  # type: ignore[override]
        tokens = inputs.tokens.gather(1, inputs.known)
        return self.token_states(TokenPrompts(tokens, units=torch.arange(3).expand_as(tokens)), cut, n_layers)


@pytest.mark.parametrize(("broken", "law"), [(Leaking, "no other position"), (Shortened, "fewer positions")])
def test_broken_decoder_is_caught(broken: type[Decoder], law: str) -> None:
    with pytest.raises(LawError, match=law):
        check_decoder(broken(tiny_model("gpt2"), label_tokens=LABELS), tiny_prompts())
