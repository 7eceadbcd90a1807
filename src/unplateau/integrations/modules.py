"""Loss terms in anybody's training of anybody's Transformer on prompts x_1 y_1 x_2 y_2 ...

Three lines are enough::

    helper = PromptStrategy(model, blocks="backbone.h", items=slice(0, None, 2), labels=slice(1, None, 2))
    optimiser = Adam([*model.parameters(), *helper.parameters()])
    loss = criterion(model(xs, ys), ys) + helper(xs, ys)

Legend: B prompts, R the first of them, M items, K labels, V items whose label is known, T positions, D width, H heads.
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unplateau.errors import SpecError
from unplateau.integrations.blocks import BlockRecorder, Pass, find_blocks, unwrapped, width_of
from unplateau.integrations.calls import Call, one_pair_each
from unplateau.integrations.huggingface.passes import untouched
from unplateau.integrations.labels import Reading, find_labels, reading_of
from unplateau.integrations.pairs import (
    Pairs,
    Positions,
    at_positions,
    bound_labels,
    find_pairs,
    items_alone,
    located,
    looks,
)
from unplateau.integrations.perturbation import Perturbation
from unplateau.integrations.terms import LossTerms, NotShownError, in_precision_of
from unplateau.layout import Cut
from unplateau.strategies.base import Ask, ItemStates, LabelStates, Looks, LossTerm, Read, Seen
from unplateau.strategies.strategy import Strategy

NOT_ANNOTATED = "prompts of any module have no annotation to ask for; use MatchLoss, BindLoss or LookLoss"
SAME_ITEM = 1e-4
"""Two items are the same where their embeddings differ by less than this share of their length."""

logger = logging.getLogger(__name__)


class PromptStrategy(LossTerms):
    """The loss terms of a strategy on prompts that any module reads: a :class:`~unplateau.strategies.base.Host`.

    ``blocks``: dotted name of the ``ModuleList`` or ``Sequential`` of the model's blocks, or of what holds it, or the
    blocks themselves. ``strategy``: a value or a name. ``items``, ``labels``: where items and labels stand, see
    :data:`~unplateau.integrations.pairs.Positions`; items behind the last label are queries. ``values``: a function of
    what the model is called with, or the name of an argument of the helper's own, that gives labels, (B, K) or, with
    those of the queries, (B, M), see :func:`~unplateau.integrations.pairs.reading_of`; by default they are found among
    the arguments. ``alone(layer, *args, **kwargs)``: states (R, M, D) of the
    items, none seeing another, after ``layer`` blocks; by default the model's own pass on prompts of one pair.
    ``attention(layer, *args, **kwargs)``: shares (R, H, T, T) of a block; by default those of PyTorch's functions that
    it calls. ``batch_first``: whether the states of the blocks are (B, T, D) or (T, B, D). ``seed``: of the heads.

    Call it with what the model was called with, right after the model; rows come first in every tensor. The first call
    finds out, by changing a label, whether positions are what was said and whether they are read in both directions.
    Items alone are seen without dropout, and global random numbers are not used. Without gradients, or with no term of
    a weight above 0, a call returns 0.0; in the second case there is no head, no hook and no computation.

    Raises SpecError for blocks or positions that do not exist, for a term that needs annotation, for labels that
    cannot be read, and for a model that is not causal where ``alone`` is not given.
    """

    def __init__(
        self,
        model: nn.Module,
        strategy: Strategy | str = "unplateau",
        *,
        blocks: str | Sequence[nn.Module],
        items: Positions,
        labels: Positions,
        values: str | Callable[..., Tensor] | None = None,
        alone: Callable[..., Tensor] | None = None,
        attention: Callable[..., Tensor] | None = None,
        batch_first: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(strategy, seed)
        self.places = {"items": items, "labels": labels}
        self.functions = {"values": values, "alone": alone, "attention": attention}
        self.recorder: BlockRecorder | None = None
        self.both_ways: bool | None = None
        self.source: tuple[str, bool] | None = None
        self.reading: Reading | None = None
        if self.terms:
            model = unwrapped(model)
            found = find_blocks(model, blocks)
            self.n_layers, self.width = len(found), width_of(found[0])
            own = {where for where in (items, labels, values) if isinstance(where, str)}
            self.own_names = own - set(inspect.signature(model.forward).parameters)
            self._add_heads(next(model.parameters()).device)
            self.recorder = BlockRecorder(model, found, batch_first=batch_first)

    @property
    def refused(self) -> Mapping[str, str]:
        """What only an annotation tells, and cuts other than an item shown alone."""
        refused = dict.fromkeys(("hidden", "all", "identity", "choice", "label"), NOT_ANNOTATED)
        return refused | {f"cut {cut}": f"cut {cut} means nothing in any module" for cut in ("identity", "zero")}

    def read_out(self, ask: Ask) -> nn.Module:
        """There is nothing to read out: raises SpecError."""
        raise SpecError(f"read-out of '{ask}': {NOT_ANNOTATED}")

    def forward(self, *args: Any, **kwargs: Any) -> Tensor | float:
        """What to add to the loss of this batch, in nats; 0.0 without terms, and without gradients."""
        return self._weighted(self.values(*args, **kwargs)) if torch.is_grad_enabled() else 0.0

    def values(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The unweighted value of each term by name; ``last`` keeps them for logging."""
        if self.recorder is None or self._let_go():
            return {}
        batch = self._read(self.recorder, self.recorder.take(), Call(args, kwargs))
        self._follow(batch.states(0).device)
        return self._compute(lambda term, head: _PromptView(batch, term, head, int(self.calls), self.seed))

    def close(self) -> None:
        """Removes the hooks."""
        if self.recorder is not None:
            self.recorder.close()

    def _read(self, recorder: BlockRecorder, done: Pass, call: Call) -> "_PromptBatch":
        """Where things stand in this batch, what the labels are, and, the first time, whether that is so."""
        n_rows, n_positions, width = recorder.states(done, 0).shape
        if width != self.width:
            raise SpecError(f"blocks: states have width {width}, but most parameters of block 1 have {self.width}")
        given = Call(call.args, {name: one for name, one in call.kwargs.items() if name not in self.own_names})
        _check_same_batch(done, given)
        items, labels = (
            located(where, name, n_rows, n_positions, partial(_asked, where, call))
            for name, where in self.places.items()
        )
        pairs = find_pairs(items, labels, n_rows, recorder.states(done, 0).device)
        batch = _PromptBatch(self, recorder, done, given, call, pairs, torch.empty(0), {})
        found = self._labels(batch)
        if self.reading is None:
            name = self.source[0] if self.source else "values"
            self.reading = reading_of(found, name)
            self._check(batch)
            order = "both ways" if self.both_ways else "causally"
            logger.info("prompts of %d pairs are read %s; labels: %s, %s", found.shape[1], order, name, self.reading)
        pairs = replace(pairs, both_ways=bool(self.both_ways))
        values = self.reading(found)
        if values.is_floating_point():  # padding is no label: it stands at the mean
            known = pairs.has_item[:, : values.shape[1]]
            values = torch.where(known, values, values[known].mean())
        return replace(batch, pairs=pairs, values=values)

    def _labels(self, batch: "_PromptBatch") -> Tensor:
        """(B, V) or (B, V, C): the labels as they are given."""
        pairs, n_positions = batch.pairs, batch.states(0).shape[1]
        n_rows, n_labels = pairs.labels.shape
        if self.functions["values"] is not None:
            found = _asked(self.functions["values"], batch.asked)
            shapes = [(n_rows, one) for one in (n_labels, pairs.items.shape[1])]
            if not isinstance(found, Tensor) or found.ndim not in (2, 3) or found.shape[:2] not in shapes:
                got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise SpecError(f"values: needs labels {shapes[0]}, one for each pair; got {got}")
            return found.to(pairs.items.device)
        tensors = batch.call.tensors(batch.recorder.model)
        if self.source is None:
            self.source = find_labels(tensors, pairs, n_positions)
        name, by_position = self.source
        found = tensors.get(name)
        wanted = (n_positions,) if by_position else (n_labels, pairs.items.shape[1])
        if found is None or found.ndim not in (2, 3) or found.shape[1] not in wanted:
            got = "is missing" if found is None else f"is {tuple(found.shape)}"
            raise SpecError(f"values: labels were found in '{name}' before; now it {got}")
        found = found.to(pairs.items.device)
        return found[torch.arange(n_rows, device=found.device)[:, None], pairs.labels] if by_position else found

    def _check(self, batch: "_PromptBatch") -> None:
        """Looks, once, at what the model reads. Raises SpecError where it is not what was said."""
        recorder, n_positions = batch.recorder, batch.states(0).shape[1]
        with untouched(recorder.model):
            perturbed = Perturbation.of(recorder, batch.run, batch.call, batch.pairs)
            reader = perturbed.earliest_reader()
            self.both_ways = reader is not None
            items_read = any({"items", "labels", "weights"} & set(term.reads) for term in self.terms)
            if self.functions["alone"] is None and items_read:
                if reader is not None or not batch.pairs.apart:
                    raise SpecError(
                        "an item alone is no prompt of one pair here, so give alone=: "
                        + (
                            "items and labels share their positions"
                            if reader is None
                            else f"after the last block, position {reader} depends on a label behind it (not causal)"
                        )
                    )
                perturbed.check_first(lambda call, pairs: one_pair_each(call, pairs, n_positions))
            if self.source is not None:
                name, by_position = self.source
                perturbed = replace(perturbed, pairs=replace(perturbed.pairs, both_ways=self.both_ways))
                labels = perturbed.call.tensors(recorder.model)[name]
                perturbed.check_label(name, labels, by_position=by_position)


