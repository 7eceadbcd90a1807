"""How the losses and gradients of a step are computed, for one run or several: kernel by kernel, or from a recording.

A small model has hundreds of kernels in a step, and a GPU waits for Python between them. A recording (a CUDA graph) has
them all, and reads and writes the same memory each time: what differs from step to step is put there first. Where there
is no GPU to record anything, the same is computed anew each time.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from unplateau.errors import SpecError
from unplateau.models.compiled import compiled_prediction
from unplateau.models.stack import Stack
from unplateau.models.transformer import Transformer
from unplateau.strategies.base import LossTerm
from unplateau.tasks.base import Task
from unplateau.tensors import Batch, Prediction
from unplateau.terminal import one_line
from unplateau.train.given import Given, Kept
from unplateau.train.step import Losses, in_precision
from unplateau.train.training import Training

WARM_UP = 3
"""Steps that are computed as usual before one is recorded: libraries set themselves up in the first."""
MOST = 8
"""Recordings that are kept at a time; each has the memory of a step."""

Drawn = Sequence[tuple[Task, Batch]]


class Steps:
    """The next steps of these runs, computed together. ``stack``: their models as one; None: each is computed alone."""

    def __init__(self, runs: Sequence[Training], stack: Stack | None = None) -> None:
        self.runs, self.stack = runs, stack
        self.execution, self.device = runs[0].spec.train.execution, runs[0].device
        recordable = [run.updates.make_recordable() for run in runs if self.execution != "eager"]
        self.applies = all(recordable)
        self.recordings: list[tuple[Sequence[Kind], Recording]] = []

    @property
    def n_setting_up(self) -> int:
        """How many steps of a kind there are until all further ones take the same time."""
        return 1 if self.execution == "eager" else WARM_UP + 1

    def losses(self) -> list[Losses]:
        """Of the next step of each run, with their gradients at its weights."""
        drawn = [run.draw() for run in self.runs]
        if self.execution == "eager":
            return self.compute(drawn, [Given(run.step, run.device) for run in self.runs])
        kind = [_kind(run, *its) for run, its in zip(self.runs, drawn, strict=True)]
        found = next((one for its, one in self.recordings if its == kind), None)
        if found is None:
            found = Recording(self, drawn)
            self.recordings = [*self.recordings[-MOST + 1 :], (kind, found)]
        return found.step(drawn)

    def update(self) -> None:
        """That step of each run."""
        for run, losses in zip(self.runs, self.losses(), strict=True):
            run.take_step(losses)

    def compute(self, drawn: Drawn, given: Sequence[Given]) -> list[Losses]:
        """The same on these batches."""
        passed = self._passed([batch for _, batch in drawn])
        losses = [
            run.losses(task, batch, run.step, its, taken)
            for run, (task, batch), its, taken in zip(self.runs, drawn, passed, given, strict=True)
        ]
        for run in self.runs:
            run.updates.zero_grad()
        torch.autograd.backward([one.total for one in losses])
        return losses

    def _passed(self, batches: Sequence[Batch]) -> Sequence[Prediction | None]:
        """What the models make of the batches, where that is not left to each run."""
        with in_precision(self.runs[0].spec, self.device):
            if self.stack is not None:
                return self.stack.predict([batch.inputs for batch in batches])
            model = self.runs[0].model
            if self.execution == "compiled" and isinstance(model, Transformer):
                return [compiled_prediction(model, batches[0].inputs)]
        return [None] * len(batches)


class Recording:
    """Steps of one kind, of which the first few are computed as usual and the next is recorded."""

    def __init__(self, steps: Steps, drawn: Drawn) -> None:
        self.steps, self.runs, self.device = steps, steps.runs, steps.device
        self.drawn = [(task, batch.map(torch.clone)) for task, batch in drawn]
        self.given = [Kept(run.step, run.device) for run in self.runs]
        self.n_steps = 0
        self.replay: Callable[[], list[Losses]] | None = None

    def step(self, drawn: Drawn) -> list[Losses]:
        """The losses of the next step of each run, on these batches."""
        torch._foreach_copy_(_tensors(self.drawn), _tensors(drawn))
        for run, given in zip(self.runs, self.given, strict=True):
            given.go_to(run.step)
            run.updates.set_rate(run.step)
        if self.replay is None and self.n_steps == WARM_UP:
            self.replay = self._recorded()
        self.n_steps += 1
        return self._compute(apply=False) if self.replay is None else self.replay()

    def _compute(self, *, apply: bool) -> list[Losses]:
        numbers = [given.number(lambda step: step + 1) for given in self.given]
        losses = self.steps.compute(self.drawn, self.given)
        if apply:
            for run, number, its in zip(self.runs, numbers, losses, strict=True):
                run.updates.apply()
                run.tally.add_up(number, its)
        return [its.kept(applied=apply) for its in losses]

    def _recorded(self) -> Callable[[], list[Losses]]:
        """What computes the losses from now on. Raises SpecError for steps that a GPU cannot record."""
        compute = partial(self._compute, apply=self.steps.applies)
        if self.device.type != "cuda":
            return compute
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                losses = compute()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise SpecError(
                f"train.execution={self.steps.execution}: a step of this run cannot be recorded "
                f"({one_line(str(error.__context__ or error))[:200]}); leave it eager"
            ) from error
        weights = [] if self.steps.applies else [weight for run in self.runs for weight in run.updates.weights]
        gradients = [weight.grad for weight in weights]

        def replay() -> list[Losses]:
            graph.replay()
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient  # for who applies it; another recording has its own
            return losses

        return replay


Kind = tuple[Sequence[LossTerm], Task | None, Sequence[object]]


def _tensors(drawn: Drawn) -> list[Tensor]:
    return [tensor for _, batch in drawn for tensor in batch.tensors()]


def _kind(run: Training, task: Task, batch: Batch) -> Kind:
    """What all steps of a recording have in common: terms, what these know of the task, shapes."""
    terms = [term for term in run.spec.strategy.loss_terms if term.weight_at(run.step)]
    return terms, task if terms else None, [(tensor.shape, tensor.dtype) for tensor in batch.tensors()]
