"""The step of the weights: schedules, and that what is remembered is kept to the last bit, for every optimiser."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

import unplateau as up
from tiny_run import TINY
from unplateau.errors import CheckpointError, DivergedError
from unplateau.store import CHECKPOINTS
from unplateau.testing import check_observer, check_resume
from unplateau.train.checkpoint import TENSORS, Checkpoint, check_optimiser, read_checkpoint
from unplateau.train.observers import ProgressObserver
from unplateau.train.optimisers import Optimiser
from unplateau.train.spec import RunSpec, TrainConfig
from unplateau.train.step import build_heads, build_model, compute_losses
from unplateau.train.updates import Updates, learning_rate

CPU = torch.device("cpu")


class Momentum(Optimiser):
    """One of a user's own."""

    def build(
        self, weights: Sequence[nn.Parameter], modules: Mapping[str, nn.Module], lr: float
    ) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(weights, lr=lr, momentum=0.9)]


OPTIMISERS: dict[str, Optimiser] = {
    "adam": up.Adam(betas=(0.8, 0.9), eps=1e-6),
    "adamw": up.AdamW(weight_decay=0.3),
    "muon": up.Muon(nesterov=False),
    "soap": up.SOAP(precondition_frequency=3),
    "schedule-free": up.ScheduleFree(weight_decay=0.1, r=0.5),
    "own": Momentum(),
}
AROUND: dict[str, dict[str, Any]] = {
    "alone": {},
    "rising, clipped, filtered": {"warm_up": 4, "clip_norm": 0.1, "gradient_filter": up.Grokfast(alpha=0.7)},
    "cosine, clipped": {"schedule": "cosine", "clip_norm": 0.1},
    "falling, filtered": {"schedule": "warm-up-stable-decay", "gradient_filter": up.Grokfast()},
}
CASES = [
    pytest.param({"optimiser": optimiser, **around}, id=f"{name}, {how}")
    for name, optimiser in OPTIMISERS.items()
    for how, around in AROUND.items()
    if not (optimiser.averages and "schedule" in around)
]
EACH = [
    pytest.param({"optimiser": one, **AROUND["rising, clipped, filtered"]}, id=name) for name, one in OPTIMISERS.items()
]
STEPS = 7


def with_training(settings: Mapping[str, Any], *, strategy: str = "weights-loss", **others: Any) -> RunSpec:
    config = {**dict(TINY.train), "steps": STEPS, "lr": 1e-2, **settings, **others}
    return TINY.model_copy(update={"train": TrainConfig(**config)}).with_strategy(strategy)


def begun(spec: RunSpec) -> Updates:
    return Updates(spec.train, build_model(spec, CPU), build_heads(spec, CPU))


def step(spec: RunSpec, updates: Updates, number: int) -> None:
    batch = spec.task.sample(number, batch_size=4)
    updates.zero_grad()
    compute_losses(spec, updates.model, updates.heads, spec.task, batch, number).total.backward()
    updates.step(number)


def trained(spec: RunSpec, steps: int = STEPS) -> Updates:
    updates = begun(spec)
    for number in range(steps):
        step(spec, updates, number)
    return updates


def everything(updates: Updates) -> dict[str, Tensor]:
    return {**updates.tensors(), **{f"weight {number}": one.detach() for number, one in enumerate(updates.weights)}}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("settings", CASES)
def test_a_run_that_is_taken_up_after_any_step_goes_on_as_if_it_never_had_stopped(settings: dict[str, Any]) -> None:
    """What is kept goes through the bytes of a file, and the weights are those that a checkpoint calls the model."""
    spec = with_training(settings)
    undisturbed = begun(spec)
    taken_up: list[Updates] = []
    for number in range(STEPS):
        for one in [undisturbed, *taken_up]:
            step(spec, one, number)
        with undisturbed.averaged():
            model, heads = copy.deepcopy((undisturbed.model, undisturbed.heads))
        other = Updates(spec.train, model, heads)
        other.load(load(save({name: one.contiguous() for name, one in undisturbed.tensors().items()})))
        taken_up.append(other)
    assert all(same(everything(one), everything(undisturbed)) for one in taken_up)
    assert not same(everything(begun(spec)), everything(undisturbed))


