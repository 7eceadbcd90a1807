"""The cost of a plan is that of its runs: those that are finished take nothing, and tell what others like them take."""

from pathlib import Path

import pytest

from small_runs import SPEC, copied, trained
from unplateau.errors import SpecError
from unplateau.strategies.losses import ComponentLoss
from unplateau.strategies.strategy import Strategy
from unplateau.sweep import cost as module
from unplateau.sweep.cost import Cost, Left, cost
from unplateau.sweep.plan import plan
from unplateau.train.clock import Spent
from unplateau.train.loop import train

SEEDS = [SPEC.with_seed(seed) for seed in range(3)]


def of(seconds: float) -> Left:
    return Left(flops=int(10 * seconds), spent=Spent(seconds, 12 * seconds))


def test_finished_runs_take_nothing_and_tell_what_others_take(tmp_path: Path) -> None:
    wider = SPEC.with_settings({"train.batch_size": 8})
    before = cost(plan([*SEEDS, wider], tmp_path))
    assert (before.kinds, before.finished) == ({"tried": 2}, 0)
    done = [train(spec, out=tmp_path, progress=False).done or {} for spec in SEEDS[:2]]
    after = cost(plan([*SEEDS, wider], tmp_path))
    assert (after.kinds, after.finished) == ({"finished": 1, "tried": 1}, 2)
    assert after.flops == before.flops - sum(one["train_flops"] for one in done)
    taken = [one["seconds"] + one["observer_seconds"] for one in done]
    assert after.left[0].spent.seconds == pytest.approx(sum(taken) / 2)
    assert [one.flops for one in after.left] == [one.flops for one in before.left[2:]]
    train(SEEDS[2], out=tmp_path, progress=False)
    nothing = cost(plan(SEEDS, tmp_path))
    assert (nothing.left, nothing.spent, nothing.seconds(2)) == ((), Spent(), 0.0)


def test_a_run_that_was_begun_takes_its_rest(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    copied(whole.path, tmp_path / "begun", unfinished=True)
    begun, fresh = (cost(plan([SPEC.with_settings({"train.steps": 7})], tmp_path / name)) for name in ("begun", "no"))
    assert begun.flops == 0
    assert 0 < begun.spent.seconds < fresh.spent.seconds


def test_the_cost_of_a_plan_is_the_sum_of_its_runs() -> None:
    whole = Cost((of(1), of(2), of(4)), {}, 0, "told")
    assert (whole.flops, whole.spent) == (70, Spent(7, 84))


def test_runs_at_a_time_are_begun_in_order() -> None:
    whole = Cost(tuple(map(of, (1, 2, 4, 3))), {}, 0, "told")
    assert [whole.seconds(at_once) for at_once in (1, 2, 3, 4, 100)] == [10, 5, 4, 4, 4]


def test_energy_that_is_not_known_of_one_is_not_known_of_all() -> None:
    assert Cost((of(1), Left(1, Spent(1, None))), {}, 0, "none").spent == Spent(2, None)


def test_what_is_not_tried_is_reckoned_by_flops(tmp_path: Path) -> None:
    """The largest is tried whatever the budget."""
    smaller, larger = SPEC, SPEC.with_settings({"model.width": 32, "train.steps": 9})
    found = cost(plan([smaller, larger], tmp_path), budget=0)
    assert found.kinds == {"tried": 1, "reckoned": 1}
    one, other = found.left
    assert one.spent.seconds == pytest.approx(other.spent.seconds * one.flops / other.flops)


def test_hundreds_of_seeds_are_one_trial(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tried = []
    try_it = module.trial
    monkeypatch.setattr(module, "trial", lambda *given, **named: tried.append(1) or try_it(*given, **named))
    found = cost(plan([SPEC.with_seed(seed) for seed in range(500)], tmp_path))
    assert len(tried) == 1
    assert found.spent.seconds == pytest.approx(500 * found.left[0].spent.seconds)


def test_donors_are_counted_once_unless_they_are_finished(tmp_path: Path) -> None:
    grafted = [SPEC.init_from(SPEC.with_seed(9)).with_seed(seed) for seed in range(2)]
    assert len(cost(plan(grafted, tmp_path)).left) == 3
    train(SPEC.with_seed(9), out=tmp_path, progress=False)
    found = cost(plan(grafted, tmp_path))
    assert (len(found.left), found.kinds) == (2, {"finished": 1})


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="layer 9"):
        cost(plan([SPEC.with_strategy(Strategy(ComponentLoss(layer=9)))], tmp_path))
    with pytest.raises(SpecError, match="threads"):
        cost(plan([SPEC], tmp_path), threads=0)
