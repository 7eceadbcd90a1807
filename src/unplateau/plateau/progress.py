"""When a run leaves its plateau: progress between two exact predictors, and the step from which it stays above a line.

What enters: logged losses or progress. What leaves: progress, and a step or None. None means right-censored: the run
never got there, which is reported as "> N", never dropped and never averaged as N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unplateau.errors import SpecError
from unplateau.plateau.curve import checked

ESCAPE, COMPLETION = 0.2, 0.9

WINDOW = 100.0


def progress(values: ArrayLike, *, no_context: float, bayes: float) -> NDArray[np.float64]:
    """(no_context - value) / (no_context - bayes): 0 on the plateau, 1 at the optimum; same shape as ``values``.

    ``no_context`` and ``bayes`` are losses (nats) of the two exact predictors, or their accuracies if ``values`` are.
    Raises SpecError if they are equal or not finite: there is then nothing to learn from the context.
    """
    way = no_context - bayes
    if not math.isfinite(way) or way == 0:
        raise SpecError(f"no_context and bayes must be two different finite numbers, got {no_context} and {bayes}")
    return np.asarray((no_context - np.asarray(values, dtype=np.float64)) / way)


def escape_step(
    steps: ArrayLike, progress: ArrayLike, *, threshold: float = ESCAPE, window: float = WINDOW
) -> float | None:
    """First logged step from which the trailing mean of training progress stays at or above ``threshold`` to the end.

    The mean at step s is over the rows logged in (s - window, s]: ``window`` counts steps, not rows, and early rows use
    what there is. None if the last mean is below: the run is right-censored at its last step.

    Follows the escape rule of the task-diversity study (arXiv 2410.05448: rolling loss / no-context loss < 0.8), with
    progress in place of the loss ratio. Raises DataError if steps go back or an entry is not finite.
    """
    s, p = checked(steps, progress)
    if not (math.isfinite(threshold) and window > 0):
        raise SpecError(f"threshold must be finite and window a positive number of steps, got {threshold} and {window}")
    if s.size == 0:
        return None
    below = np.flatnonzero(_trailing_means(s, p, window) < threshold)
    first = int(below[-1]) + 1 if below.size else 0
    return _whole(float(s[first])) if first < s.size else None


def completion_step(
    steps: ArrayLike, progress: ArrayLike, *, threshold: float = COMPLETION, window: float = WINDOW
) -> float | None:
    """As ``escape_step`` at 0.9 of the way to the Bayes-optimal predictor."""
    return escape_step(steps, progress, threshold=threshold, window=window)


def _trailing_means(steps: NDArray[np.float64], values: NDArray[np.float64], window: float) -> NDArray[np.float64]:
    first = np.searchsorted(steps, steps - window, side="right")
    return np.array([values[a : b + 1].mean() for b, a in enumerate(first)])


def _whole(step: float) -> float:
    return int(step) if step.is_integer() else step


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
