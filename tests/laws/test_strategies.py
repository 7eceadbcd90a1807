"""Every curriculum and loss term we ship keeps the laws of strategies; broken ones are caught by name."""

from typing import ClassVar

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from unplateau.errors import LawError, SpecError
from unplateau.history import History
from unplateau.items.base import ItemSource
from unplateau.items.codes import RandomCodes
from unplateau.items.texts import LabelledText
from unplateau.items.words import Words
from unplateau.models.transformer import ModelConfig
from unplateau.strategies.base import Ask, Curriculum, Host, LossTerm, Mix, Read, V, View
from unplateau.strategies.curricula import Mixed, WarmUp
from unplateau.strategies.losses import ComponentLoss, ContextLoss, WeightsLoss
from unplateau.strategies.prompt_losses import BindLoss, KeepLoss, LookLoss, MatchLoss
from unplateau.strategies.strategy import Strategy
from unplateau.tasks.base import Task
from unplateau.tasks.clusters import Clusters
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.parity import SparseParity
from unplateau.tasks.recall import AssociativeRecall
from unplateau.tasks.regression import LinearRegression
from unplateau.tasks.selection import WordSelection
from unplateau.testing import check_curriculum, check_loss_term
from unplateau.train.spec import RunSpec, TrainConfig

SPEC = RunSpec(
    task=FactorTask(source=RandomCodes(sizes=(4, 3), width=12), n_pairs=5),
    model=ModelConfig(n_layers=2, width=16),
    train=TrainConfig(batch_size=8),
)
SELECTION = SPEC.model_copy(update={"task": WordSelection(n_pairs=3)})
SENTENCES = LabelledText(written="pieces", most_pieces=8, attributes=("class", "length"))
TEXT = SPEC.model_copy(update={"task": FactorTask(source=SENTENCES, n_pairs=3)})
CURRICULA: list[Curriculum] = [
    WarmUp(),
    WarmUp(steps=0),
    WarmUp(steps=30, mapping="changing"),
    WarmUp(steps=30, mapping="shuffled"),
    Mixed(),
    Mixed(fraction=0.1),
]
TERMS: list[LossTerm] = [
    WeightsLoss(),
    WeightsLoss(factors="all"),
    ComponentLoss(),
    ComponentLoss(layer=1, cut="identity"),
    ComponentLoss(cut="zero"),
    ComponentLoss(rows=3),
    ComponentLoss(items=20),
    ContextLoss(),
    MatchLoss(),
    MatchLoss(share=1, depth=1.0),
    BindLoss(),
    BindLoss(share=0.3),
    KeepLoss(),
    KeepLoss(share=0.5, depth=1.0),
    LookLoss(),
]


@pytest.mark.parametrize("curriculum", CURRICULA, ids=lambda part: part.name)
def test_curriculum_keeps_the_laws(curriculum: Curriculum) -> None:
    check_curriculum(curriculum, SPEC.task, n_steps=100)


@pytest.mark.parametrize("term", TERMS, ids=lambda part: part.name)
def test_loss_term_keeps_the_laws(term: LossTerm) -> None:
    check_loss_term(term, SPEC)


@pytest.mark.parametrize("curriculum", [WarmUp(steps=30, mapping="shuffled"), Mixed()], ids=lambda part: part.name)
@pytest.mark.parametrize("spec", [SELECTION, TEXT], ids=["selection", "sentences"])
def test_curriculum_keeps_the_laws_on_language(curriculum: Curriculum, spec: RunSpec) -> None:
    check_curriculum(curriculum, spec.task, n_steps=50)


@pytest.mark.parametrize(
    "term",
    [WeightsLoss(), ComponentLoss(rows=2), ComponentLoss(items=5), ComponentLoss(items=5, cut="item"), ContextLoss()],
    ids=lambda part: part.name,
)
@pytest.mark.parametrize("spec", [SELECTION, TEXT], ids=["selection", "sentences"])
def test_loss_term_keeps_the_laws_on_language(term: LossTerm, spec: RunSpec) -> None:
    check_loss_term(term, spec)


@pytest.mark.parametrize("term", [WeightsLoss(factors="identity"), ComponentLoss(items=5, factors="identity")])
def test_label_free_terms_keep_the_laws_on_words(term: LossTerm) -> None:
    check_loss_term(term, SELECTION)


@pytest.mark.parametrize(
    "source", [RandomCodes(), Words(written="characters"), LabelledText(written="bag"), SENTENCES], ids=str
)
def test_identity_is_refused_where_an_item_is_not_one_token(source: ItemSource) -> None:
    plain = SPEC.model_copy(update={"task": FactorTask(source=source, n_pairs=4)})
    with pytest.raises(SpecError, match="one token each"):
        plain.with_strategy(Strategy(ComponentLoss(factors="identity"))).check()


