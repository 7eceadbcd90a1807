"""Loss terms in other people's loops: what they read, and that they are absent when they are absent."""

import multiprocessing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tiny_language_models import tiny_model
from unplateau.errors import SpecError
from unplateau.integrations.annotation import IGNORED, Annotations, TokenClasses
from unplateau.integrations.huggingface import Decoder
from unplateau.integrations.scores import TokenScores
from unplateau.integrations.tokens import TokenStrategy
from unplateau.strategies.curricula import Mixed
from unplateau.strategies.losses import ComponentLoss, ContextLoss, WeightsLoss
from unplateau.strategies.prompt_losses import BindLoss, LookLoss, MatchLoss
from unplateau.strategies.strategy import Strategy
from unplateau.tensors import TokenPrompts

NewModel = Callable[..., Any]
Batches = list[dict[str, Tensor]]
CLASSES = torch.arange(24) % 3


def trained(model: Any, batches: Batches, helper: Any = None) -> tuple[list[float], list[Tensor]]:
    """Losses and final weights of a plain loop of six steps, with the dropout of the model."""
    torch.manual_seed(5)
    heads = [] if helper is None else [*helper.parameters()]
    optimiser = torch.optim.AdamW([*model.parameters(), *heads], lr=1e-2)
    losses = []
    for step in range(6):
        batch = batches[step % 3]
        loss = model(**batch).loss
        losses.append(float(loss.detach()))
        (loss if helper is None else loss + helper(batch)).backward()
        optimiser.step()
        optimiser.zero_grad()
    return losses, [parameter.detach().clone() for parameter in model.parameters()]


def same(one: tuple[list[float], list[Tensor]], other: tuple[list[float], list[Tensor]]) -> bool:
    return one[0] == other[0] and all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


