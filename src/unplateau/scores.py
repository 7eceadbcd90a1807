"""What probes found, as single values and as the columns of a row: the one place that knows these columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import reduce
from operator import add
from typing import Any, Literal

from unplateau.layout import Cut

Component = Literal["weights", "context", "hidden"]
ScoreKind = Literal["linear", "few-shot", "share", "binding", "keep", "look"]
Thing = Literal["items", "labels", "kept labels", "queries", "inference"]
"""What in-context learning needs: items that stand out, labels that are bound to them and kept beside what is bound,
queries that look, and that what a prompt hides is inferred."""


@dataclass(frozen=True)
class ProbeScore:
    """What one layer tells of one factor, with its chance level and its control.

    ``layer`` 0 is the embedding. ``factor`` is a factor's name, ``"hidden factor"`` for the context component,
    ``"item"`` for binding and ``"label"`` for keeping and looks. ``component`` and ``cut`` say what was probed,
    ``kind`` how:

    ``linear``: accuracy of a linear probe on items, or prompts, that it was not fitted to (the model may have trained
    on them); ``chance`` is that of always naming the commonest class there, the control is the same probe on shuffled
    labels. ``few-shot``, ``share``, ``binding``, ``look``: see ``unplateau.probe.few_shot``, ``.binding`` and
    ``.looking``; a share and a look are no accuracies and stand in the same place. ``keep``: a few-shot accuracy, of
    labels by their own states, when the labels of each prompt are dealt anew.

    ``n_test``: test examples, of ``n_items`` distinct items. ``error``: standard error of the accuracy, over distinct
    items or prompts. None where they are not known.
    """

    layer: int
    factor: str
    accuracy: float
    chance: float
    control_accuracy: float
    n_test: int
    component: Component
    cut: Cut
    kind: ScoreKind = "linear"
    error: float | None = None
    n_items: int | None = None


@dataclass(frozen=True)
class Scores:
    """One look at a model: a list has a value for each layer, the embedding first. None: not looked at, or not there.

    First, accuracies of linear probes under ``cut``, on items or prompts that they were not fitted to.
    ``weights_score``: from the weights component to the factors of an item, mean over those that a prompt may hide and
    no others; ``weights_by_factor`` has every factor by itself. ``hidden_score``: the same from the full hidden state.
    ``context_score``: from the context component to what the prompt hides. ``*_control``: the same probe on shuffled
    labels; ``*_chance``: always naming the commonest class. ``hidden_score`` has the chance level and, up to noise, the
    control of ``weights_score``.

    Then the three things that in-context learning waits for. ``few_shot_score`` and ``factor_share``: whether items
    stand out, mean over the factors that a prompt may hide. ``binding_score``: whether labels are bound to their
    items. ``keep_score``: whether labels can still be told from their states. ``look_score``: whether queries look at
    the right labels. At the embedding, where nothing is bound yet and nobody looks, these two have chance.
    """

    cut: Cut
    weights_score: list[float] | None = None
    weights_control: list[float] | None = None
    weights_chance: float | None = None
    hidden_score: list[float] | None = None
    context_score: list[float] | None = None
    context_control: list[float] | None = None
    context_chance: float | None = None
    weights_by_factor: dict[str, list[float]] | None = None
    few_shot_score: list[float] | None = None
    few_shot_control: list[float] | None = None
    few_shot_chance: float | None = None
    factor_share: list[float] | None = None
    binding_score: list[float] | None = None
    binding_control: list[float] | None = None
    binding_chance: float | None = None
    keep_score: list[float] | None = None
    keep_control: list[float] | None = None
    keep_chance: float | None = None
    look_score: list[float] | None = None
    look_control: list[float] | None = None
    look_chance: float | None = None

    @classmethod
    def of(cls, cells: Iterable[ProbeScore], asked: Sequence[str]) -> Scores:
        """From the scores of single layers and factors; means are over the factors named in ``asked``."""
        every = list(cells)
        linear = [cell for cell in every if cell.kind == "linear"]
        weights, hidden, context = (
            [cell for cell in linear if cell.component == component] for component in ("weights", "hidden", "context")
        )
        few_shot, share, binding, keep, look = (
            [cell for cell in every if cell.kind == kind] for kind in ("few-shot", "share", "binding", "keep", "look")
        )
        names = dict.fromkeys(cell.factor for cell in weights)
        return cls(
            cut=every[0].cut,
            weights_score=_by_layer(weights, "accuracy", asked) or None,
            weights_control=_by_layer(weights, "control_accuracy", asked) or None,
            weights_chance=next(iter(_by_layer(weights, "chance", asked)), None),
            hidden_score=_by_layer(hidden, "accuracy", asked) or None,
            context_score=_by_layer(context, "accuracy") or None,
            context_control=_by_layer(context, "control_accuracy") or None,
            context_chance=context[0].chance if context else None,
            weights_by_factor={name: _by_layer(weights, "accuracy", [name]) for name in names} or None,
            few_shot_score=_by_layer(few_shot, "accuracy", asked) or None,
            few_shot_control=_by_layer(few_shot, "control_accuracy", asked) or None,
            few_shot_chance=next(iter(_by_layer(few_shot, "chance", asked)), None),
            factor_share=_by_layer(share, "accuracy", asked) or None,
            binding_score=_by_layer(binding, "accuracy") or None,
            binding_control=_by_layer(binding, "control_accuracy") or None,
            binding_chance=binding[0].chance if binding else None,
            keep_score=_of_blocks(keep, "accuracy"),
            keep_control=_of_blocks(keep, "control_accuracy"),
            keep_chance=keep[0].chance if keep else None,
            look_score=_of_blocks(look, "accuracy"),
            look_control=_of_blocks(look, "control_accuracy"),
            look_chance=look[0].chance if look else None,
        )

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Scores | None:
        """The scores in a logged row; None if nobody looked at that step."""
        found: dict[str, Any] = {field.name: row.get(field.name) for field in fields(cls)}
        return cls(**found) if row.keys() & {"weights_score", "context_score", "binding_score"} else None

    def columns(self) -> dict[str, Any]:
        """As columns of a row; what was not looked at is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def _of_blocks(cells: Sequence[ProbeScore], what: Literal["accuracy", "control_accuracy"]) -> list[float] | None:
    """One value for each layer, of which the embedding has chance."""
    return [cells[0].chance, *_by_layer(cells, what)] if cells else None


def _by_layer(
    cells: Sequence[ProbeScore],
    what: Literal["accuracy", "control_accuracy", "chance"],
    factors: Sequence[str] | None = None,
) -> list[float]:
    """One value for each layer: the mean over these factors (all if None)."""
    layers: dict[int, list[float]] = {}
    for cell in cells:
        if factors is None or cell.factor in factors:
            layers.setdefault(cell.layer, []).append(getattr(cell, what))
    # summed in order and not by numpy's pairs, which would change the last bit of what runs have logged
    return [reduce(add, values) / len(values) for _, values in sorted(layers.items())]
