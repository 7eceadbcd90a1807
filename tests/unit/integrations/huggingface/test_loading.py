"""Folders that hold a model, and every way in which one does not: one line each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5ForConditionalGeneration

from tiny_language_models import saved, tiny_model, word_tokenizer
from unplateau.errors import DataError, MissingExtraError, SpecError
from unplateau.integrations.huggingface import load_decoder, load_language_model
from unplateau.items.words import Words
from unplateau.tasks.factors import FactorTask

TASK = FactorTask(source=Words(), n_pairs=4)
TOKENIZER = word_tokenizer([*(TASK.source.texts() or ()), *"ABCD"])
MODEL = tiny_model("gpt2", vocab_size=len(TOKENIZER))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "model", MODEL, TOKENIZER)


def test_what_was_saved_is_what_runs(folder: Path) -> None:
    decoder, tokens = load_decoder(folder, TASK)
    inputs: Any = tokens.sample(0, batch_size=3).inputs
    with torch.no_grad():
        own = MODEL(input_ids=inputs.tokens).logits
        found = decoder(inputs).logits
    wanted = inputs.at_queries(own)[..., list(tokens.label_tokens)]
    torch.testing.assert_close(found, wanted)
    assert tokens.max_positions == MODEL.config.max_position_embeddings
    assert next(decoder.parameters()).dtype == torch.float32


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    half = tiny_model("gpt2", vocab_size=len(TOKENIZER)).to(torch.bfloat16)
    loaded = load_language_model(saved(tmp_path, half, TOKENIZER))
    assert next(loaded.model.parameters()).dtype == torch.float32


def spoil(folder: Path, how: str) -> Path:
    weights = folder / "model.safetensors"
    if how == "cut off":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "header":
        weights.write_bytes(b"\xff" * 8 + weights.read_bytes()[8:])
    elif how == "a tensor":
        tensors = load_file(weights)
        save_file(
            {name: tensor for name, tensor in tensors.items() if "h.1.mlp.c_fc.weight" not in name},
            weights,
            {"format": "pt"},
        )
    elif how == "no weights":
        weights.unlink()
    elif how == "no tokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
    elif how == "no config":
        (folder / "config.json").unlink()
    elif how == "config":
        (folder / "config.json").write_text("{")
    elif how == "unknown type":
        (folder / "config.json").write_text(json.dumps({"model_type": "gpt99"}))
    return folder


@pytest.mark.parametrize(
    ("how", "kind", "part"),
    [
        ("cut off", DataError, "damaged"),
        ("header", DataError, "damaged"),
        ("a tensor", DataError, "lacks 1 of the model's tensors, such as transformer.h.1.mlp.c_fc.weight"),
        ("no weights", SpecError, "model: "),
        ("no tokenizer", SpecError, "no tokenizer in this folder"),
        ("no config", SpecError, "no config.json"),
        ("config", SpecError, "config: "),
        ("unknown type", SpecError, "gpt99"),
    ],
)
def test_folder_that_cannot_be_used(folder: Path, how: str, kind: type[Exception], part: str) -> None:
    with pytest.raises(kind) as refused:
        load_decoder(spoil(folder, how), TASK)
    assert part in str(refused.value)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("refusal", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: ...")])
def test_too_little_memory_is_not_the_folders_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise refusal

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    with pytest.raises(MemoryError):
        load_language_model(folder)


@pytest.mark.parametrize("where", ["./nowhere", "../no/where/at/all", "/nowhere", "a//b"])
def test_missing_folder(where: str) -> None:
    with pytest.raises(SpecError, match="no such folder"):
        load_language_model(where)


def test_name_that_cannot_be_had_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """A port that nobody listens on stands for a hub that cannot be reached."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SpecError, match="nobody/nothing-here at revision step3: neither a folder here nor to be had"):
        load_language_model("nobody/nothing-here", revision="step3")
    assert capfd.readouterr().err == ""


def test_encoder_decoder(tmp_path: Path) -> None:
    config = T5Config(vocab_size=len(TOKENIZER), d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
    with pytest.raises(SpecError, match="t5 is an encoder-decoder model"):
        load_language_model(saved(tmp_path, T5ForConditionalGeneration(config), TOKENIZER))


def test_tokenizer_of_another_folder(folder: Path, tmp_path: Path) -> None:
    bare = saved(tmp_path / "bare", MODEL)
    assert load_language_model(bare, tokenizer_in=folder).tokenizer.get_vocab() == TOKENIZER.get_vocab()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA adapter, with its base beside it under a relative name."""
    peft = pytest.importorskip("peft")
    base = tiny_model("gpt2", vocab_size=len(TOKENIZER))
    saved(tmp_path / "base", base, TOKENIZER)
    base.name_or_path = "base"
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", target_modules=["c_attn"], init_lora_weights=False, fan_in_fan_out=True
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = peft.get_peft_model(base, config)
    model.save_pretrained(tmp_path / "run" / "checkpoint-7")
    return tmp_path / "run" / "checkpoint-7"


@pytest.mark.filterwarnings("ignore")
def test_a_folder_of_an_adapter_is_the_adapter_in_its_model(adapter: Path) -> None:
    from peft import PeftModel  # noqa: PLC0415

    loaded = load_language_model(adapter)
    base = load_language_model(adapter.parent.parent / "base")
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        own, plain = (one.model(input_ids=tokens).logits for one in (loaded, base))
        merged = PeftModel.from_pretrained(base.model, str(adapter)).merge_and_unload()(input_ids=tokens).logits
    assert not torch.allclose(own, plain, rtol=1e-2)
    torch.testing.assert_close(own, merged, rtol=1e-4, atol=1e-4)
    decoder, _ = load_decoder(adapter, TASK)
    assert decoder.n_layers == 2


@pytest.mark.filterwarnings("ignore")
def test_adapters_that_cannot_be_loaded(adapter: Path) -> None:
    config = adapter / "adapter_config.json"
    said = json.loads(config.read_text())
    config.write_text(json.dumps(said | {"base_model_name_or_path": "./nowhere"}))
    with pytest.raises(
        SpecError, match=r"checkpoint-7: an adapter of ./nowhere, which cannot be loaded: .*no such folder"
    ):
        load_language_model(adapter)
    config.write_text(json.dumps(said | {"base_model_name_or_path": None}))
    with pytest.raises(SpecError, match="names no base model; write its folder"):
        load_language_model(adapter)
    config.write_text("{")
    with pytest.raises(DataError, match=r"adapter_config.json: damaged"):
        load_language_model(adapter)
    config.write_text(json.dumps(said))
    saved(adapter.parent.parent / "base", tiny_model("gpt2", vocab_size=len(TOKENIZER), n_embd=16), TOKENIZER)
    with pytest.raises(DataError, match=r"checkpoint-7: its adapter cannot be put into .*base"):
        load_language_model(adapter)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(DataError, match="checkpoint-7: its adapter cannot be put into"):
        load_language_model(adapter)


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_is_tokens_is_refused_and_a_missing_peft_is_named(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peft = pytest.importorskip("peft")
    base = tiny_model("gpt2", vocab_size=len(TOKENIZER))
    base.name_or_path = str(tmp_path / "base")
    prompt = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    peft.get_peft_model(base, prompt).save_pretrained(tmp_path / "prompt")
    with pytest.raises(SpecError, match="prompt: a PROMPT_TUNING adapter shows the model learned tokens"):
        load_language_model(tmp_path / "prompt")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"an adapter needs peft.*unplateau\[hf\]"):
        load_language_model(adapter)
