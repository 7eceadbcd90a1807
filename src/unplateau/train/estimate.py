"""What a run will take at least, reckoned from its sizes before any of it is made or looped over."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from unplateau import limits
from unplateau.config import Kind
from unplateau.decompose import Architecture
from unplateau.layout import TaskShape

COMPONENTS = 6
"""Copies of the states that probing makes: hidden, weights and context component, of train and test prompts."""


@dataclass(frozen=True)
class Estimate:
    """Bytes of data, of the model with its optimiser, of the largest batch; hours at a rate that few models reach."""

    data: int
    model: int
    batch: int
    hours: float

    def refuse(self) -> None:
        """Raises SpecError, with the numbers, for what cannot work on this machine."""
        total = self.data + self.model + self.batch
        if total > limits.memory():  # only then is a GPU asked, which takes some of its memory
            there = limits.memory() + _of_gpu()
            told = f"data {limits.gigabytes(self.data)}, model with optimiser {limits.gigabytes(self.model)}, "
            limits.refuse_memory(f"the run ({told}largest batch {limits.gigabytes(self.batch)})", total, there=there)
        limits.refuse_hours("train.steps", self.hours, f"{limits.UPDATES_A_SECOND:,.0f} updates a second")


@dataclass(frozen=True)
class Batches:
    """Prompts at a time: of an update, of a look without gradients, of a probing; and the number of updates.

    ``drawn``: prompts that are kept for later updates, and as many again while they are sorted. ``partly``: some
    weights are frozen, so that nobody knows how many have an optimiser and what a block keeps. ``per_weight``: numbers
    kept for each weight: itself, its gradient, and by default Adam's two means.
    """

    update: int
    look: int
    probe: int
    steps: int
    drawn: int = 0
    partly: bool = False
    per_weight: int = 4


def data_bytes(kinds: Iterable[Kind]) -> int:
    """Of all that these stand for."""
    sizes: list[tuple[Kind, int]] = []
    for one in kinds:
        size = one.data_bytes()
        if size and not any(one == other for other, _ in sizes):  # what is equal is made once
            sizes.append((one, size))
    return sum(size for _, size in sizes)


def estimate(data: int, shape: TaskShape, model: Architecture, batches: Batches) -> Estimate:
    """Of a run with these bytes of data, this shape of its task and this model."""
    n_weights, positions = model.n_weights(shape), shape.layout.n_positions
    states = limits.FLOAT * positions * model.width  # of a prompt, after one block
    kept = (1 if batches.partly else model.kept_by_block) * model.n_layers * states
    logits = limits.FLOAT * shape.layout.n_pairs * shape.n_labels
    every = (model.n_layers + 1) * states
    drawn = 2 * batches.drawn * shape.prompt_bytes
    batch = drawn + max(
        batches.update * (shape.prompt_bytes + kept + logits),
        batches.look * (shape.prompt_bytes + every + logits),
        batches.probe * (2 * shape.prompt_bytes + COMPONENTS * every),
    )
    hours = batches.steps / limits.UPDATES_A_SECOND / 3600
    own = model.n_layers * model.bytes_per_block
    numbers = 1 if batches.partly else batches.per_weight
    return Estimate(data, limits.FLOAT * numbers * n_weights + own, batch, hours)


def _of_gpu() -> int:
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
