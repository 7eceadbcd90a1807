"""Many runs on this machine, each in a process of its own.

The parent learns how far a run is from its directory only, so a run that is watched and one that is not are the same.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from unplateau.config import in_script, parts_of
from unplateau.damage import DAMAGE, reason
from unplateau.errors import InterruptedRunError, SpecError
from unplateau.files import scratch
from unplateau.limits import refuse_processes
from unplateau.store import RunRecord, RunState, Stage, is_done, load_run, newest_row
from unplateau.sweep.process import RunFailure, RunProcess
from unplateau.train.interrupt import StopRequest, stop_requests
from unplateau.train.loop import choose_device
from unplateau.train.progress import Display, display, is_watched
from unplateau.train.spec import RunSpec

LOOK_EVERY = 0.2
"""Seconds between two looks at the processes and their directories."""
logger = logging.getLogger(__name__)


def run_many(
    specs: Sequence[RunSpec],
    *,
    out: str | Path,
    workers: int = 2,
    threads: int = 1,
    device: str = "auto",
    progress: bool | None = None,
) -> list[RunRecord | RunFailure]:
    """Trains these runs, ``workers`` at a time with ``threads`` threads each, and returns them in the order given.

    A finished run is not trained again, an interrupted one is resumed. When a run fails the others go on, and its
    place holds a :class:`RunFailure`. ``progress``: whether to show how far each is, as ``train`` does; None shows it
    where a person looks.

    Raises, before the first run starts, SpecError if two specs are the same or one uses a class that another process
    cannot import, and what ``spec.check()`` does; InterruptedRunError after Ctrl-C or SIGTERM, when every running
    process has saved a checkpoint and ended.
    """
    if min(workers, threads) < 1:
        raise SpecError(f"workers and threads must be at least 1 (got {workers} and {threads})")
    refuse_processes(len(specs), workers, threads)
    if device not in ("auto", "cpu"):
        choose_device(device)
    runs = [RunState(name, one.directory(out), one.train.steps) for one, name in zip(specs, names(specs), strict=True)]
    shown = display(len(runs)) if (is_watched() if progress is None else progress) else nullcontext()
    with scratch() as folder, stop_requests() as stop, shown as show:
        _refuse_hopeless(specs, runs)

        def start(number: int) -> RunProcess:
            files = folder / str(number)
            return RunProcess(specs[number], runs[number], Path(out), files, threads=threads, device=device)

        pool = _Pool(runs, start, show or (lambda _, __: None))
        try:
            pool.work(workers, stop)
        finally:
            pool.end()
        if any(state.state not in ("done", "failed") for state in pool.states):
            raise InterruptedRunError(pool.farewell(Path(out)))
        failures = {number: process.failure() for number, process in pool.processes.items()}
        return [failures.get(number) or ended(run) for number, run in enumerate(runs)]


def ended(run: RunState) -> RunRecord | RunFailure:
    """The run as its directory has it; one that was damaged since costs no other."""
    try:
        return load_run(run.path)
    except DAMAGE as error:
        return RunFailure(run.path, run.name, 1, f"{run.path}: {reason(run.path, error)}")


def names(specs: Sequence[RunSpec]) -> list[str]:
    """Strategy and seed of each, with the digest where these are not enough to tell runs apart."""
    short = [f"{spec.strategy.name}, seed {spec.seed}" for spec in specs]
    return [
        name if short.count(name) == 1 else f"{name} ({spec.digest()})" for name, spec in zip(short, specs, strict=True)
    ]


def _refuse_hopeless(specs: Sequence[RunSpec], runs: Sequence[RunState]) -> None:
    """Raises SpecError for what would fail, or not be begun, once others are running. Finished runs need no data."""
    if len({run.path for run in runs}) < len(runs):
        raise SpecError("the same run is asked for twice; a run is told apart by its spec, seed included")
    checked = set()
    for spec, run in zip(specs, runs, strict=True):
        for _, part in parts_of(spec):
            if type(part).__module__ == "__main__":
                raise SpecError(in_script(type(part).__name__))
        parts = tuple(part.digest() for part in (spec.task, spec.model, spec.strategy))
        if parts not in checked and not is_done(run.path, run.total):
            spec.check()
            checked.add(parts)


class _Pool:
    """What was last said about each run of one call, and the processes of those that were begun."""

    def __init__(self, states: Sequence[RunState], start: Callable[[int], RunProcess], show: Display) -> None:
        self.states, self.start, self.show = list(states), start, show
        self.processes: dict[int, RunProcess] = {}
        for number, state in enumerate(self.states):
            self.show(number, state)

    def work(self, workers: int, stop: StopRequest) -> None:
        """Starts and watches until all have ended or somebody asks to stop."""
        waiting: list[int] = []
        running: list[int] = []
        for number, state in enumerate(self.states):
            if is_done(state.path, state.total):
                self._say(number, "done")
            else:
                waiting.append(number)
        while (waiting or running) and not stop:
            while waiting and len(running) < workers:
                running.append(waiting.pop(0))
                self.processes[running[-1]] = self.start(running[-1])
            time.sleep(LOOK_EVERY)
            running = [number for number in running if self._look(number)]

    def end(self) -> None:
        """Asks what still runs to save and end, and waits for it."""
        for one in self.processes.values():
            one.ask_to_stop()
        for number, one in self.processes.items():
            if one.running:
                one.wait()
                self._look(number)

    def farewell(self, out: Path) -> str:
        """What to tell who stopped it."""
        for one in self.processes.values():
            if failure := one.failure():
                logger.warning("%s: %s", failure.name, failure.message)
        n_done = sum(state.state == "done" for state in self.states)
        return (
            f"{out}: stopped; {n_done} of {len(self.states)} runs are finished, those begun are saved; "
            f"run the same command again to resume"
        )

    def _look(self, number: int) -> bool:
        """Says what is new; False once the process has ended."""
        one = self.processes[number]
        if one.running:
            self._say(number, "running")
            return True
        self._say(number, "stopped" if one.stopped else "failed" if one.failure() else "done")
        for line in one.warnings():
            logger.warning("%s: %s", self.states[number].name, line)
        return False

    def _say(self, number: int, stage: Stage) -> None:
        """Reads how far the run is, and reports what is new."""
        before = self.states[number]
        row = newest_row(before.path)
        state = replace(before, state=stage, step=row.get("step", 0), progress=row.get("progress"))
        if state != before:
            self.states[number] = state
            self.show(number, state)
