"""How the updates of a run are shared by its processes: whole copies of the model (DDP), or parts of it (FSDP2).

Either way a step has the losses and gradients that one process would have, to rounding: see ``unplateau.train.rows``.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from unplateau.decompose import Trainable, predict
from unplateau.tasks.base import Task
from unplateau.tasks.loss import prediction_loss
from unplateau.tensors import Batch, Prediction
from unplateau.torchrun import place
from unplateau.train.distributed import alike, is_first
from unplateau.train.given import Given
from unplateau.train.rows import OwnRows
from unplateau.train.spec import RunSpec
from unplateau.train.step import Losses, build_model, compute_losses
from unplateau.train.updates import Updates

Step = Callable[[Task, Batch, int, Prediction | None, Given], Losses]
"""The losses of one step on a batch that this task was sampled for, the same in all processes: ``compute_losses``."""


def is_sharded(spec: RunSpec) -> bool:
    """Whether no process keeps the whole model; of a single one that cannot be asked."""
    return spec.train.sharded and place().size > 1


def share(
    spec: RunSpec, model: Trainable, heads: nn.ModuleDict, updates: Updates, device: torch.device
) -> tuple[Step, Updates]:
    """How losses are computed and weights updated from now on, by all processes together.

    Model and heads then have the values of the first process. If the run is sharded all may be on the CPU before, and
    ``updates`` is not to be used any more.
    """
    if place().size == 1:
        return partial(compute_losses, spec, model, heads), updates
    alike(model.state_dict())
    alike(heads.state_dict())
    module: Any = StepModule(spec, model)
    if is_sharded(spec):
        from unplateau.train.sharded import ShardedUpdates, shard  # noqa: PLC0415 (seldom needed, slow to import)

        remembered = updates.tensors()
        shard(module, device)
        updates = ShardedUpdates(spec.train, model, heads.to(device), remembered)
    else:
        module = DistributedDataParallel(module, find_unused_parameters=_leaves_out(spec, model, device))
    for weight in heads.parameters():  # small, and whole in all processes
        weight.register_post_accumulate_grad_hook(_average)

    def losses(task: Task, batch: Batch, step: int, passed: Prediction | None, given: Given) -> Losses:
        del passed, given  # each process makes its own
        return Losses(*module(heads, task, batch, step))

    return losses, updates


class StepModule(nn.Module):
    """What DDP and FSDP2 wrap: a model, whose forward pass makes the losses of a step."""

    def __init__(self, spec: RunSpec, model: Trainable) -> None:
        super().__init__()
        self.spec, self.model = spec, model

    def forward(
        self, heads: nn.ModuleDict, task: Task, batch: Batch, step: int
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Total, prediction and terms, where the wrappers find tensors."""
        losses = compute_losses(self.spec, OwnRows(self.model), heads, task, batch, step)
        return losses.total, losses.prediction, losses.terms


def _average(weight: Tensor) -> None:
    assert weight.grad is not None
    torch.distributed.all_reduce(weight.grad)
    weight.grad /= place().size


def _leaves_out(spec: RunSpec, model: Trainable, device: torch.device) -> bool:
    """Whether a prediction leaves weights of the model out, for which DDP would wait in vain."""
    batch = spec.task.sample_on(device, 0, batch_size=1, seed=spec.seed)
    weights = [one for one in model.parameters() if one.requires_grad]
    if not weights:
        return False
    loss = prediction_loss(predict(model, batch.inputs).logits, batch.targets)
    return any(one is None for one in torch.autograd.grad(loss, weights, allow_unused=True))


def whole(spec: RunSpec, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of which processes may have parts, put together in the first one, for which all must ask together."""
    if not is_sharded(spec):
        return dict(tensors)
    from unplateau.train.sharded import put_together  # noqa: PLC0415

    return put_together(tensors)


def looked_at(spec: RunSpec, model: Trainable, device: torch.device) -> Trainable | None:
    """A copy of the model for the first process to look at; None in the others, which must ask at the same time."""
    if not is_sharded(spec):
        return copy.deepcopy(model) if is_first() else None
    weights = whole(spec, model.state_dict())
    if not is_first():
        return None
    copied = build_model(spec, torch.device("cpu"))
    copied.load_state_dict(weights)
    return copied.to(device)
