"""What probes found, as single values and as the columns of a row: the one place that knows these columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import reduce
from operator import add
from typing import Any, Literal

from unplateau.layout import Cut

Component = Literal["weights", "context", "hidden"]


@dataclass(frozen=True)
class ProbeScore:
    """Held-out accuracy of a linear probe from one layer to one factor, with its chance level and its control.

    ``layer`` 0 is the embedding. ``factor`` is a factor's name, or ``"hidden factor"`` for the context component.
    ``chance``: accuracy of always naming the commonest class of the test set. ``control_accuracy``: the same probe
    trained on shuffled labels. ``n_test``: test examples. ``component`` and ``cut`` say what was probed.
    """

    layer: int
    factor: str
    accuracy: float
    chance: float
    control_accuracy: float
    n_test: int
    component: Component
    cut: Cut


@dataclass(frozen=True)
class Scores:
    """One look at a model: a list has a value for each layer, the embedding first. None: not looked at, or not there.

    All are held-out accuracies of linear probes under ``cut``. ``weights_score``: from the weights component to the
    factors of an item, mean over those that a prompt may ask for; ``weights_by_factor`` has every factor by itself.
    ``hidden_score``: the same from the full hidden state. ``context_score``: from the context component to what the
    prompt hides. ``*_control``: the same probe on shuffled labels; ``*_chance``: always naming the commonest class.
    ``hidden_score`` has the chance level and, up to noise, the control of ``weights_score``.
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

    @classmethod
    def of(cls, cells: Iterable[ProbeScore], asked: Sequence[str]) -> Scores:
        """From the scores of single layers and factors; means are over the factors named in ``asked``."""
        found: dict[Component, list[ProbeScore]] = {"weights": [], "hidden": [], "context": []}
        for cell in cells:
            found[cell.component].append(cell)
        weights, hidden, context = found["weights"], found["hidden"], found["context"]
        names = dict.fromkeys(cell.factor for cell in weights)
        return cls(
            cut=(weights or context)[0].cut,
            weights_score=_by_layer(weights, "accuracy", asked) or None,
            weights_control=_by_layer(weights, "control_accuracy", asked) or None,
            weights_chance=next(iter(_by_layer(weights, "chance", asked)), None),
            hidden_score=_by_layer(hidden, "accuracy", asked) or None,
            context_score=_by_layer(context, "accuracy") or None,
            context_control=_by_layer(context, "control_accuracy") or None,
            context_chance=context[0].chance if context else None,
            weights_by_factor={name: _by_layer(weights, "accuracy", [name]) for name in names} or None,
        )

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Scores | None:
        """The scores in a logged row; None if nobody looked at that step."""
        found: dict[str, Any] = {field.name: row.get(field.name) for field in fields(cls)}
        return cls(**found) if row.keys() & {"weights_score", "context_score"} else None

    def columns(self) -> dict[str, Any]:
        """As columns of a row; what was not looked at is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


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
