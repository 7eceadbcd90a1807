"""The three things on models and tasks: what is planted is found, each without the others."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from unplateau.errors import DivergedError
from unplateau.items.codes import RandomCodes
from unplateau.layout import Attention
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.probe import probe_three_things
from unplateau.rng import fold_seed
from unplateau.scores import ProbeScore
from unplateau.tasks.base import Task
from unplateau.tasks.clusters import Clusters
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.parity import SparseParity
from unplateau.tasks.recall import AssociativeRecall
from unplateau.tasks.regression import LinearRegression
from unplateau.tasks.selection import WordSelection
from unplateau.tensors import Inputs, Output, Prompts

TASK = FactorTask(source=RandomCodes(sizes=(4, 5, 6), width=16, copies=1), n_pairs=8, hidden=("a",))


@dataclass
class Planted:
    """One block: items are codes at places, labels hold their item or not, and one head looks as is said."""

    task: FactorTask
    bound: bool
    looks: bool
    n_layers: int = 1
    seen: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, inputs: Inputs, attention: Attention = "causal") -> Output:
        assert isinstance(inputs, Prompts)
        items, (n_rows, n_pairs) = inputs.items, inputs.labels.shape
        place = torch.randn(n_pairs, items.shape[2], generator=torch.Generator().manual_seed(0)) * 0.3
        labels = torch.nn.functional.one_hot(inputs.labels, items.shape[2]).float() + place
        first = torch.stack((items + place, labels), 2).flatten(1, 2)
        holding = labels + items if self.bound and attention == "causal" else labels
        last = torch.stack((items + place, holding), 2).flatten(1, 2)
        return Output(torch.zeros(n_rows, n_pairs, 1), torch.stack((first, last)))

    def attention_weights(self, hidden: Tensor, layer: int) -> Tensor:
        """(B, 2, T, T): a head that looks everywhere alike, and one that looks at labels of equal items."""
        assert layer == 1
        n_rows, n_positions = hidden.shape[:2]
        alike = torch.ones(n_positions, n_positions).tril().expand(n_rows, -1, -1)
        uniform = alike / alike.sum(2, keepdim=True)
        right = torch.zeros(n_rows, n_positions, n_positions)
        right[:, ::2, 1::2] = self.seen[n_rows].float()
        right = torch.where(right.sum(2, keepdim=True) > 0, right, alike)
        return torch.stack((uniform, right / right.sum(2, keepdim=True) if self.looks else uniform), 1)


def found(scores: Sequence[ProbeScore], kind: str, layer: int, factor: str | None = None) -> ProbeScore:
    (one,) = [
        score for score in scores if (score.kind, score.layer) == (kind, layer) and factor in (None, score.factor)
    ]
    return one


@pytest.mark.parametrize("bound", [False, True])
def test_bound_labels_are_found_after_the_block_that_binds_them(bound: bool) -> None:
    scores = probe_three_things(Planted(TASK, bound, False, seen=right_labels()), TASK, n_prompts=32)
    before, after = (found(scores, "binding", layer) for layer in (0, 1))
    assert before.accuracy < 0.25
    assert after.accuracy > 0.9 if bound else after.accuracy < 0.25
    assert after.chance == pytest.approx(1 / 8, abs=0.02)
    assert after.control_accuracy < 0.25


@pytest.mark.parametrize(("size", "told"), [(30.0, 1.0), (0.0, 0.0)])
def test_labels_are_kept_unless_what_is_bound_to_them_drowns_them(size: float, told: float) -> None:
    class Labelled(Planted):
        def __call__(self, inputs: Inputs, attention: Attention = "causal") -> Output:
            assert isinstance(inputs, Prompts)
            hidden = super().__call__(inputs, attention).hidden.clone()
            labels = torch.nn.functional.one_hot(inputs.labels, 16)
            hidden[1, :, 1::2] += (size - 1) * labels
            return Output(torch.zeros(1), hidden)

    scores = probe_three_things(Labelled(TASK, True, False, seen=right_labels()), TASK, n_prompts=32)
    after = found(scores, "keep", 1)
    share = (after.accuracy - after.chance) / (1 - after.chance)
    assert share == pytest.approx(told, abs=0.12)
    assert found(scores, "binding", 1).accuracy > 0.9


@pytest.mark.parametrize("looks", [False, True])
def test_queries_that_look_are_found(looks: bool) -> None:
    scores = probe_three_things(Planted(TASK, False, looks, seen=right_labels()), TASK, n_prompts=32)
    one = found(scores, "look", 1)
    assert one.accuracy > 0.35 if looks else abs(one.accuracy - one.chance) < 0.03  # the last batch is what it knows
    assert not [score for score in scores if score.kind == "look" and score.layer == 0]


def right_labels() -> dict[int, Tensor]:
    """What a looking head of the planted model needs to know: of the test prompts, by their number."""
    batch = TASK.sample(0, batch_size=32, split="test", seed=fold_seed(0, "three things"))
    values = batch.factors[..., 0]
    earlier = torch.ones(8, 8).tril(-1).bool()
    return {32: (values[:, :, None] == values[:, None]) & earlier}


def test_items_stand_out_by_the_factor_that_is_large_in_them() -> None:
    """What is left of an item in the block is its code of one factor."""

    class OneFactor(Planted):
        def __call__(self, inputs: Inputs, attention: Attention = "causal") -> Output:
            assert isinstance(inputs, Prompts)
            hidden = super().__call__(inputs, attention).hidden.clone()
            values = TASK.sample(0, batch_size=32, split="test", seed=fold_seed(0, "three things")).factors[..., 0]
            hidden[1, :, ::2] += 20 * torch.nn.functional.one_hot(values, 16)
            return Output(torch.zeros(1), hidden)

    scores = probe_three_things(OneFactor(TASK, False, False, seen=right_labels()), TASK, n_prompts=32)
    assert found(scores, "few-shot", 0, "a").accuracy < 0.7
    assert found(scores, "few-shot", 1, "a").accuracy == 1
    assert found(scores, "share", 1, "a").accuracy > 0.9
    other = found(scores, "few-shot", 1, "b")
    assert abs(other.accuracy - other.chance) < 0.1
    assert all(score.n_items and score.error is not None for score in scores if score.kind == "few-shot")


TASKS: dict[str, tuple[Task, set[str]]] = {
    "factors": (TASK, {"few-shot", "share", "binding", "keep", "look"}),
    "recall": (AssociativeRecall(n_pairs=8), {"few-shot", "share", "binding", "keep", "look"}),
    "clusters": (Clusters(n_pairs=8), {"few-shot", "share", "binding", "keep", "look"}),
    "parity": (SparseParity(n_pairs=8), {"few-shot", "share", "binding", "keep", "look"}),
    "regression": (LinearRegression(n_pairs=8), {"binding", "look"}),
    "selection": (WordSelection(n_pairs=4), {"few-shot", "share", "look"}),
}


@pytest.mark.parametrize(("task", "kinds"), TASKS.values(), ids=TASKS)
def test_each_task_has_what_it_can_have(task: Task, kinds: set[str]) -> None:
    model = Transformer(ModelConfig(n_layers=2, width=16), task.shape)
    scores = probe_three_things(model, task, n_prompts=16)
    assert {score.kind for score in scores} == kinds
    assert all(-0.2 <= score.accuracy <= 1 for score in scores)
    assert scores == probe_three_things(model, task, n_prompts=16)


def test_noisy_copies_of_an_item_may_be_named_for_it() -> None:
    """Labels that carry their items are bound, though nobody can tell two items of a cluster apart."""
    task = Clusters(n_pairs=8, noise=0.02)
    model = Transformer(ModelConfig(n_layers=1, width=32, labels_carry_items=True), task.shape)
    one = found(probe_three_things(model, task, n_prompts=64), "binding", 0)
    assert one.accuracy > 0.9
    assert one.chance > 1.5 / 8


def test_one_prompt_has_scores_and_no_error() -> None:
    model = Transformer(ModelConfig(n_layers=1, width=16), TASK.shape)
    scores = probe_three_things(model, TASK, n_prompts=1)
    assert {score.error for score in scores if score.kind == "binding"} == {None}


def test_a_model_that_has_diverged_is_named() -> None:
    model = Transformer(ModelConfig(n_layers=1, width=16), TASK.shape)
    torch.nn.init.constant_(model.position_embedding.weight, float("nan"))
    with pytest.raises(DivergedError, match="has diverged"):
        probe_three_things(model, TASK, n_prompts=4)


def test_labels_that_carry_their_items_are_bound_from_the_embedding_on() -> None:
    scores = [
        found(probe_three_things(model, TASK, n_prompts=48), "binding", 0).accuracy
        for model in (
            Transformer(ModelConfig(n_layers=1, width=32, labels_carry_items=carry), TASK.shape)
            for carry in (False, True)
        )
    ]
    assert scores[0] < 0.25
    assert scores[1] > 0.9