@pytest.mark.parametrize("settings", EACH)
def test_a_whole_run_stops_and_resumes_exactly(settings: dict[str, Any]) -> None:
    small = {
        "steps": 6,
        "eval_every": 2,
        "eval_prompts": 4,
        "probe_every": 0,
        "checkpoint_every": 4,
        "final_prompts": 4,
    }
    check_resume(with_training(settings, strategy="mixed+weights-loss", **small), stop_at=2)


@pytest.mark.parametrize("settings", EACH)
def test_what_is_frozen_stays_and_all_else_is_stepped(settings: dict[str, Any]) -> None:
    spec = with_training(settings, frozen=("item_embedding", "blocks.1.mlp_norm"))
    before, after = build_model(spec, CPU), trained(spec).model
    assert isinstance(before, nn.Module)
    assert isinstance(after, nn.Module)
    kept = {name for name, one in before.named_parameters() if torch.equal(one, after.get_parameter(name))}
    assert kept == {f"{module}.{one}" for module in spec.train.frozen for one in ("weight", "bias")}


@pytest.mark.parametrize("settings", EACH)
def test_damage_of_what_an_optimiser_remembers_is_found(settings: dict[str, Any]) -> None:
    updates = trained(with_training(settings), 2)
    whole = updates.tensors()

    def refusal(tensors: Mapping[str, Tensor]) -> str:
        try:
            check_optimiser(updates)(Checkpoint({f"optimiser/{name}": one for name, one in tensors.items()}, {}))
        except CheckpointError as error:
            return str(error)
        return ""

    assert not refusal(whole)
    first = {name.partition("/")[2]: (name, tensor) for name, tensor in reversed(whole.items())}
    for name, tensor in first.values():  # one of each that is remembered
        without = {other: one for other, one in whole.items() if other != name}
        assert refusal(without) == f"does not fit the optimiser (it lacks {name})"
        assert f"optimiser/{name} is" in refusal({**whole, name: tensor[None]})
        assert f"optimiser/{name} is" in refusal({**whole, name: tensor.half()})
    assert refusal({**whole, "0/other": torch.zeros(1)}) == "does not fit the optimiser (it has 0/other)"
    no_gradient_yet = {name: one for name, one in whole.items() if not name.startswith("3/")}
    assert not refusal(no_gradient_yet)


def test_a_weight_whose_gradient_came_and_went_is_resumed_like_the_others() -> None:
    """The head of a term that is let go has a state and no gradients any more; before it came it had neither."""
    spec = with_training(EACH[0].values[0])
    updates = trained(spec, 3)
    plain = spec.with_strategy("plain")
    fresh = Updates(spec.train, *copy.deepcopy((updates.model, updates.heads)))
    fresh.load(updates.tensors())
    for one in (updates, fresh):
        for number in range(3, 6):
            step(plain, one, number)
    assert same(everything(updates), everything(fresh))
    assert len(begun(spec).tensors()) == 0


def test_gradients_are_filtered_first_and_clipped_then() -> None:
    spec = with_training(
        {"optimiser": Momentum(), "clip_norm": 0.25, "gradient_filter": up.Grokfast(lamb=3, alpha=0.5)}
    )
    updates = begun(spec)
    first, second = ([torch.full_like(one, size) for one in updates.weights] for size in (1e-3, 3e-3))
    for weight, gradient in zip(updates.weights, first, strict=True):
        weight.grad = gradient.clone()
    updates.step(0)
    assert all(torch.allclose(one.grad, 4 * given) for one, given in zip(updates.weights, first, strict=True))
    for weight, gradient in zip(updates.weights, second, strict=True):
        weight.grad = 100 * gradient
    updates.step(1)
    assert float(nn.utils.get_total_norm([one.grad for one in updates.weights])) == pytest.approx(0.25, rel=1e-4)


def test_gradients_that_are_no_numbers_are_told_and_not_an_error_of_a_library() -> None:
    updates = begun(with_training({"optimiser": up.SOAP()}))
    for weight in updates.weights:
        weight.grad = torch.full_like(weight, math.nan)
    with pytest.raises(DivergedError, match=r"^step 1: .*; a lower train.lr \(now 0.01\) usually helps$"):
        updates.step(0)


