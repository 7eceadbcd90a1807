"""The tensors that travel along the chain, with their shapes.

Legend: B batch, K pairs of a prompt, T positions of a prompt (2K where items take one position each), M positions with
known factors (K unless every word of an item has its own), L layers, D width, F factors, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from unplateau.errors import SpecError
from unplateau.layout import Cut, Layout
from unplateau.notebook import facts_html, table_html

R = TypeVar("R", bound="Rows")


@dataclass(frozen=True)
class Rows:
    """Tensors with a row for each prompt or item, and what all rows share."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same change to each tensor."""
        return _combined([self], lambda tensors: change(tensors[0]))

    def tensors(self) -> list[Tensor]:
        """All of them, in order."""
        parts = [value.tensors() if isinstance(value, Rows) else [value] for value in vars(self).values()]
        return [one for part in parts for one in part if isinstance(one, Tensor)]


def concatenate(parts: Sequence[R]) -> R:
    """Rows of several batches (prompts, items) of the same task shape, one after the other."""
    return _combined(parts, torch.cat)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The same tensor on another device. A GPU gets it when it comes to that, and the processor goes on meanwhile."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _combined(parts: Sequence[R], combine: Callable[[list[Tensor]], Tensor]) -> R:
    def column(values: list[Any]) -> Any:
        if isinstance(values[0], Rows):
            return _combined(values, combine)
        return combine(values) if isinstance(values[0], Tensor) else values[0]

    return replace(parts[0], **{name: column([getattr(part, name) for part in parts]) for name in vars(parts[0])})


@dataclass(frozen=True)
class Prompts(Rows):
    """What a model reads: ``[cue] x_1 y_1 ... x_K y_K``, positions as ``layout`` says.

    ``items``: vectors (B, K, item width) float, or tokens (B, K, positions of an item, P) int64, where the P tokens of
    a position (one for a word, several for its letters) enter as the sum of their embeddings and 0 stands for none.
    ``labels`` (B, K) int64, float where they are numbers. ``cues`` (B,) int64: what stands before the first item, where
    the task has cues.
    """

    items: Tensor
    labels: Tensor
    layout: Layout
    cues: Tensor | None = None

    def at_known(self, states: Tensor) -> Tensor:
        """(..., B, T, D) -> (..., B, M, D): the states at the positions whose factors are known."""
        if not self.layout.in_lists:
            return self.at_queries(states)
        pairs = states[..., self.layout.first :, :].unflatten(-2, (self.layout.n_pairs, -1))
        return pairs[..., :-1, :].flatten(-3, -2)

    def at_queries(self, states: Tensor) -> Tensor:
        """(..., B, T, D) -> (..., B, K, D): the states from which labels are predicted."""
        queries = self.layout.queries
        return states[..., queries.start :: queries.step, :]

    def at_labels(self, states: Tensor) -> Tensor:
        """(..., B, T, D) -> (..., B, K, D): the states of the labels."""
        labels = self.layout.labels
        return states[..., labels.start :: labels.step, :]


@dataclass(frozen=True)
class TokenPrompts(Rows):
    """Tokens (B, T) int64 for a language model, and as much as is known about them.

    ``mask`` (B, T) bool, False at padding. ``units`` (B, T) int64: what cut ``item`` leaves together shares a number:
    the tokens of one item (of one word, where every word has factors), every other token has its own. ``known``
    (B, M): positions of the last token of each item, whose factors are known. ``queries`` (B, K): positions whose next
    token is the label. ``places`` (B, T): where each token stands; None: counted from the first that is no padding.
    """

    tokens: Tensor
    mask: Tensor | None = None
    units: Tensor | None = None
    known: Tensor | None = None
    queries: Tensor | None = None
    places: Tensor | None = None

    def at_known(self, states: Tensor) -> Tensor:
        """(..., B, T, D) -> (..., B, M, D): the states at the positions whose factors are known."""
        return gathered(states, self.known)

    def at_queries(self, states: Tensor) -> Tensor:
        """(..., B, T, D) -> (..., B, K, D): the states from which labels are predicted."""
        return gathered(states, self.queries)

    def positions(self) -> Tensor:
        """(B, T): the place of each token in its row; 0 at the first one that is not padding."""
        if self.places is not None:
            return self.places
        if self.mask is None:
            return torch.arange(self.tokens.shape[1], device=self.tokens.device).expand_as(self.tokens)
        return (self.mask.long().cumsum(1) - 1).clamp(min=0)


