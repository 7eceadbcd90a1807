"""The losses of the steps since the last row, added up where they are computed.

A step does not ask for its numbers: a GPU would have to end all its work first. Only who reads the tally waits.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unplateau.train.step import Losses

STEPS = "steps"
TOTAL = "the total loss"


class Tally:
    """Sums of the losses by name, and the first step at which one was NaN or infinite."""

    def __init__(self, terms: Sequence[str], device: torch.device, sums: Mapping[str, float]) -> None:
        """For a strategy with these loss terms; goes on from the sums that :meth:`read` has given, ``{}`` at first."""
        self.terms = terms
        self.names = ("train_loss", *(f"term/{name}" for name in terms), TOTAL)
        self.seen = {name for name in self.names if name in sums}
        self.n_steps = int(sums.get(STEPS, 0))
        exact = torch.float32 if device.type == "mps" else torch.float64  # mps has no other
        self.totals = torch.tensor([sums.get(name, 0.0) for name in self.names], dtype=exact, device=device)
        self.wrong_since = torch.zeros(len(self.names), dtype=torch.int64, device=device)  # 0: never

    def add(self, step: int, losses: Losses) -> None:
        """Those of this step."""
        self.add_up(step, losses)
        self.count(losses)

    def add_up(self, step: int | Tensor, losses: Losses) -> None:
        """What there is to be done on the device; a term that the step leaves out counts as 0."""
        values = [losses.prediction, *(losses.terms.get(name, losses.total.new_zeros(())) for name in self.terms)]
        found = torch.stack([*values, losses.total]).detach()
        self.totals += found.to(self.totals.dtype)
        wrong = (self.wrong_since == 0) & ~found.isfinite()
        self.wrong_since.copy_(torch.where(wrong, step, self.wrong_since))

    def count(self, losses: Losses) -> None:
        """The rest: that there was one more step, and which losses it had."""
        self.seen |= {"train_loss", *(f"term/{name}" for name in losses.terms)}
        self.n_steps += 1

    def clear(self) -> None:
        """Begins anew, in the same memory."""
        self.seen, self.n_steps = set(), 0
        self.totals.zero_()
        self.wrong_since.zero_()

    def read(self) -> tuple[dict[str, float], tuple[str, int] | None]:
        """Sums of the prediction loss and of each term that there was, with the number of steps; ``{}`` if none.

        And the loss that was NaN or infinite first, with its step; None if all were numbers.
        """
        if not self.n_steps:
            return {}, None
        totals, steps = torch.stack((self.totals, self.wrong_since.to(self.totals.dtype))).tolist()
        sums = {name: total for name, total in zip(self.names, totals, strict=True) if name in self.seen}
        wrong = [(int(step), name) for step, name in zip(steps, self.names, strict=True) if step]
        first = min(wrong, key=lambda one: one[0], default=None)
        return {STEPS: self.n_steps, **sums}, (first[1], first[0]) if first else None
