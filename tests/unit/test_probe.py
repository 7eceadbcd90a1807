"""Probes against scikit-learn, and on models whose states are known."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from unplateau.decompose import decompose
from unplateau.errors import DivergedError, SpecError
from unplateau.items.codes import RandomCodes
from unplateau.items.words import Words
from unplateau.layout import Cut, Split
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.probe import Accuracies, Examples, measure, probe_accuracies, probe_components
from unplateau.probe.linear import Method, chance_levels, standardise
from unplateau.probe.measure import PROMPTS_AT_ONCE
from unplateau.probe.solvers import Discriminant, logistic, one_hot_targets
from unplateau.rng import fold_seed
from unplateau.tasks.base import Task
from unplateau.tasks.clusters import Clusters
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.parity import SparseParity
from unplateau.tasks.recall import AssociativeRecall
from unplateau.tasks.regression import LinearRegression
from unplateau.tensors import Batch, concatenate

SIZES = (3, 5)
METHODS: tuple[Method, ...] = ("discriminant", "logistic")
TASK = FactorTask(source=RandomCodes(sizes=(4, 3), width=16), n_pairs=8)


def noisy_data(seed: int = 0, n: int = 240, width: int = 9) -> tuple[Tensor, Tensor]:
    """Features (2, n, width) of two layers, the first telling something of the labels (n, 2)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.stack([torch.randint(size, (n,), generator=generator) for size in SIZES], 1)
    features = torch.randn(2, n, width, generator=generator, dtype=torch.float64)
    features[0, :, :2] += 0.8 * labels
    return 3 * features + 7, labels


def alone(features: Tensor, labels: Tensor) -> Examples:
    return Examples(features, labels, torch.arange(len(labels)))


def model_of(task: FactorTask = TASK, **config: int) -> Transformer:
    return Transformer(ModelConfig(n_layers=2, width=16, n_heads=2, **config), task.shape, seed=3)


class Shrunken:
    """The covariance of features with deviation 1 drawn towards the identity, for scikit-learn."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def fit(self, x: Any) -> None:
        self.covariance_ = (np.cov(x.T, bias=True) + self.penalty * np.eye(x.shape[1])) / (1 + self.penalty)


@pytest.mark.parametrize("penalty", [1e-3, 0.3, 10])
def test_discriminant_analysis_agrees_with_scikit_learn(penalty: float) -> None:
    for x, unseen, labels, named in probed(penalty):
        oracle = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Shrunken(penalty)).fit(x, labels)
        assert np.array_equal(named, oracle.predict(unseen))


@pytest.mark.parametrize("penalty", [1e-3, 0.3])
def test_logistic_agrees_with_scikit_learn(penalty: float) -> None:
    (train, labels), (test, _) = noisy_data(0), noisy_data(1)
    x, unseen = standardise(train, test)
    found = logistic(x, one_hot_targets(labels, SIZES), SIZES, penalty=penalty, tolerance=1e-5)
    for factor, size in enumerate(SIZES):
        start = sum(SIZES[:factor])
        for layer in range(2):
            oracle = LogisticRegression(C=1 / (penalty * len(labels)), tol=1e-9, max_iter=5000)
            oracle.fit(x[layer].numpy(), labels[:, factor].numpy())
            ours = found.weights[layer, :, start : start + size].mT.numpy()
            assert ours == pytest.approx(oracle.coef_, abs=2e-3)
            constant = found.intercept[layer, 0, start : start + size].numpy()  # free up to a shift of all classes
            assert constant - constant.mean() == pytest.approx(oracle.intercept_, abs=2e-3)
            named = found.classes(unseen, SIZES)[layer, :, factor].numpy()
            assert (oracle.predict(unseen[layer].numpy()) == named).mean() > 0.99


def test_logistic_reaches_its_optimum_on_separable_and_deficient_features() -> None:
    features, labels = noisy_data(2)
    codes = torch.nn.functional.one_hot(labels[:, 1], 5).double()
    features = torch.stack([torch.cat((codes, codes, 0 * codes), 1)] * 2)  # separable, rank 5 of 15
    x, _ = standardise(features, features)
    targets = one_hot_targets(labels, SIZES)
    found = logistic(x, targets, SIZES, penalty=1e-3, tolerance=1e-5)
    scores = (x @ found.weights + found.intercept).split(list(SIZES), -1)
    residual = (torch.cat([part.softmax(-1) for part in scores], -1) - targets) / len(labels)
    assert float((x.mT @ residual + 1e-3 * found.weights).abs().max()) < 1e-4
    assert float(residual.sum(1).abs().max()) < 1e-4


def probed(penalty: float) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Features of train and test, train labels, and the classes that are named, of each layer and factor."""
    (train, labels), (test, _) = noisy_data(0), noisy_data(1)
    x, unseen = standardise(train, test)
    found = Discriminant(x, one_hot_targets(labels, SIZES), SIZES)(penalty).classes(unseen, SIZES)
    for layer in range(2):
        for factor in range(len(SIZES)):
            yield x[layer].numpy(), unseen[layer].numpy(), labels[:, factor].numpy(), found[layer, :, factor].numpy()


