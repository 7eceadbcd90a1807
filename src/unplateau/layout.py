"""Who stands where in a prompt and who sees whom: all that tasks and models know of each other. No torch."""

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "test"]
Cut = Literal["self", "item", "identity", "zero"]
"""How "no access to any other position" is read: see ``unplateau.decompose``."""

HOW_CUT: dict[Cut, str] = {
    "self": "every position attends to itself only",
    "item": "every position attends to itself and to those before it in its own item",
    "identity": "attention is replaced by its input",
    "zero": "attention adds nothing",
}
CUTS: tuple[Cut, ...] = tuple(HOW_CUT)
Attention = Literal["causal", "self", "item", "identity", "zero"]
"""``causal``: every position reads itself and all before. The others cut a position off from all others, or, where an
item takes several positions, from all other items (``item``)."""


@dataclass(frozen=True)
class Layout:
    """The T positions of a prompt ``[cue] x_1 y_1 x_2 y_2 ... x_K y_K``.

    ``n_pairs``: K. ``item_length``: positions that an item takes; a label takes one. ``cue``: whether a position stands
    before the first item. ``factors_at``: whether an item has factors as a whole, known at its last position, or each
    of its positions has its own.
    """

    n_pairs: int
    item_length: int = 1
    cue: bool = False
    factors_at: Literal["item", "position"] = "item"

    @property
    def in_lists(self) -> bool:
        """Whether an item is a list, each of whose positions has factors of its own."""
        return self.factors_at == "position"

    @property
    def n_positions(self) -> int:
        """T: length of a prompt in positions."""
        return self.first + self.n_pairs * (self.item_length + 1)

    @property
    def first(self) -> int:
        """Where the first item begins: 1 after a cue, else 0."""
        return int(self.cue)

    @property
    def queries(self) -> range:
        """The K last positions of items, right before their labels: there a label is predicted."""
        return range(self.first + self.item_length - 1, self.n_positions, self.item_length + 1)

    @property
    def labels(self) -> range:
        """The K positions of labels."""
        return range(self.first + self.item_length, self.n_positions, self.item_length + 1)

    @property
    def known(self) -> tuple[int, ...]:
        """The M positions whose factors are known: the queries, or every position of every item."""
        if not self.in_lists:
            return tuple(self.queries)
        return tuple(end - back for end in self.queries for back in reversed(range(self.item_length)))

    @property
    def units(self) -> tuple[int, ...]:
        """T numbers: cut ``item`` leaves the positions together that share one: those of an item with factors."""
        itself = list(range(self.n_positions))
        if not self.in_lists:
            for end in self.queries:
                itself[end - self.item_length + 1 : end + 1] = [end] * self.item_length
        return tuple(itself)


@dataclass(frozen=True)
class Vectors:
    """Items are vectors of this length."""

    width: int


@dataclass(frozen=True)
class Tokens:
    """Items are written in tokens from 1 to ``vocabulary``; at most ``at_once`` of them are summed at a position."""

    vocabulary: int
    at_once: int = 1


@dataclass(frozen=True)
class Factor:
    """What varies from item to item, and how many values it has.

    ``identity``: it says which item this is. Items that are held out then have values of their own, which no probe that
    was fitted on other items can name, so probes leave it out.
    """

    name: str
    size: int
    identity: bool = False


@dataclass(frozen=True)
class TaskShape:
    """What a model must know of a task.

    ``items``: how they enter. ``n_labels``: size of the label vocabulary (C). ``factors``: the F factors of an item.
    ``asked``: indices of those that scores average, because a prompt may ask for them. ``choices``: names of what a
    prompt may hide: of the factors asked for, unless the task says otherwise. ``labels_are_tokens``: labels are tokens
    of the items' vocabulary. ``n_cues``: how many cues there are, one of which stands before the first item.
    ``labels_are_numbers``: labels are numbers, of variance 1 over all prompts, and one is predicted (``n_labels`` 1).
    """

    layout: Layout
    items: Vectors | Tokens
    n_labels: int
    factors: tuple[Factor, ...]
    asked: tuple[int, ...]
    choices: tuple[str, ...]
    labels_are_tokens: bool = False
    n_cues: int = 0
    labels_are_numbers: bool = False

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the F factors."""
        return tuple(factor.name for factor in self.factors)

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Numbers of values of the F factors."""
        return tuple(factor.size for factor in self.factors)

    @property
    def prompt_bytes(self) -> int:
        """Of a prompt in memory: its items, and for each of them its label, its index and its factors."""
        numbers = 4 * self.items.width if isinstance(self.items, Vectors) else 8 * self.items.at_once
        of_item = numbers if isinstance(self.items, Vectors) else numbers * self.layout.item_length
        return self.layout.n_pairs * (of_item + 8 * (2 + len(self.factors)))

    @property
    def probed(self) -> tuple[int, ...]:
        """Indices of the factors that a probe can read off."""
        return tuple(index for index, factor in enumerate(self.factors) if not factor.identity)

    @property
    def hides_factors(self) -> bool:
        """Whether ``choices`` are factors, so that what a prompt hides is numbered among the F factors."""
        return self.choices == tuple(self.factors[index].name for index in self.asked)

    @property
    def hidden_numbers(self) -> tuple[int, ...]:
        """Of each choice the number by which a batch says that a prompt hides it."""
        return self.asked if self.hides_factors else tuple(range(len(self.choices)))

    @property
    def n_hidden(self) -> int:
        """Below this is every number of what a prompt hides."""
        return len(self.factors if self.hides_factors else self.choices)
