"""Optimisers as values: how they are named, what is written of them, and what they refuse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

import unplateau as up
from tiny_run import TINY
from unplateau.analysis.runs import summarise_run
from unplateau.cli.main import main
from unplateau.config import parse
from unplateau.errors import DivergedError, MissingExtraError, SpecError
from unplateau.report.facts import facts
from unplateau.train.optimisers import GradientFilter, Optimiser
from unplateau.train.spec import RunSpec
from unplateau.train.step import build_heads, build_model, step_flops
from unplateau.train.updates import Updates

CPU = torch.device("cpu")


def exported(family: type[Any]) -> list[type[Any]]:
    return [one for name in dir(up) if isinstance(one := getattr(up, name), type) and issubclass(one, family)]


def changed(**settings: Any) -> RunSpec:
    return TINY.with_settings({f"train.{key}": value for key, value in settings.items()})


def made(spec: RunSpec) -> Updates:
    return Updates(spec.train, build_model(spec, CPU), build_heads(spec, CPU))


def test_there_is_something_to_choose_from() -> None:
    assert {one.__name__ for one in exported(Optimiser)} == {"Adam", "AdamW", "Muon", "SOAP", "ScheduleFree"}
    assert exported(GradientFilter) == [up.Grokfast]


def test_what_is_the_default_is_not_written_so_that_older_runs_are_found() -> None:
    new = {"schedule", "warm_up", "optimiser", "gradient_filter", "clip_norm"}
    assert not new & TINY.model_dump(mode="json")["train"].keys()
    assert TINY.digest() == "70d8ea982f"  # as before there was a choice
    assert changed(optimiser="adam", warm_up=None, gradient_filter=None, clip_norm=None) == TINY


@pytest.mark.parametrize("kind", [*exported(Optimiser), *exported(GradientFilter)], ids=lambda kind: kind.__name__)
def test_each_is_named_read_back_and_makes_another_run(kind: type[Any]) -> None:
    key = "optimiser" if issubclass(kind, Optimiser) else "gradient_filter"
    spec = changed(**{key: kind.__name__.lower()})
    assert getattr(spec.train, key) == kind()
    assert spec == changed(**{key: {"kind": kind.__name__}}) == changed(**{key: kind(), f"{key}.kind": kind.__name__})
    assert parse(RunSpec, spec.model_dump(mode="json")) == spec
    assert (spec.digest() == TINY.digest()) is (kind is up.Adam)


def test_fields_are_reached_by_their_names() -> None:
    assert changed(**{"optimiser.betas": [0.8, 0.9]}).train.optimiser == up.Adam(betas=(0.8, 0.9))
    muon = changed(**{"optimiser": "muon", "optimiser.rest.eps": 1e-6, "optimiser.momentum": 0.8})
    assert muon.train.optimiser == up.Muon(momentum=0.8, rest=up.Adam(eps=1e-6))
    decayed = changed(optimiser={"kind": "Muon", "rest": {"kind": "AdamW"}})
    assert decayed.train.optimiser == up.Muon(rest=up.AdamW())
    assert parse(RunSpec, decayed.model_dump(mode="json")) == decayed
    assert changed(**{"gradient_filter": "grokfast", "gradient_filter.lamb": 5}).train.gradient_filter == up.Grokfast(
        lamb=5
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimiser": "muno"}, "train.optimiser: unknown optimiser 'muno'; did you mean 'Muon'?"),
        ({"optimiser": "grokfast"}, "train.optimiser: unknown optimiser 'grokfast'"),
        ({"optimiser": None}, "train.optimiser"),
        (
            {"optimiser": {"betas": [0.9, 0.9]}},
            "optimiser needs a 'kind': one of Adam, AdamW, Muon, SOAP, ScheduleFree",
        ),
        ({"optimiser": "muon", "optimiser.betas": [0.9, 0.9]}, "unknown key 'betas' in train.optimiser"),
        ({"optimiser.weight_decay": 0.1}, "unknown key 'weight_decay' in train.optimiser"),
        (
            {"optimiser": {"kind": "Muon", "rest": "muon"}},
            "optimiser: rest: unknown optimiser 'muon'; known: Adam, AdamW;",
        ),
        ({"optimiser.betas": [0.9, 1.0]}, "train.optimiser.betas.1: Input should be less than 1 (got 1.0)"),
        ({"optimiser.eps": 0}, "train.optimiser.eps: must be at least 1e-37, which float32 can hold"),
        ({"optimiser": "schedule-free", "optimiser.r": 1000}, "should be less than or equal to 16 (got 1000)"),
        ({"gradient_filter": "grokfst"}, "unknown gradient filter 'grokfst'; did you mean 'Grokfast'?"),
        ({"gradient_filter.lamb": 5}, "train.gradient_filter is None"),
        ({"clip_norm": 0}, "train.clip_norm: Input should be greater than 0 (got 0)"),
        ({"clip_norm": -1.0}, "train.clip_norm: Input should be greater than 0 (got -1.0)"),
        ({"schedule": "wsd"}, "'warm-up-stable-decay'"),
        ({"warm_up": 20}, "train: warm_up 20 must be less than steps 20"),
        ({"optimiser": "schedule-free", "schedule": "cosine"}, "does not go with ScheduleFree, which averages"),
    ],
)
def test_what_cannot_be_is_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        changed(**settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, ValidationError)


@pytest.mark.parametrize(
    "settings", [{"optimiser": "soap"}, {"optimiser": "schedule-free"}, {"gradient_filter": "grokfast"}]
)
def test_an_extra_that_is_missing_is_told_before_training(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(**settings).check()
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(MissingExtraError, match=r"needs pytorch-optimizer: pip install 'unplateau\[optim\]'$"):
        changed(**settings).check()
    TINY.check()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimiser.modules": ["block"]}, "the model has no module 'block'; did you mean 'blocks'?"),
        ({"optimiser.modules": ["final_norm"]}, "no matrix is trained in 'final_norm'"),
        ({"frozen": ["blocks"]}, "no matrix is trained in 'blocks', so there is nothing for Muon to step"),
        ({"optimiser": "adam", "frozen": [""]}, "every weight of the model is frozen, so there is nothing to train"),
        ({"frozen": ["nothing"]}, "train.frozen: the model has no module 'nothing'; known: blocks,"),
    ],
)
def test_a_model_that_cannot_be_trained_so_is_refused_and_leaves_nothing(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=message):
        up.train(changed(**{"optimiser": "muon", **settings}), out=tmp_path, device="cpu")
    assert not [*tmp_path.rglob("*.json*")]


def test_heads_are_not_trained_beside_a_frozen_model(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="every weight of the model is frozen"):
        up.train(changed(frozen=[""]).with_strategy("weights-loss"), out=tmp_path, device="cpu")


@pytest.mark.parametrize("name", ["muon", "soap", "schedule-free"])
def test_numbers_that_grow_too_large_are_a_divergence(name: str, tmp_path: Path) -> None:
    with pytest.raises(DivergedError):
        up.train(changed(optimiser=name, lr=1e300), out=tmp_path, device="cpu")


def test_muon_steps_the_matrices_of_the_blocks_and_adam_everything_else() -> None:
    updates = made(changed(optimiser="muon").with_strategy("weights-loss"))
    model = updates.model
    assert isinstance(model, nn.Module)
    muon, adam = updates.optimisers
    assert (type(muon), type(adam)) == (torch.optim.Muon, torch.optim.Adam)
    stepped = {id(one) for one in muon.param_groups[0]["params"]}
    assert stepped == {
        id(one)
        for name, one in model.named_parameters()
        if name.startswith("blocks.") and name.endswith(".weight") and one.ndim == 2
    }
    rest = {id(one) for one in adam.param_groups[0]["params"]}
    assert {id(one) for one in updates.heads.parameters()} <= rest
    assert stepped | rest == {id(one) for one in updates.weights}
    assert not stepped & rest
    whole = made(changed(optimiser={"kind": "Muon", "modules": ["blocks.0.expand"]}))
    assert [tuple(one.shape) for one in whole.optimisers[0].param_groups[0]["params"]] == [(32, 8)]


def test_the_products_of_an_optimiser_are_counted() -> None:
    def flops(name: str) -> dict[str, int]:
        spec = changed(optimiser=name)
        return step_flops(spec, build_model(spec, CPU), build_heads(spec, CPU), CPU)

    shapes = [(24, 8), (8, 8), (32, 8), (8, 32)] * 2  # of two blocks
    # five iterations of Newton and Schulz: two products with the matrix, and one of its square of the shorter side
    each = [5 * (2 * 2 * min(shape) ** 2 * max(shape) + 2 * min(shape) ** 3) for shape in shapes]
    assert flops("muon")["optimiser"] == sum(each)
    assert flops("soap")["optimiser"] > sum(each)
    for name in ("adam", "adamw", "schedule-free"):
        assert set(flops(name)) == {"prediction"}


def test_a_run_is_told_with_its_optimiser_and_the_help_names_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = up.train(changed(optimiser="muon", clip_norm=2.0, steps=2), out=tmp_path, device="cpu")
    assert main(["show", str(run.path)]) == 0
    assert "kind: Muon" in capsys.readouterr().out
    told = dict(facts({"plain": [summarise_run(run)]}))["Training"]
    assert told.startswith("2 steps of 8 prompts, Muon (modules blocks, momentum 0.95, ")
    assert told.endswith("rest Adam (betas 0.9 and 0.999, eps 1e-08)), learning rate 0.001, clipped at norm 2.0")
    assert main(["train", "--help"]) == 0
    said = capsys.readouterr().out.replace("-", "").lower()
    for kind in (*exported(Optimiser), *exported(GradientFilter)):
        assert kind.__name__.lower() in said


def test_memory_is_estimated_with_what_each_keeps() -> None:
    def kept(**settings: Any) -> int:
        return changed(**settings).estimate().model

    own = TINY.model.n_layers * TINY.model.bytes_per_block
    weight = (kept() - own) // 4
    assert kept(optimiser="muon") - own == 3 * weight
    assert kept(gradient_filter="grokfast") - own == 5 * weight
    assert kept(optimiser="soap") == kept(optimiser="schedule-free") == kept()