def test_discriminant_analysis_sees_the_middle_of_an_ordered_factor() -> None:
    """Seven classes on a line, evenly apart: least squares on one-hot classes hardly ever names those in between."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(7).repeat(100)[:, None]
    halves = [
        alone(labels + 0.2 * torch.randn(1, 700, 1, generator=generator, dtype=torch.float64), labels) for _ in range(2)
    ]
    train, test = ((half.features[0].numpy(), half.labels[:, 0].numpy()) for half in halves)
    least_squares = Ridge().fit(train[0], np.eye(7)[train[1]]).predict(test[0]).argmax(1)
    assert (least_squares == test[1]).mean() < 0.5
    found = {method: float(probe_accuracies(*halves, (7,), method=method).accuracy) for method in METHODS}
    assert found["discriminant"] > 0.95
    assert abs(found["logistic"] - found["discriminant"]) < 0.03


@pytest.mark.parametrize("method", METHODS)
def test_a_penalty_is_chosen_on_train_items_and_is_better_than_a_fixed_one(method: Method) -> None:
    """Few items in many directions, most of which are noise; what test examples say has no part in it."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (240, 1), generator=generator)
    codes = torch.randn(4, 200, generator=generator, dtype=torch.float64)
    noise = torch.randn(1, 240, 200, generator=generator, dtype=torch.float64)
    features = 3 * noise + codes[labels[:, 0]]
    train, test = alone(features[:, :160], labels[:160]), alone(features[:, 160:], labels[160:])
    free = probe_accuracies(train, test, (4,), method=method)
    fixed = probe_accuracies(train, test, (4,), method=method, penalty=1e-3)
    assert float(free.accuracy) >= float(fixed.accuracy) + (0.1 if method != "logistic" else 0)
    assert float(fixed.penalty) == 1e-3
    other = alone(features[:, 160:].flip(2), labels[160:])
    assert torch.equal(probe_accuracies(train, other, (4,), method=method).penalty, free.penalty)


