"""How far a model has come; what it knows by heart, and which labels have come, is not taken for ICL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from unplateau.items.codes import RandomCodes
from unplateau.layout import Attention
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.probe.diagnose import diagnose
from unplateau.probe.standing import standing
from unplateau.tasks.base import Task
from unplateau.tasks.clusters import Clusters
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.recall import AssociativeRecall
from unplateau.tasks.regression import LinearRegression
from unplateau.tensors import Batch, Output, Prompts

CODES = FactorTask(source=RandomCodes(sizes=(4, 4), copies=4), hidden=("a",), n_pairs=12)
RECALL = AssociativeRecall(keys_per_prompt=3, n_pairs=24)


class Predicts(Transformer):
    """A model that predicts what a function says, (B, K, C) probabilities, or numbers."""

    def __init__(self, task: Task, predict: Callable[[Prompts], Tensor]) -> None:
        super().__init__(ModelConfig(n_layers=1, width=16), task.shape)
        self.predict, self.numbers = predict, task.shape.labels_are_numbers

    def forward(self, inputs: Prompts, attention: Attention = "causal") -> Output:
        """The function's predictions."""
        said = self.predict(inputs)
        return replace(super().forward(inputs, attention), logits=said if self.numbers else said.clamp_min(1e-9).log())


def counts_of(n_labels: int) -> Callable[[Prompts], Tensor]:
    """How often each label came before, whatever its item."""

    def predict(inputs: Prompts) -> Tensor:
        shown = one_hot(inputs.labels, n_labels)
        before = shown.double().cumsum(1) - shown + 0.1
        return before / before.sum(2, keepdim=True)

    return predict


counts = counts_of(4)


def looks_up(task: Task, share: float) -> Callable[[Prompts], Tensor]:
    """The exact predictor in a mixture with chance."""

    def predict(inputs: Prompts) -> Tensor:
        keys = inputs.items[..., 0, 0] - 1
        exact = task.bayes_predictions(Batch(inputs, inputs.labels, keys[..., None], torch.zeros(len(keys)), keys))
        return share * exact + (1 - share) / exact.shape[2]

    return predict


def knows(task: FactorTask, items: Tensor) -> Callable[[Prompts], Tensor]:
    """The exact predictor where all items of a prompt are among these, and chance elsewhere."""
    vectors, factors = task.source.vectors(torch.arange(len(task.source.factors()))), task.source.factors()

    def predict(inputs: Prompts) -> Tensor:
        index = torch.cdist(inputs.items, vectors).argmin(-1)
        hidden = torch.zeros(len(index), dtype=torch.int64)
        exact = task.bayes_predictions(Batch(inputs, inputs.labels, factors[index], hidden, index))
        known = torch.isin(index, items).all(1)[:, None, None]
        return torch.where(known, exact, torch.full_like(exact, 1 / exact.shape[2]))

    return predict


def no_context(task: FactorTask, inputs: Prompts) -> Tensor:
    """What the query's own item tells."""
    vectors, factors = task.source.vectors(torch.arange(len(task.source.factors()))), task.source.factors()
    index = torch.cdist(inputs.items, vectors).argmin(-1)
    hidden = torch.zeros(len(index), dtype=torch.int64)
    return task.no_context_predictions(Batch(inputs, inputs.labels, factors[index], hidden, index))


def test_the_exact_predictors_stand_at_both_ends() -> None:
    best = standing(Predicts(RECALL, looks_up(RECALL, 1.0)), RECALL, n_prompts=256)
    assert (best.stage, best.by_heart, best.by_labels) == ("arrived", None, None)
    assert best.progress == pytest.approx(1.0, abs=0.05)
    worst = standing(Predicts(RECALL, looks_up(RECALL, 0.0)), RECALL, n_prompts=256)
    assert (worst.stage, worst.progress) == ("plateau", pytest.approx(0.0, abs=1e-6))


def test_who_is_worse_than_without_context_has_not_come_to_a_plateau() -> None:
    def wrong(inputs: Prompts) -> Tensor:
        return 0.99 * one_hot((inputs.labels + 1) % 4, 4) + 0.0025

    found = diagnose(Predicts(CODES, wrong), CODES)
    assert found.standing.stage == "before"
    assert found.standing.progress is not None
    assert found.standing.progress < -1
    assert found.sentences[0].startswith("It predicts worse than who ignores the context, as before a plateau")
    assert found.waits_for


