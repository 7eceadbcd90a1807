"""Plain values shared by both columns of the package: no torch, no I/O.

``TaskShape`` is where tasks and models meet: they know each other through nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "test"]

Cut = Literal["self", "item", "identity", "zero"]
"""How "no access to any other position" is read: see ``unplateau.decompose``."""

CUTS: tuple[Cut, ...] = ("self", "item", "identity", "zero")
Attention = Literal["causal", "self", "item", "identity", "zero"]
"""``causal``: every position reads itself and all before. The others cut a position off from all others: ``self`` (it
reads itself only), ``identity`` (the block passes on its input), ``zero`` (the block adds nothing); or, where an item
takes several positions, from all other items: ``item`` (it reads itself and what is before it in its own item)."""


@dataclass(frozen=True)
class TaskShape:
    """What a model must know of a task: prompts are ``x_1 y_1 x_2 y_2 ... x_K y_K``.

    ``item_width``: length of an item vector, 0 where items are written in tokens. ``n_pairs``: K. ``n_labels``: size of
    the label vocabulary (C). ``factor_names``/``factor_sizes``: the F factors of an item. ``hidden_factors``: indices
    of those a prompt may hide.

    Of language only: ``vocabulary``: tokens that items are written in. ``item_length``: positions that an item takes.
    ``tokens_per_position``: the most tokens that are summed at one. ``n_cues``: if above 0, one of so many cues stands
    before the first item. ``labels_are_tokens``: labels are tokens of the items' vocabulary. ``factors_at``: whether an
    item has factors as a whole, known at its last position, or each of its positions has its own. ``hidden_names``:
    names of what a prompt may hide, where that is not a factor.
    """

    item_width: int
    n_pairs: int
    n_labels: int
    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    hidden_factors: tuple[int, ...]
    vocabulary: int = 0
    item_length: int = 1
    tokens_per_position: int = 1
    n_cues: int = 0
    labels_are_tokens: bool = False
    factors_at: Literal["item", "position"] = "item"
    hidden_names: tuple[str, ...] = ()

    @property
    def n_positions(self) -> int:
        """T: length of a prompt in positions."""
        return self.first_position + self.n_pairs * (self.item_length + 1)

    @property
    def first_position(self) -> int:
        """Where the first item begins: 1 after a cue, else 0."""
        return 1 if self.n_cues else 0

    @property
    def query_positions(self) -> range:
        """The K last positions of items, at which the label is predicted."""
        return range(self.first_position + self.item_length - 1, self.n_positions, self.item_length + 1)

    @property
    def item_positions(self) -> tuple[int, ...]:
        """The M positions whose factors are known: the query positions, or every position of every item."""
        if self.factors_at == "item":
            return tuple(self.query_positions)
        return tuple(end - back for end in self.query_positions for back in reversed(range(self.item_length)))

    @property
    def hidden_choices(self) -> tuple[str, ...]:
        """Names of what a prompt may hide: of factors, unless the task says otherwise."""
        return self.hidden_names or tuple(self.factor_names[factor] for factor in self.hidden_factors)
