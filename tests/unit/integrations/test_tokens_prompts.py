"""Terms that read prompts, on tokens of which it is known where items and labels stand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("accelerate", reason="the Trainer needs accelerate")
from transformers import TrainingArguments

from unplateau.errors import SpecError
from unplateau.integrations.modules import PromptStrategy
from unplateau.integrations.tokens import TokenStrategy
from unplateau.integrations.trainer import StrategyTrainer
from unplateau.strategies.functional import bind_loss
from unplateau.strategies.prompt_losses import BindLoss, KeepLoss, LookLoss, MatchLoss
from unplateau.strategies.strategy import Strategy

NewModel = Callable[..., Any]
K = 5
TERMS = Strategy(MatchLoss(share=0.5), BindLoss(share=0.5), KeepLoss(share=0.5), LookLoss(share=0.5))
WHERE: dict[str, Any] = {"items": slice(0, None, 2), "labels": slice(1, None, 2)}
WITHOUT_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


@pytest.fixture
def tokens() -> Tensor:
    """Six prompts of five pairs: items are tokens 4 .. 23, labels 0 .. 2."""
    generator = torch.Generator().manual_seed(0)
    items, labels = torch.randint(4, 24, (6, K), generator=generator), torch.randint(3, (6, K), generator=generator)
    return torch.stack((items, labels), 2).flatten(1)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_values_are_those_of_any_module(new_model: NewModel, tokens: Tensor, attention: str) -> None:
    model = new_model(**WITHOUT_DROPOUT, attn_implementation=attention)
    with torch.no_grad():
        model.transformer.wpe.weight.zero_()  # any module shows an item at the first position
    with PromptStrategy(model, TERMS, blocks="transformer.h", **WHERE) as any_module:
        model(input_ids=tokens)
        wanted = any_module.values(input_ids=tokens)
    with TokenStrategy(model, TERMS, **WHERE) as helper:
        for _ in range(2):
            model(input_ids=tokens)
            found = helper.values(tokens)
            for name, value in wanted.items():
                torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    assert not any(module._forward_hooks for module in model.modules())


def test_items_of_several_tokens_by_masks_of_the_batch(new_model: NewModel, tokens: Tensor) -> None:
    """A prompt is the same whether it is padded, and where its items are longer than those of others."""
    model = new_model().eval()
    long = torch.stack((tokens[:, ::2], tokens[:, ::2].roll(1, 1), tokens[:, 1::2]), 2).flatten(1)  # x x' y
    padded = torch.cat((long[:3], long[:3].new_zeros(3, 3)), 1)
    mask = torch.ones_like(padded)
    mask[:, 15:] = 0
    at = torch.arange(18).expand(3, -1)
    batch = {"input_ids": padded, "attention_mask": mask, "item": at % 3 == 1, "label": at % 3 == 2}
    values = []
    for given, where in (
        ({"input_ids": long[:3]}, {"items": slice(1, None, 3), "labels": slice(2, None, 3)}),
        (batch, {"items": "item", "labels": lambda given: given["label"]}),
    ):
        helper = TokenStrategy(model, TERMS, **where)
        model(input_ids=given["input_ids"], attention_mask=given.get("attention_mask"))
        state = torch.get_rng_state()
        values.append(helper.values(given))
        assert torch.equal(state, torch.get_rng_state())
        helper.close()
    for name in ("match-loss[share=0.5]", "look-loss[share=0.5]"):  # items of bind stand at random places
        torch.testing.assert_close(values[0][name], values[1][name], rtol=1e-4, atol=1e-5)
    assert values[1]["bind-loss[share=0.5]"].isfinite()


def test_in_text_queries_look_at_what_followed_the_same_token_before(new_model: NewModel) -> None:
    model = new_model(**WITHOUT_DROPOUT, attn_implementation="eager")
    text = torch.randint(3, (2, 9), generator=torch.Generator().manual_seed(1))
    with TokenStrategy(model, Strategy(LookLoss(share=1))) as helper:
        attention = model(input_ids=text, output_attentions=True).attentions[1].mean(1)
        value = helper(text)
    losses = []
    for row, tokens in zip(attention, text.tolist(), strict=True):
        for query in range(8):
            copies = [at for at in range(query - 1) if tokens[at] == tokens[query]]
            if right := [at + 1 for at in copies if tokens[at + 1] == tokens[query + 1]]:
                losses.append(-(row[query, right].sum() + 1e-6).log())
    torch.testing.assert_close(value, torch.stack(losses).mean())


def test_in_text_a_token_is_told_by_earlier_copies(new_model: NewModel) -> None:
    model = new_model(**WITHOUT_DROPOUT)
    text = torch.randint(3, (2, 9), generator=torch.Generator().manual_seed(1))
    with TokenStrategy(model, Strategy(KeepLoss(share=1, weight=1))) as helper:
        states = model(input_ids=text, output_hidden_states=True).hidden_states[1]
        value = helper(text)
    directions = torch.nn.functional.normalize(model.transformer.ln_f(states), dim=-1)
    losses = []
    for row, tokens in zip(directions, text, strict=True):
        for at in range(2, 9):  # the first token is no label
            votes = (10 * row[1:at] @ row[at]).softmax(0)
            if (right := tokens[1:at] == tokens[at]).any():
                losses.append(-(votes[right].sum() + 1e-6).log())
    torch.testing.assert_close(value, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)


def test_in_text_a_token_names_the_one_before(new_model: NewModel) -> None:
    model = new_model(**WITHOUT_DROPOUT)
    with torch.no_grad():
        model.transformer.wpe.weight.zero_()  # then it does not count where a token is shown
    text = torch.randint(3, (2, 9), generator=torch.Generator().manual_seed(1))
    with TokenStrategy(model, Strategy(BindLoss(share=1))) as helper:
        embedded, bound, *_ = model(input_ids=text, output_hidden_states=True).hidden_states
        value, (head,) = helper(text), helper.heads.values()
    labels, items = head.maps[0](model.transformer.ln_f(bound)), head.maps[1](model.transformer.ln_f(embedded))
    same = text[:, :-1, None] == text[:, None, :-1]
    torch.testing.assert_close(value, bind_loss(labels[:, 1:], items[:, :-1], same))


def test_gradients_reach_model_and_heads_and_terms_fall(new_model: NewModel, tokens: Tensor) -> None:
    model = new_model()
    helper = TokenStrategy(model, TERMS, **WHERE)
    optimiser = torch.optim.AdamW([*model.parameters(), *helper.parameters()], lr=1e-2)
    values = []
    for _ in range(20):
        (model(input_ids=tokens, labels=tokens).loss + helper(tokens)).backward()
        assert all(one.grad is not None for one in helper.parameters())
        optimiser.step()
        optimiser.zero_grad()
        values.append(helper.last)
    assert all(values[-1][name] < values[0][name] for name in values[0])


def test_the_trainer_passes_positions_on(new_model: NewModel, tokens: Tensor, tmp_path: Path) -> None:
    arguments = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=3, max_steps=4, report_to="none", disable_tqdm=True, use_cpu=True
    )
    data = [{"input_ids": row, "labels": row} for row in tokens]
    trainer = StrategyTrainer(model=new_model(), args=arguments, train_dataset=data, strategy=TERMS, **WHERE)
    trainer.train()
    assert int(trainer.helper.calls) == 4
    assert list(trainer.helper.last) == [term.name for term in TERMS.parts]
    named = {"items": "item", "labels": "label"}
    with pytest.raises(SpecError, match="the Trainer drops item, label from the batch"):
        StrategyTrainer(model=new_model(), args=arguments, train_dataset=data, strategy=TERMS, **named)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"items": slice(0, None, 2)}, "items, labels: give both, or none"),
        ({"items": slice(0, None, 2), "labels": slice(0, None, 2)}, "a label is a token of its own"),
        ({"items": [0, 2], "labels": [1, 30]}, "labels: 30 is out of range"),
        ({"items": "item", "labels": "label"}, "the batch has no 'item'; it has input_ids"),
        ({"items": [0], "labels": [1]}, "a prompt needs at least two items"),
    ],
)
def test_positions_that_cannot_be_are_refused(new_model: NewModel, tokens: Tensor, where: Any, message: str) -> None:
    model = new_model()

    def called() -> None:
        helper = TokenStrategy(model, TERMS, **where)
        model(input_ids=tokens)
        helper(tokens)

    with pytest.raises(SpecError) as raised:
        called()
    assert message in str(raised.value)


def test_the_model_is_called_on_this_batch_just_before(new_model: NewModel, tokens: Tensor) -> None:
    model = new_model()
    helper = TokenStrategy(model, TERMS, **WHERE)
    with pytest.raises(SpecError, match="just before; it was not"):
        helper(tokens)
    model(input_ids=tokens[:, :4])
    with pytest.raises(SpecError, match=r"it was called on \(6, 4\)"):
        helper(tokens)
