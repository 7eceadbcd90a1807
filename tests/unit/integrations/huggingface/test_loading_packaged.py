"""A model inside a data package: converted once, the same numbers as the ones that were put in."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from unplateau.cache import cache_dir
from unplateau.data import Package, archive_path
from unplateau.errors import DataError
from unplateau.integrations.huggingface.loading import load_language_model, packaged_folder

gguf = pytest.importorskip("gguf", reason="the gguf library is part of the extra hf")
TOKENS = ["<s>", "</s>", *"abcdefgh", "ab", "cd"]
CONFIG = LlamaConfig(
    vocab_size=len(TOKENS),
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    tie_word_embeddings=False,
)


def stored(model: LlamaForCausalLM, path: Path) -> None:
    """Writes the model in the names and the order of rotary dimensions that GGUF uses."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONFIG.max_position_embeddings)
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_block_count(CONFIG.num_hidden_layers)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_head_count(CONFIG.num_attention_heads)
    writer.add_head_count_kv(CONFIG.num_key_value_heads)
    writer.add_layer_norm_rms_eps(CONFIG.rms_norm_eps)
    writer.add_vocab_size(CONFIG.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, *[1] * (len(TOKENS) - 2)])
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(_their_name(name), _their_order(name, tensor).contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _their_name(name: str) -> str:
    for ours, theirs in {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "model.layers": "blk",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }.items():
        name = name.replace(ours, theirs)
    return name


def _their_order(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """GGUF pairs neighbouring dimensions in the rotation of queries and keys, transformers halves."""
    heads = {"q_proj": CONFIG.num_attention_heads, "k_proj": CONFIG.num_key_value_heads}.get(name.split(".")[-2], 0)
    if not heads:
        return tensor
    halves = tensor.view(heads, 2, tensor.shape[0] // heads // 2, tensor.shape[1])
    return halves.transpose(1, 2).reshape(tensor.shape)


@pytest.fixture
def model() -> LlamaForCausalLM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(CONFIG).eval()


@pytest.fixture
def package(model: LlamaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.setenv("UNPLATEAU_CACHE", str(tmp_path / "cache"))
    stored(model, tmp_path / "tiny.gguf")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.write(tmp_path / "tiny.gguf", "tiny/Tiny.gguf")
    archive = buffer.getvalue()
    sha256 = hashlib.sha256(archive).hexdigest()
    made = Package("tiny", "pypi", "tiny", "1.0", "tiny.whl", sha256, len(archive), "none", "a test")
    archive_path(made).parent.mkdir(parents=True)
    archive_path(made).write_bytes(archive)
    return made


def test_the_model_comes_out_as_it_went_in(package: Package, model: LlamaForCausalLM, capfd: Any) -> None:
    folder = packaged_folder(package, transformers)
    assert packaged_folder(package, transformers) == folder
    assert [entry.name for entry in folder.parent.iterdir() if entry.is_dir()] == ["tiny-1.0"]
    loaded = load_language_model(folder)
    tokens = torch.arange(2, 12)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(tokens).logits, model(tokens).logits, atol=1e-4, rtol=1e-4)
    assert loaded.tokenizer("abcdh")["input_ids"][-3:] == [10, 11, 9]
    assert "de-quantizing" not in capfd.readouterr().err


def test_what_a_killed_conversion_left_is_removed_by_the_next(package: Package) -> None:
    models = cache_dir() / "models"
    left, other = models / ".tiny-1.0.part", models / ".other-1.0.part"
    left.mkdir(parents=True)
    other.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    packaged_folder(package, transformers)
    assert {entry.name for entry in models.iterdir() if entry.is_dir()} == {"tiny-1.0", ".other-1.0.part"}


def test_a_package_that_was_not_fetched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNPLATEAU_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="unplateau data get smollm2"):
        load_language_model("smollm2")
