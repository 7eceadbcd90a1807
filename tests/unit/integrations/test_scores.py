"""Scores of a foreign model: what they show, and that looking changes nothing."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_language_models import tiny_model, word_tokenizer
from unplateau.decompose import decompose
from unplateau.errors import SpecError
from unplateau.integrations.annotation import TokenClasses
from unplateau.integrations.huggingface import Decoder, TokenTask
from unplateau.integrations.scores import TaskScores, TokenScores
from unplateau.items.words import Words
from unplateau.scores import Scores
from unplateau.tasks.factors import FactorTask
from unplateau.tensors import TokenPrompts

NewModel = Callable[..., Any]
Batches = list[dict[str, Tensor]]
CLASSES = torch.arange(24) % 2


def legible(model: Any) -> Any:
    """The class of a token is written into its embedding, hardly into anything else."""
    with torch.no_grad():
        model.transformer.wte.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(3))
        model.transformer.wte.weight[:, ::2] += 3.0 * CLASSES[:, None]
    return model


def test_a_class_that_the_embedding_shows_is_read_and_its_control_is_not(new_model: NewModel, batches: Batches) -> None:
    row = TokenScores(legible(new_model()), batches[1], CLASSES).measure()
    assert row["cut"] == "self"
    for name in ("weights_score", "weights_control", "hidden_score"):
        assert len(row[name]) == 3
    assert min(row["weights_score"]) > 0.95
    assert row["hidden_score"][0] == row["weights_score"][0]  # at the embedding there is no context
    assert row["weights_by_factor"] == {"class": row["weights_score"]}
    assert 0.4 < row["weights_chance"] < 0.8
    assert max(row["weights_control"]) < 0.9


def test_no_token_is_in_both_halves_and_padding_is_in_none(new_model: NewModel, batches: Batches) -> None:
    scores = TokenScores(new_model(), batches[1], CLASSES, n_examples=9)
    tokens, mask = (batches[1][key].flatten() for key in ("input_ids", "attention_mask"))
    train, test = scores.halves[0]
    assert not set(tokens[train].tolist()) & set(tokens[test].tolist())
    assert mask[train].all()
    assert mask[test].all()
    assert 0 < len(test) <= 9
    assert len(train) == 9


def test_classes_that_only_the_context_shows_have_a_hidden_score_only(new_model: NewModel) -> None:
    """The class of a position is the parity of the token before it: a copy in the hidden state tells it."""
    model = legible(new_model(n_layer=1))
    attention = model.transformer.h[0].attn
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randint(24, (64, 8), generator=generator)
    before = torch.cat((torch.full((64, 1), -100), CLASSES[tokens[:, :-1]]), 1)
    with torch.no_grad():  # one head looks one back, as positions are nearly all that its keys and queries see
        model.transformer.wpe.weight.zero_()
        model.transformer.wpe.weight[:8, 8:16] = 6 * torch.eye(8)
        for parameter in attention.parameters():
            parameter.zero_()
        attention.c_attn.weight[8:16, :8] = 6 * torch.eye(8)
        attention.c_attn.weight[8:16, 16:24] = 6 * torch.eye(8).roll(-1, 0)
        attention.c_attn.weight[0, 32] = 5.0
        attention.c_proj.weight[0, 1] = 5.0
    batch = {"input_ids": tokens, "before": before}
    row = TokenScores(model, batch, TokenClasses("before", 2)).measure()
    assert row["hidden_score"][1] > row["weights_score"][1] + 0.2
    assert abs(row["weights_score"][1] - 0.5) < 0.15


def test_weights_score_probes_the_component_of_the_decomposition(new_model: NewModel, batches: Batches) -> None:
    model, batch = new_model(), batches[0]
    scores = TokenScores(model, batch, CLASSES)
    tokens, none = batch["input_ids"], torch.zeros(4, 1, dtype=torch.int64)
    prompts = TokenPrompts(tokens, torch.ones_like(tokens).bool(), torch.arange(10).repeat(4, 1), none, none)
    with torch.no_grad():
        states = scores._states("self")
    assert torch.equal(states, decompose(Decoder(model), prompts).weights.flatten(1, 2))


def test_looking_changes_nothing(new_model: NewModel, batches: Batches) -> None:
    def trained(looking: bool) -> list[Tensor]:
        model = new_model()
        model.transformer.h[0].eval()  # a part that its owner keeps in evaluation mode
        scores = TokenScores(model, batches[2], CLASSES)
        torch.manual_seed(7)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for step in range(5):
            model(**batches[step % 3]).loss.backward()
            if looking:
                modes, numbers = [module.training for module in model.modules()], random.getstate()
                scores.measure()
                assert modes == [module.training for module in model.modules()]
                assert numbers == random.getstate()
            optimiser.step()
            optimiser.zero_grad()
        return [parameter.detach() for parameter in model.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(trained(True), trained(False), strict=True))


def test_the_held_out_loss_is_the_models_own(new_model: NewModel, batches: Batches) -> None:
    model = new_model()
    row = TokenScores(model, batches[1], CLASSES).measure()
    with torch.no_grad():
        assert row["held_out_loss"] == float(model.eval()(**batches[1]).loss)
    assert "held_out_loss" not in TokenScores(model, batches[1]["input_ids"], CLASSES).measure()


def test_what_has_no_classes_is_refused(new_model: NewModel, batches: Batches) -> None:
    with pytest.raises(SpecError, match="scores need classes"):
        TokenScores(new_model(), batches[0], "next")
    with pytest.raises(SpecError, match="4 are needed"):
        TokenScores(new_model(), torch.tensor([[1, 2, 3, 3]]), CLASSES)


def test_an_in_context_task_is_scored_while_the_model_trains() -> None:
    task = FactorTask(source=Words(), n_pairs=4)
    words = task.source.texts() or ()
    tokens = TokenTask(task, word_tokenizer([*words, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]))
    model = tiny_model("gpt2", vocab_size=len(words) + 30)
    row = TaskScores(model, tokens, n_prompts=24).measure()
    assert set(row) == {"test_loss", "test_accuracy", *Scores.__dataclass_fields__}
    assert len(row["binding_score"]) == len(row["few_shot_score"]) == len(row["look_score"]) == 3
    assert len(row["weights_score"]) == len(row["context_score"]) == 3
    assert 0 <= row["test_accuracy"] <= 1
    assert row == TaskScores(model, tokens, n_prompts=24).measure()
    assert row["weights_score"] != TaskScores(model, tokens, n_prompts=24, seed=1).measure()["weights_score"]
