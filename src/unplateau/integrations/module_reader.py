"""Any module that reads prompts x_1 y_1 x_2 y_2 ..., as a model that ``decompose`` and the probes read.

The module's own code runs, on our prompts; hooks on its blocks are gone when the call returns.

Legend: B prompts, K pairs, T positions of a prompt, P positions of the module's own sequence, L blocks, D width.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from unplateau.errors import SpecError
from unplateau.integrations.attention import read
from unplateau.integrations.blocks import BlockRecorder, find_blocks
from unplateau.integrations.huggingface.passes import untouched
from unplateau.integrations.huggingface.wrappers import unwrapped
from unplateau.integrations.pairs import located
from unplateau.integrations.perturbation import SAME
from unplateau.layout import Attention
from unplateau.tensors import Inputs, Output, Prompts

EXACT = 1e-3
"""As ``SAME``, where nothing is computed in half precision."""


def items_and_labels(prompts: Prompts) -> tuple[Any, ...]:
    """What most modules take: ``model(items, labels)``."""
    return prompts.items, prompts.labels


class ModuleReader(nn.Module):
    """Makes any causal module :class:`~unplateau.decompose.Readable`, under cut ``self``.

    ``blocks``: dotted name of the ``ModuleList`` or ``Sequential`` of the module's blocks, or of what holds it, or the
    blocks themselves. ``call``: the module's arguments for our :class:`~unplateau.tensors.Prompts`, a tuple, or a dict
    of named ones. ``positions``: which positions of its own sequence are those of the prompt, where it has others; the
    last label may be missing. ``batch_first``: whether the states of the blocks are (B, P, D) or (P, B, D).
    ``parameters()`` are the module's own.

    Alone, a position is shown as the first of a prompt of one pair: its state as it enters block 1, with what the
    module has added there for its place, takes the first item's, and no other position stands before it but the
    module's own. So its place is kept, and labels are read as items are. What enters block 1 must be each position's
    own and all that the blocks read of it. Every pass is made without gradients, in evaluation mode and with random
    numbers of its own.

    Raises SpecError for other cuts, and for a module that makes something else of the first item alone than in its
    prompt, such as one that is not causal.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        blocks: str | Sequence[nn.Module],
        call: Callable[[Prompts], tuple[Any, ...] | Mapping[str, Any]] = items_and_labels,
        positions: slice | Sequence[int] = slice(None),
        batch_first: bool = True,
    ) -> None:
        super().__init__()
        self.model = unwrapped(model)
        self.blocks = tuple(find_blocks(self.model, blocks))
        self.n_layers = len(self.blocks)
        self.call, self.positions, self.batch_first = call, positions, batch_first

    def forward(self, inputs: Inputs, attention: Attention = "causal") -> Output:
        """Hidden states (L + 1, B, T, D), float32, and logits (B, K, C): the module's own output at the queries.

        Index 0 is what enters block 1, L what the last block returns. There are no logits, (B, K, 0), under ``self``
        and where the output is no tensor of a row for each query or position.
        """
        prompts = _only_prompts(inputs)
        if attention not in ("causal", "self"):
            raise SpecError(f"cut {attention} means nothing in any module; use cut self")
        with untouched(self.model):
            states, output = self._run(prompts)
            at = self._located(prompts, states[0])
            hidden = torch.stack([state[:, at] for state in states])  # (L + 1, B, T, D)
            if attention == "causal":
                return Output(_at_queries(output, prompts, states[0], at), hidden.float())
            alone = self._alone(prompts, hidden[0], at[0])
            self._check_first(hidden[:, :, 0], alone[:, :, 0])
            return Output(_no_logits(prompts), alone.float())

    def attentions(self, inputs: Inputs) -> Tensor | None:
        """(L, B, H, T, T): what each block attends to; None if one calls no attention of PyTorch's over positions."""
        prompts = _only_prompts(inputs)
        layers = range(1, self.n_layers + 1)
        args, kwargs = self._arguments(prompts)
        with (
            untouched(self.model),
            closing(BlockRecorder(self.model, self.blocks, batch_first=self.batch_first)) as recorder,
        ):
            done = recorder.run(lambda: self.model(*args, **kwargs), looked_at=frozenset(layers))
            n_rows, n_own = recorder.states(done, 0).shape[:2]
            found = [read(done.found.get(layer, []), n_rows, n_own, n_rows) for layer in layers]
            shares = [one for one in found if one is not None]
            if len(shares) < self.n_layers:
                return None
            at = self._located(prompts, recorder.states(done, 0))
            return torch.stack([one[:, :, at][..., at] for one in shares])

    def _arguments(self, prompts: Prompts) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        given = self.call(prompts)
        return ((), given) if isinstance(given, Mapping) else (given, {})

    def _run(self, prompts: Prompts, change: Callable[[Tensor], Tensor] | None = None) -> tuple[list[Tensor], Any]:
        """What enters block 1 and what each block returns, (B, P, D), and the output of the module."""
        args, kwargs = self._arguments(prompts)
        made: list[Any] = []
        with closing(BlockRecorder(self.model, self.blocks, batch_first=self.batch_first)) as recorder:
            done = recorder.run(lambda: made.append(self.model(*args, **kwargs)), change=change)
            missing = set(range(1, self.n_layers + 1)) - set(done.states)
            if missing:
                raise SpecError(f"blocks: block {min(missing)} of {self.n_layers} did not run")
            return [recorder.states(done, layer) for layer in range(self.n_layers + 1)], made[0]

    def _located(self, prompts: Prompts, states: Tensor) -> list[int]:
        """Where the positions of the prompt stand among the module's own."""
        n_rows, n_own = states.shape[:2]
        at = list(located(self.positions, "positions", n_rows, n_own, lambda: None))
        n_positions = prompts.layout.n_positions
        if n_rows != len(prompts.labels) or len(at) not in (n_positions, n_positions - 1):
            raise SpecError(
                f"positions: {len(prompts.labels)} prompts of {n_positions} positions enter block 1 as {n_rows} rows "
                f"of {len(at)}; see positions, call and batch_first"
            )
        return at

    def _alone(self, prompts: Prompts, embedded: Tensor, first: int) -> Tensor:
        """(L + 1, B, T, D): every position, of which ``embedded`` (B, T, D) enters block 1, as the first of a prompt.

        The label behind it, which it must not see, is that of the last pair.
        """
        n_positions = embedded.shape[1]
        layout = replace(prompts.layout, n_pairs=1)
        one = replace(prompts, items=prompts.items[:, -1:], labels=prompts.labels[:, -1:], layout=layout)

        def put(states: Tensor) -> Tensor:
            states = states.clone()
            states[:, first] = embedded.flatten(0, 1)
            return states

        try:
            states, _ = self._run(one.map(lambda tensor: tensor.repeat_interleave(n_positions, 0)), put)
        except (RuntimeError, IndexError) as error:
            why = " ".join(str(error).split())
            raise SpecError(f"the module cannot be called on prompts of one pair ({why})") from error
        after = [state[:, first].unflatten(0, embedded.shape[:2]) for state in states[1:]]
        return torch.stack([embedded, *after])

    def _check_first(self, hidden: Tensor, alone: Tensor) -> None:
        """Raises SpecError unless the first position, (L + 1, B, D), is alone what it is in its prompt."""
        half = torch.is_autocast_enabled(hidden.device.type) or hidden.dtype in (torch.float16, torch.bfloat16)
        apart = (hidden - alone).abs().amax((1, 2)) > (SAME if half else EXACT) * hidden.abs().amax((1, 2))
        if bool(apart.any()):
            raise SpecError(
                f"after block {int(apart.nonzero()[0])} the first position of a prompt is not what it is alone: the "
                "module is not causal, or its blocks read more than what enters block 1, or change that in place"
            )


def _only_prompts(inputs: Inputs) -> Prompts:
    if not isinstance(inputs, Prompts):
        raise SpecError("any module reads Prompts; tokens of a language model are read by a Decoder")
    return inputs


def _at_queries(output: Any, prompts: Prompts, states: Tensor, at: list[int]) -> Tensor:
    """(B, K, C) from (B, K), (B, K, C), (B, P) or (B, P, C)."""
    if not isinstance(output, Tensor) or output.ndim not in (2, 3):
        return _no_logits(prompts)
    found = output[..., None] if output.ndim == 2 else output
    if found.shape[:2] == states.shape[:2]:
        return prompts.at_queries(found[:, at])
    return found if found.shape[:2] == prompts.labels.shape else _no_logits(prompts)


def _no_logits(prompts: Prompts) -> Tensor:
    return torch.empty(*prompts.labels.shape, 0, device=prompts.labels.device)
