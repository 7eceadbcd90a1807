"""What stands around a model: looked through where the model is whole behind it, refused by name where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.optim.swa_utils import AveragedModel

from tiny_language_models import tiny_model, tiny_prompts
from unplateau.errors import SpecError
from unplateau.integrations.huggingface import Decoder, check_decoder
from unplateau.integrations.tokens import TokenStrategy
from unplateau.strategies.losses import ComponentLoss, WeightsLoss
from unplateau.strategies.prompt_losses import BindLoss, KeepLoss, LookLoss, MatchLoss
from unplateau.strategies.strategy import Strategy

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch, peft and transformers, about each other
TOKENS = torch.randint(1, 61, (4, 10), generator=torch.Generator().manual_seed(2)) % 7 + 1
BATCH = {"input_ids": TOKENS, "labels": TOKENS}
CLASSES = torch.arange(61) % 3
TERMS = Strategy(
    ComponentLoss(), WeightsLoss(), MatchLoss(share=1), BindLoss(share=1), KeepLoss(share=1), LookLoss(share=1)
)
DOES = {"fan_in_fan_out": True}


def lora(**settings: Any) -> Any:
    own = {"target_modules": ["c_attn"], "init_lora_weights": False, "lora_dropout": 0.2}
    return peft.LoraConfig(**{"task_type": "CAUSAL_LM", **own, **DOES, **settings})


ADAPTERS: dict[str, Callable[[], Any]] = {
    "lora": lora,
    "everywhere": lambda: lora(target_modules="all-linear"),
    "embedding": lambda: lora(target_modules=["c_attn", "wte"]),
    "trained copies": lambda: lora(modules_to_save=["wte", "lm_head", "ln_f"]),
    "some tokens": lambda: lora(trainable_token_indices=[1, 2]),
    "dora": lambda: lora(use_dora=True, lora_dropout=0.0),
    "ia3": lambda: peft.IA3Config(
        task_type="CAUSAL_LM", target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], **DOES
    ),
}


def terms_of(model: Any, forward: Callable[..., Any] | None = None) -> dict[str, Tensor]:
    """Values of all terms on one batch; gradients have flowed."""
    helper = TokenStrategy(model, TERMS, {"kind": CLASSES, "own": "identity"})
    loss = (forward or model)(**BATCH).loss
    (loss * 0 + helper(BATCH)).backward()
    return helper.last


@pytest.mark.parametrize("name", ADAPTERS)
def test_gradients_of_the_terms_reach_the_adapter_and_nothing_else(name: str) -> None:
    model = peft.get_peft_model(tiny_model("gpt2"), ADAPTERS[name]())
    terms = terms_of(model.train())
    assert set(terms) == {term.name for term in TERMS.loss_terms}
    reached = [name for name, one in model.named_parameters() if one.grad is not None and bool(one.grad.any())]
    assert reached
    assert all(one.requires_grad for _, one in model.named_parameters() if one.grad is not None)
    first_block = [one for one in reached if ".h.0." in one]
    assert first_block, "the first block's adapter is moved by the terms"


def test_the_adapter_is_in_the_components_and_can_be_switched_off() -> None:
    base = tiny_model("gpt2")
    prompts, plain = tiny_prompts(), Decoder(tiny_model("gpt2"))
    model = peft.get_peft_model(base, lora()).eval()
    decoder = Decoder(model)
    check_decoder(Decoder(model, label_tokens=range(1, 5)), prompts)
    with torch.no_grad():
        own = decoder.token_states(prompts, "self", 2)
        with model.disable_adapter():
            assert torch.equal(decoder.token_states(prompts, "self", 2), plain.token_states(prompts, "self", 2))
        assert not torch.allclose(own, plain.token_states(prompts, "self", 2), rtol=1e-2)
        model.merge_adapter()
        torch.testing.assert_close(decoder.token_states(prompts, "self", 2), own)


def test_tokens_are_read_out_by_the_embedding_with_its_adapter() -> None:
    model = peft.get_peft_model(tiny_model("gpt2"), lora(target_modules=["wte"], lora_dropout=0.0)).eval()
    matrix = Decoder(model).parts.token_matrix()
    torch.testing.assert_close(matrix, model.get_base_model().get_input_embeddings()(torch.arange(61)))
    assert not torch.equal(matrix, Decoder(model).parts.embedding.weight)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), "PREFIX_TUNING"),
        (peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), "PROMPT_TUNING"),
    ],
)
def test_adapters_that_are_tokens_of_their_own_are_refused(config: Any, kind: str) -> None:
    with pytest.raises(SpecError, match=f"a {kind} adapter shows the model learned tokens"):
        TokenStrategy(peft.get_peft_model(tiny_model("gpt2"), config), TERMS, CLASSES)


@pytest.fixture
def _alone(tmp_path: Path) -> Iterator[None]:
    """Distributed training with one process."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_alone")
