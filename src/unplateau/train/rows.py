"""Rows of a batch computed by several processes, each its own, and brought together again.

What is made of the states of a model, the loss terms above all, is made of all rows in every process: so a term may
compare prompts, count what it averages over or use the first rows only, and is the same number as in one process.
Legend: W processes, R rows.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, overload

import torch
from torch import Tensor, distributed
from torch.autograd import Function

from unplateau.decompose import Attentive, Decomposable, predict
from unplateau.layout import Attention
from unplateau.tensors import Inputs, Output, Prediction
from unplateau.torchrun import Place, place


def own_rows(n_rows: int, here: Place) -> Tensor:
    """(ceil(R / W),): row n goes to process n mod W; who would have one less has the last row once more."""
    return torch.arange(here.rank, -(-n_rows // here.size) * here.size, here.size).clamp(max=n_rows - 1)


class _Own(Function):
    """The own rows of what all processes have. Gradients of own rows are W times too large, see :class:`_Whole`."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor) -> Tensor:
        ctx.shape = whole.shape
        return whole[own_rows(len(whole), place())]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        rows = own_rows(ctx.shape[0], place()).to(gradient.device)
        return gradient.new_zeros(ctx.shape).index_add(0, rows, gradient / place().size)


class _Whole(Function):
    """All rows, from the own ones of each process.

    Every process computes the same loss from them. So the gradient of own rows is there without asking the others,
    times W, because gradients are averaged over processes and only one of these has had the row.
    """

    @staticmethod
    def forward(ctx: Any, mine: Tensor, n_rows: int) -> Tensor:
        del ctx
        mine = mine.contiguous()
        parts = [torch.empty_like(mine) for _ in range(place().size)]
        distributed.all_gather(parts, mine)
        return torch.stack(parts, 1).flatten(0, 1)[:n_rows]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        del ctx
        here = place()
        missing = -len(gradient) % here.size
        padded = torch.cat((gradient, gradient.new_zeros(missing, *gradient.shape[1:])))
        return padded[here.rank :: here.size] * here.size, None


def _own(whole: Tensor) -> Tensor:
    """(R, ...) -> (ceil(R / W), ...)."""
    own: Tensor = _Own.apply(whole)  # type: ignore[no-untyped-call]
    return own


def _whole(mine: Tensor, n_rows: int) -> Tensor:
    """(ceil(R / W), ...) -> (R, ...)."""
    whole: Tensor = _Whole.apply(mine, n_rows)  # type: ignore[no-untyped-call]
    return whole


class _States(Sequence[Tensor]):
    """States of all rows, which are sent when they are asked for."""

    def __init__(self, mine: Sequence[Tensor], n_rows: int) -> None:
        self.mine, self.n_rows = mine, n_rows
        self.sent: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.mine)

    @overload
    def __getitem__(self, layer: int) -> Tensor: ...
    @overload
    def __getitem__(self, layer: slice) -> list[Tensor]: ...
    def __getitem__(self, layer: int | slice) -> Tensor | list[Tensor]:
        if isinstance(layer, slice):
            return [self[number] for number in range(*layer.indices(len(self)))]
        number = range(len(self))[layer]
        if number not in self.sent:
            self.sent[number] = _whole(self.mine[number], self.n_rows)
        return self.sent[number]


class OwnRows:
    """A model of which each process computes its own rows; what it returns has all of them, in all processes.

    Gradients of its weights must be averaged over the processes afterwards.
    """

    def __init__(self, model: Decomposable) -> None:
        self.model = model

    @property
    def n_layers(self) -> int:
        """Number of blocks (L)."""
        return self.model.n_layers

    def __call__(self, inputs: Inputs, attention: Attention = "causal") -> Output:
        """Logits (B, K, C) and hidden states (L + 1, B, T, D)."""
        output, n_rows = self.model(inputs.map(_own), attention), _n_rows(inputs)
        return Output(_whole(output.logits, n_rows), _whole(output.hidden.transpose(0, 1), n_rows).transpose(0, 1))

    def predict_queries(self, inputs: Inputs) -> Prediction:
        """The forward pass, as sparing as the model allows; states are sent when they are asked for."""
        mine, n_rows = predict(self.model, inputs.map(_own)), _n_rows(inputs)
        last: Callable[[], Tensor] = cache(lambda: _whole(mine.last(), n_rows))
        states = _States(mine.states, n_rows)
        return Prediction(_whole(mine.logits, n_rows), _whole(mine.at_queries, n_rows), states, last)

    def component(self, inputs: Inputs, cut: Attention, n_layers: int) -> Tensor:
        """(B, M, D)."""
        return _whole(self.model.component(inputs.map(_own), cut, n_layers), _n_rows(inputs))

    def component_alone(self, items: Tensor, positions: Tensor, cut: Attention, n_layers: int) -> Tensor:
        """(N, D)."""
        return _whole(self.model.component_alone(_own(items), _own(positions), cut, n_layers), len(items))

    def attention_weights(self, hidden: Tensor, layer: int) -> Tensor:
        """(B, H, T, T)."""
        assert isinstance(self.model, Attentive), "terms that read attention are refused for a model without it"
        return _whole(self.model.attention_weights(_own(hidden), layer), len(hidden))

    def normalise(self, hidden: Tensor) -> Tensor:
        """(..., D): of all rows, in every process."""
        return self.model.normalise(hidden)


def _n_rows(inputs: Inputs) -> int:
    return len(next(value for value in vars(inputs).values() if isinstance(value, Tensor)))
