"""One update: the loss of the task plus the terms of the strategy, and what it costs in floating-point operations."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from unplateau.decompose import Decomposable, Trainable, predict
from unplateau.errors import SpecError, suggest
from unplateau.layout import TaskShape
from unplateau.strategies.base import LossTerm
from unplateau.strategies.strategy import Strategy
from unplateau.tasks.base import Task
from unplateau.tasks.loss import prediction_loss
from unplateau.tensors import Batch, Prediction
from unplateau.train.given import Given
from unplateau.train.host import BatchView, build_head, head_key
from unplateau.train.spec import RunSpec
from unplateau.train.updates import Updates


@dataclass(frozen=True)
class Losses:
    """``total`` is what is minimised, ``prediction`` the task's own loss, ``terms`` by name.

    ``applied``: whether weights were stepped and the losses added up along with them.
    """

    total: Tensor
    prediction: Tensor
    terms: dict[str, Tensor]
    applied: bool = False

    def kept(self, *, applied: bool) -> "Losses":
        """The values alone, without what gradients were computed from."""
        terms = {name: term.detach() for name, term in self.terms.items()}
        return Losses(self.total.detach(), self.prediction.detach(), terms, applied)


def build_model(spec: RunSpec, device: torch.device, shape: TaskShape | None = None) -> Trainable:
    """The model of a run with its initial weights. ``shape``: that of the task, where it cannot be asked.

    What ``train.frozen`` names takes no gradients. Raises SpecError, with a suggestion, for a module that is not there.
    """
    model = spec.model.build(shape or spec.task.shape, seed=spec.seed).to(device)
    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    for name in spec.train.frozen:
        if name not in modules:
            raise SpecError(f"train.frozen: the model has no module '{name}'{suggest(name, filter(None, modules))}")
        modules[name].requires_grad_(requires_grad=False)
    if spec.train.frozen and not any(weight.requires_grad for weight in modules[""].parameters()):
        raise SpecError("train.frozen: every weight of the model is frozen, so there is nothing to train")
    return model


def build_heads(spec: RunSpec, device: torch.device) -> nn.ModuleDict:
    """The heads of the strategy's loss terms."""
    init, seed = spec.model.head_init, spec.seed
    heads = {
        head_key(term.name): build_head(term, spec.host, init=init, seed=seed) for term in spec.strategy.loss_terms
    }
    return nn.ModuleDict(heads).to(device)


def in_precision(spec: RunSpec, device: torch.device) -> torch.autocast:
    """Inside, matrix products are as precise as the run wants them."""
    return torch.autocast(device.type, torch.bfloat16, enabled=spec.train.precision == "bfloat16")


def compute_losses(
    spec: RunSpec,
    model: Decomposable,
    heads: nn.ModuleDict,
    task: Task,
    batch: Batch,
    step: int,
    passed: Prediction | None = None,
    given: Given | None = None,
) -> Losses:
    """All losses of one step on this batch, which ``task`` was sampled for.

    ``passed``: what the model made of it, where that was computed before. ``given``: what the step takes besides, where
    that is kept.
    """
    given = given or Given(step, batch.targets.device)
    with in_precision(spec, batch.targets.device):
        if passed is None:
            passed = predict(model, batch.inputs)
        prediction = prediction_loss(passed.logits, batch.targets)
        total, terms = prediction, {}
        for term in spec.strategy.loss_terms:
            if term.weight_at(step):
                view = BatchView(term, model, task, batch, passed, given, spec.seed, heads[head_key(term.name)])
                terms[term.name] = term.value(view).float()
                total = total + given.number(term.weight_at) * terms[term.name]
    return Losses(total, prediction, terms)


def step_flops(spec: RunSpec, model: Trainable, heads: nn.ModuleDict, device: torch.device) -> dict[str, int]:
    """FLOPs of an update by part: ``prediction`` and each loss term, read-out heads included, and ``optimiser``.

    Counted on copies, so that training itself is not touched: forward and backward of the first update, and the step of
    an optimiser that multiplies matrices in the second, since it may do other things first.
    """
    model, heads = copy.deepcopy(model), copy.deepcopy(heads)
    batch = spec.task.sample_on(device, 0, batch_size=spec.train.batch_size, seed=spec.seed)

    def flops(*parts: LossTerm) -> int:
        counted = spec.model_copy(update={"strategy": Strategy(*parts)})

        def update() -> None:
            compute_losses(counted, model, heads, spec.task, batch, 0).total.backward()

        return count_flops(update)

    alone = flops()
    parts = {"prediction": alone} | {term.name: flops(term) - alone for term in spec.strategy.loss_terms}
    if spec.train.optimiser.multiplies:
        updates = Updates(spec.train, model, heads)
        updates.step(0)
        parts["optimiser"] = count_flops(lambda: updates.step(1))
    return parts


def flops_spent(spec: RunSpec, flops: Mapping[str, int], step: int) -> int:
    """FLOPs of this many updates, each part as in the first one for as long as it lasts."""
    lasts = {term.name: term.lasts for term in spec.strategy.loss_terms}

    def times(name: str) -> int:
        last = lasts.get(name)
        return step if last is None else min(step, last)

    return sum(each * times(name) for name, each in flops.items())


def count_flops(run: Callable[[], object]) -> int:
    """FLOPs of one call of ``run``: matrix products, convolutions and attention; its result is dropped.

    A multiplication with its addition counts as 2. Causal attention counts as full attention, T x T, and its backward
    pass as five products, since the fused kernels compute the scores anew. Element-wise operations, norms, softmax and
    factorisations are not counted (PyTorch's own convention). ``run`` is executed for real and exactly once, and takes
    the random numbers and changes the state that it would without counting.
    """
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        run()
    return int(counter.get_total_flops())


# PyTorch (2.13) knows the fused attention of GPUs but not that of the CPU, and would count it as 0.
_aten = torch.ops.aten
_CPU_ATTENTION: dict[Any, Callable[..., int]] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda *shapes, **_: sdpa_backward_flop_count(
        *shapes[:4]
    ),
}
