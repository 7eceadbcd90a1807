"""In-context accuracy: of a model that guesses, and of one whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch

from tiny_language_models import tiny_model, word_tokenizer
from unplateau.errors import SpecError
from unplateau.integrations.huggingface import Decoder, TokenTask
from unplateau.integrations.scores import icl_accuracy
from unplateau.items.words import Words
from unplateau.probe.diagnose import diagnose
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.floors import floors

TASK = FactorTask(source=Words(attributes=("initial",)), n_pairs=4)
TOKENS = TokenTask(TASK, word_tokenizer([*(TASK.source.texts() or ()), *"ABCD"]))


def decoder() -> Decoder:
    model = tiny_model("gpt2", vocab_size=len(TOKENS.tokenizer))
    return Decoder(model, label_tokens=TOKENS.label_tokens)


def leaning(label: int) -> Decoder:
    """It always gives this label, with the same probability."""
    blank = decoder()
    head = torch.nn.Linear(blank.parts.embedding.embedding_dim, len(TOKENS.tokenizer))
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    with torch.no_grad():
        head.bias[TOKENS.label_tokens[label]] = 3.0
    blank.model.set_output_embeddings(head)
    return Decoder(blank.model, label_tokens=TOKENS.label_tokens)


def test_a_model_that_always_gives_one_label_scores_its_share() -> None:
    found = icl_accuracy(leaning(2), TOKENS, 256)
    share = found.accuracy
    assert share == pytest.approx(0.25, abs=0.06)
    assert found.loss == pytest.approx(math.log(3 + math.exp(3)) - 3 * share, abs=1e-5)
    assert found.no_context_loss == pytest.approx(math.log(4))
    assert found.bayes_accuracy > 0.4


@pytest.mark.parametrize("label_tokens", [TOKENS.label_tokens, None])
def test_a_diagnosis_tells_progress_between_the_floors_of_the_task(label_tokens: tuple[int, ...] | None) -> None:
    """Whether the model's logits are those of the labels or of all words."""
    model = leaning(2).model
    told = diagnose(Decoder(model, label_tokens=label_tokens), TOKENS, n_prompts=512)
    found = icl_accuracy(Decoder(model), TOKENS, 512)
    span = found.no_context_loss - found.bayes_loss
    assert told.standing.stage == "before"  # surer of one label than anybody can be
    assert told.standing.progress == pytest.approx((found.no_context_loss - found.loss) / span, rel=0.05)
    assert found.loss - found.no_context_loss > span  # a number that no other reading gives


def test_it_is_pure() -> None:
    model = decoder()
    found = icl_accuracy(model, TOKENS, 32, seed=3)
    assert icl_accuracy(model, TOKENS, 32, seed=3) == found
    assert icl_accuracy(model, TOKENS, 32, seed=4) != found
    assert len(found.accuracy_by_position) == TASK.n_pairs
    assert found.accuracy == pytest.approx(sum(found.accuracy_by_position) / TASK.n_pairs)
    assert found.n_prompts == 32


def test_labels_are_those_of_the_task_whatever_the_decoder_was_made_for() -> None:
    model = decoder()
    other = Decoder(model.model, label_tokens=(1, 2, 3))
    assert icl_accuracy(other, TOKENS, 8) == icl_accuracy(model, TOKENS, 8)


def test_floors_are_the_tasks_own() -> None:
    exact = floors(TASK, split="test", n_prompts=1024)
    found = icl_accuracy(decoder(), TOKENS, 4)
    assert found.bayes_loss == pytest.approx(sum(exact.bayes_loss) / TASK.n_pairs)


def test_no_prompts_are_refused() -> None:
    with pytest.raises(SpecError, match=r"n_prompts: must be at least 1 \(got 0\)"):
        icl_accuracy(decoder(), TOKENS, 0)
