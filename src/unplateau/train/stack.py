"""Runs that are trained together in one process: models of one shape compute as one, all else is each run's own.

Each run draws its batches, steps its weights, writes its rows and checkpoints as it does alone. Shared are the forward
pass of the models and one backward pass through the losses of all.
"""

import logging
import time
from collections.abc import Callable, Generator, Mapping

import torch

from unplateau.models.stack import Stack
from unplateau.models.transformer import ModelConfig, Transformer
from unplateau.terminal import one_line
from unplateau.train.spec import RunSpec
from unplateau.train.step import Losses
from unplateau.train.steps import Steps
from unplateau.train.training import Training

SMALL = 1e8
"""FLOPs of an update up to which a CPU computes several runs faster together than one after the other."""

logger = logging.getLogger(__name__)


def shape_of(spec: RunSpec) -> tuple[object, ...]:
    """What runs must have in common to be computed as one."""
    return (spec.model, spec.task.shape, spec.train.batch_size, spec.train.precision, spec.train.execution)


def can_stack(spec: RunSpec) -> bool:
    """Whether models of this spec can be computed as one: those of our own kind can."""
    return type(spec.model) is ModelConfig


def gains(spec: RunSpec, device: torch.device) -> bool:
    """Whether several of such runs are faster together: on a GPU, and on a CPU where an update is small.

    See docs/decisions.md, "Stacks", for what was measured.
    """
    shape, n_tokens = spec.task.shape, spec.train.batch_size * spec.task.shape.layout.n_positions
    flops = 6 * spec.model.n_weights(shape) * n_tokens
    return device.type != "cpu" or flops <= SMALL


class Together:
    """Runs of one shape, by number, on their way to their ends. ``failed`` is told of each that an error ends."""

    def __init__(self, begun: Mapping[int, Generator[Training]], failed: Callable[[int, Exception], None]) -> None:
        self.begun, self.failed = begun, failed
        self.due: dict[int, Training] = {}  # those that wait for an update
        self.left: dict[int, float] = {}  # when each was last at work by itself
        self.most = len(begun)  # runs that are computed at a time
        self.steps: dict[tuple[int, ...], Steps] = {}

    def run(self) -> None:
        """To the end of the last."""
        try:
            for number in self.begun:
                self._go_on(number)
            while self.due:
                numbers, most = list(self.due), self.most
                for first in range(0, len(numbers), most):
                    self._update(numbers[first : first + most])
        finally:
            for run in self.begun.values():
                run.close()

    def _update(self, numbers: list[int]) -> None:
        """One step of these runs. What fails together is tried again in halves, until it is known whose failure it is.

        Nothing has changed then: batches are functions of the step, and weights are stepped last.
        """
        start, half = time.perf_counter(), (len(numbers) + 1) // 2
        try:
            losses = self._steps(numbers).losses()
        except Exception as error:
            if len(numbers) == 1:
                self._go_on(numbers[0], error)
                return
            logger.warning(
                "%d runs cannot be computed together, trying %d (%s)", len(numbers), half, one_line(str(error))
            )
            losses, self.most = [], half
        share = (time.perf_counter() - start) / len(numbers)
        for number, its in zip(numbers, losses, strict=False):
            self._step(number, its, share)
        if not losses:  # here, where nothing holds on to the memory of the try that failed
            self._update(numbers[:half])
            self._update(numbers[half:])

    def _steps(self, numbers: list[int]) -> Steps:
        """Those of these runs; the models of several are computed as one."""
        key = tuple(numbers)
        if key not in self.steps:
            runs = [self.due[number] for number in numbers]
            models = [run.model for run in runs if isinstance(run.model, Transformer)]
            self.steps[key] = Steps(runs, Stack(models) if len(runs) > 1 else None)
        return self.steps[key]

    def _step(self, number: int, losses: Losses, share: float) -> None:
        """Changes the weights of one run, of whose time so far ``share`` seconds were its own."""
        run = self.due[number]
        run.clock.others(time.perf_counter() - self.left[number] - share)
        try:
            run.take_step(losses)
        except Exception as error:
            self._go_on(number, error)
        else:
            self._go_on(number)

    def _go_on(self, number: int, error: Exception | None = None) -> None:
        """Lets a run work by itself until it needs an update, or has ended; an error of its update is raised there."""
        run = self.begun[number]
        try:
            self.due[number] = next(run) if error is None else run.throw(error)
        except StopIteration:
            self._leave(number)
        except Exception as raised:
            self._leave(number)
            self.most = len(self.begun)  # the trouble may have been its own
            self.failed(number, raised)
        self.left[number] = time.perf_counter()

    def _leave(self, number: int) -> None:
        self.due.pop(number, None)
        self.steps.clear()
