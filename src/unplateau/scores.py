"""What probes found: one accuracy with its chance and control, and one probing of all layers as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unplateau.layout import Cut


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
    component: Literal["weights", "context", "hidden"]
    cut: Cut


@dataclass(frozen=True)
class LayerScores:
    """Scores of layers 0 .. L (lists of L + 1 accuracies) under ``cut``, as they are logged during training.

    ``weights_*`` and ``hidden_score`` are means over the factors that a prompt may hide; ``weights_by_factor`` has
    every factor by itself. ``hidden_score`` has the chance level and, up to noise, the control of ``weights_score``.
    """

    cut: Cut
    weights_score: list[float]
    weights_control: list[float]
    weights_chance: float
    hidden_score: list[float]
    context_score: list[float]
    context_control: list[float]
    context_chance: float
    weights_by_factor: dict[str, list[float]]
