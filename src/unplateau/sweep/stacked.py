"""Many runs in this process, those of one shape stacked into one batched model."""

import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from unplateau.errors import InterruptedRunError, SpecError, UnplateauError
from unplateau.store import RunRecord, RunState, Stage, is_done, newest_row
from unplateau.sweep.failure import RunFailure
from unplateau.sweep.local import outcome
from unplateau.sweep.plan import farewell, states, unfinished_kinds, waves
from unplateau.terminal import one_line
from unplateau.torchrun import place
from unplateau.train.guest import undisturbed
from unplateau.train.interrupt import StopRequest, stop_requests
from unplateau.train.loop import begin, choose_device
from unplateau.train.progress import Display, display, is_watched
from unplateau.train.spec import RunSpec
from unplateau.train.stack import Together, can_stack, gains, shape_of
from unplateau.train.training import Training

MOST = 32
"""Runs that are begun at a time, unless told otherwise."""


def train_many(
    specs: Sequence[RunSpec],
    *,
    out: str | Path,
    device: str = "auto",
    most: int = MOST,
    stacked: bool | None = None,
    progress: bool | None = None,
    ended: Callable[[RunState], object] = lambda _: None,
) -> list[RunRecord | RunFailure]:
    """Trains these runs in this process, and returns them in the order given.

    Runs of the same model, task shape and batch size (their seeds, strategies and all else may differ) are stacked,
    ``most`` at a time: their models compute as one, which saves a GPU, or a CPU with small models, most of its waiting.
    Everything else is as in :func:`~unplateau.train`, and each equals the run trained alone, to rounding; each may be
    gone on with alone, or in another stack. ``stacked``: whether to; None does so where it is faster.

    A finished run is not trained again, an interrupted one is resumed. When a run fails the others go on, and its place
    holds a :class:`RunFailure`. ``progress``: whether to show how far each is; None shows it where a person looks.
    ``ended`` is called with each run that has been finished.

    Raises, before the first run starts, SpecError if two specs are the same, and what ``spec.check()`` does;
    InterruptedRunError after Ctrl-C or SIGTERM, when every run that was begun has saved a checkpoint.
    """
    if most < 1:
        raise SpecError(f"most must be at least 1 (got {most})")
    if place().size > 1:
        raise SpecError("train_many is for one process; under torchrun train the runs one after the other, by train")
    where, runs = choose_device(device), states(specs, Path(out))
    shown = display(len(runs)) if (is_watched() if progress is None else progress) else nullcontext()
    with undisturbed(), stop_requests() as stop, shown as show:
        many = _Many(specs, runs, Path(out), device, stop, show or (lambda _, __: None), ended)
        for numbers in _groups(specs, many.unfinished(), where, most, stacked):
            if not stop:
                many.train(numbers)
        if stop and (n_left := len(many.unfinished())) > len(many.failures):
            raise InterruptedRunError(farewell(Path(out), len(runs) - n_left, len(runs)))
        return [many.failures.get(number) or outcome(run) for number, run in enumerate(runs)]


def _groups(
    specs: Sequence[RunSpec], numbers: Sequence[int], device: torch.device, most: int, stacked: bool | None
) -> Iterator[Sequence[int]]:
    """Of these specs, by number, those that are trained at a time; after the runs whose weights they take."""
    for wave in waves(specs, numbers):
        groups: dict[object, list[int]] = {}
        for number in wave:
            spec = specs[number]
            wanted = gains(spec, device) if stacked is None else stacked
            groups.setdefault(shape_of(spec) if wanted and can_stack(spec) else number, []).append(number)
        for group in groups.values():
            for first in range(0, len(group), most):
                yield group[first : first + most]


class _Many:
    """The runs of one call: how far they are, and which have failed."""

    def __init__(
        self,
        specs: Sequence[RunSpec],
        runs: list[RunState],
        out: Path,
        device: str,
        stop: StopRequest,
        show: Display,
        ended: Callable[[RunState], object],
    ) -> None:
        self.specs, self.runs, self.out, self.device = specs, runs, out, device
        self.stop, self.show, self.ended = stop, show, ended
        self.failures: dict[int, RunFailure] = {}
        for spec, _ in unfinished_kinds(specs, runs):
            spec.check()
        left = set(self.unfinished())
        for number, run in enumerate(runs):
            show(number, run if number in left else replace(run, state="done", step=run.total))

    def unfinished(self) -> list[int]:
        """Numbers of the runs that have not come to their end."""
        return [number for number, run in enumerate(self.runs) if not is_done(run.path, run.total)]

    def train(self, numbers: Sequence[int]) -> None:
        """These runs, to their ends."""
        begun = {number: self._begun(number) for number in numbers}
        Together(begun, self._failed).run()

    def _begun(self, number: int) -> Generator[Training]:
        def show(step: int, stage: Stage) -> None:
            self._say(number, stage, step)

        return begin(self.specs[number], self.out, self.device, progress=False, show=show, stop=self.stop)

    def _failed(self, number: int, error: Exception) -> None:
        run = self.runs[number]
        if isinstance(error, InterruptedRunError):
            if not self.stop:  # what it needs first was stopped
                self.stop.ask()
            self._say(number, "stopped", newest_row(run.path).get("step", 0))
            return
        code, message, said = 1, one_line(f"{type(error).__name__}: {error}"), traceback.format_exception(error)
        if isinstance(error, UnplateauError):
            code, message, said = error.exit_code, one_line(str(error)), []
        self.failures[number] = RunFailure.of(run, self.out, code, message, "".join(said).splitlines())
        self._say(number, "failed", newest_row(run.path).get("step", 0))

    def _say(self, number: int, stage: Stage, step: int) -> None:
        run = self.runs[number]
        run = replace(run, state=stage, step=step, progress=newest_row(run.path).get("progress"))
        self.show(number, run)
        if stage == "done":
            self.ended(run)
