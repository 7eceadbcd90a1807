"""The two exact predictors between which progress is measured. No numpy: run directories are listed by the thousand."""

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from unplateau.errors import SpecError


@dataclass(frozen=True)
class Floors:
    """Losses (nats) and accuracies of the two exact predictors, one value per query position (K).

    Where labels are numbers, losses are mean squared errors in units of their variance, and there are no accuracies.

    ``no_context``: best prediction from the query's item alone, the height of the plateau. ``bayes``: best prediction
    from the pairs before as well. Both know the true factor values. Averages over ``n_prompts`` prompts of exact
    predictions; ``bayes_loss_error`` is the standard error of the mean Bayes loss. ``progress`` names the measure that
    progress is read from.
    """

    no_context_loss: tuple[float, ...]
    no_context_accuracy: tuple[float, ...] | None
    bayes_loss: tuple[float, ...]
    bayes_accuracy: tuple[float, ...] | None
    bayes_loss_error: float
    n_prompts: int
    progress: Literal["loss", "accuracy"] = "loss"

    @property
    def loss_unit(self) -> str:
        """What losses are measured in."""
        return "nats" if self.bayes_accuracy is not None else "in units of the labels' variance"

    def levels(self, measure: Literal["loss", "accuracy"]) -> tuple[float, float]:
        """Means over positions of the no-context and the Bayes-optimal predictor.

        Raises SpecError for the accuracy of numbers.
        """
        both = (self.no_context_loss, self.bayes_loss)
        if measure == "accuracy":
            if self.no_context_accuracy is None or self.bayes_accuracy is None:
                raise SpecError("labels that are numbers have no accuracy")
            both = (self.no_context_accuracy, self.bayes_accuracy)
        return fmean(both[0]), fmean(both[1])

    @property
    def progress_start(self) -> float:
        """Where progress is 0: mean loss or accuracy of the no-context predictor."""
        return self.levels(self.progress)[0]

    @property
    def progress_end(self) -> float:
        """Where progress is 1: mean loss or accuracy of the Bayes-optimal predictor."""
        return self.levels(self.progress)[1]

    def progress_of(self, *, loss: float, accuracy: float | None) -> float:
        """0 at the no-context predictor, 1 at the Bayes-optimal one; means over positions enter."""
        value = loss if self.progress == "loss" or accuracy is None else accuracy
        return (self.progress_start - value) / (self.progress_start - self.progress_end)
