"""What a run takes is what its parts take, as often as they are due."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import unplateau as up
from small_runs import SPEC
from unplateau.sweep.trial import Trial, times, trial, tried_as
from unplateau.train.clock import Spent
from unplateau.train.observers import default_observers, due
from unplateau.train.step import build_heads, build_model, step_flops

CPU = torch.device("cpu")
PLAIN = SPEC.with_strategy("plain")


def parts_of(spec: up.RunSpec, **parts: float) -> Trial:
    """A trial in which each part takes so many seconds and joules, all others nothing."""
    names = ("start", "row", "probing", "checkpoint", "end")
    spent = {name: Spent(parts.get(name, 0.0), parts.get(name, 0.0)) for name in names}
    each = parts.get("update", 0.0)
    return Trial(spec, {"prediction": 1}, "told", updates=((0, spec.train.steps, Spent(each, each)),), **spent)


@pytest.mark.parametrize("every", [0, 1, 2, 3, 7, 9])
@pytest.mark.parametrize("last", [1, 6, 7, 12])
def test_looks_are_counted_as_they_are_due(every: int, last: int) -> None:
    for step in range(last + 1):
        at = {one for one in range(step + (step > 0), last + 1) if every and (one % every == 0 or one == last)}
        assert times(every, step, last) == len(at)


@pytest.mark.parametrize("settings", [{}, {"train.steps": 8}, {"train.eval_every": 4}, {"train.probe_every": 0}])
def test_a_run_is_the_sum_of_its_parts(settings: dict[str, int]) -> None:
    spec = PLAIN.with_settings(settings)
    config, observers = spec.train, default_observers(spec)
    rows = [step for step in range(config.steps + 1) if due(observers, step, config.steps)]
    full = [step for step in rows if len(due(observers, step, config.steps)) > 1]
    saved = {step for step in range(1, config.steps + 1) if step % config.checkpoint_every == 0} | {config.steps}
    expected = {"update": config.steps, "row": len(rows) - len(full), "probing": len(full), "checkpoint": len(saved)}
    for name, number in ({"start": 1, "end": 1} | expected).items():
        assert parts_of(spec, **{name: 2.0}).left() == Spent(2.0 * number, 2.0 * number), name


def test_what_is_behind_a_run_costs_nothing_and_more_steps_cost_more() -> None:
    parts = {"start": 1.0, "update": 2.0, "row": 3.0, "probing": 5.0, "checkpoint": 7.0, "end": 11.0}
    left = [parts_of(PLAIN, **parts).left(step).seconds for step in range(PLAIN.train.steps + 1)]
    assert all(after < before for before, after in pairwise(left))
    longer = parts_of(PLAIN.with_settings({"train.steps": 8}), **parts)
    assert longer.left().seconds > left[0]


def test_stretches_are_timed_apart() -> None:
    """A term that is let go, and a curriculum that may go on to another task."""
    fades = PLAIN.with_strategy(up.Strategy(up.MatchLoss(until=2)))
    assert [ends for *ends, _ in trial(fades, CPU).updates] == [[0, 4], [4, 7]]
    changes = PLAIN.with_strategy(up.Strategy(up.WarmUp(steps=3)))
    assert [ends for *ends, _ in trial(changes, CPU).updates] == [[0, 1], [1, 3], [3, 5], [5, 7]]


def test_a_term_costs_as_long_as_it_lasts() -> None:
    found = replace(parts_of(PLAIN), updates=((0, 4, Spent(5.0)), (4, 7, Spent(1.0))))
    assert [found.left(step).seconds for step in (0, 3, 4, 6, 7)] == [23.0, 8.0, 3.0, 1.0, 0.0]


def test_a_trial_leaves_the_process_as_it_was_and_cannot_diverge() -> None:
    spec, before, threads = SPEC.with_settings({"train.lr": 1e30}), torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = trial(spec, CPU, threads=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.flops == step_flops(spec, build_model(spec, CPU), build_heads(spec, CPU), CPU)
    assert all(each.seconds > 0 for each in (found.start, found.row, found.probing, found.checkpoint, found.end))


@pytest.mark.parametrize("same", [{"seed": 3}, {"recipe": "other"}, {"train.lr": 1.0}, {"train.schedule": "cosine"}])
def test_what_costs_nothing_makes_no_other_kind(same: dict[str, object]) -> None:
    assert tried_as(SPEC.with_settings(same)) == tried_as(SPEC)


@pytest.mark.parametrize("other", [{"train.steps": 8}, {"train.batch_size": 8}, {"strategy": "plain"}, {"cut": "zero"}])
def test_what_costs_something_does(other: dict[str, object]) -> None:
    assert tried_as(SPEC.with_settings(other)) != tried_as(SPEC)
