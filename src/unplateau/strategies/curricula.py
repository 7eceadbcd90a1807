"""The two curricula of the paper: the fixed mapping first, or on a share of the rows throughout."""

from typing import Literal

from pydantic import Field

from unplateau.history import History
from unplateau.strategies.base import Curriculum, Mix, V


class WarmUp(Curriculum):
    """Weights warm-up: D_fix first, then the target task (Fu et al. 2024, section 5.1).

    ``mapping`` other than ``fixed`` turns it into a control of the same length: ``changing`` draws another fixed
    mapping at every step, ``shuffled`` lets labels follow another item's factors: there is nothing general to learn.
    """

    steps: int = Field(500, ge=0, description="length of the warm-up in steps, counted in the total")
    mapping: Literal["fixed", "changing", "shuffled"] = Field("fixed", description="D_fix, or a control")

    def mix(self, step: int, target: V, history: History) -> Mix[V]:
        """D_fix during the first ``steps`` steps."""
        del history
        if step >= self.steps:
            return [(1.0, target)]
        if self.mapping == "changing":
            return [(1.0, target.fixed(1 + step))]
        return [(1.0, target.fixed() if self.mapping == "fixed" else target.shuffled().fixed())]


class Mixed(Curriculum):
    """Mixed training: a constant share of each batch uses the fixed mapping (Fu et al. 2024, section 5.2)."""

    fraction: float = Field(0.5, gt=0, lt=1, description="share of the rows drawn from the fixed mapping")

    def mix(self, step: int, target: V, history: History) -> Mix[V]:
        """The same mixture at every step."""
        del step, history
        return [(self.fraction, target.fixed()), (1 - self.fraction, target)]
