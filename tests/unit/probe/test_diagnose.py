"""What a model waits for is named where it was made on purpose, and nothing is guessed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from unplateau.errors import DivergedError
from unplateau.items.base import ItemSource, factor_table
from unplateau.items.codes import RandomCodes
from unplateau.layout import Attention, Vectors
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.probe import probe_three_things
from unplateau.probe.diagnose import diagnose
from unplateau.probe.diagnosis import Diagnosis, Finding, Standing, Verdict
from unplateau.scores import Thing
from unplateau.strategies.strategy import Strategy
from unplateau.tasks.factors import FactorTask
from unplateau.tasks.regression import LinearRegression
from unplateau.tasks.selection import WordSelection
from unplateau.tensors import Batch, Output, Prompts

CLEAR = FactorTask(source=RandomCodes(sizes=(4,), copies=40, width=32), n_pairs=12)
BURIED = FactorTask(source=RandomCodes(sizes=(4, 4, 4)), hidden=("a",), n_pairs=12)


@pytest.mark.parametrize(
    ("task", "carried", "label_gain", "missing"),
    [
        (CLEAR, True, 3.0, ("queries",)),
        (CLEAR, True, 0.05, ("kept labels", "queries")),
        (CLEAR, False, 3.0, ("labels", "queries")),
        (BURIED, True, 3.0, ("items", "queries")),
        (BURIED, False, 3.0, ("items", "labels", "queries")),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_bottleneck_made_on_purpose_is_named(
    task: FactorTask, carried: bool, label_gain: float, missing: tuple[Thing, ...], seed: int
) -> None:
    """Untrained: items stand out as the codes do, labels carry their items or not, or only these, and nobody looks."""
    config = ModelConfig(n_layers=2, width=32, labels_carry_items=carried, label_gain=label_gain)
    found = diagnose(Transformer(config, task.shape, seed=seed), task)
    assert found.standing.stage == "plateau"
    assert found.waits_for == missing
    assert found.sentences[-2].startswith(f"What it waits for first: {missing[0]}.")
    assert found == diagnose(Transformer(config, task.shape, seed=seed), task)


def test_what_has_no_score_is_said_and_nothing_is_guessed() -> None:
    task = LinearRegression(n_pairs=8)
    found = diagnose(Transformer(ModelConfig(n_layers=2, width=32, labels_carry_items=True), task.shape), task)
    assert [finding.thing for finding in found.findings] == ["labels", "queries"]
    assert found.waits_for == ("queries",)
    assert "Not measured, for this task or model has no such score: items, kept labels." in found.sentences
    nothing = replace(found, waits_for=())
    assert nothing.sentences[-1] == "What it waits for: don't know; nothing that could be measured is missing."


def test_lists_of_words_and_a_model_without_predictions_are_read_as_far_as_they_can_be() -> None:
    task = WordSelection(n_pairs=4)
    model = Transformer(ModelConfig(n_layers=1, width=16), task.shape)
    found = diagnose(model, task, n_prompts=64)
    assert (found.standing.stage, found.waits_for) == ("plateau", ("queries",))  # whatever may be said of items

    class Silent(Transformer):
        def forward(self, *given: object, **named: object) -> object:  # type: ignore[override]
            return replace(super().forward(*given, **named), logits=model.final_norm.weight[:0].expand(1, 1, 0))  # type: ignore[arg-type]

    silent = diagnose(Silent(ModelConfig(n_layers=1, width=16), CLEAR.shape), CLEAR, n_prompts=64)
    assert (silent.standing.progress, silent.standing.stage) == (None, "unknown")
    assert silent.sentences[0].startswith("How far it is nobody can tell")


@pytest.mark.parametrize(("dimension", "n_pairs"), [(1, 16), (2, 24)])
def test_labels_are_not_asked_for_more_than_items_can_be_told_from_each_other(dimension: int, n_pairs: int) -> None:
    """Items of few numbers are nearly equal: labels that carry them hold all that there is."""
    task = LinearRegression(dimension=dimension, n_pairs=n_pairs)
    carried, alone = (
        diagnose(Transformer(ModelConfig(n_layers=2, width=32, labels_carry_items=carry), task.shape), task)
        for carry in (True, False)
    )
    bound, loose = (next(one for one in told.findings if one.thing == "labels") for told in (carried, alone))
    assert bound.best < 0.6
    assert abs(bound.score - bound.best) < 0.05
    assert f"possible {bound.best:.2f}" in bound.sentence
    assert carried.waits_for == ("queries",)
    assert loose.verdict != "there"


class OneHot(ItemSource):
    """Items that name the value of each factor."""

    factor_names: ClassVar[tuple[str, ...]] = ("a", "b", "c")  # type: ignore[assignment, misc]
    factor_sizes: ClassVar[tuple[int, ...]] = (3, 4, 4)  # type: ignore[assignment, misc]
    form: ClassVar[Vectors] = Vectors(11)  # type: ignore[assignment, misc]

    def factors(self) -> Tensor:
        return factor_table(self.factor_sizes, 8)

    def vectors(self, index: Tensor) -> Tensor:
        values = self.factors()[index].unbind(-1)
        return torch.cat([one_hot(one, size).float() for one, size in zip(values, self.factor_sizes, strict=True)], -1)


class HoldsTheHiddenFactor(Transformer):
    """A label's state holds which value of factor ``a`` its item has, and nothing else of the item."""

    def embed(self, inputs: Prompts) -> Tensor:
        """The first three numbers of an item are its value of factor ``a``."""
        shown = torch.zeros_like(inputs.items)
        shown[..., :3] = inputs.items[..., :3]
        embedded = super().embed(inputs)
        at = list(inputs.layout.labels)
        embedded[:, at] = embedded[:, at] + self.item_embedding(shown)
        return embedded


