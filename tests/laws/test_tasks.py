"""Every task we ship keeps the laws of tasks; a task that breaks one is caught by name."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import fmean

import pytest
import torch

from unplateau.errors import LawError
from unplateau.items.codes import RandomCodes
from unplateau.items.digits import Digits
from unplateau.items.shapes3d import Shapes3D
from unplateau.items.texts import LabelledText
from unplateau.items.words import Words
from unplateau.layout import Layout, Split, TaskShape, Vectors
from unplateau.rng import fold
from unplateau.tasks.base import Task
from unplateau.tasks.clusters import Clusters
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.floors import floors
from unplateau.tasks.mixture import Mixture
from unplateau.tasks.parity import SparseParity
from unplateau.tasks.recall import AssociativeRecall
from unplateau.tasks.regression import LinearRegression
from unplateau.tasks.selection import WordSelection
from unplateau.tensors import Batch, Items, Prompts
from unplateau.testing import check_task
from unplateau.testing.calibration import check_bayes, check_no_context

CODES = FactorTask(source=RandomCodes(), n_pairs=8)
SELECTION = WordSelection()
RECALL = AssociativeRecall()
CLUSTERS = Clusters()
PARITY = SparseParity()
LINES = LinearRegression()
SPARSE = LinearRegression(dimension=6, sparsity=2, n_pairs=8)
TASKS: dict[str, Task] = {
    "codes, fresh mappings": CODES,
    "codes, one mapping": CODES.fixed(),
    "codes, five mappings": CODES.model_copy(update={"n_mappings": 5}),
    "codes, unequal factors": FactorTask(source=RandomCodes(sizes=(3, 5, 2)), hidden=("b", "c"), n_pairs=7),
    "codes, shuffled": CODES.shuffled().fixed(),
    "digits": FactorTask(source=Digits(), n_pairs=12),
    "images": FactorTask(source=Shapes3D.small(), hidden=("object_hue", "scale", "shape"), n_pairs=16),
    "mixture": Mixture(tasks=(CODES.fixed(), CODES), shares=(0.5, 0.5)),
    "words": FactorTask(source=Words()),
    "words, one mapping": FactorTask(source=Words()).fixed(),
    "words, 20 mappings": FactorTask(source=Words(), n_mappings=20),
    "words in characters": FactorTask(source=Words(written="characters"), n_pairs=12),
    "words in pieces, another attribute": FactorTask(source=Words(written="pieces", attributes=("initial", "topic"))),
    "selection": SELECTION,
    "selection, one mapping": SELECTION.fixed(),
    "selection, three mappings": SELECTION.model_copy(update={"n_mappings": 3}),
    "selection, shuffled": SELECTION.shuffled(),
    "mixture of selections": Mixture(tasks=(SELECTION.fixed(), SELECTION), shares=(0.25, 0.75)),
    "sentence vectors": FactorTask(source=LabelledText(), n_pairs=8),
    "sentences as bags": FactorTask(source=LabelledText(written="bag"), n_pairs=10),
    "sentences in pieces": FactorTask(source=LabelledText(written="pieces", attributes=("class", "length")), n_pairs=6),
    "recall": RECALL,
    "recall, one mapping": RECALL.fixed(),
    "recall, three mappings": RECALL.model_copy(update={"n_mappings": 3}),
    "recall, shuffled": RECALL.shuffled().fixed(),
    "mixture of recall": Mixture(tasks=(RECALL.fixed(), RECALL), shares=(0.5, 0.5)),
    "clusters": CLUSTERS,
    "clusters, one mapping": CLUSTERS.fixed(),
    "clusters, ten mappings": CLUSTERS.model_copy(update={"n_mappings": 10}),
    "clusters, some bursty": Clusters(burstiness=0.6),
    "clusters, some bursty, two mappings": Clusters(burstiness=0.6, n_mappings=2),
    "clusters, none bursty": Clusters(burstiness=0),
    "clusters, shuffled": CLUSTERS.shuffled(),
    "clusters, shuffled, some bursty": Clusters(burstiness=0.5, shuffle_factors=True),
    "mixture of clusters": Mixture(tasks=(CLUSTERS.fixed(), CLUSTERS), shares=(0.25, 0.75)),
    "parity": PARITY,
    "parity, one subset": PARITY.fixed(),
    "parity, four subsets": PARITY.model_copy(update={"n_mappings": 4}),
    "parity of single signs": SparseParity(degree=1),
    "parity of three": SparseParity(n_signs=8, degree=3),
    "parity, shuffled": PARITY.shuffled(),
    "mixture of parities": Mixture(tasks=(PARITY.fixed(), PARITY), shares=(0.5, 0.5)),
    "regression": LINES,
    "regression, noisy": LinearRegression(noise=0.5),
    "regression, one vector": LINES.fixed(),
    "regression, one vector, noisy": LinearRegression(noise=0.5).fixed(),
    "regression, four vectors": LINES.model_copy(update={"n_mappings": 4}),
    "regression, four vectors, noisy": LinearRegression(noise=0.5, n_mappings=4),
    "regression, sparse": SPARSE,
    "regression, sparse, noisy": SPARSE.model_copy(update={"noise": 0.3}),
    "regression, sparse, three vectors": SPARSE.model_copy(update={"n_mappings": 3}),
    "regression, shuffled": LinearRegression(noise=0.5).shuffled(),
    "regression, shuffled, one vector": LINES.shuffled().fixed(),
    "regression of one number": LinearRegression(dimension=1, n_pairs=4),
    "regression of many numbers": LinearRegression(dimension=24),
    "mixture of regressions": Mixture(tasks=(LINES.fixed(), LINES), shares=(0.5, 0.5)),
    "mixture of noisy regressions": Mixture(
        tasks=(LinearRegression(noise=0.5).fixed(), LinearRegression(noise=0.5)), shares=(0.25, 0.75)
    ),
    "mixture of sparse regressions": Mixture(tasks=(SPARSE.fixed(), SPARSE), shares=(0.5, 0.5)),
    "mixture of mixtures": Mixture(
        tasks=(Mixture(tasks=(SPARSE.fixed(), SPARSE), shares=(0.5, 0.5)), SPARSE.model_copy(update={"n_mappings": 3})),
        shares=(0.5, 0.5),
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_task_keeps_the_laws(name: str) -> None:
    check_task(TASKS[name], n_prompts=1024)


class Leaking(FactorTask):
    """Samples test items from the train split."""

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        del split
        return super().sample(step, batch_size=batch_size, seed=seed)


class Global(FactorTask):
    """Draws its step from the global random numbers."""

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        noise = int(torch.randint(10**9, ()))
        return super().sample(step + noise, batch_size=batch_size, split=split, seed=seed)


class Boasting(FactorTask):
    """Claims a predictor that is surer than the evidence allows."""

    def bayes_predictions(self, batch: Batch) -> torch.Tensor:
        sharp = super().bayes_predictions(batch) ** 3
        return sharp / sharp.sum(2, keepdim=True)


@pytest.mark.parametrize(
    ("broken", "law"), [(Leaking, "share no item"), (Global, "step k alone"), (Boasting, "Monte-Carlo truth")]
)
def test_broken_task_is_caught(broken: type[FactorTask], law: str) -> None:
    with pytest.raises(LawError, match=law):
        check_task(broken(source=RandomCodes(), n_pairs=8), n_prompts=1024)


class Overconfident(LinearRegression):
    """Claims to know numbers better than it does."""

    def bayes_predictions(self, batch: Batch) -> torch.Tensor:
        return super().bayes_predictions(batch) * torch.tensor([1.0, 0.7])


class Learning(LinearRegression):
    """Learns from labels that tell nothing in D_fix."""

    def bayes_predictions(self, batch: Batch) -> torch.Tensor:
        found = super().bayes_predictions(batch).clone()
        found[:, 1:, 0] += 0.01 * batch.targets[:, :-1]
        return found


@pytest.mark.parametrize(("broken", "law"), [(Overconfident, "Bayes loss equals"), (Learning, "no label tells")])
def test_broken_task_of_numbers_is_caught(broken: type[LinearRegression], law: str) -> None:
    with pytest.raises(LawError, match=law):
        check_task(broken(), n_prompts=1024)


def spoiled(task: Task, **methods: Callable[..., torch.Tensor]) -> Task:
    """The same task with other methods."""
    kind = type(f"Spoiled{type(task).__name__}", (type(task),), {"__module__": __name__, **methods})
    return kind(**{name: getattr(task, name) for name in type(task).model_fields})


def only_pairs(batch: Batch, pairs: list[int]) -> Batch:
    """The batch whose prompts have these pairs, in this order."""
    n_pairs, inputs = batch.targets.shape[1], batch.inputs
    assert isinstance(inputs, Prompts)

    def chosen(of_items: torch.Tensor) -> torch.Tensor:  # (B, M, ...): one item may have several rows
        rows = torch.arange(of_items.shape[1]).view(n_pairs, -1)[pairs]
        return of_items[:, rows.flatten()]

    layout = replace(inputs.layout, n_pairs=len(pairs))
    inputs = replace(inputs, items=inputs.items[:, pairs], labels=inputs.labels[:, pairs], layout=layout)
    return replace(
        batch,
        inputs=inputs,
        targets=batch.targets[:, pairs],
        factors=chosen(batch.factors),
        item_index=chosen(batch.item_index),
    )


def reading_some(task: Task, kept: Callable[[int], Iterable[int]]) -> Task:
    """It predicts exactly from these of the pairs before each query: calibrated, and not the best there is."""

    def predict(self: Task, batch: Batch) -> torch.Tensor:
        prompts = [only_pairs(batch, [*kept(k), k]) for k in range(batch.targets.shape[1])]
        return torch.stack([type(task).bayes_predictions(self, one)[:, -1] for one in prompts], 1)

    return spoiled(task, bayes_predictions=predict)


PARTS: dict[str, Callable[[int], Iterable[int]]] = {
    "none": lambda k: (),
    "all but the last": lambda k: range(k - 1),
    "all but the first": lambda k: range(1, k),
    "every other": lambda k: range(1, k, 2),
}
LEARNABLE = [
    "codes, fresh mappings",
    "codes, five mappings",
    "images",
    "mixture",
    "recall",
    "clusters, some bursty",
    "parity",
    "regression, noisy",
    "regression, sparse, noisy",
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", LEARNABLE)
def test_predictor_that_reads_only_some_of_the_pairs_before_is_caught(name: str, part: str) -> None:
    with pytest.raises(LawError, match="makes the most of the pairs before"):
        check_task(reading_some(TASKS[name], PARTS[part]), n_prompts=1024)


@pytest.mark.parametrize("name", TASKS)
def test_predictor_that_ignores_the_context_is_caught_wherever_context_tells_something(name: str) -> None:
    task = TASKS[name]
    found = floors(task, n_prompts=1024)
    ignoring = spoiled(task, bayes_predictions=lambda self, batch: self.no_context_predictions(batch))
    if fmean(found.no_context_loss) - fmean(found.bayes_loss) < 1e-3:
        batch = task.sample(0, batch_size=1024, split="test")
        check_bayes(task, batch, task.no_context_predictions(batch))
    else:
        with pytest.raises(LawError):
            check_task(ignoring, n_prompts=1024)


def test_a_cue_that_is_not_read_is_noticed() -> None:
    task = SELECTION.fixed()
    blind = spoiled(task, bayes_predictions=lambda self, batch: SELECTION.bayes_predictions(batch))
    with pytest.raises(LawError, match="Bayes predictor claims"):
        check_task(blind, n_prompts=1024)


def own_label(task: Task, batch: Batch) -> torch.Tensor:
    return torch.nn.functional.one_hot(batch.targets, task.shape.n_labels).double()


def hidden_factor(task: Task, batch: Batch) -> torch.Tensor:
    """D_fix without the question which factor it is."""
    told = [task.model_copy(update={"hidden": (name,)}).bayes_predictions(batch) for name in task.shape.choices]  # type: ignore[attr-defined]
    return torch.stack(told)[batch.hidden_factor, torch.arange(len(batch))]


@pytest.mark.parametrize("task", [CODES, SELECTION, RECALL, PARITY], ids=lambda task: task.written_as())
def test_predictor_that_reads_its_own_label_is_caught(task: Task) -> None:
    with pytest.raises(LawError, match="reads no label but those of the pairs before"):
        check_task(spoiled(task, bayes_predictions=own_label), n_prompts=256)


def test_predictor_that_reads_what_is_hidden_is_caught() -> None:
    task = CODES.fixed()
    peeping = spoiled(task, bayes_predictions=lambda self, batch: hidden_factor(task, batch))
    with pytest.raises(LawError, match="nor what is hidden"):
        check_task(peeping, n_prompts=256)


@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("name", ["codes, five mappings", "clusters, some bursty", "regression, sparse, noisy"])
def test_exact_predictors_pass_whatever_the_seed(name: str, seed: int) -> None:
    check_task(TASKS[name], n_prompts=512, seed=seed)


def only_marginals(self: FactorTask, batch: Batch) -> torch.Tensor:
    """How frequent labels are among items of all values."""
    found = FactorTask.no_context_predictions(self, self.sample(0, batch_size=4096, split="test", seed=1))
    return found.mean((0, 1)).expand(*batch.targets.shape, -1)


def marginals_first(self: FactorTask, batch: Batch) -> torch.Tensor:
    """Exact from the second query on."""
    first = only_marginals(self, batch)[:, :1]
    return torch.cat((first, FactorTask.bayes_predictions(self, batch)[:, 1:]), 1)


@pytest.mark.parametrize("n_mappings", [1, 5])
def test_label_marginals_are_not_the_best_from_an_item_whose_mappings_are_known(n_mappings: int) -> None:
    task = CODES.model_copy(update={"n_mappings": n_mappings})
    with pytest.raises(LawError, match="before any pair"):
        check_task(spoiled(task, no_context_predictions=only_marginals), n_prompts=1024)
    both = spoiled(task, no_context_predictions=only_marginals, bayes_predictions=marginals_first)
    with pytest.raises(LawError, match="no-context predictor claims"):
        check_task(both, n_prompts=4096)


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if not task.shape.layout.cue])
def test_an_item_alone_tells_at_each_query_what_it_tells_at_the_first(name: str) -> None:
    task = TASKS[name]
    batch = task.sample(0, batch_size=16, split="test")
    n_pairs, means = batch.targets.shape[1], slice(1 if task.shape.labels_are_numbers else None)
    prompts = [only_pairs(batch, [k, *range(k), *range(k + 1, n_pairs)]) for k in range(n_pairs)]
    first = torch.stack([task.bayes_predictions(prompt)[:, 0] for prompt in prompts], 1)
    torch.testing.assert_close(task.no_context_predictions(batch)[..., means], first[..., means])


class Rare(Task):
    """One label in five hundred is another, and nothing tells which: there is nothing to be learnt."""

    @property
    def shape(self) -> TaskShape:
        return TaskShape(Layout(6), Vectors(2), 2, (), (), ())

    def sample(self, step: int, *, batch_size: int, split: Split = "train", seed: int = 0) -> Batch:
        generator, size = fold(seed, f"prompts/{split}", step), (batch_size, 6)
        items = torch.randn(*size, 2, generator=generator)
        labels = (torch.rand(size, generator=generator) < 0.002).long()
        nothing, factors = torch.zeros(batch_size, dtype=torch.int64), torch.zeros(*size, 0, dtype=torch.int64)
        return Batch(Prompts(items, labels, Layout(6)), labels, factors, nothing, torch.full(size, -1))

    def sample_items(self, step: int, *, n_items: int, split: Split = "train", seed: int = 0) -> Items:
        raise NotImplementedError

    def fixed(self, variant: int = 0) -> Task:
        return self

    def shuffled(self) -> Task:
        return self

    def no_context_predictions(self, batch: Batch) -> torch.Tensor:
        return torch.tensor([0.998, 0.002], dtype=torch.float64).expand(*batch.targets.shape, 2)

    def bayes_predictions(self, batch: Batch) -> torch.Tensor:
        return self.no_context_predictions(batch)


@pytest.mark.parametrize("seed", range(20))
def test_rare_labels_are_no_reason_to_refuse_a_task(seed: int) -> None:
    batch = Rare().sample(0, batch_size=300, seed=seed)
    predictions = Rare().bayes_predictions(batch)
    check_bayes(Rare(), batch, predictions)
    check_no_context(Rare(), batch, predictions)


def test_look_up_oracle_reaches_the_bayes_accuracy() -> None:
    """One factor, so the best guess is to look the value up, else to guess among the unused labels."""
    task = FactorTask(source=Digits(), n_pairs=12)
    batch = task.sample(1, batch_size=4000, split="test")
    hits = torch.zeros(12)
    for values, labels in zip(batch.factors[..., 0].tolist(), batch.targets.tolist(), strict=True):
        seen: dict[int, int] = {}
        for k, (value, label) in enumerate(zip(values, labels, strict=True)):
            hits[k] += float(seen[value] == label) if value in seen else 1 / (10 - len(seen))
            seen[value] = label
    accuracy = torch.tensor(floors(task).bayes_accuracy)
    assert (hits / 4000 - accuracy).abs().max() < 0.02


def test_plateau_height_is_the_entropy_of_the_labels() -> None:
    assert floors(CODES).no_context_loss == pytest.approx([math.log(4)] * 8)
    assert fmean(floors(CODES).bayes_loss) < math.log(4)
