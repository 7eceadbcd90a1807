"""Loss terms that repair the weights component, and the control that does not."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from unplateau.layout import Cut
from unplateau.limits import FLOAT, refuse_memory
from unplateau.scores import Thing
from unplateau.strategies.base import Ask, Host, LossTerm, Read, View


class _FactorLoss(LossTerm):
    """What the weights losses share: what they ask for, and the head that they read it with."""

    thing: ClassVar[Thing] = "items"
    recordable: ClassVar[bool] = True

    factors: Literal["hidden", "all", "identity"] = Field(
        "hidden",
        description="what is read: the factors that a prompt may hide, all of the item's, or, without any annotation, "
        "which word it is",
    )

    @property
    def asks(self) -> tuple[Ask, ...]:
        """The factors, or which word it is."""
        return (self.factors,)

    def build_head(self, host: Host) -> nn.Module:
        """The host's read-out."""
        return host.read_out(self.factors)


class WeightsLoss(_FactorLoss):
    """Extra weights loss: predict the factors of the current item from the final hidden state (Fu et al. 2024, 5.3)."""

    reads: ClassVar[tuple[Read, ...]] = ("final",)

    weight: float = Field(0.1, ge=0, description="factor of this term in the loss (lambda)")

    def value(self, view: View) -> Tensor:
        """Cross-entropy at the known positions of all rows."""
        seen = view.final(self.factors)
        return view.head.loss(seen.states, seen.classes)


class ComponentLoss(_FactorLoss):
    """Predict the factors from the *weights component* of a chosen layer: beyond the paper.

    The weights component needs no context, so the term can run on the whole batch (default), on its first ``rows``
    prompts, or on ``items`` items drawn alone at random item positions, for a fraction of the cost.
    """

    reads: ClassVar[tuple[Read, ...]] = ("weights",)

    weight: float = Field(1.0, ge=0, description="factor of this term in the loss (lambda)")
    layer: int = Field(2, ge=1, description="block after which the component is read")
    cut: Cut = Field("self", description="what 'no access to other positions' means")
    rows: int | None = Field(None, ge=1, description="prompts of the batch to use; null: all of them")
    items: int | None = Field(None, ge=1, description="items drawn alone instead of prompts; null: use prompts")

    @model_validator(mode="after")
    def _rows_or_items(self) -> Self:
        if self.rows is not None and self.items is not None:
            raise ValueError("give rows (prompts of the batch) or items (drawn alone), not both")
        return self

    def check_host(self, host: Host) -> None:
        """The layer must exist, and the cut mean something."""
        super().check_host(host)
        if self.layer > host.n_layers:
            raise ValueError(f"ComponentLoss: layer {self.layer} is beyond the model's {host.n_layers} layers")
        if self.items is not None:
            what = f"ComponentLoss: {self.items} items drawn alone"
            refuse_memory(what, FLOAT * self.items * host.width)
        if f"cut {self.cut}" in host.refused:
            raise ValueError(host.refused[f"cut {self.cut}"])

    def value(self, view: View) -> Tensor:
        """Cross-entropy of the read-out from the normalised weights component."""
        seen = view.weights(self.layer, self.cut, self.factors, rows=self.rows, items=self.items)
        return view.head.loss(seen.states, seen.classes)


class ContextLoss(LossTerm):
    """Control for the weights losses: predict what the prompt hides, from the final hidden state."""

    recordable: ClassVar[bool] = True
    reads: ClassVar[tuple[Read, ...]] = ("final",)
    asks: ClassVar[tuple[Ask, ...]] = ("choice",)

    weight: float = Field(0.1, ge=0, description="factor of this term in the loss (lambda)")

    def build_head(self, host: Host) -> nn.Module:
        """The host's read-out."""
        return host.read_out("choice")

    def value(self, view: View) -> Tensor:
        """Cross-entropy at the query positions of all rows."""
        seen = view.final("choice")
        return view.head.loss(seen.states, seen.classes)