@pytest.mark.parametrize(
    "strategy", [Strategy(), Strategy(ComponentLoss(weight=0), WeightsLoss(weight=0)), Strategy(Mixed())]
)
def test_without_terms_training_is_the_same_bit_for_bit(
    new_model: NewModel, batches: Batches, strategy: Strategy
) -> None:
    model = new_model()
    helper = TokenStrategy(model, strategy, CLASSES)
    assert not list(helper.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert helper(batches[0]) == 0.0
    assert same(trained(model, batches, helper), trained(new_model(), batches))


def test_terms_take_no_random_numbers_although_the_model_has_dropout(new_model: NewModel, batches: Batches) -> None:
    model = new_model()
    state = torch.get_rng_state()
    strategy = Strategy(ComponentLoss(), ComponentLoss(layer=1, items=4), WeightsLoss())
    helper = TokenStrategy(model, strategy, CLASSES)
    assert torch.equal(state, torch.get_rng_state())
    model(**batches[0])
    state = torch.get_rng_state()
    helper(batches[0]).backward()
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(module.training for module in model.modules())


def test_a_term_of_tiny_weight_leaves_the_first_loss_alone_and_changes_the_rest(
    new_model: NewModel, batches: Batches
) -> None:
    model = new_model()
    with_term = trained(model, batches, TokenStrategy(model, Strategy(ComponentLoss()), CLASSES))
    plain = trained(new_model(), batches)
    assert with_term[0][0] == plain[0][0]
    assert with_term[0][1:] != plain[0][1:]


def test_component_loss_reads_the_component_of_the_decomposition(new_model: NewModel, batches: Batches) -> None:
    model, batch = new_model().eval(), batches[1]
    helper = TokenStrategy(model, Strategy(ComponentLoss(layer=1)), CLASSES)
    value = helper.values(batch)["component-loss[layer=1]"]
    decoder, mask = Decoder(model), batch["attention_mask"].bool()
    states = decoder.token_states(TokenPrompts(batch["input_ids"], mask), "self", 1)
    (head,) = helper.heads.values()
    logits = head(decoder.normalise(states))
    wanted = functional.cross_entropy(logits[mask], CLASSES[batch["input_ids"]][mask])
    torch.testing.assert_close(value, wanted)


def test_component_loss_sees_no_context_and_weights_loss_does(new_model: NewModel, batches: Batches) -> None:
    model = new_model().eval()
    strategy = Strategy(ComponentLoss(), WeightsLoss())
    helper = TokenStrategy(model, strategy, TokenClasses("kind", 3))
    batch = {"input_ids": batches[0]["input_ids"], "kind": torch.full((4, 10), IGNORED)}
    batch["kind"][:, -1] = CLASSES[batch["input_ids"][:, -1]]
    other = {**batch, "input_ids": torch.cat((batch["input_ids"][:, :-1].flip(1), batch["input_ids"][:, -1:]), 1)}
    found = []
    for one in (batch, other):
        model(input_ids=one["input_ids"])
        found.append(helper.values(one))
    assert torch.equal(found[0]["component-loss"], found[1]["component-loss"])
    assert not torch.equal(found[0]["weights-loss"], found[1]["weights-loss"])


def test_weights_loss_reads_the_final_state_of_the_loops_own_forward_pass(
    new_model: NewModel, batches: Batches
) -> None:
    model, batch = new_model(), batches[1]
    helper = TokenStrategy(model, Strategy(WeightsLoss()), CLASSES)
    output = model(**batch, output_hidden_states=True)  # with dropout: only this very pass has these states
    mask, (head,) = batch["attention_mask"].bool(), helper.heads.values()
    wanted = functional.cross_entropy(head(output.hidden_states[-1])[mask], CLASSES[batch["input_ids"]][mask])
    torch.testing.assert_close(helper.values(batch)["weights-loss"], wanted)


def test_weights_loss_needs_the_forward_pass_of_this_batch(new_model: NewModel, batches: Batches) -> None:
    model = new_model()
    with TokenStrategy(model, Strategy(WeightsLoss()), CLASSES) as helper:
        with pytest.raises(SpecError, match="just before; it was not"):
            helper(batches[0])
        with torch.no_grad():
            model(**batches[0])
        with pytest.raises(SpecError, match="just before; it was not"):
            helper(batches[0])
        model(input_ids=batches[0]["input_ids"][:2])
        with pytest.raises(SpecError, match=r"it was called on \(2, 10\)"):
            helper(batches[0])
        assert len(helper.decoder.parts.final_norm._forward_hooks) == 1
    assert not helper.decoder.parts.final_norm._forward_hooks


@pytest.mark.parametrize("annotation", ["identity", "next", TokenClasses(lambda batch: batch["input_ids"], None)])
@pytest.mark.parametrize("tied", [True, False])
def test_tokens_are_read_out_by_the_models_own_embeddings(
    new_model: NewModel, batches: Batches, annotation: Annotations, tied: bool
) -> None:
    model, batch = new_model(tie_word_embeddings=tied).eval(), batches[0]
    helper = TokenStrategy(model, Strategy(ComponentLoss(layer=1)), annotation)
    assert not list(helper.parameters())
    tokens = batch["input_ids"]
    decoder = Decoder(model)
    states = decoder.normalise(decoder.token_states(TokenPrompts(tokens), "self", 1))
    matrix = model.transformer.wte.weight if annotation == "identity" else model.lm_head.weight
    logits = states @ matrix.T
    wanted = (
        functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        if annotation == "next"
        else functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
    )
    torch.testing.assert_close(helper(batch), wanted)


def test_next_teaches_the_average_next_token_of_each_token(new_model: NewModel) -> None:
    """Where every token has one successor, the weights component can name it without any context."""
    model = new_model()
    tokens = (torch.arange(10) + torch.arange(16)[:, None]) % 24
    helper = TokenStrategy(model, Strategy(ComponentLoss(layer=1)), "next")
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(80):
        loss = helper(tokens)
        losses.append(float(loss.detach()))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert losses[0] > 3
    assert losses[-1] < 0.3


def test_items_are_distinct_tokens_and_differ_from_call_to_call(
    new_model: NewModel, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, shown = new_model(), []
    helper = TokenStrategy(model, Strategy(ComponentLoss(items=7)), CLASSES)
    whole = Decoder.component_alone

    def component_alone(self: Decoder, items: Tensor, positions: Tensor, *rest: Any) -> Tensor:
        shown.append((items[:, 0].tolist(), positions.tolist()))
        return whole(self, items, positions, *rest)

    monkeypatch.setattr(Decoder, "component_alone", component_alone)
    for _ in range(2):
        helper(batches[1])
    again = TokenStrategy(model, Strategy(ComponentLoss(items=7)), CLASSES)
    again(batches[1])
    again.load_state_dict(helper.state_dict())
    assert int(again.calls) == 2
    places = {(int(token), place) for row in batches[1]["input_ids"] for place, token in enumerate(row)}
    for tokens, positions in shown:
        assert len(set(tokens)) == 7
        assert set(zip(tokens, positions, strict=True)) <= places
    assert shown[0] != shown[1]
    assert shown[0] == shown[2]


def test_rows_are_the_first_rows(new_model: NewModel, batches: Batches) -> None:
    model = new_model()
    few = TokenStrategy(model, Strategy(ComponentLoss(rows=2)), CLASSES)
    cut = TokenStrategy(model, Strategy(ComponentLoss()), CLASSES)
    cut.load_state_dict({key.replace("[rows=2]", ""): value for key, value in few.state_dict().items()})
    torch.testing.assert_close(few(batches[0]), cut({key: value[:2] for key, value in batches[0].items()}))


def test_several_annotations_are_averaged_and_a_batch_without_classes_gives_zero(
    new_model: NewModel, batches: Batches
) -> None:
    model = new_model()
    annotations = {"kind": CLASSES, "own": "identity"}
    helper = TokenStrategy(model, Strategy(ComponentLoss(weight=0.5)), annotations)
    alone = TokenStrategy(model, Strategy(ComponentLoss(weight=0.5)), "identity")
    (head,) = helper.heads.values()
    states = Decoder(model).normalise(Decoder(model).token_states(TokenPrompts(batches[0]["input_ids"]), "self", 2))
    kind = functional.cross_entropy(head(states).flatten(0, 1), CLASSES[batches[0]["input_ids"]].flatten())
    torch.testing.assert_close(helper(batches[0]), 0.5 * (kind + alone(batches[0]) / 0.5) / 2)
    nothing = {**batches[0], "attention_mask": torch.zeros(4, 10, dtype=torch.int64)}
    value = helper(nothing)
    value.backward()
    assert float(value.detach()) == 0
    assert all(torch.equal(one.grad, torch.zeros_like(one)) for one in helper.parameters())


def test_heads_are_a_function_of_the_seed(new_model: NewModel) -> None:
    model = new_model()
    first, again, other = (
        TokenStrategy(model, Strategy(ComponentLoss()), CLASSES, seed=seed).state_dict() for seed in (1, 1, 2)
    )
    name = "heads.component-loss/class.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("whole", [True, False])
def test_works_in_mixed_precision(new_model: NewModel, batches: Batches, whole: bool) -> None:
    model = new_model().bfloat16() if whole else new_model()
    helper = TokenStrategy(model, Strategy(ComponentLoss(), WeightsLoss()), {"kind": CLASSES, "own": "identity"})
    for inside in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not whole):
            loss = model(**batches[0]).loss
            added = helper(batches[0]) if inside else None
        total = loss + (helper(batches[0]) if added is None else added)
        total.backward()
        assert total.isfinite()
        assert all(parameter.grad.isfinite().all() for parameter in helper.parameters())


@pytest.mark.parametrize(
    ("strategy", "annotation", "words"),
    [
        (Strategy(ContextLoss()), CLASSES, "ContextLoss: has no meaning on tokens"),
        (Strategy(ComponentLoss(layer=3)), CLASSES, "layer 3 is beyond the model's 2 layers"),
        (Strategy(WeightsLoss()), "next", "language model's own loss"),
        (Strategy(ComponentLoss()), None, "annotation: needed"),
    ],
)
def test_what_cannot_work_is_refused_by_name(
    new_model: NewModel, strategy: Strategy, annotation: Any, words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        TokenStrategy(new_model(), strategy, annotation)


def test_keys_that_only_annotations_read(new_model: NewModel) -> None:
    annotations: Mapping[str, Any] = {"kind": TokenClasses("kind", 3), "own": TokenClasses("input_ids", None)}
    helper = TokenStrategy(new_model(), Strategy(ComponentLoss()), annotations)
    assert helper.batch_keys == {"kind"}


def test_heads_are_averaged_over_processes_like_the_model(
    new_model: NewModel, batches: Batches, tmp_path: Path
) -> None:
    """Two processes with half of a batch each, the model in DDP, end as one process with the whole batch."""
    whole = {key: value[:4] for key, value in batches[0].items()}

    def descend(model: Any, forward: Any, batch: dict[str, Tensor]) -> list[Tensor]:
        helper = TokenStrategy(model, Strategy(ComponentLoss(), WeightsLoss()), CLASSES)
        parameters = [*model.parameters(), *helper.parameters()]
        optimiser = torch.optim.SGD(parameters, lr=0.1)
        for _ in range(3):
            (forward(**batch).loss + helper(batch)).backward()
            optimiser.step()
            optimiser.zero_grad()
        return [parameter.detach() for parameter in parameters]

    def one_of_two(rank: int) -> None:
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=rank, world_size=2)
        model = new_model(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
        half = {key: value[2 * rank : 2 * rank + 2] for key, value in whole.items()}
        torch.save(descend(model, torch.nn.parallel.DistributedDataParallel(model), half), tmp_path / f"{rank}.pt")
        torch.distributed.destroy_process_group()

    processes = [multiprocessing.get_context("fork").Process(target=one_of_two, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    model = new_model(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    alone = descend(model, model, whole)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for a, b in zip(first, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_heads_follow_the_states_to_another_device(new_model: NewModel) -> None:
    """The device of tensors without data stands for an accelerator."""
    helper = TokenStrategy(new_model(), Strategy(ComponentLoss()), CLASSES)
    assert {parameter.device.type for parameter in helper.parameters()} == {"cpu"}
    helper.decoder.model.to("meta")
    helper._follow(helper.decoder.parts.embedding.weight.device)
    assert {parameter.device.type for parameter in helper.parameters()} == {"meta"}


@pytest.mark.parametrize("name", ["type", "keys", "a.b"])
def test_any_name_of_an_annotation_will_do(new_model: NewModel, name: str) -> None:
    helper = TokenStrategy(new_model(), Strategy(ComponentLoss()), {name: CLASSES})
    assert helper({"input_ids": torch.ones(2, 3, dtype=torch.int64)}).isfinite()


def test_classes_that_there_are_not_are_named_before_the_loss_fails(new_model: NewModel, batches: Batches) -> None:
    helper = TokenStrategy(new_model(), Strategy(ComponentLoss()), TokenClasses("kind", 3))
    with pytest.raises(SpecError, match="annotation 'class': class 3 in the batch"):
        helper({**batches[0], "kind": batches[0]["input_ids"] % 4})
    assert float(helper({**batches[0], "kind": (batches[0]["input_ids"] % 3).int()}).detach()) > 0


def test_tokens_beyond_a_table_are_refused_and_not_counted_as_zero(new_model: NewModel, batches: Batches) -> None:
    model, tokens = new_model(), batches[0]["input_ids"]
    short = CLASSES[:9]
    helper = TokenStrategy(model, Strategy(ComponentLoss()), {"part": short})
    with pytest.raises(SpecError, match=r"annotation 'part': token \d+ in the batch, .* for tokens 0 \.\. 8"):
        helper(batches[0])
    with pytest.raises(SpecError, match="annotation 'class': token"):
        TokenScores(model, batches[0], short)
    known = {"input_ids": tokens, "labels": tokens.masked_fill(tokens >= 9, IGNORED)}
    assert float(helper(known).detach()) > 0  # tokens that do not count may be any
    assert float(helper(tokens % 9).detach()) > 0


def test_of_several_passes_the_one_over_these_tokens_is_read(new_model: NewModel, batches: Batches) -> None:
    model = new_model().eval()
    helper = TokenStrategy(model, Strategy(WeightsLoss(), BindLoss(share=1)), CLASSES)
    found = []
    for others in ((), (1,), (1, 2)):
        model(**batches[0])
        for other in others:
            model(**batches[other])
        found.append(helper.values(batches[0])["weights-loss"])
    assert all(torch.equal(one, found[0]) for one in found)
    model(**batches[0])
    before = helper.values(batches[0])["bind-loss[share=1.0]"]
    helper.calls.fill_(0)
    model(**batches[1])
    with pytest.raises(SpecError, match="it was called on other tokens"):
        helper.values(batches[0])
    model(**batches[0])
    model(**batches[1])
    assert before.isfinite()
    assert helper.values(batches[0])["bind-loss[share=1.0]"].isfinite()


@settings(max_examples=15)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), seed=st.integers(0, 20))
def test_shares_make_the_terms_of_an_update_those_of_its_rows_at_once(sizes: list[int], seed: int) -> None:
    """However many rows a micro-batch has, and however long they are."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(6, (sum(sizes), 10), generator=generator)
    mask = (torch.arange(10) < torch.randint(4, 11, (sum(sizes), 1), generator=generator)).long()
    mask[0] = 1
    whole = {"input_ids": tokens, "attention_mask": mask}
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    parts = [{key: one[at : at + size] for key, one in whole.items()} for at, size in zip(starts, sizes, strict=True)]
    strategy = Strategy(ComponentLoss(), WeightsLoss(), MatchLoss(share=1), LookLoss(share=1))
    annotations = {"some": torch.where(torch.arange(24) % 4 == 0, IGNORED, CLASSES), "own": "identity"}
    helper = TokenStrategy(MODEL, strategy, annotations)
    MODEL(**whole)
    wanted = helper.values(whole)
    summed = dict.fromkeys(wanted, torch.zeros(()))
    for part, shares in zip(parts, helper.shares(parts), strict=True):
        MODEL(**part)
        summed = {name: summed[name] + value for name, value in helper.values(part, shares).items()}
    helper.close()
    for name, value in wanted.items():
        torch.testing.assert_close(summed[name], value, rtol=1e-4, atol=1e-5)


MODEL = tiny_model("gpt2")
