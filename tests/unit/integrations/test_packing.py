"""Packed and padded rows: each document is read as if it stood in a row of its own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DataCollatorWithFlattening

from unplateau.errors import SpecError
from unplateau.integrations.annotation import TokenBatch
from unplateau.integrations.packing import documents_apart, packing_of
from unplateau.integrations.scores import TokenScores
from unplateau.integrations.tokens import TokenStrategy
from unplateau.strategies.losses import ComponentLoss, WeightsLoss
from unplateau.strategies.prompt_losses import LookLoss, MatchLoss
from unplateau.strategies.strategy import Strategy

NewModel = Callable[..., Any]
CLASSES = torch.arange(24) % 3
SIZES = (7, 12, 5, 14)  # 38 tokens: more than the model has positions
PLACES = torch.cat([torch.arange(size) for size in SIZES])[None]
NUMBERS = torch.cat([torch.full((size,), number) for number, size in enumerate(SIZES)])[None]
BOUNDS = torch.tensor([0, 7, 19, 24, 38])
ONE_BY_ONE = ((NUMBERS[:, :, None] == NUMBERS[:, None]).tril())[:, None]
NONE = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def documents() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(4, (size,), generator=generator) for size in SIZES]


def padded(side: str) -> dict[str, Tensor]:
    """A row for each document."""
    longest = max(SIZES)
    tokens, mask = torch.zeros(len(SIZES), longest, dtype=torch.int64), torch.zeros(len(SIZES), longest).long()
    for row, document in enumerate(documents()):
        where = slice(0, len(document)) if side == "right" else slice(longest - len(document), None)
        tokens[row, where], mask[row, where] = document, 1
    return {"input_ids": tokens, "attention_mask": mask, "labels": tokens.masked_fill(mask == 0, -100)}


def packed(**more: Tensor) -> dict[str, Tensor]:
    tokens = torch.cat(documents())[None]
    return {"input_ids": tokens, "labels": tokens.clone(), **more}


WAYS: dict[str, dict[str, Tensor]] = {
    "position_ids": {"position_ids": PLACES},
    "positions once for all": {"position_ids": PLACES[0]},
    "cu_seqlens": {"cu_seqlens": BOUNDS.int()},
    "cu_seq_lens_q": {"cu_seq_lens_q": BOUNDS, "cu_seq_lens_k": BOUNDS},
    "seq_idx": {"seq_idx": NUMBERS.int()},
    "numbers in the mask": {"attention_mask": NUMBERS + 1},
    "square mask": {"attention_mask": ONE_BY_ONE, "position_ids": PLACES},
    "added mask": {
        "attention_mask": torch.zeros(ONE_BY_ONE.shape).masked_fill(~ONE_BY_ONE, torch.finfo(torch.float32).min),
        "position_ids": PLACES,
    },
}


def flattened() -> dict[str, Tensor]:
    """As the collator of transformers packs them."""
    return DataCollatorWithFlattening()([{"input_ids": one.tolist()} for one in documents()])


@pytest.mark.parametrize("way", [*WAYS, "collator"])
def test_terms_and_scores_of_packed_rows_are_those_of_rows_of_their_own(new_model: NewModel, way: str) -> None:
    model = new_model(**NONE)
    batch = flattened() if way == "collator" else packed(**WAYS[way])
    strategy = Strategy(ComponentLoss(), ComponentLoss(layer=1), MatchLoss(share=1))
    values = []
    apart = padded("right")
    if way == "collator":  # which leaves the first token of each document out
        apart["labels"][:, 0] = -100
    for one in (apart, batch):
        helper = TokenStrategy(model, strategy, {"kind": CLASSES, "own": "identity", "after": "next"})
        values.append(helper.values(one))
    for name, value in values[0].items():
        torch.testing.assert_close(values[1][name], value, msg=name)
    rows = [TokenScores(model, one, CLASSES, seed=1).measure() for one in (apart, batch)]
    assert rows[1]["held_out_loss"] == pytest.approx(rows[0]["held_out_loss"], rel=1e-5)
    assert sorted(rows[0]) == sorted(rows[1])
    flat = [TokenScores(model, one, CLASSES)._states("causal") for one in (apart, batch)]
    real = apart["attention_mask"].flatten().bool()
    torch.testing.assert_close(flat[1].detach(), flat[0][:, real].detach(), rtol=1e-4, atol=1e-5)


def test_a_square_mask_without_positions_leaves_these_to_the_model(new_model: NewModel) -> None:
    """As the model counts through the row, so do components; documents are told apart all the same."""
    model = new_model()
    model.transformer.wpe = torch.nn.Embedding(64, 16)
    batch = packed(attention_mask=ONE_BY_ONE)
    found = TokenBatch.of(batch)
    assert torch.equal(found.prompts.positions(), torch.arange(38)[None])
    assert found.documents is not None
    assert torch.equal(found.documents, NUMBERS)
    model.eval()
    with torch.no_grad():
        wanted = model(**{**batch, "labels": batch["labels"].masked_fill(PLACES == 0, -100)}).loss
    assert TokenScores(model, batch, CLASSES).measure()["held_out_loss"] == pytest.approx(float(wanted))


@pytest.mark.parametrize("compiled", [False, True])
def test_terms_that_read_the_loops_own_pass_see_no_other_document(new_model: NewModel, compiled: bool) -> None:
    """Another first document changes no look from the second one, whether attention was kept or is asked for again."""
    model = new_model(**NONE)
    model.eval()
    helper = TokenStrategy(model, Strategy(LookLoss(share=1), WeightsLoss()), CLASSES)
    for _ in range(2):
        batch = {**packed(**WAYS["square mask"])}
        model(**batch)
        if compiled:
            assert helper.recorder is not None
            for one in helper.recorder._newest:
                one.given = None
                one.found = {}
        value = helper.values(batch)["look-loss[share=1.0]"]
        apart = padded("right")
        model(**apart)
        torch.testing.assert_close(value, helper.values(apart)["look-loss[share=1.0]"])
        assert float(value.detach()) > 0


def test_padding_on_the_left_changes_no_held_out_loss(new_model: NewModel) -> None:
    model = new_model()
    rows = [TokenScores(model, padded(side), CLASSES).measure() for side in ("left", "right")]
    assert rows[0]["held_out_loss"] == pytest.approx(rows[1]["held_out_loss"], rel=1e-5)
    model.eval()
    with torch.no_grad():
        own = [model(input_ids=one[None], labels=one[None]).loss * (len(one) - 1) for one in documents()]
    assert rows[0]["held_out_loss"] == pytest.approx(float(sum(own)) / (sum(SIZES) - len(SIZES)), rel=1e-5)


def test_positions_as_they_follow_are_no_packing() -> None:
    tokens = torch.zeros(2, 4, dtype=torch.int64)
    for given in (
        {},
        {"position_ids": torch.arange(4)},
        {"position_ids": torch.arange(3, 7)[None]},
        {
            "attention_mask": torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]),
            "position_ids": torch.tensor([[1, 0, 1, 2], [0, 1, 2, 3]]),
        },
        {"attention_mask": torch.tril(torch.ones(1, 1, 4, 4))},
    ):
        assert packing_of(given, tokens).documents is None
    found = packing_of({"attention_mask": torch.tril(torch.ones(2, 1, 4, 4)) * torch.tensor([0, 1, 1, 1])}, tokens)
    assert found.mask is not None
    assert found.mask.tolist() == [[False, True, True, True]] * 2


def test_rows_of_several_documents_each() -> None:
    at = documents_apart(torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]]))
    assert at.tolist() == [[0, 1, -1, -1], [2, 3, 4, -1], [5, -1, -1, -1], [6, 7, 8, 9]]
    found = packing_of({"cu_seqlens": torch.tensor([0, 2, 5, 6, 10])}, torch.zeros(2, 5, dtype=torch.int64))
    assert found.documents is not None
    assert found.documents.tolist() == [[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"position_ids": torch.zeros(3, 1, 38)}, r"position_ids: must be \(B, T\), got \(3, 1, 38\)"),
        ({"position_ids": torch.arange(7)}, "position_ids"),
        ({"cu_seqlens": torch.tensor([0, 50])}, "cu_seqlens: must be"),
        ({"cu_seqlens": torch.tensor([0, 9, 4, 38])}, "cu_seqlens: must be"),
        ({"attention_mask": torch.ones(1, 38, 38)}, r"attention_mask: must be \(B, T\) or \(B, 1, T, T\)"),
        ({"attention_mask": {"full": ONE_BY_ONE}}, "attention_mask: needs a tensor"),
    ],
)
def test_what_fits_no_batch_of_these_tokens_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        TokenBatch.of({"input_ids": torch.zeros(1, 38, dtype=torch.int64), **given})
