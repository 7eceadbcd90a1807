"""Laws of strategies: curricula are pure and settle, loss terms are finite, differentiable and absent at weight 0.

What enters: a curriculum or a loss term. What leaves: nothing, or a LawError.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unplateau.history import History
from unplateau.strategies.base import Curriculum, LossTerm, Strategy
from unplateau.tasks.base import Task
from unplateau.testing.law import demand
from unplateau.train.optim import adam
from unplateau.train.spec import RunSpec
from unplateau.train.step import build_heads, build_model, compute_losses

LATE = 10**9


def check_curriculum(curriculum: Curriculum, task: Task, *, n_steps: int = 2000) -> None:
    """Pure, total, shape-preserving, and constant after its last phase."""
    history = History()
    for step in (*range(0, n_steps, max(1, n_steps // 50)), LATE):
        chosen = curriculum.task_at(step, task, history)
        demand(isinstance(chosen, Task), curriculum, "there is a task for every step")
        demand(chosen == curriculum.task_at(step, task, history), curriculum, "the same step gives the same task")
        demand(chosen.shape == task.shape, curriculum, "the shape of the task never changes")
        demand(len(chosen.sample(step, batch_size=7)) == 7, curriculum, "the number of rows never changes")
    settled = {curriculum.task_at(LATE + step, task, history) for step in range(3)}
    demand(len(settled) == 1, curriculum, "after the last phase the task stays the same")


def check_loss_term(term: LossTerm, spec: RunSpec) -> None:
    """Finite, differentiable, without global random numbers, and absent bit for bit when its weight is 0."""
    with_term = spec.with_strategy(Strategy(term))
    device = torch.device("cpu")
    model, heads = build_model(with_term, device), build_heads(with_term, device)
    batch = spec.task.sample(0, batch_size=spec.train.batch_size, seed=spec.seed)
    state = torch.get_rng_state()
    value = compute_losses(with_term, model, heads, spec.task, batch, 0).terms[term.name]
    demand(torch.equal(state, torch.get_rng_state()), term, "it consumes no global random numbers")
    demand(value.ndim == 0 and math.isfinite(float(value.detach())), term, "its value is a finite scalar")
    value.backward()
    demand(_has_gradient(list(model.parameters())), term, "its gradient reaches the model")
    demand(_has_gradient(list(heads.parameters())), term, "its gradient reaches the read-out head")
    silent = spec.with_strategy(Strategy(term.model_copy(update={"weight": 0.0})))
    same = all(torch.equal(a, b) for a, b in zip(_weights_after(silent), _weights_after(spec), strict=True))
    demand(same, term, "weight 0 equals absent, bit for bit")


def _weights_after(spec: RunSpec, n_steps: int = 3) -> list[Tensor]:
    device = torch.device("cpu")
    model, heads = build_model(spec, device), build_heads(spec, device)
    optimiser = adam([*model.parameters(), *heads.parameters()], spec.train.lr)
    for step in range(n_steps):
        batch = spec.task.sample(step, batch_size=spec.train.batch_size, seed=spec.seed)
        optimiser.zero_grad()
        compute_losses(spec, model, heads, spec.task, batch, step).total.backward()
        optimiser.step()
    return [parameter.detach() for parameter in model.parameters()]


def _has_gradient(parameters: list[Tensor]) -> bool:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
    return finite and any(bool((gradient != 0).any()) for gradient in gradients)
