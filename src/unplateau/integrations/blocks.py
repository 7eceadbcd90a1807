"""The blocks of any module: what a forward pass leaves in them, by hooks that change nothing.

Legend: B rows, T positions, D width, L blocks.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from unplateau.errors import SpecError, suggest
from unplateau.integrations.attention import Attended, AttentionCapture, read
from unplateau.integrations.huggingface.passes import evaluating, forget_compiled, not_compiled

logger = logging.getLogger(__name__)

PASSES_KEPT = 3
"""Of those that nobody has read yet; each holds on to its graph."""


@dataclass
class Pass:
    """One forward pass. ``states``: what enters the first block (0) and what blocks 1 .. L return, as they return it.

    ``found``: calls of attention by block. ``given``: the arguments of the model. ``blind``: whether a block ran
    without gradients inside it. ``looked_at``: the blocks whose attention is to be kept. ``last``: the block after
    which the pass ends. ``change``: what happens to the states (B, T, D) that enter the first block.
    """

    states: dict[int, Any] = field(default_factory=dict)
    found: dict[int, list[Attended]] = field(default_factory=dict)
    given: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    blind: bool = False
    looked_at: frozenset[int] = frozenset()
    last: int | None = None
    change: Callable[[Tensor], Tensor] | None = None


class _EnoughError(Exception):
    """Ends a pass whose later blocks nobody needs."""


class BlockRecorder:
    """Keeps what the newest forward pass with gradients leaves in the blocks of a model.

    ``batch_first``: whether the states of the blocks are (B, T, D) or (T, B, D). ``shown``: a differentiable function
    that makes such states of the tensors that blocks take and return, which are these states themselves without it.
    ``looked_at``: the blocks whose attention is kept as well, where the model is not compiled.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Sequence[nn.Module],
        *,
        batch_first: bool = True,
        shown: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.model, self.blocks, self.batch_first, self.shown = model, tuple(blocks), batch_first, shown
        self.looked_at: set[int] = set()
        self._newest: deque[Pass] = deque(maxlen=PASSES_KEPT)
        self._open: Pass | None = None
        self._apart: Pass | None = None
        self._captures: dict[int, AttentionCapture] = {}
        self._around: list[RemovableHandle] = [
            model.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True),
            model.register_forward_hook(self._end, always_call=True),
        ]
        self._inside: list[RemovableHandle] = []
        self._attach()
        forget_compiled()

    def close(self) -> None:
        """Removes the hooks."""
        self._detach()
        for handle in self._around:
            handle.remove()
        self._around = []
        self._newest.clear()

    def take(self, fits: Callable[[Pass], bool] = lambda _: True) -> Pass:
        """The newest pass with gradients that ``fits``, else the newest, once. Raises SpecError if it cannot be read.

        A loop may call its model more than once before it reads: the few newest passes are kept until then.
        """
        handles = [*self._around, *self._inside]
        if not self._around or not all(handle.id in (handle.hooks_dict_ref() or {}) for handle in handles):
            raise SpecError(
                "a hook was removed from the model's blocks, by close() or by other code: make a new helper"
            )
        found = [*reversed(self._newest)]
        self._newest.clear()
        if not found:
            raise SpecError("the model must be called on this batch, with gradients, just before; it was not")
        newest = next((one for one in found if fits(one)), found[0])
        if newest.blind:
            raise SpecError(
                "blocks ran without gradients inside the model: checkpoint activations with use_reentrant=False"
            )
        if len(newest.states) <= len(self.blocks):
            missing = min(set(range(1, len(self.blocks) + 1)) - set(newest.states), default=1)
            raise SpecError(f"block {missing} of {len(self.blocks)} did not run in the newest call of the model")
        return newest

    def run(self, call: Callable[[], Any], **wanted: Any) -> Pass:
        """One more pass, apart from those of the loop: in evaluation mode, without dropout; ``wanted``: of a Pass."""
        self._apart = Pass(**wanted)
        try:
            with evaluating(self.model), not_compiled():
                call()
        except _EnoughError:
            pass
        finally:
            done, self._apart = self._apart, None
        return done

    def states(self, done: Pass, layer: int) -> Tensor:
        """(B, T, D) after ``layer`` blocks. Raises SpecError if the block returned no such tensor."""
        kept = done.states[layer]
        own = first_tensor(kept)
        shown = own if own is None or self.shown is None else self.shown(own)
        if isinstance(shown, Tensor) and shown.ndim == 3:
            return shown if self.batch_first else shown.transpose(0, 1)
        where = "what enters block 1" if layer == 0 else f"what block {layer} returns"
        if own is None or self.shown is None:
            what = f"{where} must be, or begin with, a tensor (rows, positions, width); it is {_described(kept, own)}"
            raise SpecError(what + (": give states=" if own is not None and own.ndim > 3 else ""))
        raise SpecError(
            f"states: must make (rows, positions, width) of {where}, which is {_described(kept, own)}; got "
            f"{_described(shown, shown)}"
        )

    def attention(self, done: Pass, layer: int, rows: int | None, again: Callable[[], Any]) -> Tensor | None:
        """(R, H, T, T): where block ``layer`` looks in the first rows; None if it calls no attention over positions.

        ``again``: calls the model on these rows. It is needed where ``done`` has not kept the block's attention: before
        it was asked for, and always where the model is compiled.
        """
        n_rows, n_positions = self.states(done, 0).shape[:2]
        n_most = n_rows if rows is None else min(rows, n_rows)
        if layer in done.found:
            return read(done.found[layer], n_rows, n_positions, n_most)
        self.looked_at.add(layer)
        done = self.run(again, last=layer, looked_at=frozenset({layer}))
        return read(done.found[layer], n_most, n_positions, n_most)

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        del module
        if self._apart is not None:
            return
        if torch.is_grad_enabled():
            self._open = Pass(looked_at=frozenset(self.looked_at))
            self._newest.append(self._open)
            if not torch.compiler.is_compiling():
                self._open.given = (args, kwargs)
        elif not torch.compiler.is_compiling():
            self._detach()  # nobody reads this pass: blocks may take the fast path that PyTorch has for those without

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        del module, args, output
        if self._apart is None:
            self._open = None
            if not torch.compiler.is_compiling() and not self._inside:
                self._attach()

    def _attach(self) -> None:
        for layer, block in enumerate(self.blocks, start=1):
            before, after = partial(self._enter, layer), partial(self._leave, layer)
            self._inside.append(block.register_forward_pre_hook(before, with_kwargs=True))
            self._inside.append(block.register_forward_hook(after, always_call=True))

    def _detach(self) -> None:
        for handle in self._inside:
            handle.remove()
        self._inside = []

    def _enter(self, layer: int, module: nn.Module, args: Any, kwargs: Any) -> Any:
        del module
        into = self._apart or self._open
        if into is None:
            return None
        changed = None
        if layer == 1:
            into.states[0], into.blind = _entering(args, kwargs), into.blind or not torch.is_grad_enabled()
            changed = None if into.change is None else self._changed(into.change, args, kwargs)
        if into.last == 0:
            raise _EnoughError
        if layer in into.looked_at and not torch.compiler.is_compiling():
            self._captures[layer] = AttentionCapture()
            self._captures[layer].__enter__()  # type: ignore[no-untyped-call]
        return changed

    def _leave(self, layer: int, module: nn.Module, args: Any, output: Any) -> None:
        del module, args
        into = self._apart or self._open
        if into is None:
            return
        if layer in self._captures:
            capture = self._captures.pop(layer)
            capture.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            into.found[layer] = capture.found
        into.states[layer] = output
        if into.last == layer and output is not None:  # which it is where the block has failed
            raise _EnoughError

    def _changed(self, change: Callable[[Tensor], Tensor], args: Any, kwargs: Any) -> Any:
        """The arguments of the first block with other states."""
        old = first_tensor(_entering(args, kwargs))
        assert old is not None
        if self.shown is not None:
            new = self._moved(old, change)
        else:
            new = change(old) if self.batch_first else change(old.transpose(0, 1)).transpose(0, 1)
        put = {name: new if value is old else value for name, value in kwargs.items()}
        return tuple(new if value is old else value for value in args), put

    def _moved(self, old: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """What is made into states, moved where, and as far as, these depend on it."""
        with torch.enable_grad():
            leaf = old.detach().requires_grad_()
            states = self.states(Pass({0: leaf}), 0)
            (moved,) = torch.autograd.grad(states, leaf, change(states.detach()) - states.detach())
        return old + moved


def _described(kept: Any, tensor: Any) -> str:
    return f"of shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(kept).__name__


def first_tensor(value: Any) -> Tensor | None:
    """The tensor itself, or the first one of a tuple, list or mapping (such as an output of transformers)."""
    if isinstance(value, Tensor):
        return value
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return next((one for one in inside if isinstance(one, Tensor)), None)


def find_blocks(model: nn.Module, blocks: str | Sequence[nn.Module]) -> list[nn.Module]:
    """The blocks by the dotted name of what holds them, or as given. Raises SpecError, with a suggestion, for none."""
    if not isinstance(blocks, str):
        found = list(blocks)
        strangers = [number for number, one in enumerate(found, start=1) if all(one is not m for m in model.modules())]
        if not found or strangers:
            which = f"block {strangers[0]} is no part of the model" if strangers else "the list is empty"
            raise SpecError(f"blocks: {which}")
        return found
    names = {name: module for name, module in model.named_modules() if name}
    if blocks not in names:
        lists = [name for name, module in names.items() if isinstance(module, nn.ModuleList | nn.Sequential)]
        raise SpecError(f"blocks: the model has no '{blocks}'{suggest(blocks, lists or names)}")
    held = names[blocks]
    if isinstance(held, nn.ModuleList | nn.Sequential):
        found = list(held)
    else:
        inside = [child for child in held.children() if isinstance(child, nn.ModuleList | nn.Sequential)]
        if len(inside) != 1:
            raise SpecError(f"blocks: '{blocks}' is a {type(held).__name__} and holds {len(inside)} lists of modules")
        found = list(inside[0])
    if not found:
        raise SpecError(f"blocks: '{blocks}' is empty")
    return found


def width_of(block: nn.Module) -> int:
    """D: the size that most parameters of a block share; of two, the smaller."""
    counted = Counter(size for parameter in block.parameters() for size in set(parameter.shape) if size > 1)
    if not counted:
        raise SpecError(f"blocks: a {type(block).__name__} has no parameters, so its width is not known")
    most = max(counted.values())
    return min(size for size, count in counted.items() if count == most)


def _entering(args: Any, kwargs: Any) -> Any:
    """The states among the arguments of a block: the first tensor."""
    return first_tensor(args) if first_tensor(args) is not None else first_tensor(kwargs)
