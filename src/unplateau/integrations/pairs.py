"""Where the items and labels of prompts stand in anybody's batch, and what loss terms are shown there.

Legend: B prompts, R the first of them, M items, K labels, V items whose label is known (K or M), Q those that are
asked, T positions, H heads, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from unplateau.errors import SpecError
from unplateau.strategies.base import ItemStates, LabelStates, Looks
from unplateau.tensors import Rows

Positions = slice | Sequence[int] | str | Callable[..., Tensor]
"""A slice or numbers of positions, alike in all prompts; or a mask (B, T) bool: what a function of the batch returns,
or what the batch has under this name."""


@dataclass(frozen=True)
class Pairs(Rows):
    """Where pairs stand: ``items`` (B, M) and ``labels`` (B, K). Item k owns label k; the last may have none.

    ``has_item`` (B, M) and ``has_label`` (B, K) bool: False at padding, behind the pairs that there are. ``both_ways``:
    whether positions are read in both directions, or only those before. ``item_in`` (B, M), ``label_in`` (B, K): the
    number of the document that each stands in, if rows hold several, which do not read each other.
    """

    items: Tensor
    labels: Tensor
    has_item: Tensor
    has_label: Tensor
    both_ways: bool = False
    item_in: Tensor | None = None
    label_in: Tensor | None = None

    def first(self, rows: int | None) -> "Pairs":
        """The first rows."""
        return self.map(lambda one: one[:rows])

    def only(self, counted: Tensor) -> "Pairs":
        """Without those that stand where ``counted`` (B, T) is False."""
        return replace(
            self,
            has_item=self.has_item & counted.gather(1, self.items),
            has_label=self.has_label & counted.gather(1, self.labels),
        )

    def within(self, documents: Tensor | None) -> "Pairs":
        """In rows that hold several documents (B, T)."""
        if documents is None:
            return self
        return replace(self, item_in=documents.gather(1, self.items), label_in=documents.gather(1, self.labels))

    @property
    def apart(self) -> bool:
        """Whether labels have positions of their own."""
        return not torch.equal(self.items[:, : self.labels.shape[1]], self.labels)

    def earlier_labels(self) -> Tensor:
        """(B, K, K) bool: whether label k may be told from label j, which stands before it where it can be read."""
        return self._told(self.labels[:, None] < self.labels[..., None], self.label_in, self.has_label)

    def seen(self) -> Tensor:
        """(B, M, K) bool: whether item k may be told from pair j, which is another and stands where it can be read."""
        n_items, n_labels = self.items.shape[1], self.labels.shape[1]
        readable = self.labels[:, None] < self.items[:, :, None]
        if self.both_ways:
            readable = ~torch.eye(n_items, n_labels, dtype=torch.bool, device=self.items.device)
        return self._told(readable, self.item_in, self.has_item)

    def _told(self, readable: Tensor, document: Tensor | None, there: Tensor) -> Tensor:
        """(B, N, K) bool: what is readable, in the same document, of labels and of those (B, N) that are there."""
        if document is not None and self.label_in is not None:
            readable = readable & (document[..., None] == self.label_in[:, None])
        return readable & there[..., None] & self.has_label[:, None]


def find_pairs(
    items: Tensor | Sequence[int], labels: Tensor | Sequence[int], n_rows: int, device: torch.device
) -> Pairs:
    """Pairs from positions, or from masks (B, T) bool. Raises SpecError for what are no pairs."""
    at, has_item = _numbered(items, n_rows, device)
    label_at, has_label = _numbered(labels, n_rows, device)
    n_items, n_labels = at.shape[1], label_at.shape[1]
    if n_items < 2 or n_labels < 1 or n_labels > n_items:
        raise SpecError(
            f"items, labels: a prompt needs at least two items, and a label for each or for the first ones; here are "
            f"{n_items} items and {n_labels} labels"
        )
    own = at[:, :n_labels]
    both = has_item[:, :n_labels] & has_label
    if bool((has_label & ~has_item[:, :n_labels]).any()) or bool((both & (label_at < own)).any()):
        raise SpecError("items, labels: every label must stand at its item or after it, and before the next item")
    following = both[:, : n_items - 1] & has_item[:, 1 : n_labels + 1]
    late = label_at[:, : n_items - 1] >= at[:, 1 : n_labels + 1]
    shared = both & (label_at == own)
    if bool((following & late).any()) or bool((shared.any() & (both & ~shared)).any()):
        raise SpecError(
            "items, labels: positions overlap; a label stands between its item and the next, or all at theirs"
        )
    return Pairs(at, label_at, has_item, has_label)


def text_pairs(there: Tensor, documents: Tensor | None = None) -> Pairs:
    """Of text: every token is the label of the one before in its document; ``there`` (B, T) bool, False at padding."""
    n_rows, n_positions = there.shape
    if n_positions < 3:
        raise SpecError(f"text of {n_positions} tokens has no two pairs of a token and the next")
    places = torch.arange(n_positions, device=there.device).expand(n_rows, -1)
    both = there[:, :-1] & there[:, 1:]
    if documents is not None:
        both = both & (documents[:, 1:] == documents[:, :-1])
    return Pairs(places[:, :-1], places[:, 1:], both, both).within(documents)


def located(
    where: Positions, name: str, n_rows: int, n_positions: int, batch: Callable[[], object]
) -> Tensor | list[int]:
    """Numbers of positions, or a mask (B, T) bool on the batch's own device. Raises SpecError for what cannot be."""
    if isinstance(where, slice):
        found = list(range(n_positions))[where]
        reach = max((abs(end) for end in (where.start, where.stop) if end is not None), default=0)
        if not found or reach > n_positions:
            raise SpecError(f"{name}: {where} is out of range for prompts of {n_positions} positions")
        return found
    if isinstance(where, str) or callable(where):
        mask = batch()
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (n_rows, n_positions):
            got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise SpecError(
                f"{name}: needs a mask ({n_rows}, {n_positions}) of bool, one truth value a position; got {got}"
            )
        return mask
    outside = [one for one in where if not 0 <= one < n_positions]
    if outside or list(where) != sorted(set(where)):
        wrong = f"{outside[0]} is out of range" if outside else "they must grow"
        raise SpecError(f"{name}: {wrong}: positions are 0 .. {n_positions - 1}")
    return list(where)


