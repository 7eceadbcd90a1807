"""What loss terms see of prompts that any module reads.

Legend: B prompts, R the first of them, M items, K labels, V items whose label is known, T positions, D width, H heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unplateau.errors import SpecError
from unplateau.integrations.blocks import BlockRecorder, Pass
from unplateau.integrations.calls import Call, one_pair_each
from unplateau.integrations.pairs import Pairs, at_positions, bound_labels, items_alone, looks
from unplateau.integrations.terms import NotShownError, in_precision_of
from unplateau.layout import Cut
from unplateau.strategies.base import Ask, ItemStates, LabelStates, Looks, LossTerm, Read, Seen

SAME_ITEM = 1e-4
"""Two items are the same where their embeddings differ by less than this share of their length."""


@dataclass(frozen=True)
class PromptBatch:
    """One batch: ``done`` is what the loop's own pass left, ``call`` what the model and ``asked`` the helper was given.

    ``values`` (B, V): the labels. ``functions``: the user's own, by name. ``passes``: those over the items alone, by
    their rows.
    """

    functions: Mapping[str, Any]
    recorder: BlockRecorder
    done: Pass
    call: Call
    asked: Call
    pairs: Pairs
    values: Tensor
    passes: dict[int | None, tuple[Pass, Tensor]]

    def run(self, call: Call, **wanted: Any) -> Pass:
        """A pass of the model, apart from those of the loop."""
        return self.recorder.run(lambda: call.of(self.recorder.model), **wanted)

    def states(self, layer: int) -> Tensor:
        """(B, T, D): of the loop's own pass."""
        return self.recorder.states(self.done, layer)

    def alone(self, layer: int, rows: int | None) -> Tensor:
        """(R, M, D): the items of these rows after ``layer`` blocks, none seeing another."""
        shape = self.pairs.items[:rows].shape
        if self.functions["alone"] is not None:
            return self._given("alone", layer, rows, (*shape, self.states(0).shape[2]))
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
        if self.functions["attention"] is not None:
            return self._given("attention", layer, rows, (n_most, None, n_positions, n_positions))
        call = self.call.first(n_rows, rows)
        return self.recorder.attention(self.done, layer, rows, lambda: call.of(self.recorder.model))

    def _given(self, name: str, layer: int, rows: int | None, shape: tuple[int | None, ...]) -> Tensor:
        """What a function of the user's makes of these rows. Raises SpecError for another shape."""
        made: list[Any] = []
        function = self.functions[name]
        call = self.asked.first(len(self.values), rows)
        self.recorder.run(lambda: made.append(call.of(function, layer)))
        (found,) = made
        fits = isinstance(found, Tensor) and len(shape) == found.ndim
        if not fits or any(size not in (None, own) for size, own in zip(shape, found.shape, strict=True)):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise SpecError(f"{name}: must return {shape}, got {got}")
        return found


@dataclass(frozen=True)
class PromptView:
    """One step of one term."""

    batch: PromptBatch
    term: LossTerm
    head: Any
    step: int
    seed: int

    @property
    def n_layers(self) -> int:
        """Of the model."""
        return len(self.batch.recorder.blocks)

    @property
    def n_rows(self) -> int:
        """Of the batch."""
        return len(self.batch.values)

    def final(self, ask: Ask = "hidden") -> Seen:
        """At the items, with nothing to tell."""
        self._check("final", self.n_layers, ask)
        return self._seen(at_positions(self.batch.states(self.n_layers), self.batch.pairs.items), None)

    def weights(
        self, layer: int, cut: Cut, ask: Ask = "hidden", *, rows: int | None = None, items: int | None = None
    ) -> Seen:
        """Of the items shown alone, with nothing to tell."""
        self._check("weights", layer, ask)
        if items is not None or cut not in ("self", "item"):
            raise self._error("any module shows the items of these rows alone: no other items, and no other cut")
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
            raise NotShownError(
                f"{type(self.term).__name__}: labels stand at their items, so no label has a state of its own"
            )
        items = self.batch.alone(0, rows).detach().float()[:, : self.batch.values.shape[1]]
        apart = torch.cdist(items, items, compute_mode="donot_use_mm_for_euclid_dist")  # (R, V, V)
        same = apart <= SAME_ITEM * items.norm(dim=2, keepdim=True)
        states = at_positions(self.batch.states(layer)[: len(items)], pairs.labels)
        return bound_labels(self._normalised(states), pairs, same, self.batch.values[: len(items)])

    def attention(self, layer: int, *, rows: int | None = None) -> Looks:
        """From the items, or, where their own labels are read as well, from the queries."""
        self._check("attention", layer)
        if self.batch.pairs.both_ways and self.batch.values.shape[1] <= self.batch.pairs.labels.shape[1]:
            raise NotShownError(
                f"{type(self.term).__name__}: positions are read in both directions, so that an item has seen its own "
                "label, and those of the queries are not known; give values="
            )
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