def test_averaged_weights_are_what_everybody_sees_and_steps_are_made_from_others(tmp_path: Path) -> None:
    spec = with_training({"optimiser": up.ScheduleFree()}, steps=20)
    run = up.train(spec, out=tmp_path, device="cpu")
    folder = max((run.path / CHECKPOINTS).glob("step-*"))
    kept = read_checkpoint(folder, spec.digest())
    assert run.done is not None
    model = up.load_model(run.path)[1]
    assert isinstance(model, nn.Module)
    for number, (name, weight) in enumerate(model.named_parameters()):
        fast, point = (kept.tensors[f"optimiser/{number}/{one}"] for one in ("z", "weights"))
        assert torch.allclose(point, 0.9 * weight + 0.1 * fast, atol=1e-6), name
        assert not torch.equal(point, weight), name
    logits = model(spec.task.sample(20, batch_size=8).inputs).logits
    assert torch.equal(logits, up.load_model(folder)[1](spec.task.sample(20, batch_size=8).inputs).logits)
    seen = Seen()
    up.train(spec, out=tmp_path / "seen", device="cpu", observers=(seen,))
    assert same(seen.last, dict(model.state_dict()))


class Seen:
    """Keeps the weights that it was shown last."""

    every = 5

    def __call__(self, event: Any) -> dict[str, float]:
        self.last = dict(event.model.state_dict())
        return {}


def test_a_run_with_a_warm_up_is_made_longer_exactly(tmp_path: Path) -> None:
    spec = with_training({"optimiser": up.ScheduleFree(), "warm_up": 5}, steps=6, probe_every=0)
    longer = up.extend(up.train(spec, out=tmp_path, device="cpu"), 9, device="cpu")
    whole = up.train(spec.with_settings({"train.steps": 9}), out=tmp_path / "whole", device="cpu")
    assert longer.path.name == whole.path.name
    kept = [(max((one.path / CHECKPOINTS).glob("step-*")) / TENSORS).read_bytes() for one in (longer, whole)]
    assert kept[0] == kept[1]


def test_looking_at_averaged_weights_changes_nothing() -> None:
    check_observer(ProgressObserver(1, 4), with_training({"optimiser": up.ScheduleFree()}))


def test_a_constant_learning_rate_is_not_written_down_so_that_older_runs_are_found() -> None:
    assert "schedule" not in TrainConfig().model_dump()
    assert TrainConfig.model_validate(TrainConfig(schedule="cosine").model_dump()).schedule == "cosine"


@pytest.mark.parametrize("steps", [1, 7, 20, 333])
def test_the_cosine_rises_for_a_twentieth_of_the_steps_and_falls_to_a_twentieth(steps: int) -> None:
    config = TrainConfig(steps=steps, lr=0.5, schedule="cosine")
    rates = [learning_rate(config, step) for step in range(steps + 1)]
    rise = steps // 20
    assert all(0 < rate <= 0.5 for rate in rates)
    assert all(later > former for former, later in itertools.pairwise(rates[:rise]))
    assert all(later < former for former, later in itertools.pairwise(rates[rise + 1 :]))
    assert rates[-1] == pytest.approx(0.5 / 20)
    assert {learning_rate(TrainConfig(steps=steps), step) for step in range(steps)} == {1e-3}


@pytest.mark.parametrize("schedule", ["constant", "cosine", "warm-up-stable-decay"])
def test_a_warm_up_rises_to_what_the_schedule_is_without(schedule: Any) -> None:
    config = TrainConfig(steps=100, lr=0.5, schedule=schedule, warm_up=10)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.05)
    assert rates[9] == pytest.approx(0.5)
    assert all(later > former for former, later in itertools.pairwise(rates[:10]))
    assert rates[100] == pytest.approx(0.5 if schedule == "constant" else 0.5 / 20)
    assert learning_rate(config.model_copy(update={"warm_up": 0}), 0) == 0.5


@pytest.mark.parametrize("steps", [10, 40, 333])
def test_what_is_stable_falls_over_the_last_fifth(steps: int) -> None:
    config = TrainConfig(steps=steps, lr=0.5, schedule="warm-up-stable-decay")
    rates = [learning_rate(config, step) for step in range(steps + 1)]
    level = [step for step, rate in enumerate(rates) if rate == pytest.approx(0.5)]
    assert level[0] <= steps / 20
    assert level[-1] == int(steps * 4 / 5)
    assert all(later < former for former, later in itertools.pairwise(rates[level[-1] :]))
    assert rates[-1] == pytest.approx(0.5 / 20)
