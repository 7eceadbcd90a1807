"""The terms read what they say, where they say, and are gone when they were let go."""

import pytest
import torch

from unplateau.decompose import predict
from unplateau.items.codes import RandomCodes
from unplateau.models.transformer import ModelConfig
from unplateau.strategies.base import LossTerm
from unplateau.strategies.functional import bind_loss
from unplateau.strategies.prompt_losses import BindLoss, KeepLoss, LookLoss, MatchLoss
from unplateau.strategies.strategy import Strategy
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.regression import LinearRegression
from unplateau.tasks.selection import WordSelection
from unplateau.tensors import Batch
from unplateau.train.given import Given
from unplateau.train.host import BatchView, TaskHost
from unplateau.train.spec import RunSpec, TrainConfig
from unplateau.train.step import build_heads, build_model, compute_losses, flops_spent, step_flops

CPU = torch.device("cpu")
PLAIN = RunSpec(
    task=FactorTask(source=RandomCodes(sizes=(4, 3), width=12), n_pairs=6),
    model=ModelConfig(n_layers=3, width=16),
    train=TrainConfig(batch_size=20),
)
TERMS = (MatchLoss(), BindLoss(), LookLoss(), KeepLoss())
each_term = pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)


def value(term: LossTerm, batch: Batch, spec: RunSpec = PLAIN, step: int = 0) -> float:
    spec = spec.with_strategy(Strategy(term))
    losses = compute_losses(spec, build_model(spec, CPU), build_heads(spec, CPU), spec.task, batch, step)
    return losses.terms[term.name].item()


def batch_of(spec: RunSpec = PLAIN, step: int = 0) -> Batch:
    return spec.task.sample(step, batch_size=spec.train.batch_size, seed=spec.seed)


@pytest.mark.parametrize(("n_layers", "block"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 2), (12, 4)])
def test_blocks_are_shares_of_the_depth(n_layers: int, block: int) -> None:
    assert MatchLoss().layer(n_layers) == BindLoss().layer(n_layers) == KeepLoss().layer(n_layers) == block
    assert LookLoss().layer(n_layers) == min(block + 1, n_layers)


@each_term
def test_rows_beyond_the_first_are_not_read(term: LossTerm) -> None:
    first, other = batch_of(step=0), batch_of(step=1)
    mixed = first.map(lambda tensor: tensor.clone())
    for mine, theirs in zip(
        (mixed.inputs.items, mixed.inputs.labels), (other.inputs.items, other.inputs.labels), strict=True
    ):
        mine[16:] = theirs[16:]
    assert value(term, mixed) == value(term, first)
    assert value(term.model_copy(update={"share": 1.0}), mixed) != value(term.model_copy(update={"share": 1.0}), first)


@each_term
def test_what_the_task_knows_beyond_the_prompt_is_not_read(term: LossTerm) -> None:
    batch = batch_of()
    blind = Batch(
        batch.inputs, batch.targets, batch.factors * 0, batch.hidden_factor * 0, torch.zeros_like(batch.item_index)
    )
    assert value(term, blind) == value(term, batch)


def test_match_loss_sees_no_context_and_bind_loss_no_position() -> None:
    batch = batch_of()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    moved = batch.map(lambda tensor: tensor[:, order] if tensor.ndim > 1 else tensor)
    assert value(MatchLoss(share=1), moved) != value(MatchLoss(share=1), batch)  # other pairs are earlier
    steps = {value(BindLoss(), batch, step=step) for step in range(3)}
    assert len(steps) == 3  # the items are shown at other places


@each_term
def test_a_term_that_was_let_go_leaves_plain_training(term: LossTerm) -> None:
    fading = term.model_copy(update={"until": 10, "weight": 0.5})
    assert [fading.weight_at(step) for step in (0, 10, 15, 20, 1000)] == [0.5, 0.5, 0.25, 0.0, 0.0]
    spec, batch = PLAIN.with_strategy(Strategy(fading)), batch_of()
    model, heads = build_model(spec, CPU), build_heads(spec, CPU)
    late = compute_losses(spec, model, heads, spec.task, batch, 20)
    assert not late.terms
    assert late.total is late.prediction
    flops = step_flops(spec, model, heads, CPU)
    assert flops_spent(spec, flops, 20) == 20 * sum(flops.values())
    assert flops_spent(spec, flops, 50) == 50 * flops["prediction"] + 20 * flops[fading.name]