@pytest.mark.parametrize("keys", [2, 3])
def test_who_names_the_labels_that_have_come_is_on_the_plateau(keys: int) -> None:
    """With few keys in a prompt that gives a progress of 0.4 and more, without a look at any key."""
    task = RECALL.model_copy(update={"keys_per_prompt": keys})
    model = Predicts(task, counts)
    found = standing(model, task, n_prompts=256)
    assert found.progress is not None
    assert found.progress > 0.3
    assert found.stage == "plateau"
    assert found.by_labels == pytest.approx(found.progress, abs=0.1)
    told = diagnose(model, task, n_prompts=256)
    assert "from the labels alone" in told.sentences[0]
    assert told.waits_for[0] == "labels"


@pytest.mark.parametrize("share", [0.6, 0.8])
def test_who_looks_keys_up_is_on_its_way(share: float) -> None:
    """Also where naming the labels that have come gives half of what it has."""
    half = RECALL.model_copy(update={"keys_per_prompt": 2, "n_labels": 16, "n_pairs": 8})
    assert standing(Predicts(half, looks_up(half, share)), half, n_prompts=256).by_labels is None
    found = standing(Predicts(RECALL, looks_up(RECALL, share)), RECALL, n_prompts=256)
    assert (found.stage, found.by_labels) == ("on its way", None)


def test_labels_that_tell_all_there_is_are_no_plateau() -> None:
    """With one key a prompt, the label that has come is the answer."""
    task = RECALL.model_copy(update={"keys_per_prompt": 1})
    assert standing(Predicts(task, counts), task, n_prompts=256).stage == "arrived"


def test_labels_that_mean_something_by_themselves_may_tell_what_a_prompt_hides() -> None:
    """Of fixed mappings that is in-context learning, and dealing items anew says nothing of it."""
    task = RECALL.model_copy(update={"keys_per_prompt": 3, "n_mappings": 64})
    assert standing(Predicts(task, counts), task, n_prompts=256).by_labels is None


def test_numbers_and_labels_that_stand_for_classes_are_read_as_well() -> None:
    regression = LinearRegression(dimension=2, n_pairs=6)
    mean = Predicts(regression, lambda inputs: torch.zeros(*inputs.labels.shape, 1))
    for seed in range(3):
        found = standing(mean, regression, n_prompts=128, seed=seed)
        assert (found.stage, found.progress) == ("plateau", pytest.approx(0.0, abs=1e-6))
    clusters = Clusters(n_classes=32, width=16, noise=0.1, classes_per_prompt=4, n_pairs=12)
    assert standing(Predicts(clusters, counts), clusters, n_prompts=128).stage != "arrived"


def test_factors_of_different_sizes_are_measured_alike() -> None:
    """The exact predictor has all there is of each, chance nothing of either, whatever their luck with a factor."""
    task = FactorTask(source=RandomCodes(sizes=(2, 8), copies=8), n_pairs=16)
    found = standing(Predicts(task, knows(task, torch.arange(128))), task, n_prompts=512)
    assert found.by_choice == {"a": pytest.approx(1.0, abs=1e-3), "b": pytest.approx(1.0, abs=1e-3)}
    floor = Predicts(task, lambda inputs: no_context(task, inputs))
    assert standing(floor, task, n_prompts=512).by_choice == {name: pytest.approx(0.0, abs=1e-3) for name in "ab"}


def test_items_whose_names_nobody_could_know_are_not_learnt_by_heart() -> None:
    """Held-out classes have labels in a table that no training item tells of."""
    task = Clusters(n_classes=32, width=16, noise=0.1, classes_per_prompt=3, n_pairs=9, n_mappings=2)
    assert standing(Predicts(task, counts_of(3)), task, n_prompts=128).by_heart is None


def test_items_that_were_learnt_by_heart_are_told_from_a_plateau() -> None:
    trained = torch.unique(torch.cat([CODES.sample(step, batch_size=64).item_index.flatten() for step in range(20)]))
    model = Predicts(CODES, knows(CODES, trained))
    found = standing(model, CODES, n_prompts=256)
    assert (found.stage, found.progress) == ("by heart", pytest.approx(0.0, abs=0.02))
    assert found.by_heart == pytest.approx(1.0, abs=0.05)
    told = diagnose(model, CODES, n_prompts=256)
    assert told.sentences[0].startswith("It has learnt items of its training by heart: progress ")
    assert told.sentences[-1] == "To try: more different items in training."
    everything = Predicts(CODES, knows(CODES, torch.arange(len(CODES.source.factors()))))
    assert standing(everything, CODES, n_prompts=256).stage == "arrived"