def test_context_loss_is_refused_where_nothing_is_hidden() -> None:
    plain = SPEC.model_copy(update={"task": FactorTask(source=LabelledText(), n_pairs=4)})
    with pytest.raises(SpecError, match="hide one factor at most"):
        plain.with_strategy(Strategy(ContextLoss())).check()


CLASSIC: list[Task] = [
    AssociativeRecall(n_pairs=5),
    Clusters(n_pairs=5),
    SparseParity(n_pairs=5),
    LinearRegression(n_pairs=5),
]


@pytest.mark.parametrize("curriculum", CURRICULA[2:5], ids=lambda part: part.name)
@pytest.mark.parametrize("task", CLASSIC, ids=lambda task: type(task).__name__)
def test_curriculum_keeps_the_laws_on_classic_tasks(curriculum: Curriculum, task: Task) -> None:
    check_curriculum(curriculum, task, n_steps=50)


@pytest.mark.parametrize(
    "term", [WeightsLoss(), ComponentLoss(items=5), ComponentLoss(rows=2)], ids=lambda one: one.name
)
@pytest.mark.parametrize("task", CLASSIC[:3], ids=lambda task: type(task).__name__)
def test_loss_term_keeps_the_laws_on_classic_tasks(term: LossTerm, task: Task) -> None:
    check_loss_term(term, SPEC.model_copy(update={"task": task}))


@pytest.mark.parametrize("term", [MatchLoss(), BindLoss(), LookLoss()], ids=lambda one: one.name)
@pytest.mark.parametrize("task", CLASSIC, ids=lambda task: type(task).__name__)
def test_prompt_losses_keep_the_laws_on_classic_tasks(term: LossTerm, task: Task) -> None:
    check_loss_term(term, SPEC.model_copy(update={"task": task}))


@pytest.mark.parametrize(
    ("task", "term", "message"),
    [
        (CLASSIC[3], WeightsLoss(), "WeightsLoss: the items of this task have no factors"),
        (CLASSIC[3], ComponentLoss(factors="all"), "ComponentLoss: the items of this task have no factors"),
        (CLASSIC[3], ContextLoss(), "ContextLoss: .* hide one factor at most"),
        (CLASSIC[0], ContextLoss(), "ContextLoss: .* hide one factor at most"),
    ],
)
def test_terms_are_refused_where_there_is_nothing_to_predict(task: Task, term: LossTerm, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        SPEC.model_copy(update={"task": task}).with_strategy(Strategy(term)).check()


class ReadLabels(LossTerm):
    """Reads the label off the final state, whatever it is."""

    reads: ClassVar[tuple[Read, ...]] = ("final",)
    asks: ClassVar[tuple[Ask, ...]] = ("label",)
    weight: float = Field(1.0, ge=0)

    def build_head(self, host: Host) -> nn.Module:
        return host.read_out("label")

    def value(self, view: View) -> Tensor:
        seen = view.final("label")
        return view.head.loss(seen.states, seen.classes)


@pytest.mark.parametrize("task", CLASSIC, ids=lambda task: type(task).__name__)
def test_a_term_may_ask_for_labels_also_where_they_are_numbers(task: Task) -> None:
    check_loss_term(ReadLabels(), SPEC.model_copy(update={"task": task}))


class Restless(Curriculum):
    """Never settles."""

    def mix(self, step: int, target: V, history: History) -> Mix[V]:
        return [(1.0, target.fixed(variant=step))]


class Forgetful(Curriculum):
    """Answers differently when asked again."""

    def mix(self, step: int, target: V, history: History) -> Mix[V]:
        return [(1.0, target if torch.rand(()) < 0.5 else target.fixed())]


class Noisy(WeightsLoss):
    """Takes global random numbers."""

    def value(self, view: View) -> Tensor:
        return super().value(view) * (1 + torch.rand(()))


class Detached(WeightsLoss):
    """Never reaches the model."""

    def value(self, view: View) -> Tensor:
        return super().value(view).detach() + view.head.linear.weight.sum()


def test_broken_curricula_are_caught() -> None:
    with pytest.raises(LawError, match="stays the same"):
        check_curriculum(Restless(), SPEC.task)
    with pytest.raises(LawError, match="same step"):
        check_curriculum(Forgetful(), SPEC.task)


def test_broken_loss_terms_are_caught() -> None:
    with pytest.raises(LawError, match="no global random numbers"):
        check_loss_term(Noisy(), SPEC)
    with pytest.raises(LawError, match="reaches the model"):
        check_loss_term(Detached(), SPEC)