Inputs = Prompts | TokenPrompts


@dataclass(frozen=True, repr=False)
class Batch(Rows):
    """One batch of prompts with everything that is known about it.

    ``inputs``: what the model reads. ``targets`` (B, K): the label to predict at each query position. ``factors``
    (B, M, F): true factor values at each known position. ``hidden_factor`` (B,): number of what decides the label,
    among the F factors or, where the shape's ``choices`` are no factors, among these; 0 where it has no number.
    ``item_index`` (B, M): rows of the item source; items that are held out together share one, and -1 is an item of no
    finite set.
    """

    inputs: Inputs
    targets: Tensor
    factors: Tensor
    hidden_factor: Tensor
    item_index: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        return f"Batch({', '.join(f'{name} {shape}' for name, shape in self._shapes())})"

    def _repr_html_(self) -> str:
        return facts_html(self._shapes(), caption=f"Batch of {len(self)} prompts")

    def _shapes(self) -> list[tuple[str, str]]:
        """Each tensor and its shape."""
        tensors = {**{f"inputs.{name}": value for name, value in vars(self.inputs).items()}, **vars(self)}
        return [(name, f"{tuple(one.shape)}") for name, one in tensors.items() if isinstance(one, Tensor)]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device; nobody waits for it (see :func:`sent`)."""
        return self.map(lambda tensor: sent(tensor, device))


@dataclass(frozen=True)
class Items(Rows):
    """Items drawn alone, without a prompt.

    ``inputs``: vectors (N, item width) float, or tokens (N, positions, P) int64, one position where each has factors of
    its own. ``factors`` (N, F) int64.
    """

    inputs: Tensor
    factors: Tensor


@dataclass(frozen=True)
class Output:
    """What a model returns.

    ``logits`` (B, K, C) at the query positions, (B, K, 1) where numbers are predicted; ``hidden`` (L + 1, B, T, D),
    index 0 the embedding.
    """

    logits: Tensor
    hidden: Tensor


@dataclass(frozen=True)
class Prediction:
    """A forward pass that leaves out of its last block what nobody has asked for.

    ``logits`` as in :class:`Output`; ``at_queries`` (B, K, D): the states that they are read from; ``states``: those
    (B, T, D) that enter each block, the embedding first; ``last`` computes the states (B, T, D) after the last one.
    """

    logits: Tensor
    at_queries: Tensor
    states: Sequence[Tensor]
    last: Callable[[], Tensor]

    @classmethod
    def of(cls, output: Output, inputs: Inputs) -> Prediction:
        """What a model returns that leaves nothing out."""
        *states, last = output.hidden
        return cls(output.logits, inputs.at_queries(last), states, lambda: last)

    def after(self, layer: int) -> Tensor:
        """(B, T, D): the states after this many blocks."""
        return self.states[layer] if layer < len(self.states) else self.last()


@dataclass(frozen=True, repr=False)
class Components:
    """Hidden states taken apart: ``hidden == weights + context``, each (L + 1, B, T, D), under the named ``cut``."""

    hidden: Tensor
    weights: Tensor
    context: Tensor
    cut: Cut

    def __repr__(self) -> str:
        layers, prompts, positions, width = self.hidden.shape
        return f"Components(cut '{self.cut}': {layers} layers, {prompts} prompts, {positions} positions, width {width})"

    def _repr_html_(self) -> str:
        norms = [part.float().norm(dim=-1).mean((1, 2)).tolist() for part in (self.hidden, self.weights, self.context)]
        names = ["embedding", *(f"block {number}" for number in range(1, len(self.hidden)))]
        rows = zip(names, *norms, strict=True)
        return table_html(("mean norm", "hidden", "weights", "context"), rows, caption=repr(self))


def gathered(states: Tensor, positions: Tensor | None) -> Tensor:
    """(..., B, T, D) and (B, P) -> (..., B, P, D)."""
    if positions is None:
        raise SpecError("these prompts do not say where their items and labels stand")
    rows = torch.arange(len(positions), device=positions.device)[:, None]
    return states[..., rows, positions, :]
