"""What a sweep says before it begins: names, what is there, and a cost that comes true."""

import shutil
from pathlib import Path

import pytest

from small_runs import SPEC, copied, trained
from unplateau import store
from unplateau.errors import SpecError
from unplateau.store import load_run
from unplateau.strategies.losses import ComponentLoss
from unplateau.strategies.strategy import Strategy
from unplateau.sweep import plan as module
from unplateau.sweep.plan import cost, names, plan
from unplateau.train.loop import train


def test_names_are_short_where_they_can_be() -> None:
    plain = SPEC.with_strategy("plain")
    assert names([plain, plain.with_strategy("mixed")]) == ["plain, seed 0", "mixed, seed 0"]


def test_names_tell_runs_apart() -> None:
    plain = SPEC.with_strategy("plain")
    other = plain.model_copy(update={"cut": "zero"})
    assert len(set(names([plain, other]))) == 2
    assert plain.digest() in names([plain, other])[0]


def test_the_cost_of_what_is_left_comes_true(tmp_path: Path) -> None:
    specs = [one.with_seed(seed) for one in (SPEC, SPEC.with_settings({"train.batch_size": 8})) for seed in range(2)]
    before = cost(plan(specs, tmp_path))
    assert (before.seconds, before.pace_of) == (4 * SPEC.train.steps / 1000, 0)

    first = train(specs[0], out=tmp_path, progress=False).done or {}
    after = cost(plan(specs, tmp_path))
    assert after.flops == before.flops - first["train_flops"]
    assert after.pace_of == 1
    assert after.seconds == pytest.approx(first["seconds"] * after.flops / first["train_flops"])

    others = [train(spec, out=tmp_path, progress=False).done or {} for spec in specs[1:]]
    assert after.flops == sum(done["train_flops"] for done in others)
    assert cost(plan(specs, tmp_path)).flops == 0


def test_what_is_there_of_each_run(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole").path
    copied(whole, tmp_path, unfinished=True)
    found = plan([SPEC, SPEC.with_seed(1)], tmp_path)
    assert [(one.found, one.step) for one in found] == [("begun", 7), ("to do", 0)]
    with store.locked(found[0].path):
        assert plan([SPEC], tmp_path)[0].found == "running"
    shutil.copy(whole / store.DONE, found[0].path)
    assert plan([SPEC], tmp_path)[0].found == "done"
    assert load_run(found[0].path).done


def test_thousands_of_seeds_are_reckoned_from_one_update(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    counted = []
    reckon = module.step_flops
    monkeypatch.setattr(module, "step_flops", lambda *parts: counted.append(1) or reckon(*parts))
    specs = [SPEC.with_seed(seed) for seed in range(2000)]
    assert cost(plan(specs, tmp_path)).flops == 2000 * cost(plan(specs[:1], tmp_path)).flops
    assert len(counted) == 2


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="twice"):
        plan([SPEC, SPEC], tmp_path)
    with pytest.raises(SpecError, match="layer 9"):
        cost(plan([SPEC.with_strategy(Strategy(ComponentLoss(layer=9)))], tmp_path))
