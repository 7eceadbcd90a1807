"""Which modules are what, found by what they do in a pass of a few tokens, whatever their classes are called.

Legend: B rows, T positions, D width.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unplateau.errors import SpecError
from unplateau.integrations.huggingface.parts import PartNames, Slot, find_backbone, find_blocks, model_type
from unplateau.integrations.huggingface.passes import entering, evaluating, isolating, kernel_for_masks, not_compiled
from unplateau.integrations.huggingface.wrappers import bare
from unplateau.rng import fold

FAILURES = (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError)
"""What a model raises that is used as it is not meant to be."""
N_POSITIONS = 3
"""Fewer than any sliding window."""


@dataclass
class _Called:
    """A call of a module."""

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


@torch.no_grad()
def part_names(model: Any) -> PartNames:
    """The names that attention modules have in their blocks, and the final norm beside them.

    Attention is what mixes positions, and mixes none where a mask lets each see itself only. Raises SpecError, naming
    the block, where there is not exactly one in each.
    """
    backbone = find_backbone(model)
    blocks = find_blocks(model, backbone)
    tokens = torch.arange(1, N_POSITIONS + 1, device=next(model.parameters()).device)[None]
    with evaluating(model), not_compiled():
        after, freely = _calls(blocks, lambda: backbone(input_ids=tokens, use_cache=False))
        mixing = [{one.name for one in calls if _mixes(one)} for calls in freely]
        deaf = _deaf(backbone, blocks, tokens, mixing)
    names = []
    for number, (block, found) in enumerate(zip(blocks.module.children(), mixing, strict=True)):
        own = sorted(found - deaf[number])
        if len(own) != 1:
            raise SpecError(
                f"{model_type(model)}: block {number} ({type(bare(block)).__name__}) has {len(own) or 'no'} attention "
                "modules; without exactly one in each block, as in state-space models, cut self is not defined"
            )
        names += own
    return PartNames(tuple(dict.fromkeys(names)), _final_norm(model, blocks, after))


def _deaf(backbone: nn.Module, blocks: Slot, tokens: Tensor, mixing: list[set[str]]) -> list[set[str]]:
    """Of the modules that mix positions, those of each block that also do where a mask forbids it."""
    try:
        with kernel_for_masks(backbone, "self"):
            inputs = isolating(backbone, tokens)
            _, alone = _calls(blocks, lambda: backbone(input_ids=tokens, use_cache=False, **inputs))
            return [{one.name for one in calls if _mixes(one)} for calls in alone]
    except FAILURES:  # it takes no such mask
        return mixing


def _calls(blocks: Slot, run: Callable[[], Any]) -> tuple[list[_Called], list[list[_Called]]]:
    """Calls of the modules beside the blocks, after the last one; and of those in each block."""
    held = [bare(block) for block in blocks.module.children()]
    inside: list[list[_Called]] = [[] for _ in held]
    after: list[_Called] = []
    with ExitStack() as stack:
        for block, calls in zip(held, inside, strict=True):
            stack.enter_context(_noting(dict(block.named_children()), calls))
        beside = {name: child for name, child in blocks.parent.named_children() if child is not blocks.module}
        stack.enter_context(_noting(beside, after))
        stack.callback(held[-1].register_forward_hook(lambda *_: after.clear()).remove)
        run()
    return after, inside


@contextmanager
def _noting(modules: Mapping[str, nn.Module], calls: list[_Called]) -> Iterator[None]:
    def noting(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs, output: calls.append(_Called(name, module, args, kwargs, output))

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(noting(name), with_kwargs=True).remove)
        yield


def _mixes(call: _Called) -> bool:
    """Whether another state at the first position changes what the module makes of the last one."""
    states = entering(call.args, call.kwargs)
    if not isinstance(states, Tensor) or states.ndim != 3 or not states.is_floating_point():
        return False
    other = states.clone()
    noise = torch.randn(states.shape[2], generator=fold(0, "another state")).to(states)
    other[:, 0] += noise * states.float().std().clamp(min=1e-3).to(states.dtype)
    args = tuple(other if one is states else one for one in call.args)
    kwargs = {name: other if one is states else one for name, one in call.kwargs.items()}
    try:
        before, after = (
            _states(call.module(*given, **named)) for given, named in ((call.args, call.kwargs), (args, kwargs))
        )
    except FAILURES:
        return False
    if before is None or after is None:
        return False
    return float((before[:, -1] - after[:, -1]).abs().max()) > 1e-4 * float(before.abs().max())


def _states(output: Any) -> Tensor | None:
    """(B, T, D): what a module returns, alone or first of several."""
    found = output[0] if isinstance(output, tuple | list) and output else output
    return found if isinstance(found, Tensor) and found.ndim == 3 else None


def _final_norm(model: nn.Module, blocks: Slot, after: list[_Called]) -> str:
    """By its class, or the first module with weights that is called after the blocks."""
    called = [one.name for one in after if "norm" in type(bare(one.module)).__name__.lower()]
    with_weights = [one.name for one in after if next(one.module.parameters(), None) is not None]
    if not called and not with_weights:
        raise SpecError(f"{model_type(model)}: no final norm found after the blocks in {type(blocks.parent).__name__}")
    return called[-1] if called else with_weights[0]