@dataclass(frozen=True)
class _PromptBatch:
    """One batch: ``done`` is what the loop's own pass left, ``call`` what the model and ``asked`` the helper was given.

    ``values`` (B, V): the labels. ``passes``: those over the items alone, by their rows.
    """

    helper: PromptStrategy
    recorder: BlockRecorder
    done: Pass
    call: Call
    asked: Call
    pairs: Pairs
    values: Tensor
    passes: dict[int | None, tuple[Pass, Tensor]]

    def run(self, call: Call, **wanted: Any) -> Pass:
        """A pass of the model, apart from those of the loop."""
        return self.recorder.run(lambda: self.recorder.model(*call.args, **call.kwargs), **wanted)

    def states(self, layer: int) -> Tensor:
        """(B, T, D): of the loop's own pass."""
        return self.recorder.states(self.done, layer)

    def alone(self, layer: int, rows: int | None) -> Tensor:
        """(R, M, D): the items of these rows after ``layer`` blocks, none seeing another."""
        shape = self.pairs.items[:rows].shape
        if self.helper.functions["alone"] is not None:
            return self._given("alone", layer, rows, (*shape, self.helper.width))
        if rows not in self.passes or layer not in self.passes[rows][0].states:
            call, at = one_pair_each(
                self.call.first(len(self.values), rows), self.pairs.first(rows), self.states(0).shape[1]
            )
            try:
                self.passes[rows] = self.run(call, last=layer), at
            except RuntimeError as error:
                why = " ".join(str(error).split())
                raise SpecError(f"the model cannot be called on prompts of one pair: give alone= ({why})") from error
        done, at = self.passes[rows]
        states = self.recorder.states(done, layer)
        return states[torch.arange(len(states), device=states.device), at].unflatten(0, shape)

    def attention(self, layer: int, rows: int | None) -> Tensor | None:
        """(R, H, T, T): where block ``layer`` looks; None if it does not show it."""
        n_rows, n_positions = self.states(0).shape[:2]
        n_most = len(self.values[:rows])
        if self.helper.functions["attention"] is not None:
            return self._given("attention", layer, rows, (n_most, None, n_positions, n_positions))
        call = self.call.first(n_rows, rows)
        return self.recorder.attention(self.done, layer, rows, lambda: self.recorder.model(*call.args, **call.kwargs))

    def _given(self, name: str, layer: int, rows: int | None, shape: tuple[int | None, ...]) -> Tensor:
        """What a function of the user's makes of these rows. Raises SpecError for another shape."""
        made: list[Any] = []
        function: Any = self.helper.functions[name]
        call = self.asked.first(len(self.values), rows)
        self.recorder.run(lambda: made.append(function(layer, *call.args, **call.kwargs)))
        (found,) = made
        fits = isinstance(found, Tensor) and len(shape) == found.ndim
        if not fits or any(size not in (None, own) for size, own in zip(shape, found.shape, strict=True)):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise SpecError(f"{name}: must return {shape}, got {got}")
        return found