def items_alone(states: Tensor, pairs: Pairs, values: Tensor) -> ItemStates:
    """From states (R, M, D) of all items, and labels (R, V) of those whose label is known."""
    known = values.shape[1]
    seen = functional.pad(pairs.seen()[:, :known], (0, known - pairs.labels.shape[1]))
    return ItemStates(states[:, :known], values, seen)


def bound_labels(states: Tensor, pairs: Pairs, same: Tensor, values: Tensor) -> LabelStates:
    """From states (R, K, D) of the labels; ``same`` (R, V, V) bool: which items are one and the same; labels (R, V)."""
    n_labels = pairs.labels.shape[1]
    there = pairs.has_label[..., None] & pairs.has_item[:, None, : same.shape[1]]
    return LabelStates(states, same[:, :n_labels] & there, values[:, :n_labels], pairs.earlier_labels())


def looks(shares: Tensor, pairs: Pairs, values: Tensor) -> Looks:
    """From shares (R, H, T, T) and labels (R, V): of all items, or of the queries alone where items read both ways."""
    n_labels, known = pairs.labels.shape[1], values.shape[1]
    asked = slice(n_labels if pairs.both_ways else 0, known)
    from_items = at_positions(shares, pairs.items[:, None, asked].expand(-1, shares.shape[1], -1))  # (R, H, Q, T)
    to_labels = from_items.gather(3, pairs.labels[:, None, None].expand(*from_items.shape[:3], -1))
    return Looks(to_labels, values[:, asked], values[:, :n_labels], pairs.seen()[:, asked])


def at_positions(states: Tensor, positions: Tensor) -> Tensor:
    """(..., T, D) and (..., P) -> (..., P, D)."""
    return states.gather(-2, positions[..., None].expand(*positions.shape, states.shape[-1]))


def _numbered(where: Tensor | Sequence[int], n_rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions (B, N), growing, and whether they are there (B, N); from a mask, those that are come first."""
    if isinstance(where, Tensor):
        n_most = int(where.sum(1).max())
        there = torch.arange(n_most, device=device) < where.sum(1, keepdim=True)
        at = (~where).to(torch.uint8).argsort(dim=1, stable=True)[:, :n_most]
        return at.masked_fill(~there, 0), there
    at = torch.tensor(list(where), device=device).expand(n_rows, -1)
    return at, torch.ones_like(at, dtype=torch.bool)
