"""What loss terms see of a batch of tokens.

Legend: B rows, R the first of them, T tokens, M items, K labels, P tokens of an item, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unplateau.errors import SpecError
from unplateau.integrations.annotation import IGNORED, Target, TokenBatch
from unplateau.integrations.blocks import BlockRecorder, Pass
from unplateau.integrations.calls import Call
from unplateau.integrations.huggingface.decoder import Decoder
from unplateau.integrations.huggingface.parts import model_type
from unplateau.integrations.huggingface.passes import kernel_for_masks, masked, own_inputs
from unplateau.integrations.pairs import Pairs, at_positions, bound_labels, items_alone, looks
from unplateau.integrations.terms import NotShownError, in_precision_of
from unplateau.layout import Cut
from unplateau.rng import fold
from unplateau.strategies.base import Ask, ItemStates, LabelStates, Looks, LossTerm, Read, Seen

OF_TOKENS: tuple[Ask, ...] = ("hidden", "all", "identity")
"""What is asked of items: here each of these asks for the annotations."""
OF_PROMPTS = "has no meaning on tokens (it reads what a whole prompt hides); use ComponentLoss or WeightsLoss"
OF_PAIRS: frozenset[Read] = frozenset({"items", "labels", "attention"})
"""What is read of pairs of an item and its label."""


@dataclass(frozen=True)
class TokenView:
    """One step of one term.

    ``kept`` (B, T, D) is what the loop's own pass left at the final norm, ``done`` what it left in the blocks.
    ``pairs``: where items and labels stand, if a term reads them; ``is_text``: nobody said it, so every token is the
    label of the one before.
    """

    decoder: Decoder
    targets: Sequence[Target]
    recorder: BlockRecorder | None
    term: LossTerm
    head: Any
    batch: TokenBatch
    kept: Tensor | None
    done: Pass | None
    pairs: Pairs | None
    is_text: bool
    step: int
    seed: int

    def final(self, ask: Ask = "hidden") -> Seen:
        """At the tokens that have a class."""
        self._check("final", ask, self.n_layers)
        shape = tuple(self.batch.counted.shape)
        if self.kept is None or self.kept.shape[:2] != shape:
            found = "it was not" if self.kept is None else f"it was called on {tuple(self.kept.shape[:2])}"
            raise self._error(f"the model must be called on this batch {shape}, with gradients, just before; {found}")
        classes, at = self._asked(self.batch)
        return self._seen(self.kept.flatten(0, 1)[at], classes, at)

    @property
    def n_layers(self) -> int:
        """Of the model."""
        return self.decoder.n_layers

    @property
    def n_rows(self) -> int:
        """Of the batch."""
        return len(self.batch.counted)

    def weights(
        self, layer: int, cut: Cut, ask: Ask = "hidden", *, rows: int | None = None, items: int | None = None
    ) -> Seen:
        """Of single tokens at their own positions; ``items``: so many distinct tokens of the batch."""
        self._check("weights", ask, layer)
        decoder, batch = self.decoder, self.batch.first(rows)
        classes, at = self._asked(batch)
        if items is not None:
            generator = fold(self.seed, f"tokens alone/{self.term.name}", self.step)
            drawn = _draw_distinct(batch.prompts.tokens.flatten()[at].cpu(), items, generator)
            at = at[drawn.to(at.device)]
        tokens, positions = (one.flatten()[at] for one in (batch.prompts.tokens, batch.prompts.positions()))
        states = decoder.normalise(decoder.component_alone(tokens[:, None], positions, cut, layer))
        return self._seen(states, classes, at)

    def items(self, layer: int, *, rows: int | None = None, elsewhere: bool = False) -> ItemStates:
        """The tokens of each item alone, where they stand, or at the place of a random item of the prompt."""
        pairs, decoder, prompts = (
            self._prompts("items", layer, rows),
            self.decoder,
            self.batch.first(rows).prompts,
        )
        tokens, positions = self._item_tokens(pairs), prompts.positions().gather(1, pairs.items)  # (R, M, P), (R, M)
        if elsewhere:
            generator = fold(self.seed, f"items elsewhere/{self.term.name}", self.step)
            drawn = torch.rand(positions.shape, generator=generator).to(positions.device)
            positions = positions.gather(1, (drawn * pairs.has_item.sum(1, keepdim=True)).long())
        cut: Cut = "item" if tokens.shape[2] > 1 else "self"
        states = decoder.component_alone(tokens.flatten(0, 1), positions.flatten(), cut, layer)
        states = in_precision_of(self.head, decoder.normalise(states)).unflatten(0, positions.shape)
        return items_alone(states, pairs, prompts.tokens.gather(1, pairs.labels))

    def labels(self, layer: int, *, rows: int | None = None) -> LabelStates:
        """Of the loop's own pass; a label may name all items that are written as its own."""
        pairs = self._prompts("labels", layer, rows)
        tokens = self._item_tokens(pairs)
        states = at_positions(self._recorded().states(self._passed(), layer)[:rows], pairs.labels)
        known = tokens[:, : pairs.labels.shape[1]]
        same = (known[:, :, None] == known[:, None]).all(3)
        values = self.batch.first(rows).prompts.tokens.gather(1, pairs.labels)
        return bound_labels(in_precision_of(self.head, self.decoder.normalise(states)), pairs, same, values)

    def attention(self, layer: int, *, rows: int | None = None) -> Looks:
        """From the last tokens of items to the labels before them; in text, to what followed copies of the token."""
        pairs = self._prompts("attention", layer, rows)
        prompts, model = self.batch.first(rows).prompts, self.decoder.model
        shares = self._recorded().attention(self._passed(), layer, rows, lambda: self._call_again(rows))
        if shares is None:
            raise NotShownError(
                f"{type(self.term).__name__}: block {layer} of {model_type(model)} does not show where it looks; load "
                "the model with attn_implementation='sdpa' or 'eager'"
            )
        found = looks(shares, pairs, prompts.tokens.gather(1, pairs.labels))
        if not self.is_text:
            return found
        copies = prompts.tokens[:, :-1, None] == prompts.tokens[:, None, :-1]
        return replace(found, seen=found.seen & copies)

    def _call_again(self, rows: int | None) -> None:
        """The model on these rows, with what the loop gave it, which a compiled model does not tell."""
        done, model = self._passed(), self.decoder.model
        if done.given is not None:
            Call(*done.given).first(self.n_rows, rows).of(model)
            return
        batch, backbone = self.batch.first(rows), self.decoder.parts.backbone
        if batch.documents is None:
            model(input_ids=batch.prompts.tokens, **own_inputs(batch.prompts))
            return
        with kernel_for_masks(backbone, "item"):
            same = (batch.documents[:, :, None] == batch.documents[:, None]).tril()
            model(input_ids=batch.prompts.tokens, **masked(backbone, same, batch.prompts.positions()))

    def _prompts(self, read: Read, layer: int, rows: int | None) -> Pairs:
        """Where the pairs of these rows stand, if the term may read this there."""
        self._check(read, "hidden", layer)
        assert self.pairs is not None
        return self.pairs.first(rows)

    def _recorded(self) -> BlockRecorder:
        assert self.recorder is not None  # a term says what it reads before it may
        return self.recorder

    def _passed(self) -> Pass:
        assert self.done is not None
        return self.done

    def _item_tokens(self, pairs: Pairs) -> Tensor:
        """(R, M, P): what stands between the label before and the label, -1 before what is shorter."""
        prompts = self.batch.first(len(pairs.items)).prompts
        tokens = prompts.tokens if prompts.mask is None else prompts.tokens.masked_fill(~prompts.mask, -1)
        starts = functional.pad(pairs.labels[:, : pairs.items.shape[1] - 1] + 1, (1, 0))  # (R, M)
        length = max(1, int((pairs.items - starts + 1).max()))
        at = pairs.items[..., None] - torch.arange(length - 1, -1, -1, device=tokens.device)
        shown = (at >= starts[..., None]) | (at == pairs.items[..., None])
        found = tokens[torch.arange(len(tokens), device=tokens.device)[:, None, None], at.clamp(min=0)]
        return found.masked_fill(~shown, -1)

    def _check(self, read: Read, ask: Ask, layer: int) -> None:
        self.term.check_view(read, ask, layer, self.n_layers)
        if ask not in OF_TOKENS:
            raise self._error(OF_PROMPTS)

    def _error(self, what: str) -> SpecError:
        return SpecError(f"{type(self.term).__name__}: {what}")

    def _asked(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """Classes (B T, A), and the positions (N,) that have any: all that count, where there are no annotations."""
        wanted = batch.counted.flatten()
        classes = wanted.new_empty(len(wanted), 0, dtype=torch.int64)
        if self.targets:
            classes = torch.stack([target.classes(batch) for target in self.targets], -1).flatten(0, 1)
            wanted = (classes != IGNORED).any(-1)
        at = wanted.nonzero()[:, 0]
        return classes, at if len(at) else at.new_zeros(1)  # one is kept, so that gradients exist

    def _seen(self, states: Tensor, classes: Tensor, at: Tensor) -> Seen:
        return Seen(in_precision_of(self.head, states), classes[at], at // self.batch.counted.shape[1])


def _draw_distinct(tokens: Tensor, n_tokens: int, generator: torch.Generator) -> Tensor:
    """Indices into ``tokens`` (N,): distinct tokens, each at one of its places, all equally likely."""
    order = torch.randperm(len(tokens), generator=generator)
    types, type_of = tokens[order].unique(return_inverse=True)
    places = torch.arange(len(tokens))
    first = torch.full((len(types),), len(tokens)).scatter_reduce(0, type_of, places, "amin")
    return order[first[torch.randperm(len(types), generator=generator)[:n_tokens]]]