def test_labels_need_to_hold_what_the_prompt_hides_and_no_more() -> None:
    """One-hot factors of which one is hidden, twelve items a prompt: by the whole item labels are hardly bound."""
    task = FactorTask(source=OneHot(), hidden=("a",), n_pairs=12)
    found = diagnose(HoldsTheHiddenFactor(ModelConfig(n_layers=1, width=48), task.shape), task)
    (labels,) = (one for one in found.findings if one.thing == "labels")
    assert labels.alike
    assert labels.verdict == "there"
    assert "labels" not in found.waits_for


class Infers(Transformer):
    """After the first block each query holds which factor is the most probable one, as ``task`` knows it exactly."""

    task: FactorTask

    def forward(self, inputs: Prompts, attention: Attention = "causal") -> Output:
        """Where it may read other positions."""
        output = super().forward(inputs, attention)
        if attention != "causal":
            return output
        factors = self.task.source.factors()
        index = torch.cdist(inputs.items, self.task.source.vectors(torch.arange(len(factors)))).argmin(-1)
        chances = self.task.choice_chances(
            Batch(inputs, inputs.labels, factors[index], torch.zeros(len(index), dtype=torch.int64), index)
        )
        told = torch.zeros_like(inputs.at_queries(output.hidden)[1])
        told[..., : chances.shape[2]] = 10 * one_hot(chances.argmax(2), chances.shape[2]).float()
        hidden = output.hidden.clone()
        hidden[1, :, list(inputs.layout.queries)] += told
        return replace(output, hidden=hidden)


def test_nobody_need_infer_more_than_a_prompt_tells() -> None:
    """Four pairs and three factors: the best guess is right on two prompts of three."""
    task = FactorTask(source=RandomCodes(sizes=(4, 4, 4)), n_pairs=4)
    model = Infers(ModelConfig(n_layers=2, width=32), task.shape)
    model.task = task
    (found,) = (one for one in diagnose(model, task).findings if one.thing == "inference")
    assert found.best == pytest.approx(0.66, abs=0.03)
    assert found.score == pytest.approx(found.best, abs=0.06)
    assert found.verdict == "there"
    assert f"possible {found.best:.2f}" in found.sentence


class BindsTooLate(Transformer):
    """Labels hold their items after the last block, and nowhere before."""

    def hidden_states(self, embedded: Tensor, attention: Attention, n_layers: int | None = None) -> list[Tensor]:
        """The last one of all blocks with the item before each label added."""
        states = super().hidden_states(embedded, attention, n_layers)
        if len(states) == self.n_layers + 1:
            labels = list(self.shape.layout.labels)
            states[-1] = states[-1].clone()
            states[-1][:, labels] += 3 * embedded[:, [at - 1 for at in labels]]
        return states


def test_labels_that_are_bound_where_no_query_can_read_them_are_not_bound() -> None:
    model = BindsTooLate(ModelConfig(n_layers=2, width=32), CLEAR.shape)
    bound = [one.accuracy for one in probe_three_things(model, CLEAR) if one.kind == "binding"]
    assert bound[2] > 0.8
    assert max(bound[:2]) < 0.5
    assert diagnose(model, CLEAR).waits_for == ("labels", "queries")