def test_weights_in_shards_are_refused_by_name() -> None:
    blocks_alone, whole = tiny_model("gpt2"), tiny_model("gpt2")
    fully_shard(blocks_alone.transformer.h[0])
    fully_shard(whole)
    old = FullyShardedDataParallel(tiny_model("gpt2"), device_id=torch.device("cpu"))
    for model, name in ((old, "FullyShardedDataParallel"), (blocks_alone, "fully_shard"), (whole, "fully_shard")):
        for make in (Decoder, lambda one: TokenStrategy(one, TERMS, CLASSES)):
            with pytest.raises(SpecError, match=rf"{name}.* shards the weights.*use DistributedDataParallel"):
                make(model)


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("around", ["ddp", "average", "fabric", "ddp and peft"])
def test_wrappers_that_only_call_the_model_are_looked_through(around: str) -> None:
    make: dict[str, Callable[[Any], Any]] = {
        "ddp": nn.parallel.DistributedDataParallel,
        "average": AveragedModel,
        "fabric": lambda model: Fabric(accelerator="cpu", devices=1).setup(model),
        "ddp and peft": lambda model: nn.parallel.DistributedDataParallel(
            peft.get_peft_model(model, lora(lora_dropout=0.0))
        ),
    }
    wrapped, plain = make[around](tiny_model("gpt2")), tiny_model("gpt2")
    if around == "ddp and peft":
        found = terms_of(wrapped)
        assert all(value.isfinite() for value in found.values())
        return
    for name, value in terms_of(wrapped).items():
        torch.testing.assert_close(value, terms_of(plain)[name])


def test_a_model_that_was_compiled_and_has_run_shows_its_states_as_any_other() -> None:
    """Code that is compiled already does not see hooks that come later, unless it is compiled again."""
    found = []
    for compiled in (False, True):
        model = tiny_model("gpt2", n_layer=1)
        if compiled:
            model.compile(backend="eager")
            model(**BATCH)
        helper = TokenStrategy(model, Strategy(WeightsLoss(), ComponentLoss(layer=1)), CLASSES)
        model(**BATCH)
        found.append(helper.values(BATCH))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value)


def test_compiled_parts_are_looked_through() -> None:
    """Blocks, or all of them, may have been compiled by themselves."""
    blocks, backbone = tiny_model("gpt2"), tiny_model("gpt2")
    for number, block in enumerate(blocks.transformer.h):
        blocks.transformer.h[number] = torch.compile(block, backend="eager")
    backbone.transformer = torch.compile(backbone.transformer, backend="eager")
    plain, prompts = Decoder(tiny_model("gpt2")), tiny_prompts()
    for model in (blocks, backbone, torch.compile(tiny_model("gpt2"), backend="eager")):
        decoder = Decoder(model)
        for attention in ("causal", "self", "identity"):
            assert torch.equal(decoder.token_states(prompts, attention, 2), plain.token_states(prompts, attention, 2))


def test_a_module_around_a_model_is_told_where_the_model_is() -> None:
    module = nn.Module()
    module.net = tiny_model("gpt2")
    with pytest.raises(SpecError, match=r"Module: not a model of transformers; it holds one: give \.net"):
        Decoder(module)


def test_a_batch_cut_over_devices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.DataParallel(tiny_model("gpt2"))
    Decoder(model)
    monkeypatch.setattr(model, "device_ids", [0, 1])
    with pytest.raises(SpecError, match="DataParallel cuts each batch over its devices"):
        Decoder(model)
