"""Laws of strategies, observers and training.

Curricula are pure and settle, loss terms are differentiable and absent at weight 0, observers change nothing, and an
interrupted run ends like one that never was.
"""

import math
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from unplateau.errors import InterruptedRunError, SpecError, demand
from unplateau.history import History
from unplateau.store import CHECKPOINTS, METRICS, RunRecord
from unplateau.strategies.base import Curriculum, LossTerm
from unplateau.strategies.strategy import Strategy
from unplateau.tasks.base import Task
from unplateau.tasks.mixture import Mixture
from unplateau.train.checkpoint import TENSORS
from unplateau.train.loop import train
from unplateau.train.observers import Event, Observer, default_observers
from unplateau.train.spec import RunSpec
from unplateau.train.step import build_heads, build_model, compute_losses
from unplateau.train.steps import Steps
from unplateau.train.training import Training

CPU = torch.device("cpu")


def check_observer(observer: Observer, spec: RunSpec) -> None:
    """The weights at the end are the same with the observer and without, bit for bit."""
    with TemporaryDirectory() as folder:
        without = train(spec, out=Path(folder, "without"), device="cpu", observers=())
        watched = train(spec, out=Path(folder, "with"), device="cpu", observers=(observer,))
        demand(_weights(without) == _weights(watched), observer, "the trajectory is the same with and without it")


def check_resume(spec: RunSpec, *, stop_at: int) -> None:
    """A SIGTERM after ``stop_at`` steps and a resume give the rows and weights of one go, bit for bit (on a CPU).

    ``stop_at`` must be a multiple of ``train.eval_every``. Call it from the main thread, where signals arrive.
    """
    if stop_at % spec.train.eval_every:
        raise SpecError(f"stop_at {stop_at} must be a multiple of train.eval_every {spec.train.eval_every}")
    with TemporaryDirectory() as folder:
        whole = train(spec, out=Path(folder, "whole"), device="cpu")
        parts = Path(folder, "parts")
        with suppress(InterruptedRunError):
            train(spec, out=parts, device="cpu", observers=(*default_observers(spec), _TerminateAt(stop_at)))
            raise AssertionError("the signal did not arrive")
        resumed = train(spec, out=parts, device="cpu")
        same_rows = (whole.path / METRICS).read_bytes() == (resumed.path / METRICS).read_bytes()
        demand(same_rows, spec, "k steps and a resume log the rows of n steps")
        demand(_weights(whole) == _weights(resumed), spec, "k steps and a resume end with the weights of n steps")


@dataclass(frozen=True)
class _TerminateAt:
    every: int

    def __call__(self, event: Event) -> dict[str, Any]:
        if event.step == self.every:
            os.kill(os.getpid(), signal.SIGTERM)
        return {}


def _weights(run: RunRecord) -> bytes:
    """The tensors of the last checkpoint."""
    return (max((run.path / CHECKPOINTS).glob("step-*")) / TENSORS).read_bytes()


def check_curriculum(curriculum: Curriculum, task: Task, *, n_steps: int = 2000) -> None:
    """Pure, total, shape-preserving, and constant after its last phase."""
    history, late = History(), 10**9
    for step in (*range(0, n_steps, max(1, n_steps // 50)), late):
        mix = list(curriculum.mix(step, task, history))
        shares = [share for share, _ in mix]
        demand(min(shares, default=-1) >= 0 and math.isclose(sum(shares), 1), curriculum, "shares of rows sum to 1")
        demand(all(isinstance(one, Task) for _, one in mix), curriculum, "there is a task for every step")
        demand(mix == list(curriculum.mix(step, task, history)), curriculum, "the same step gives the same mixture")
        demand(all(one.shape == task.shape for _, one in mix), curriculum, "the shape of the task never changes")
        chosen = Strategy(curriculum).choose(step, task, history, Mixture.of)
        demand(len(chosen.sample(step, batch_size=7)) == 7, curriculum, "the number of rows never changes")
    settled = {tuple(curriculum.mix(late + step, task, history)) for step in range(3)}
    demand(len(settled) == 1, curriculum, "after the last phase the mixture stays the same")


def check_loss_term(term: LossTerm, spec: RunSpec) -> None:
    """Finite, differentiable, without global random numbers, and absent bit for bit when its weight is 0."""
    with_term = spec.with_strategy(Strategy(term))
    model, heads = build_model(with_term, CPU), build_heads(with_term, CPU)
    batch = spec.task.sample(0, batch_size=spec.train.batch_size, seed=spec.seed)
    state = torch.get_rng_state()
    value = compute_losses(with_term, model, heads, spec.task, batch, 0).terms[term.name]
    demand(torch.equal(state, torch.get_rng_state()), term, "it consumes no global random numbers")
    demand(value.ndim == 0 and math.isfinite(float(value.detach())), term, "its value is a finite scalar")
    value.backward()
    demand(_has_gradient(list(model.parameters())), term, "its gradient reaches the model")
    own = list(heads.parameters())
    demand(not own or _has_gradient(own), term, "its gradient reaches what is trained along")
    silent = spec.with_strategy(Strategy(term.model_copy(update={"weight": 0.0})))
    both = zip(_weights_after_three_steps(silent), _weights_after_three_steps(spec), strict=True)
    demand(all(torch.equal(a, b) for a, b in both), term, "weight 0 equals absent, bit for bit")


def _weights_after_three_steps(spec: RunSpec) -> list[Tensor]:
    with TemporaryDirectory() as folder:
        run = Training(spec, Path(folder), CPU, (), (), lambda *_: None)
        steps = Steps([run])
        for _ in range(3):
            steps.update()
    return [parameter.detach() for parameter in run.model.parameters()]


def _has_gradient(parameters: Sequence[Tensor]) -> bool:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
    return finite and any(bool((gradient != 0).any()) for gradient in gradients)
