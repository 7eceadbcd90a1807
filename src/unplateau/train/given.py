"""What a step takes from Python beside its batches: factors of loss terms, and items that they draw.

A step that is recorded once and replayed (see ``unplateau.train.steps``) finds them where they lay when it was
recorded, with the values that its own number asks for.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unplateau.tensors import sent


class Given:
    """What one step takes, made when it is asked for."""

    def __init__(self, step: int, device: torch.device) -> None:
        self.step, self.device = step, device

    def number(self, of_step: Callable[[int], float]) -> float | Tensor:
        """That of this step."""
        return of_step(self.step)

    def tensors(self, of_step: Callable[[int], Sequence[Tensor]]) -> Sequence[Tensor]:
        """Those of this step, on the device; their shapes are the same at every step."""
        return [sent(tensor, self.device) for tensor in of_step(self.step)]


class Kept(Given):
    """What steps take that all ask for the same things in the same order, each at its place in memory."""

    def __init__(self, step: int, device: torch.device) -> None:
        super().__init__(step, device)
        self.fillings: list[Callable[[], None]] = []
        self.places: list[Sequence[Tensor]] = []
        self.n_asked = 0

    def number(self, of_step: Callable[[int], float]) -> Tensor:
        """That of this step, (), float32."""

        def fill() -> None:
            place.fill_(of_step(self.step))

        (place,) = self._place(fill, lambda: [torch.tensor(of_step(self.step), dtype=torch.float32)])
        return place

    def tensors(self, of_step: Callable[[int], Sequence[Tensor]]) -> Sequence[Tensor]:
        """Those of this step."""

        def fill() -> None:
            for place, value in zip(places, of_step(self.step), strict=True):
                place.copy_(sent(value, self.device))

        places = self._place(fill, lambda: of_step(self.step))
        return places

    def go_to(self, step: int) -> None:
        """Makes what this step takes, which will ask for it from the first thing on."""
        self.step, self.n_asked = step, 0
        for fill in self.fillings:
            fill()

    def _place(self, fill: Callable[[], None], first: Callable[[], Sequence[Tensor]]) -> Sequence[Tensor]:
        """Where lies what is asked for now; at the first time it is made."""
        if self.n_asked == len(self.places):
            self.fillings.append(fill)
            self.places.append([sent(tensor, self.device) for tensor in first()])
        self.n_asked += 1
        return self.places[self.n_asked - 1]
