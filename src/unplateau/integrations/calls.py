"""What a model is called with, as a value that can be cut: to some rows, or to prompts of one pair each.

Legend: B rows, M items, K labels, T positions of a prompt.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_leaves, tree_map_only

from unplateau.errors import SpecError
from unplateau.integrations.pairs import Pairs


@dataclass(frozen=True)
class Call:
    """The arguments of one call, rows first; tensors may stand inside tuples, lists and dicts.

    ``turned``: whether functions take them with their rows second, as (T, B, ...).
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    turned: bool = False

    def turn(self) -> "Call":
        """From arguments with their rows second."""
        return replace(self.map(_other_way), turned=True)

    def of(self, function: Callable[..., Any], *before: Any) -> Any:
        """What a function returns that is called so; ``before``: arguments of its own that come first."""
        given = self.map(_other_way) if self.turned else self
        return function(*before, *given.args, **given.kwargs)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Call":
        """The same change to each tensor."""
        args, kwargs = tree_map_only(Tensor, change, (self.args, self.kwargs))
        return replace(self, args=args, kwargs=kwargs)

    def first(self, n_rows: int, rows: int | None) -> "Call":
        """The first rows of ``n_rows``: of each tensor that has so many."""
        return self.map(lambda one: one[:rows] if one.ndim and len(one) == n_rows else one)

    def leaves(self) -> list[Tensor]:
        """All tensors."""
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """Each tensor by the name of the model's parameter, and where it stands in it."""
        names = list(inspect.signature(model.forward).parameters)
        named = {names[number] if number < len(names) else str(number): one for number, one in enumerate(self.args)}
        leaves, _ = tree_flatten_with_path({**named, **self.kwargs})
        found = {keystr(path[:1])[2:-2] + keystr(path[1:]): leaf for path, leaf in leaves}
        return {name: leaf for name, leaf in found.items() if isinstance(leaf, Tensor)}

    def put(self, old: Tensor, new: Tensor) -> "Call":
        """With another tensor in the place of one of its own."""
        return self.map(lambda one: new if one is old else one)


def rows_second(call: Call, n_rows: int) -> bool:
    """Whether tensors of the call have so many rows as their second dimension, and none as its first."""
    shapes = [one.shape for one in call.leaves() if one.ndim > 1]
    return any(shape[1] == n_rows for shape in shapes) and all(shape[0] != n_rows for shape in shapes)


def _other_way(one: Tensor) -> Tensor:
    return one.transpose(0, 1) if one.ndim > 1 else one


def one_pair_each(call: Call, pairs: Pairs, n_positions: int) -> tuple[Call, Tensor]:
    """Prompts of one pair each, B M of them, and the position (B M,) of the item in each.

    Tensors (B, M or K, ...) are cut to the one item or label, (B, T, ...) to the positions after the label before, and
    square masks (T, T) to their corner; others with B rows repeat them. In a causal model what stands after an item
    does not matter. Raises SpecError where both kinds are mixed behind a position that belongs to no pair.
    """
    n_rows, n_items = pairs.items.shape
    n_labels = pairs.labels.shape[1]
    starts = torch.cat((torch.zeros_like(pairs.items[:, :1]), pairs.labels[:, : n_items - 1] + 1), 1)  # (B, M)
    ends = torch.cat((pairs.labels, pairs.items[:, n_labels:]), 1)
    within = (pairs.items - starts).clamp(min=0)  # below 0 at padding only
    length = int((ends + 1 - starts).max())
    shapes = {tuple(one.shape[:2]) for one in call.leaves() if one.ndim > 1}
    if shapes & {(n_rows, n_items), (n_rows, n_labels)}:
        first = within[:, :1].expand_as(within)
        if (n_rows, n_positions) in shapes and not torch.equal(first[pairs.has_item], within[pairs.has_item]):
            raise SpecError("items do not all stand equally far behind the label before: give alone=")
        within = first
    window = (starts[..., None] + torch.arange(length, device=starts.device)).clamp(max=n_positions - 1)  # (B, M, P)

    def cut(one: Tensor) -> Tensor:
        if one.ndim == 2 and one.shape == (n_positions, n_positions) and n_positions != n_rows:
            return one[:length, :length]
        if one.ndim == 0 or len(one) != n_rows:
            return one
        if one.ndim > 1 and one.shape[1] == n_items:
            return one.flatten(0, 1)[:, None]
        if one.ndim > 1 and one.shape[1] == n_labels:  # the last items have none: then a single one has none either
            return one.repeat_interleave(n_items, 0)[:, : max(0, 1 - n_items + n_labels)]
        if one.ndim > 1 and one.shape[1] == n_positions:
            return one[torch.arange(n_rows, device=one.device)[:, None, None], window].flatten(0, 1)
        return one.repeat_interleave(n_items, 0)

    return call.map(cut), within.flatten()