def test_an_item_that_is_shown_again_and_again_is_one_item() -> None:
    """It neither helps to choose a penalty, as it would by being known by heart, nor makes a score surer."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (60, 1), generator=generator)
    features = torch.randn(1, 60, 90, generator=generator, dtype=torch.float64) + labels
    often = torch.arange(60).repeat(8)
    once = probe_accuracies(alone(features, labels), alone(features, labels), (3,))
    shown = Examples(features[:, often], labels[often], torch.arange(480), often)
    again = probe_accuracies(shown, shown, (3,))
    assert torch.equal(again.penalty, once.penalty)
    assert (again.n_items, again.n_test) == (60, 480)
    assert float(again.error) == pytest.approx(float(once.error))
    unknown = replace(shown, item=torch.full((480,), -1))
    assert probe_accuracies(unknown, unknown, (3,)).n_items == 480


@pytest.mark.parametrize("method", METHODS)
def test_constant_and_zero_features_give_the_commonest_class(method: Method) -> None:
    labels = torch.tensor([[2], [2], [2], [0], [1], [2]])
    features = torch.zeros(2, 6, 4)
    features[1] = torch.tensor([1e-30, 5.0, -3e8, 0.1])  # constant, of any size
    examples = alone(features, labels)
    result = probe_accuracies(examples, examples, (3,), method=method)
    assert result.accuracy.flatten().tolist() == pytest.approx([4 / 6, 4 / 6])
    assert result.control.flatten().tolist() == pytest.approx([4 / 6, 4 / 6])
    assert result.chance.tolist() == pytest.approx([4 / 6])


@pytest.mark.parametrize("method", METHODS)
def test_more_features_than_examples_and_classes_never_seen(method: Method) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 12, 40, generator=generator)
    labels = torch.arange(12)[:, None] % 4
    result = probe_accuracies(alone(features, labels), alone(features, labels), (9,), method=method)
    assert result.accuracy.item() == 1
    assert 0 <= result.control.item() <= 1


@pytest.mark.parametrize("method", METHODS)
def test_a_single_example_and_a_single_class(method: Method) -> None:
    one = alone(torch.ones(1, 1, 3), torch.tensor([[0]]))
    result = probe_accuracies(one, one, (1,), method=method)
    assert (result.accuracy.item(), result.control.item(), result.chance.item(), result.n_test) == (1, 1, 1, 1)


def test_the_control_moves_labels_of_whole_groups() -> None:
    """Positions that share a label must not leak it: each group can be told by its own features."""
    n_groups, per_group = 6, 20
    group = torch.arange(n_groups).repeat_interleave(per_group)
    features = torch.nn.functional.one_hot(group, n_groups).double()[None]
    examples = Examples(features, torch.arange(n_groups)[:, None], group)
    result = probe_accuracies(examples, examples, (n_groups,))
    assert result.accuracy.item() == 1
    assert result.control.item() * n_groups == pytest.approx(round(result.control.item() * n_groups))
    assert result.control.item() < 1


def test_chance_is_the_commonest_test_class() -> None:
    labels = torch.tensor([[0, 1], [0, 2], [1, 2], [0, 2]])
    assert chance_levels(labels, (2, 4)).tolist() == [0.75, 0.75]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "logistics"}, SpecError, "did you mean 'logistic'"),
        ({"penalty": 0.0}, SpecError, "penalty: must be above 0"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, object], error: type[Exception], message: str) -> None:
    examples = alone(*noisy_data())
    with pytest.raises(error, match=message):
        probe_accuracies(examples, examples, SIZES, **change)  # type: ignore[arg-type]


def test_unusable_examples_are_refused() -> None:
    features, labels = noisy_data()
    good, empty = alone(features, labels), alone(features[:, :0], labels[:0])
    with pytest.raises(SpecError, match="no test examples"):
        probe_accuracies(good, empty, SIZES)
    broken = alone(features.where(features < 12, torch.nan), labels)
    with pytest.raises(DivergedError, match="train examples' hidden states hold NaN"):
        probe_accuracies(broken, good, SIZES)


def test_scores_name_layer_factor_cut_and_sizes() -> None:
    scores = probe_components(model_of(), TASK, n_train=100, n_test=50, cut="identity")
    assert [(one.layer, one.factor) for one in scores] == [(layer, name) for layer in range(3) for name in "ab"]
    assert {(one.component, one.cut, one.n_test) for one in scores} == {("weights", "identity", 50)}
    assert all(0 <= one.accuracy <= 1 and one.chance >= 0.25 for one in scores)


def test_the_embedding_holds_what_its_items_hold() -> None:
    task = FactorTask(source=RandomCodes(sizes=(4, 3), width=24, twist=0.2, nuisance=0.02), n_pairs=8)
    model = Transformer(ModelConfig(n_layers=1, width=32, n_heads=2), task.shape)
    scores = probe_components(model, task, layers=[0], n_train=512, n_test=256)
    assert all(one.accuracy > 0.95 for one in scores)
    assert all(one.control_accuracy < one.chance + 0.15 for one in scores)


@pytest.mark.parametrize("cut", ["self", "identity", "zero"])
def test_the_context_component_of_the_embedding_tells_nothing(cut: Cut) -> None:
    (score,) = probe_components(model_of(), TASK, component="context", layers=[0], cut=cut, n_train=64, n_test=64)
    assert score.factor == "hidden factor"
    assert score.accuracy in (score.chance, pytest.approx(1 - score.chance))  # one class for all
    assert score.accuracy == score.control_accuracy


class Telling(Transformer):
    """Its last hidden state adds the hidden factor, which it reads from the first label: the context tells it."""

    def hidden_states(self, embedded: Tensor, attention: str, n_layers: int | None = None) -> list[Tensor]:  # type: ignore[override]
        states = super().hidden_states(embedded, "zero", n_layers)
        told = torch.zeros_like(states[-1])
        if attention == "causal":
            told[:, 2:, 0] = 100 * self.told[: len(told), None]
        return [*states[:-1], states[-1] + told]

    told: Tensor


def test_the_context_probe_reads_the_hidden_factor_from_the_second_half() -> None:
    task = FactorTask(source=RandomCodes(sizes=(4, 3, 3)), hidden=("c", "a"), n_pairs=8)
    model = Telling(ModelConfig(n_layers=1, width=16, n_heads=2), task.shape)
    batch = task.sample(0, batch_size=32)
    model.told = batch.hidden_factor.double().float()
    others = replace(batch, item_index=batch.item_index + 10_000)  # no probe is tested on items it was fitted to
    scores = measure(model, batch, others, task.shape)
    assert scores.context_score[1] == 1
    assert scores.context_score[0] < 0.8
    assert scores.context_control[1] < 0.8


def test_hidden_state_and_weights_component_are_probed_apart() -> None:
    model, arguments = model_of(), {"n_train": 256, "n_test": 256}
    weights = probe_components(model, TASK, **arguments)
    hidden = probe_components(model, TASK, component="hidden", **arguments)
    assert [one.accuracy for one in weights[:2]] == [one.accuracy for one in hidden[:2]]  # the embedding
    assert [one.accuracy for one in weights[2:]] != [one.accuracy for one in hidden[2:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"component": "wieghts"}, "did you mean 'weights'"),
        ({"layers": [0, 3]}, "no layer 3; this model has 0 .* to 2"),
        ({"layers": [-1]}, "no layer -1"),
        ({"n_train": 0}, "n_train: must be at least 1"),
        ({"n_test": -5}, "n_test: must be at least 1"),
        ({"cut": "slef"}, "did you mean 'self'"),
    ],
)
def test_what_does_not_exist_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        probe_components(model_of(), TASK, **change)  # type: ignore[arg-type]


def test_layer_scores_agree_with_the_probes_of_each_component() -> None:
    model = model_of()
    train = TASK.sample(0, batch_size=24, split="train")
    test = TASK.sample(0, batch_size=24, split="test")
    scores = measure(model, train, test, TASK.shape)
    parts = [(decompose(model, batch.inputs), batch) for batch in (train, test)]
    for name, component in (("weights", "weights"), ("hidden", "hidden")):
        examples = [
            replace(
                alone(getattr(found, component)[:, :, ::2].flatten(1, 2), batch.factors.flatten(0, 1)),
                item=batch.item_index.flatten(),
            )
            for found, batch in parts
        ]
        expected = probe_accuracies(*examples, (4, 3))
        assert getattr(scores, f"{name}_score") == pytest.approx(expected.accuracy.mean(1).tolist())
    assert scores.weights_chance == pytest.approx(float(chance_levels(test.factors.flatten(0, 1), (4, 3)).mean()))
    assert scores.context_chance == pytest.approx(int(test.hidden_factor.bincount().max()) / 24)


@pytest.mark.parametrize("task", [AssociativeRecall(n_pairs=4), Clusters(n_pairs=4), LinearRegression(n_pairs=4)])
def test_scores_that_a_task_does_not_have_are_left_out(task: Task) -> None:
    """Nobody can name a key or a class that the probe was not fitted on, and regression has no factors at all."""
    model = Transformer(ModelConfig(n_layers=1, width=16), task.shape)
    halves = (task.sample(0, batch_size=16, split=split) for split in ("train", "test"))
    scores = measure(model, *halves, task.shape, cut="identity").columns()
    assert not {name for name in scores if name.startswith(("weights", "hidden", "context"))}
    assert len(scores["binding_score"]) == 2
    numbers = isinstance(task, LinearRegression)
    assert "look_score" in scores
    assert ("few_shot_score" in scores) is not numbers
    for component, message in (("weights", "no factors"), ("hidden", "no factors"), ("context", "hide the same")):
        with pytest.raises(SpecError, match=f"{component} component: .*{message}"):
            probe_components(model, task, component=component)  # type: ignore[arg-type]


def test_one_hidden_factor_has_a_weights_score_and_no_context_score() -> None:
    task = TASK.model_copy(update={"hidden": ("a",)})
    halves = (task.sample(0, batch_size=16, split=split) for split in ("train", "test"))
    columns = measure(model_of(), *halves, task.shape).columns()
    assert "weights_score" in columns
    assert "context_score" not in columns


def test_the_signs_of_a_parity_are_read_off_and_its_subset_is_asked_for() -> None:
    task = SparseParity(n_pairs=8)
    model = Transformer(ModelConfig(n_layers=1, width=16), task.shape)
    halves = (task.sample(0, batch_size=64, split=split) for split in ("train", "test"))
    scores = measure(model, *halves, task.shape)
    assert scores.weights_score is not None
    assert min(scores.weights_score) > 0.95
    assert scores.context_score is not None
    assert max(scores.context_score) < 0.3


def test_layer_scores_are_ready_for_the_history() -> None:
    model = model_of()
    scores = measure(
        model, *(TASK.sample(0, batch_size=4, split=half) for half in ("train", "test")), TASK.shape
    ).columns()
    lists = [name for name, value in scores.items() if isinstance(value, list)]
    three = {f"{name}_{what}" for name in ("few_shot", "binding", "keep", "look") for what in ("score", "control")}
    linear = {"weights_score", "weights_control", "hidden_score", "context_score", "context_control"}
    assert set(lists) == {*linear, *three, "factor_share"}
    assert all(len(scores[name]) == 3 for name in lists)
    assert {name: len(values) for name, values in scores["weights_by_factor"].items()} == {"a": 3, "b": 3}
    assert scores["cut"] == "self"
    by_factor = np.array(list(scores["weights_by_factor"].values())).mean(0)
    assert scores["weights_score"] == pytest.approx(by_factor.tolist())


@pytest.mark.parametrize("method", METHODS)
def test_probing_is_pure_and_leaves_the_model_alone(method: Method) -> None:
    model = model_of()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.random.get_rng_state()
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        results.append(probe_components(model, TASK, n_train=64, n_test=64, method=method))
        train, test = (TASK.sample(0, batch_size=8, split=split) for split in ("train", "test"))
        results.append([measure(model, train, test, TASK.shape, method=method)])  # type: ignore[list-item]
    torch.random.set_rng_state(random_state)
    assert results[0] == results[2]
    assert results[1] == results[3]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", METHODS)
def test_probing_works_where_gradients_are_off(guard: type, method: Method) -> None:
    model = model_of()
    free = probe_components(model, TASK, n_train=64, n_test=64, method=method)
    with guard():
        assert probe_components(model, TASK, n_train=64, n_test=64, method=method) == free


def test_seeds_draw_other_prompts_and_other_controls() -> None:
    model = model_of()
    first, second = (probe_components(model, TASK, n_train=64, n_test=64, seed=seed) for seed in (0, 1))
    assert [one.accuracy for one in first] != [one.accuracy for one in second]


def test_many_prompts_are_taken_in_pieces_without_mixing_their_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    model, n_prompts = model_of(), PROMPTS_AT_ONCE + 6
    asked: list[Examples] = []

    def noted(train: Examples, test: Examples, sizes: Sequence[int], **options: Any) -> Accuracies:
        asked.append(train)
        return probe_accuracies(train, test, sizes, **options)

    monkeypatch.setattr(import_module("unplateau.probe.measure"), "probe_accuracies", noted)
    probe_components(model, TASK, component="context", layers=[1], n_train=4 * n_prompts - 1, n_test=64)
    (drawn,) = asked
    batches = [TASK.sample(step, batch_size=PROMPTS_AT_ONCE, seed=fold_seed(0, "probe")) for step in range(2)]
    batch = concatenate(batches)
    features = decompose(model, batch.inputs).context[1, :, 8::2].flatten(0, 1)[: 4 * n_prompts - 1]
    assert torch.allclose(drawn.features[0], features, atol=1e-6)
    assert torch.equal(drawn.labels[drawn.group, 0], batch.hidden_factor.repeat_interleave(4)[: len(features)])
    assert len(drawn.labels) == n_prompts


def test_no_warning_on_the_way() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe_components(model_of(), TASK, n_train=16, n_test=16, method="logistic")


def test_no_probe_is_tested_on_an_item_that_it_was_fitted_to() -> None:
    """Words have embeddings of their own: a probe that met the test words could know them by heart."""
    task = FactorTask(source=Words(attributes=("initial",)), n_pairs=8)
    model = Transformer(ModelConfig(n_layers=1, width=64), task.shape)
    (score,) = probe_components(model, task, layers=[0], n_train=2000, n_test=1000)
    assert score.accuracy < score.chance + 0.15
    train, test = (task.sample(0, batch_size=64, split=split) for split in ("train", "test"))
    assert set(test.item_index.flatten().tolist()) & set(train.item_index.flatten().tolist())
    assert measure(model, train, test, task.shape).weights_score[0] < score.chance + 0.15
    with pytest.raises(SpecError, match="not among the test examples"):
        probe_components(model, _OnlyTest(task), layers=[0], n_train=64, n_test=512)


class _OnlyTest:
    """Draws from the test words, whichever split is asked for."""

    def __init__(self, task: FactorTask) -> None:
        self.task, self.shape = task, task.shape

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        del split
        return self.task.sample(step, batch_size=batch_size, split="test", seed=seed)
