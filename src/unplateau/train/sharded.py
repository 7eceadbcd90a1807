"""A model in parts, one in each process (PyTorch's FSDP2), and the optimiser of such parts.

Blocks are put together when they compute and taken apart again; gradients and what the optimiser remembers are never
whole. Heads of loss terms are small, and whole in every process.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from unplateau.decompose import Trainable
from unplateau.torchrun import place
from unplateau.train.distributed import is_first
from unplateau.train.spec import TrainConfig
from unplateau.train.updates import Updates

OUTSIDE = "attention_weights"
"""A method of blocks that is called beside their forward pass, if they have it."""


def shard(step: Any, device: torch.device) -> None:
    """Takes the weights of a ``StepModule`` apart, each block by itself, and moves it to the device."""
    mesh = init_device_mesh(device.type, (place().size,))
    for block in blocks(step.model):
        fully_shard(block, mesh=mesh)
        if hasattr(block, OUTSIDE):
            register_fsdp_forward_method(block, OUTSIDE)
    fully_shard(step, mesh=mesh)


def put_together(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, on the CPU where processes have parts of them, in the first process; the others get none."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor
        if is_first():
            found[name] = full
    return found


def blocks(model: nn.Module) -> list[nn.Module]:
    """The elements of its lists of modules, the outermost ones."""
    if isinstance(model, nn.ModuleList):
        return [*model]
    return [block for child in model.children() for block in blocks(child)]


class ShardedUpdates(Updates):
    """Updates of the parts of weights that this process has, for optimisers that treat every number alike.

    What it remembers is told as a whole, and put back from it.
    """

    def __init__(
        self, config: TrainConfig, model: Trainable, heads: nn.ModuleDict, remembered: Mapping[str, Tensor]
    ) -> None:
        """``remembered``: by updates of the whole model."""
        self.sharded: list[Any] = [one for one in model.parameters() if one.requires_grad]
        with torch.no_grad():  # of the same memory
            parts: Any = nn.ParameterList(nn.Parameter(one.to_local()) for one in self.sharded)
        super().__init__(config, parts, heads)
        if any(self._part(name) is not None for name in remembered):  # there have been steps
            self.load({name: self._own(name, tensor) for name, tensor in remembered.items()})

    def step(self, step: int) -> None:
        """As of the whole weights."""
        for mine, part in zip(self.weights, self.sharded, strict=False):
            mine.grad = None if part.grad is None else part.grad.to_local()
        super().step(step)

    def zero_grad(self) -> None:
        """Drops the gradients of all weights."""
        super().zero_grad()
        for part in self.sharded:
            part.grad = None

    def clip(self, most: float) -> None:
        """By the norm over all processes."""
        of_parts = [one.grad for one in [*self.weights][: len(self.sharded)] if one.grad is not None]
        square = get_total_norm(of_parts).square()
        distributed.all_reduce(square)
        of_heads = get_total_norm([one.grad for one in self._of_heads() if one.grad is not None])
        clip_grads_with_norm_(self.weights, most, (square + of_heads.to(square.device).square()).sqrt())

    def tensors(self) -> dict[str, Tensor]:
        """All that is remembered; what is in parts can be put together."""
        return {name: self._whole(name, tensor) for name, tensor in super().tensors().items()}

    def _of_heads(self) -> list[nn.Parameter]:
        return [*self.weights][len(self.sharded) :]

    def _part(self, name: str) -> Any:
        """The weight in parts that a tensor of this name belongs to; None for the others."""
        number = name.partition("/")[0]
        return self.sharded[int(number)] if number.isdecimal() and int(number) < len(self.sharded) else None

    def _whole(self, name: str, tensor: Tensor) -> Tensor:
        part = self._part(name)
        if part is None or tensor.shape != part.to_local().shape:
            return tensor
        mesh, placements = part.device_mesh, part.placements
        return DTensor.from_local(tensor, mesh, placements, shape=part.shape, stride=part.stride())

    def _own(self, name: str, tensor: Tensor) -> Tensor:
        part = self._part(name)
        if part is None or tensor.shape != part.shape:
            return tensor
        return distribute_tensor(tensor, part.device_mesh, part.placements).to_local()