@dataclass(frozen=True)
class _PromptView:
    """One step of one term."""

    batch: _PromptBatch
    term: LossTerm
    head: Any
    step: int
    seed: int

    @property
    def n_layers(self) -> int:
        """Of the model."""
        return self.batch.helper.n_layers

    def final(self, ask: Ask = "hidden") -> Seen:
        """At the items, with nothing to tell."""
        self._check("final", self.n_layers, ask)
        return self._seen(at_positions(self.batch.states(self.n_layers), self.batch.pairs.items), None)

    def weights(
        self, layer: int, cut: Cut, ask: Ask = "hidden", *, rows: int | None = None, items: int | None = None
    ) -> Seen:
        """Of the items shown alone, with nothing to tell."""
        self._check("weights", layer, ask)
        if items is not None or f"cut {cut}" in self.batch.helper.refused:
            raise self._error("weights: items of these rows, by cut self, are all that any module shows")
        return self._seen(self.batch.alone(layer, rows), rows)

    def items(self, layer: int, *, rows: int | None = None, elsewhere: bool = False) -> ItemStates:
        """Each in a prompt of its own, so that none stands where it stood: ``elsewhere`` is met already."""
        del elsewhere
        self._check("items", layer)
        states = self._normalised(self.batch.alone(layer, rows))
        return items_alone(states, self.batch.pairs.first(rows), self.batch.values[:rows])

    def labels(self, layer: int, *, rows: int | None = None) -> LabelStates:
        """Of the loop's own pass; a label may name all items that look like its own to the first block."""
        self._check("labels", layer)
        pairs = self.batch.pairs.first(rows)
        if not pairs.apart:
            raise NotShownError(f"{type(self.term).__name__}: labels stand at their items, so there is nothing to bind")
        items = self.batch.alone(0, rows).detach().float()[:, : self.batch.values.shape[1]]
        apart = torch.cdist(items, items, compute_mode="donot_use_mm_for_euclid_dist")  # (R, V, V)
        same = apart <= SAME_ITEM * items.norm(dim=2, keepdim=True)
        states = at_positions(self.batch.states(layer)[: len(items)], pairs.labels)
        return bound_labels(self._normalised(states), pairs, same)

    def attention(self, layer: int, *, rows: int | None = None) -> Looks:
        """From the items, or, where these are read in both directions, from the queries if their labels are known."""
        self._check("attention", layer)
        shares = self.batch.attention(layer, rows)
        if shares is None:
            block = type(self.batch.recorder.blocks[layer - 1]).__name__
            raise NotShownError(
                f"{type(self.term).__name__}: block {layer} ({block}) calls no attention of PyTorch's and no softmax "
                "over positions; give attention="
            )
        return looks(shares, self.batch.pairs.first(rows), self.batch.values[:rows])

    def _check(self, read: Read, layer: int, ask: Ask = "hidden") -> None:
        self.term.check_view(read, ask, layer, self.n_layers)

    def _error(self, what: str) -> SpecError:
        return SpecError(f"{type(self.term).__name__}: {what}")

    def _normalised(self, states: Tensor) -> Tensor:
        """A layer norm without parameters: those of the model's own are taken up by any linear head."""
        return in_precision_of(self.head, functional.layer_norm(states.float(), states.shape[-1:]))

    def _seen(self, states: Tensor, rows: int | None) -> Seen:
        """From (R, M, D): those that are there."""
        row, at = self.batch.pairs.has_item[:rows].nonzero(as_tuple=True)
        return Seen(self._normalised(states)[row, at], row.new_empty(len(row), 0), row)


def _asked(where: Any, call: Call) -> Any:
    """What a function makes of the call, or its argument of this name. Raises SpecError if there is none."""
    if callable(where):
        return where(*call.args, **call.kwargs)
    if where not in call.kwargs:
        raise SpecError(f"the helper's call has no '{where}'; it has {', '.join(call.kwargs) or 'no named arguments'}")
    return call.kwargs[where]


def _check_same_batch(done: Pass, call: Call) -> None:
    """Raises SpecError for tensors that the model was not called with, as far as that is known."""
    if done.given is None:
        return
    theirs = Call(*done.given).leaves()
    for one in call.leaves():
        alike = [other for other in theirs if other.shape == one.shape and other.dtype == one.dtype]
        if not any(other is one or other.data_ptr() == one.data_ptr() or torch.equal(other, one) for other in alike):
            raise SpecError(
                f"the model must be called on this batch just before; it was not called with this tensor "
                f"{tuple(one.shape)}"
            )
