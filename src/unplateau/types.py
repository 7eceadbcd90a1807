"""Plain values shared by both columns of the package: no torch, no I/O.

``TaskShape`` is where tasks and models meet: they know each other through nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

Split = Literal["train", "test"]
Cut = Literal["self", "identity", "zero"]
"""How "no access to any other position" is read: see ``unplateau.decompose``."""
CUTS: tuple[Cut, ...] = ("self", "identity", "zero")


@dataclass(frozen=True)
class TaskShape:
    """What a model must know of a task: prompts are ``x_1 y_1 x_2 y_2 ... x_K y_K``.

    ``item_width``: length of an item vector. ``n_pairs``: K. ``n_labels``: size of the label vocabulary (C).
    ``factor_names``/``factor_sizes``: the F factors of an item. ``hidden_factors``: indices of those a prompt may hide.
    """

    item_width: int
    n_pairs: int
    n_labels: int
    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    hidden_factors: tuple[int, ...]

    @property
    def n_positions(self) -> int:
        """T: length of a prompt in tokens."""
        return 2 * self.n_pairs

    @property
    def query_positions(self) -> range:
        """The K positions of items, at which the label is predicted."""
        return range(0, self.n_positions, 2)


@dataclass(frozen=True)
class Floors:
    """Losses (nats) and accuracies of the two exact predictors, one value per query position (K).

    ``no_context``: best prediction from the label marginals alone, the height of the plateau.
    ``bayes``: best prediction from the pairs before and the true factor values. Averages over ``n_prompts`` prompts of
    exact predictions; ``bayes_loss_error`` is the standard error of the mean Bayes loss. ``progress`` names the measure
    that progress is read from.
    """

    no_context_loss: tuple[float, ...]
    no_context_accuracy: tuple[float, ...]
    bayes_loss: tuple[float, ...]
    bayes_accuracy: tuple[float, ...]
    bayes_loss_error: float
    n_prompts: int
    progress: Literal["loss", "accuracy"] = "loss"

    def progress_of(self, *, loss: float, accuracy: float) -> float:
        """0 at the no-context predictor, 1 at the Bayes-optimal one; means over positions enter."""
        if self.progress == "loss":
            return _ratio(loss, fmean(self.no_context_loss), fmean(self.bayes_loss))
        return _ratio(accuracy, fmean(self.no_context_accuracy), fmean(self.bayes_accuracy))


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


def _ratio(value: float, start: float, end: float) -> float:
    return (start - value) / (start - end)
