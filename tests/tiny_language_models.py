"""Tiny random language models and tokenizers, as transformers would load them: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from unplateau.integrations.huggingface.checks import tiny_config
from unplateau.layout import Factor, Layout, TaskShape, Tokens
from unplateau.tensors import TokenPrompts

SUPPORTED = ("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
CHANGES: dict[str, dict[str, Any]] = {
    "gpt2": {"resid_pdrop": 0.1, "attn_pdrop": 0.1, "embd_pdrop": 0.1},
    "llama": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2},
    "gemma2": {"attn_logit_softcapping": 1.0, "final_logit_softcapping": 1.0},
}
SHAPE = TaskShape(Layout(3), Tokens(61), 4, (Factor("a", 2),), (0,), ("a",))


def tiny_model(model_type: str, *, seed: int = 0, **changes: Any) -> Any:
    """A causal language model of this type: two layers, width 32, random weights that are large enough to matter."""
    config = AutoConfig.for_model(model_type)
    for name, value in CHANGES.get(model_type, {}).items():
        setattr(config, name, value)
    config = tiny_config(config)
    for name, value in changes.items():
        setattr(config, name, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.copy_(torch.randn(parameter.shape) * 0.3)
    return model.eval()


def tiny_prompts(n_rows: int = 3, *, seed: int = 0) -> TokenPrompts:
    """Prompts of three pairs with items of two tokens, the last row one pair shorter and padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 61, (n_rows, 12), generator=generator)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[-1, 10:] = False
    units = torch.tensor([0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8]).repeat(n_rows, 1)
    at = torch.tensor([[2, 6, 9]]).repeat(n_rows, 1)
    return TokenPrompts(tokens, mask, units, at, at)


def byte_tokenizer(texts: Iterable[str] = (), *, size: int = 400, bos: bool = False) -> PreTrainedTokenizerFast:
    """Byte pairs learnt from these texts, as GPT-2 writes them; ``bos`` puts a special token before every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _learn(tokenizer, texts, size, sorted(pre_tokenizers.ByteLevel.alphabet()))
    if not bos:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    first = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A <s>", special_tokens=[first])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", pad_token="<p>")


def sentence_piece_tokenizer(texts: Iterable[str], *, size: int = 400) -> PreTrainedTokenizerFast:
    """Pairs of characters, with a mark for each space and bytes for what is not known, as Llama 2 writes them."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    _learn(tokenizer, texts, size, [], [f"<0x{byte:02X}>" for byte in range(256)])
    first = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[first])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


def _learn(
    tokenizer: Tokenizer, texts: Iterable[str], size: int, alphabet: list[str], bytes_: Iterable[str] = ()
) -> None:
    special = ["<s>", "<p>", *bytes_]
    trainer = trainers.BpeTrainer(
        vocab_size=size + len(special), initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator([*[" A B C D E F"] * 100, *texts], trainer)


def word_tokenizer(words: Iterable[str], **special: str) -> PreTrainedTokenizerFast:
    """One token for each word that is given."""
    vocabulary = {word: number for number, word in enumerate(["[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", **special)


def saved(folder: Path, model: Any, tokenizer: PreTrainedTokenizerFast | None = None) -> Path:
    """The folder, with model and tokenizer in it."""
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder
