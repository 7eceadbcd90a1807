"""One update: the loss of the task plus the terms of the strategy, and what it costs.

What enters: a model, the strategy's read-out heads and a batch. What leaves: the losses, and the budget of a step.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from unplateau.models.initialise import initialise_linear
from unplateau.models.transformer import Transformer
from unplateau.rng import fold
from unplateau.strategies.base import LossTerm, StepState, Strategy
from unplateau.tasks.base import Task
from unplateau.tensors import Batch
from unplateau.train.flops import count_flops
from unplateau.train.spec import RunSpec


@dataclass(frozen=True)
class Losses:
    """``total`` is what is minimised, ``prediction`` the mean cross-entropy over all queries, ``terms`` by name."""

    total: Tensor
    prediction: Tensor
    terms: dict[str, Tensor]


def build_model(spec: RunSpec, device: torch.device) -> Transformer:
    """The model of a run with its initial weights."""
    return Transformer(spec.model, spec.task.shape, seed=spec.seed).to(device)


def build_heads(spec: RunSpec, device: torch.device) -> nn.ModuleDict:
    """The read-out heads of the strategy's loss terms; their weights do not touch the model's random numbers."""
    heads = nn.ModuleDict()
    for term in spec.strategy.loss_terms:
        head = term.build_head(spec.model.width, spec.task.shape)
        generator = fold(spec.seed, f"head/{term.name}")
        for module in head.modules():
            if isinstance(module, nn.Linear):
                initialise_linear(module, spec.model.init, generator)
        heads[_key(term)] = head
    return heads.to(device)


def compute_losses(
    spec: RunSpec, model: Transformer, heads: nn.ModuleDict, task: Task, batch: Batch, step: int
) -> Losses:
    """All losses of one step on this batch, which ``task`` was sampled for."""
    output = model(batch.inputs)
    prediction = functional.cross_entropy(output.logits.flatten(0, 1), batch.targets.flatten())
    total, terms = prediction, {}
    for term in spec.strategy.loss_terms:
        value = term.value(StepState(model, heads[_key(term)], task, batch, output, step, spec.seed))
        terms[term.name] = value
        total = total + term.weight * value
    return Losses(total, prediction, terms)


def step_flops(spec: RunSpec, model: Transformer, heads: nn.ModuleDict, device: torch.device) -> dict[str, int]:
    """FLOPs of one update by part: ``prediction`` and each loss term, read-out heads included; the same at every step.

    Counted on copies, forward and backward, so that training itself is not touched.
    """
    model, heads = copy.deepcopy(model), copy.deepcopy(heads)
    batch = spec.task.sample(0, batch_size=spec.train.batch_size, seed=spec.seed).to(device)

    def flops(*parts: LossTerm) -> int:
        with_parts = spec.model_copy(update={"strategy": Strategy(*parts)})

        def update() -> None:
            compute_losses(with_parts, model, heads, spec.task, batch, 0).total.backward()

        return count_flops(update)

    alone = flops()
    return {"prediction": alone} | {term.name: flops(term) - alone for term in spec.strategy.loss_terms}


def _key(term: LossTerm) -> str:
    return term.name.replace(".", "_")  # module names cannot contain dots
