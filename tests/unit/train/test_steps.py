"""Steps that are recorded are the steps that they record; batches drawn at once are batches of the task."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import unplateau as up
from tiny_run import TINY
from unplateau import recipes
from unplateau.errors import InterruptedRunError, SpecError
from unplateau.models.stack import Stack
from unplateau.models.transformer import Transformer
from unplateau.store import METRICS
from unplateau.strategies.base import Host, LossTerm, Read, View
from unplateau.tasks.base import Task
from unplateau.tasks.parity import SparseParity
from unplateau.tasks.regression import LinearRegression
from unplateau.testing.training import check_resume
from unplateau.train.observers import Event, default_observers
from unplateau.train.spec import RunSpec
from unplateau.train.steps import WARM_UP, Steps
from unplateau.train.training import Training

CPU = torch.device("cpu")
SELECTION = recipes.word_selection().task


def begun(spec: RunSpec, folder: Path) -> Training:
    return Training(spec, folder / spec.digest(), CPU, (), (), lambda *_: None)


def weights(run: Training) -> list[torch.Tensor]:
    return [one.detach() for part in (run.model, run.heads) for one in part.parameters()]


def same(run: Training, other: Training) -> bool:
    return all(torch.equal(one, its) for one, its in zip(weights(run), weights(other), strict=True))


STRATEGIES = [
    "plain",
    "mixed",
    "warm-up",
    "unplateau",
    "weights-loss+context-loss",
    up.Strategy(up.ComponentLoss(items=8), up.MatchLoss(until=4)),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("settings", [{}, {"train.optimiser": "muon", "train.clip_norm": 0.1}], ids=["adam", "muon"])
def test_recorded_steps_are_those_of_the_loop(
    strategy: up.Strategy | str, settings: dict[str, object], tmp_path: Path
) -> None:
    """Learning rates, phases of curricula, fading factors and items drawn by terms reach a recording."""
    spec = TINY.with_strategy(strategy).with_settings({"train.schedule": "cosine", **settings})
    run, recorded = begun(spec, tmp_path), begun(spec.with_settings({"train.execution": "graphed"}), tmp_path)
    for steps in (Steps([run]), Steps([recorded])):
        for _ in range(3 * WARM_UP + 3):
            steps.update()
    assert same(run, recorded)
    assert run.sums() == recorded.sums()


def test_a_stack_is_recorded_as_one(tmp_path: Path) -> None:
    specs = [TINY.with_strategy("unplateau"), TINY.with_seed(1).with_settings({"train.lr": 3e-3})]
    both: list[Sequence[Training]] = []
    for execution in ("eager", "graphed"):
        runs = [begun(spec.with_settings({"train.execution": execution}), tmp_path) for spec in specs]
        steps = Steps(runs, Stack([run.model for run in runs if isinstance(run.model, Transformer)]))
        for _ in range(WARM_UP + 3):
            steps.update()
        both.append(runs)
    assert all(map(same, *both))


class Alone(TorchDispatchMode):
    """Refuses what a GPU would have to ask Python for, or be told by it, in the middle of a recording."""

    refused: ClassVar = {
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.nonzero.default,
        torch.ops.aten.lift_fresh.default,  # a tensor of Python's numbers, or an index of them
        torch.ops.aten.masked_fill.Tensor,  # these ask for the value
        torch.ops.aten.masked_fill_.Tensor,
    }

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert op not in self.refused
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize(
    "task", [TINY.task, SELECTION, SparseParity(), LinearRegression()], ids=lambda one: type(one).__name__
)
def test_a_recorded_step_asks_nothing_of_python(task: Task, strategy: up.Strategy | str, tmp_path: Path) -> None:
    spec = TINY.model_copy(update={"task": task}).with_strategy(strategy)
    try:
        spec.check()
    except SpecError:
        assert "loss" in spec.strategy.name  # of factors that this task has not
        return
    settings = {"train.execution": "graphed", "train.batch_size": 4, "train.clip_norm": 0.1}
    run = begun(spec.with_settings(settings), tmp_path)
    steps = Steps([run])
    for _ in range(WARM_UP + 1):
        steps.update()
    for _, recording in steps.recordings:
        recording.given[0].go_to(run.step)
        if recording.replay is not None:
            with Alone():
                recording.replay()


@pytest.mark.parametrize("strategy", ["plain", "mixed"])
def test_what_is_drawn_at_once_is_parted(strategy: str, tmp_path: Path) -> None:
    """Each row goes to one step; each step has as many rows of each task of a mixture."""
    spec = TINY.with_strategy(strategy).with_settings({"train.batch_size": 6})
    run = begun(spec.with_settings({"train.steps_per_draw": 3}), tmp_path)
    task, _ = run.draw()
    found = []
    for run.step in range(6):
        found.append(run.draw()[1].item_index)
        assert found[-1].shape == (6, spec.task.shape.layout.n_pairs)
    for number in range(2):
        drawn = task.sample(number, batch_size=18, seed=spec.seed).item_index
        assert torch.equal(torch.stack(found[3 * number : 3 * number + 3], 1).flatten(0, 1), drawn)
    run.step = 1
    assert torch.equal(run.draw()[1].item_index, found[1])  # whatever was drawn before


def test_a_run_with_draws_at_once_resumes_exactly() -> None:
    check_resume(TINY.with_settings({"train.steps_per_draw": 7, "train.execution": "graphed"}), stop_at=10)


@dataclass(frozen=True)
class Stop:
    """Asks the run to stop when it looks."""

    every: int = 10

    def __call__(self, event: Event) -> dict[str, Any]:
        if event.step == self.every:
            os.kill(os.getpid(), signal.SIGTERM)
        return {}


def test_a_run_goes_on_recorded_or_not(tmp_path: Path) -> None:
    """Its numbers are the same, and so is its digest; a compiled one is another run."""
    spec, recorded = (TINY.with_settings({"train.execution": execution}) for execution in ("eager", "graphed"))
    assert spec.digest() == recorded.digest() != TINY.with_settings({"train.execution": "compiled"}).digest()
    rows = [(up.train(spec, out=tmp_path / "whole").path / METRICS).read_bytes()]
    for first, last in ((spec, recorded), (recorded, spec)):
        folder = tmp_path / first.train.execution
        with pytest.raises(InterruptedRunError):
            up.train(first, out=folder, observers=(*default_observers(first), Stop()))
        rows.append((up.train(last, out=folder).path / METRICS).read_bytes())
    assert rows[0] == rows[1] == rows[2]


class Steep(LossTerm):
    """Of one's own, with a number that Python makes."""

    reads: ClassVar[tuple[Read, ...]] = ("labels",)
    weight: float = 1.0

    def build_head(self, host: Host) -> torch.nn.Module:
        return torch.nn.Identity()

    def value(self, view: View) -> torch.Tensor:
        return view.labels(0).states.mean() * view.step


class Steeper(Steep):
    recordable = True


@pytest.mark.parametrize(
    ("term", "says"),
    [(Steep(), "Steep does not say that it is recordable"), (Steeper(), "Steeper: reads the step, so it cannot be")],
    ids=["unsaid", "untrue"],
)
def test_what_cannot_be_recorded_is_refused(term: LossTerm, says: str, tmp_path: Path) -> None:
    spec = TINY.with_strategy(up.Strategy(term)).with_settings({"train.execution": "graphed"})
    with pytest.raises(SpecError, match=says):
        up.train(spec, out=tmp_path)
