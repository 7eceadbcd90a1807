"""Loss terms that need no annotation: each asks for one of the things that in-context learning waits for.

Items must stand out in their own states, labels must be bound to the items before them and be kept beside them, and
queries must look at the labels of items like their own. What is missing holds the plateau.
"""

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from unplateau.scores import Thing
from unplateau.strategies.base import Host, LossTerm, Read, View
from unplateau.strategies.functional import bind_loss, look_loss, match_loss

SIZE = 32
"""Dimensions in which states are compared."""
SCALE = 10.0
"""What the cosine of two states is multiplied by at first."""


class Comparison(nn.Module):
    """Linear maps of states to where they are compared, and the learned scale of the comparison."""

    def __init__(self, width: int, n_maps: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, SIZE, bias=False) for _ in range(n_maps))
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))


def _rounded_up(number: float) -> int:
    return math.ceil(number - 1e-6)


class _PromptLoss(LossTerm):
    """What they share: each reads at a share of the model's depth, in a share of a batch's prompts."""

    recordable: ClassVar[bool] = True

    weight: float = Field(1.0, ge=0, description="factor of this term in the loss (lambda)")
    depth: float = Field(1 / 3, gt=0, le=1, description="which block it reads, as a share of the model's, rounded up")
    share: float = Field(1 / 4, gt=0, le=1, description="share of the batch's prompts to use, rounded up")
    until: int | None = Field(
        None, ge=1, description="steps after which it is let go, fading over as many again to nothing; null: never"
    )

    control: bool = Field(
        False,
        description="ask by another prompt of the batch, which says nothing of this one: see the term",
        exclude_if=lambda control: not control,  # as specs of before there was one
    )

    @property
    def lasts(self) -> int | None:
        """Twice ``until``."""
        return None if self.until is None else 2 * self.until

    def weight_at(self, step: int) -> float:
        """Constant, then down to 0 in a line."""
        return self.weight if self.until is None else self.weight * min(1.0, max(0.0, 2 - step / self.until))

    def layer(self, n_layers: int) -> int:
        """The block that it reads, from 1."""
        return _rounded_up(self.depth * n_layers)

    def rows(self, view: View) -> int:
        """How many prompts of the batch it uses, the first ones."""
        return _rounded_up(self.share * view.n_rows)


class MatchLoss(_PromptLoss):
    """Items stand out: an item's own state must tell its label by the labels of the earlier items that it looks like.

    See :func:`~unplateau.strategies.functional.match_loss`. Its ``control`` takes the labels of another prompt.
    """

    thing: ClassVar[Thing] = "items"
    reads: ClassVar[tuple[Read, ...]] = ("items",)

    def build_head(self, host: Host) -> nn.Module:
        """One map."""
        return Comparison(host.width, 1)

    def value(self, view: View) -> Tensor:
        """The vote of the items, by the weights component after the block."""
        items, head = view.items(self.layer(view.n_layers), rows=self.rows(view)), view.head
        states, labels = head.maps[0](items.states), _of_another(items.labels) if self.control else items.labels
        return match_loss(states, labels, items.seen, scale=head.log_scale.exp())


class BindLoss(_PromptLoss):
    """Labels are bound to their items: a label's state must tell which item stood before it.

    The items are shown at random positions: with their own, a label would find its item without looking at it. See
    :func:`~unplateau.strategies.functional.bind_loss`. Its ``control`` asks for the item's place alone: at that place
    stands the item of another prompt.
    """

    thing: ClassVar[Thing] = "labels"
    reads: ClassVar[tuple[Read, ...]] = ("labels", "items")

    def build_head(self, host: Host) -> nn.Module:
        """A map for labels and one for items."""
        return Comparison(host.width, 2)

    def value(self, view: View) -> Tensor:
        """From the labels' states after the block to the embeddings of the items."""
        labels = view.labels(self.layer(view.n_layers), rows=self.rows(view))
        items, head = view.items(0, rows=self.rows(view), elsewhere=not self.control).states, view.head
        label_states = head.maps[0](labels.states)
        item_states = head.maps[1](_of_another(items) if self.control else items)
        return bind_loss(label_states, item_states, labels.owner, scale=head.log_scale.exp())


class KeepLoss(_PromptLoss):
    """Labels are kept: a label's state must tell which label it is by the states of earlier labels that it looks like.

    It reads the block where labels are bound, whose item may drown them, with neither a map nor a learned scale, which
    would make much of the little that is left. See :func:`~unplateau.strategies.functional.match_loss`. Labels that are
    numbers are left alone (0): a direction tells classes, and to ask it for a number does harm. Its ``control`` takes
    the labels of another prompt.
    """

    thing: ClassVar[Thing] = "kept labels"
    reads: ClassVar[tuple[Read, ...]] = ("labels",)

    weight: float = Field(0.3, ge=0, description="factor of this term in the loss (lambda)")

    def build_head(self, host: Host) -> nn.Module:
        """Nothing: states are compared as they are."""
        del host
        return nn.Identity()

    def value(self, view: View) -> Tensor:
        """The vote of the labels, by their states after the block."""
        found = view.labels(self.layer(view.n_layers), rows=self.rows(view))
        if found.labels.is_floating_point():
            return found.states.new_zeros(())
        labels = _of_another(found.labels) if self.control else found.labels
        return match_loss(found.states, labels, found.seen, scale=SCALE)


class LookLoss(_PromptLoss):
    """Queries look: a query must attend to the labels of items like its own.

    It reads the block after the one where labels are bound (the last one if there is none). See
    :func:`~unplateau.strategies.functional.look_loss`. Its ``control`` asks for the labels that would be right for the
    queries of another prompt.
    """

    thing: ClassVar[Thing] = "queries"
    reads: ClassVar[tuple[Read, ...]] = ("attention",)

    def build_head(self, host: Host) -> nn.Module:
        """Nothing: attention is a vote as it is."""
        del host
        return nn.Identity()

    def layer(self, n_layers: int) -> int:
        """One block further on."""
        return min(super().layer(n_layers) + 1, n_layers)

    def value(self, view: View) -> Tensor:
        """The vote of the labels, by the attention of all heads of the block."""
        looks = view.attention(self.layer(view.n_layers), rows=self.rows(view))
        targets = _of_another(looks.targets) if self.control else looks.targets
        return look_loss(looks.attention, targets, looks.labels, looks.seen)


def _of_another(rows: Tensor) -> Tensor:
    """(R, ...): of each prompt, that of the one before."""
    return rows.roll(1, 0)