def test_with_a_fixed_mapping_a_label_that_says_what_it_hides_by_itself_is_not_bound() -> None:
    fixed = FactorTask(source=RandomCodes(sizes=(4, 4), width=24, twist=0.5), n_pairs=12, n_mappings=1)
    found = diagnose(Transformer(ModelConfig(n_layers=2, width=32), fixed.shape), fixed)
    assert found.waits_for[:1] == ("labels",)


def test_with_a_fixed_mapping_no_query_has_to_find_items_like_its_own() -> None:
    fixed = FactorTask(source=CLEAR.source.model_copy(update={"sizes": (4, 4)}), n_pairs=12, n_mappings=1)
    found = diagnose(Transformer(ModelConfig(n_layers=2, width=32, labels_carry_items=True), fixed.shape), fixed)
    assert next(one.verdict for one in found.findings if one.thing == "queries") == "unclear"
    assert "queries" not in found.waits_for


def test_a_task_without_anything_to_learn_has_no_plateau() -> None:
    """Not even an untrained model waits for anything, or has arrived."""
    fixed = CLEAR.model_copy(update={"n_mappings": 1})
    found = diagnose(Transformer(ModelConfig(n_layers=1, width=16), fixed.shape), fixed, n_prompts=64)
    assert (found.standing.progress, found.standing.stage, found.waits_for) == (None, "nothing to learn", ())
    assert found.sentences[0].startswith("The context has nothing to teach")
    assert not any("wait" in sentence for sentence in found.sentences)
    json.dumps(found.as_dict(), allow_nan=False)


def test_predictions_that_are_no_numbers_are_refused() -> None:
    model = Transformer(ModelConfig(n_layers=1, width=16), CLEAR.shape)
    torch.nn.init.constant_(model.read_out.weight, float("nan"))
    with pytest.raises(DivergedError, match="predictions hold NaN"):
        diagnose(model, CLEAR, n_prompts=64)


def test_queries_that_do_not_look_are_named_where_items_are_not_clear() -> None:
    unsure = (finding("items", "unclear", "hue"), finding("queries", "missing"))
    found = Diagnosis(Standing("plateau", 0.0), unsure, ("queries",))
    assert found.sentences[-2] == "What it waits for first: queries, unless items do not stand out."


def finding(thing: Thing, verdict: Verdict, factor: str | None = None) -> Finding:
    return Finding(thing, verdict, factor, 1, 0.5, 0.25, 0.25, 0.01)


def test_what_a_loss_asks_for_already_is_not_advised() -> None:
    missing: tuple[Thing, ...] = ("items", "kept labels", "queries")
    findings = tuple(finding(thing, "missing", "hue" if thing == "items" else None) for thing in missing)
    stuck = Diagnosis(Standing("plateau", 0.0), findings, missing)
    assert stuck.sentences[-1].startswith("To try: MatchLoss")
    asked = replace(stuck, asked_for=("items",)).sentences
    assert asked[-3:-1] == [
        "What it waits for first: items. Missing as well: kept labels, queries.",
        "Asked for by a loss already: items.",
    ]
    assert asked[-1].startswith("To try: KeepLoss")
    assert replace(stuck, asked_for=("items", "kept labels")).sentences[-1].startswith("To try: LookLoss")
    assert replace(stuck, asked_for=missing).sentences[-1].startswith("To try: more steps")


def test_a_run_is_not_told_to_try_what_it_does() -> None:
    model = Transformer(ModelConfig(n_layers=2, width=32, label_gain=3.0), BURIED.shape)
    plain, told = (diagnose(model, BURIED, asked_for=Strategy(name).asked_for) for name in ("plain", "match-loss"))
    assert told.findings == plain.findings
    assert told.waits_for == plain.waits_for == ("items", "labels", "queries")
    assert told.sentences[-1].startswith("To try: BindLoss")


def test_factors_that_are_learnt_are_told_from_those_that_are_not() -> None:
    half = Diagnosis(
        Standing("on its way", 0.4, {"hue": 0.8, "size": 0.02}), (finding("items", "missing", "size"),), ("items",)
    )
    assert half.sentences[1] == "Learnt for prompts that hide hue (0.80), not for those that hide size (0.02)."
    assert "What may hold it back: items." in half.sentences
    arrived = Diagnosis(Standing("arrived", 0.95), (finding("labels", "there"),), ())
    assert arrived.sentences[0] == "It has arrived: progress 0.95 on held-out prompts."
    assert not any("wait" in sentence for sentence in arrived.sentences)
    assert json.loads(json.dumps(half.as_dict()))["waits_for"] == ["items"]
