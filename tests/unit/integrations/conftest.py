"""Tiny language models with random weights, and batches of tokens."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

VOCABULARY, LENGTH = 24, 10
NewModel = Callable[..., Any]


@pytest.fixture
def new_model() -> NewModel:
    """Makes a GPT-2 of two layers, with dropout; the same weights every time."""

    def new(**settings: Any) -> Any:
        own = {"n_layer": 2, "bos_token_id": None, "eos_token_id": None, "loss_type": "ForCausalLM"} | settings
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=32, n_embd=16, n_head=2, **own))

    return new


@pytest.fixture
def batches() -> list[dict[str, Tensor]]:
    """Three batches as a data collator makes them, the second one padded."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCABULARY, (3, 4, LENGTH), generator=generator)
    mask = torch.ones_like(tokens)
    mask[1, 2, 6:] = 0
    labels = torch.where(mask.bool(), tokens, -100)
    return [
        dict(zip(("input_ids", "attention_mask", "labels"), one, strict=True))
        for one in zip(tokens, mask, labels, strict=True)
    ]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