@each_term
def test_a_control_asks_for_what_the_prompt_does_not_say(term: LossTerm) -> None:
    control, batch = term.model_copy(update={"control": True, "share": 1.0}), batch_of()
    assert control.name == f"{term.name}[share=1.0,control=True]"
    real = term.model_copy(update={"share": 1.0})
    assert value(control, batch) != value(real, batch)
    assert Strategy(term).model_dump(mode="json") == Strategy(term.model_copy(update={"control": False})).model_dump(
        mode="json"
    )
    assert "control" not in str(Strategy(term).model_dump(mode="json"))


def test_the_control_of_bind_loss_is_met_by_places_alone() -> None:
    """With the places of the items as states of the labels it can be driven to nothing; the real one cannot."""
    places = torch.eye(6).expand(8, 6, 6)
    contents = torch.randn(8, 6, 6, generator=torch.Generator().manual_seed(0))
    owner = torch.eye(6, dtype=torch.bool).expand(8, 6, 6)
    own, elsewhere = contents + 50 * places, contents + 50 * places[:, torch.randperm(6)]
    assert bind_loss(places, own.roll(1, 0), owner) < 0.1 < bind_loss(places, elsewhere, owner)


@pytest.mark.parametrize("term", TERMS[:3], ids=lambda term: term.name)
def test_in_lists_of_words_the_answer_tells_which_word_was_meant(term: LossTerm) -> None:
    spec = PLAIN.model_copy(update={"task": WordSelection(n_pairs=4)})
    assert 0 < value(term, batch_of(spec), spec) < 10


def test_labels_that_a_prompt_has_once_are_kept_as_they_are() -> None:
    """In lists each answer is another word, so there is no earlier one to tell it by."""
    spec = PLAIN.model_copy(update={"task": WordSelection(n_pairs=2)})
    batch = batch_of(spec)
    assert not (batch.inputs.labels[:, 0] == batch.inputs.labels[:, 1]).any()
    assert value(KeepLoss(share=1), batch, spec) == 0


def test_labels_that_are_numbers_are_left_alone() -> None:
    spec = PLAIN.model_copy(update={"task": LinearRegression(n_pairs=4)})
    three, four = (spec.with_strategy(Strategy(*terms)) for terms in (TERMS[:3], TERMS))
    weights = []
    for one in (three, four):
        model, heads = build_model(one, CPU), build_heads(one, CPU)
        compute_losses(one, model, heads, one.task, batch_of(one), 0).total.backward()
        weights.append([parameter.grad for parameter in model.parameters()])
    assert value(KeepLoss(), batch_of(spec), spec) == 0
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_keep_loss_asks_whether_labels_are_drowned() -> None:
    """The fainter the labels beside what else is in their states, the worse; nothing is left when labels are alike."""
    spec, batch = PLAIN.with_strategy(Strategy(KeepLoss(share=1))), batch_of()
    values = []
    for scale in (10.0, 1.0, 0.1, 0.0):
        model = build_model(spec, CPU)
        with torch.no_grad():
            model.label_embedding.weight.mul_(scale)
        losses = compute_losses(spec, model, build_heads(spec, CPU), spec.task, batch, 0)
        values.append(losses.terms["keep-loss[share=1.0]"].item())
    assert values == sorted(values)
    assert values[0] < 0.2
    assert values[-1] > 1


def test_a_model_that_does_not_show_its_attention_is_refused_by_name() -> None:
    host = TaskHost(3, 16, PLAIN.task.shape, shows_attention=False)
    with pytest.raises(ValueError, match="LookLoss: this model does not show where its blocks look"):
        LookLoss().check_host(host)
    MatchLoss().check_host(host)


def test_the_ready_combination_has_a_name() -> None:
    assert Strategy("unplateau").parts == TERMS
    assert Strategy("unplateau").name == "unplateau"
    assert Strategy("mixed+unplateau").name == "mixed+unplateau"
    assert Strategy(MatchLoss(), BindLoss()).name == "match-loss+bind-loss"
    assert Strategy.model_validate(Strategy("unplateau").model_dump()) == Strategy("unplateau")
    with pytest.raises(ValueError, match="did you mean 'unplateau'"):
        Strategy("unplatau")


@pytest.mark.parametrize(
    ("share", "n_rows", "used"), [(1 / 4, 64, 16), (1 / 4, 20, 5), (1 / 4, 2, 1), (0.3, 10, 3), (1, 7, 7)]
)
def test_rows_are_a_share_of_the_batch(share: float, n_rows: int, used: int) -> None:
    batch = PLAIN.task.sample(0, batch_size=n_rows, seed=0)
    model, term = build_model(PLAIN, CPU), MatchLoss(share=share)
    view = BatchView(term, model, PLAIN.task, batch, predict(model, batch.inputs), Given(0, CPU), 0, None)
    assert term.rows(view) == used
