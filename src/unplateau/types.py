"""Plain values shared by both columns of the package: no torch, no I/O.

``TaskShape`` is where tasks and models meet: they know each other through nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

Split = Literal["train", "test"]
Cut = Literal["self", "item", "identity", "zero"]
"""How "no access to any other position" is read: see ``unplateau.decompose``."""
CUTS: tuple[Cut, ...] = ("self", "item", "identity", "zero")


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

    @property
    def progress_start(self) -> float:
        """Where progress is 0: mean loss or accuracy of the no-context predictor."""
        return fmean(self.no_context_loss if self.progress == "loss" else self.no_context_accuracy)

    @property
    def progress_end(self) -> float:
        """Where progress is 1: mean loss or accuracy of the Bayes-optimal predictor."""
        return fmean(self.bayes_loss if self.progress == "loss" else self.bayes_accuracy)

    def progress_of(self, *, loss: float, accuracy: float) -> float:
        """0 at the no-context predictor, 1 at the Bayes-optimal one; means over positions enter."""
        value = loss if self.progress == "loss" else accuracy
        return (self.progress_start - value) / (self.progress_start - self.progress_end)


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
